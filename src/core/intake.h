/*
 * Records that a consumer has in hand at once. They belong to Kafka's client and are given back to
 * it one by one; slices of them are valid until then.
 */
#ifndef PB_INTAKE_H
#define PB_INTAKE_H

#include "record.h"

struct rd_kafka_message_s;
struct pb_partition;

#define PB_INTAKE_LIMIT 10000            /* records in one intake */
#define PB_INTAKE_BYTES (16u * 1024 * 1024) /* their bytes; one larger record is an intake alone */

typedef enum pb_record_state {
    PB_RECORD_OPEN,    /* nothing is decided */
    PB_RECORD_CLAIMED, /* its inbox row is in the open transaction: the handler's turn */
    PB_RECORD_REPEAT,  /* the inbox has it */
    PB_RECORD_DONE     /* finished: the offset may move behind it */
} pb_record_state;

/* What is to be done with a record; a number from 0 on is a handler. */
enum { PB_ROUTE_NONE = -1, PB_ROUTE_UNREADABLE = -2, PB_ROUTE_REJECT = -3, PB_ROUTE_IGNORE = -4 };

typedef struct pb_record {
    struct rd_kafka_message_s *message;
    struct pb_partition *partition;
    int assignment;        /* of the partition, when the record came */
    pb_record_state state;
    int route;
    pb_fields fields;
    pb_buffer scratch;     /* what `fields` needs beside the message */
    uint8_t key[16];       /* its id in the inbox */
} pb_record;

typedef struct pb_intake {
    pb_record *records;
    size_t count, capacity;
} pb_intake;

/* Room for one more, zeroed; NULL without memory. */
pb_record *pb_intake_add(pb_intake *intake);
void pb_intake_free(pb_intake *intake); /* with the records in it */
void pb_record_destroy(pb_record *record);

const char *pb_record_topic(const pb_record *record);
int32_t pb_record_partition(const pb_record *record);
int64_t pb_record_offset(const pb_record *record);
int64_t pb_record_timestamp(const pb_record *record); /* milliseconds since 1970, -1: none */
const char *pb_record_timestamp_type(const pb_record *record); /* Java's names */
pb_bytes pb_record_key(const pb_record *record);
pb_bytes pb_record_value(const pb_record *record);
const struct rd_kafka_headers_s *pb_record_headers(const pb_record *record); /* NULL: none */
/* The i-th header of any name; false behind the last. */
bool pb_record_header_at(const pb_record *record, size_t i, const char **name, pb_bytes *value);

/*
 * Reads the record by the codec; finds its inbox key. -1 and `err`: it cannot be read. Its id
 * is then the one of records without an id: topic, partition and offset.
 */
int pb_record_decode(pb_record *record, pb_codec codec, pb_error *err);
/* The id that somebody else read; absent: none. Copied. */
int pb_record_set_id(pb_record *record, pb_bytes id, pb_error *err);

#endif

/* What a Kafka record says as an event: its id, type and payload, by one of the codecs. */
#ifndef PB_RECORD_H
#define PB_RECORD_H

#include "buffer.h"
#include "error.h"

struct rd_kafka_headers_s;

typedef enum pb_codec {
    PB_CODEC_POSTBOX, /* the envelope in JSON, or id and type in headers and JSON beside them */
    PB_CODEC_JSON,    /* the value is the payload, in JSON */
    PB_CODEC_BYTES,   /* the value is the payload, any bytes */
    PB_CODEC_CUSTOM   /* somebody else reads the record */
} pb_codec;

/* Slices of the record, or of `scratch`. */
typedef struct pb_fields {
    pb_bytes id;      /* absent: the record does not say */
    pb_bytes type;    /* absent: likewise */
    pb_bytes payload; /* absent: a tombstone */
} pb_fields;

/*
 * Reads a record; `headers` may be NULL, `scratch` is cleared. -1 and `err` where it cannot be
 * read: then it never can, and belongs to the dead letters.
 */
int pb_record_read(pb_codec codec, pb_bytes value, const struct rd_kafka_headers_s *headers,
                   pb_buffer *scratch, pb_fields *fields, pb_error *err);

/* The header's value where there is exactly one of that name. 1 it is there, 0 not, -1 several. */
int pb_record_header(const struct rd_kafka_headers_s *headers, const char *name, pb_bytes *value);

#endif

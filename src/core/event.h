/*
 * An event: what is stored in the outbox, and how it looks as a Kafka record.
 *
 * Headers are stored in one bytea: for each header its name's length (2 bytes, big-endian), the
 * name, the value's length (4 bytes, -1 for null) and the value.
 */
#ifndef PB_EVENT_H
#define PB_EVENT_H

#include "buffer.h"
#include "error.h"

#define PB_ID_SIZE 16
#define PB_ID_TEXT 36       /* characters of a UUID as text */
#define PB_TYPE_LIMIT 200   /* bytes of an event type */
#define PB_TOPIC_LIMIT 249  /* Kafka's longest topic name */
#define PB_HEADER_LIMIT 64  /* headers of one event */
#define PB_HEADER_BYTES_LIMIT 16384 /* names and values of all headers together */
#define PB_KEY_LIMIT 65536  /* bytes of a partition key */
#define PB_NO_PARTITION (-1)

/* Headers that every record gets when it is published. */
#define PB_HEADER_EVENT_ID "postbox-event-id"
#define PB_HEADER_EVENT_TYPE "postbox-event-type"
#define PB_HEADER_OUTBOX_ID "postbox-outbox-id"

/* How the record's value is made from the payload. */
typedef enum pb_envelope {
    PB_ENVELOPE_JSON = 'j',   /* {"eventId":…,"eventType":…,"payload":…} */
    PB_ENVELOPE_HEADERS = 'h' /* the payload alone; id and type are in headers */
} pb_envelope;

typedef struct pb_event {
    uint8_t id[PB_ID_SIZE];
    bool id_given;      /* by the caller: unique while the row waits */
    bool ordered;       /* takes its key's lock */
    pb_envelope envelope;
    int32_t partition;  /* PB_NO_PARTITION: by the key */
    pb_bytes type, topic;
    pb_bytes key;       /* absent: no key */
    pb_bytes payload;   /* absent: tombstone */
    pb_bytes headers;   /* stored form, never absent */
} pb_event;

void pb_id_new(uint8_t id[PB_ID_SIZE]); /* UUIDv7, increasing within the process */
void pb_id_text(const uint8_t id[PB_ID_SIZE], char text[PB_ID_TEXT + 1]);
bool pb_id_parse(pb_bytes text, uint8_t id[PB_ID_SIZE]); /* canonical form, either case */

/* 0, or -1 and a `config` error that says what is wrong with it. */
int pb_check_type(pb_bytes type, pb_error *err);   /* UTF-8 without white space and controls */
int pb_check_topic(pb_bytes topic, pb_error *err); /* Kafka's rule */
int pb_check_header(pb_bytes name, pb_bytes value, pb_error *err); /* reserved prefixes, bytes */

void pb_headers_add(pb_buffer *stored, pb_bytes name, pb_bytes value);
/* Takes the next header off `rest`. 1 a header, 0 the end, -1 the bytes are not headers. */
int pb_headers_next(pb_bytes *rest, pb_bytes *name, pb_bytes *value);
/* How many, and the bytes of names and values together. -1: the bytes are not headers. */
int pb_headers_measure(pb_bytes stored, size_t *count, size_t *bytes);
/* All headers of an event against PB_HEADER_LIMIT and PB_HEADER_BYTES_LIMIT. */
int pb_check_headers(pb_bytes stored, pb_error *err);

/* The record's value in JSON; `payload` is JSON text. */
void pb_envelope_write(pb_buffer *out, const uint8_t id[PB_ID_SIZE], pb_bytes type,
                       pb_bytes payload);

/* Bytes that the record of this event takes, as max_record_bytes counts them. */
size_t pb_event_record_bytes(const pb_event *event);

#endif

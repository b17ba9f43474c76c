/*
 * Dead letters: a record that failed for good goes to <topic>-dlt with its own bytes. The reason
 * stands in headers, those of Spring Kafka in their binary formats and a few of our own.
 */
#ifndef PB_DEAD_LETTER_H
#define PB_DEAD_LETTER_H

#include "config.h"
#include "intake.h"

#define PB_DEAD_LETTER_SUFFIX "-dlt"
#define PB_DEAD_LETTER_MESSAGE 1024 /* bytes of the reason that are kept */
#define PB_DEAD_LETTER_TRACE 4096   /* bytes of the traceback that are kept */

/* Why it is dead. Texts may be longer than what is kept, and of any bytes. */
typedef struct pb_reason {
    const char *code;        /* handler, rejected, unreadable, unknown_type, crashed */
    const char *class_name;  /* as if it were an exception's: postbox.HandlerError ... */
    const char *cause_class; /* NULL: none */
    pb_bytes message;
    pb_bytes trace;          /* absent: none */
    const char *group;
    int attempts;            /* deliveries to the handler */
} pb_reason;

/* How much of the diagnosis travels; less of it where the record would be too large. */
typedef enum pb_detail { PB_DETAIL_FULL, PB_DETAIL_SHORT, PB_DETAIL_NONE } pb_detail;

/* The place of the record, apart from it so that tests need no broker. */
typedef struct pb_place {
    const char *topic;
    int32_t partition;
    int64_t offset;
    int64_t timestamp;
    const char *timestamp_type;
} pb_place;

/*
 * The letter's headers: the record's own first, unchanged and in order, without those of an
 * earlier death; then this one's. NULL without memory.
 */
struct rd_kafka_headers_s *pb_dead_letter_headers(const struct rd_kafka_headers_s *original,
                                                  const pb_place *place, const pb_reason *reason,
                                                  int64_t now_ms, pb_detail detail);

/* The topic's dead letter topic; malloc'ed, NULL without memory. */
char *pb_dead_letter_topic(const char *topic);

typedef struct pb_dead_letters pb_dead_letters;

/* The producer is made with the first letter. */
pb_dead_letters *pb_dead_letters_new(pb_config *config, pb_error *err);
void pb_dead_letters_free(pb_dead_letters *letters);

/*
 * Writes the letter and waits until Kafka has stored it. -1: it may or may not be stored, and the
 * record must stay where it is.
 */
int pb_dead_letter_send(pb_dead_letters *letters, const pb_record *record, const pb_reason *reason,
                        pb_error *err);

#endif

/* An idempotent producer whose delivery reports wait in a queue for the thread that owns it. */
#ifndef PB_PRODUCER_H
#define PB_PRODUCER_H

#include "event.h"
#include "kafka.h"

typedef struct pb_producer {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue; /* reports and errors */
} pb_producer;

typedef struct pb_producer_options {
    size_t batch_bytes;  /* at most the smallest max.message.bytes of the topics; 0: librdkafka's */
    size_t record_bytes; /* largest record that is to be sent */
    bool alone;          /* one record per request, and a refusal harms no other record */
    bool bulk;           /* records wait a moment for company: fewer and larger requests */
    int wake_fd;         /* written (8 bytes) when the first report comes into an empty queue; -1 */
} pb_producer_options;

/* A record, borrowed until pb_producer_send returns. */
typedef struct pb_outgoing {
    rd_kafka_topic_t *topic;
    int32_t partition;
    pb_bytes key, value;
    rd_kafka_headers_t *headers; /* taken when it is sent, the caller's when not */
    void *opaque;                /* comes back with the report */
} pb_outgoing;

pb_producer *pb_producer_new(const pb_config *config, const pb_producer_options *options,
                             pb_error *err);
/* _QUEUE_FULL: later; anything else: this record, or the producer, is at fault. */
rd_kafka_resp_err_t pb_producer_send(pb_producer *producer, const pb_outgoing *record);
/* Throws away what is queued and in flight; the reports are not awaited. */
void pb_producer_free(pb_producer *producer);

/* What an error of a delivery report, or of the producer, says about the way on. */
typedef enum pb_verdict {
    PB_VERDICT_PRODUCER, /* this producer cannot go on; the record is innocent */
    PB_VERDICT_RECORD,   /* the record, or one of its batch, was refused for itself */
    PB_VERDICT_TOPIC     /* the topic is missing or forbidden */
} pb_verdict;

pb_verdict pb_producer_verdict(rd_kafka_resp_err_t code);

#endif

/* A producer as it is set up for rate: idempotent, acks=all, delivery reports as events. */
#ifndef BENCH_SEND_H
#define BENCH_SEND_H

#include "reference.h"

typedef struct sender {
    rd_kafka_t *kafka;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    int64_t reported; /* records that Kafka has stored */
} sender;

typedef struct record {
    const char *key, *value;
    size_t key_length, value_length;
    rd_kafka_headers_t *headers; /* given away; NULL: none */
} record;

void open_sender(sender *s, const char *bootstrap, const char *topic, const char *linger_ms);
void send_record(sender *s, const record *r);
void take_reports(sender *s, int wait_ms);
void wait_for_reports(sender *s, int64_t count);

#endif

#include "send.h"

#define PATIENCE 60.0 /* seconds without any report */
#define METADATA_MS 10000

void open_sender(sender *s, const char *bootstrap, const char *topic, const char *linger_ms) {
    const property properties[] = {{"enable.idempotence", "true"},
                                   {"acks", "all"},
                                   {"linger.ms", linger_ms},
                                   {"socket.nagle.disable", "true"},
                                   {"queue.buffering.max.messages", "100000"},
                                   {NULL, NULL}};
    const rd_kafka_metadata_t *metadata;
    s->kafka = open_kafka(RD_KAFKA_PRODUCER, bootstrap, properties, RD_KAFKA_EVENT_DR);
    s->queue = rd_kafka_queue_get_main(s->kafka);
    rd_kafka_topic_conf_t *conf = rd_kafka_topic_conf_new();
    char why[256];
    if (rd_kafka_topic_conf_set(conf, "partitioner", "murmur2_random", why, sizeof why))
        fail("%s", why);
    s->topic = rd_kafka_topic_new(s->kafka, topic, conf);
    s->reported = 0;
    /* So that the first record need not wait for it. */
    if (rd_kafka_metadata(s->kafka, 0, s->topic, &metadata, METADATA_MS))
        fail("Kafka does not tell of the topic %s", topic);
    rd_kafka_metadata_destroy(metadata);
}

void take_reports(sender *s, int wait_ms) {
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(s->queue, wait_ms))) {
        const rd_kafka_message_t *message;
        while ((message = rd_kafka_event_message_next(event))) {
            if (message->err)
                fail("a record was not stored: %s", rd_kafka_err2str(message->err));
            s->reported++;
        }
        rd_kafka_event_destroy(event);
        wait_ms = 0;
    }
}

static rd_kafka_resp_err_t try_to_send(sender *s, const record *r) {
    return rd_kafka_producev(s->kafka, RD_KAFKA_V_RKT(s->topic),
                             RD_KAFKA_V_KEY(r->key, r->key_length),
                             RD_KAFKA_V_VALUE((void *)r->value, r->value_length),
                             RD_KAFKA_V_HEADERS(r->headers),
                             RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
}

void send_record(sender *s, const record *r) {
    rd_kafka_resp_err_t code;
    while ((code = try_to_send(s, r)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        take_reports(s, 10);
    if (code)
        fail("a record was not taken: %s", rd_kafka_err2str(code));
}

void wait_for_reports(sender *s, int64_t count) {
    double deadline = now() + PATIENCE;
    while (s->reported < count) {
        int64_t before = s->reported;
        take_reports(s, 10);
        if (s->reported > before)
            deadline = now() + PATIENCE;
        else if (now() > deadline)
            fail("Kafka has stored %lld of %lld records", (long long)s->reported, (long long)count);
    }
}

#include "producer.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUE_MESSAGES "100000" /* the relay's window is smaller: a net below it */
#define QUEUE_KILOBYTES "262144"
#define BATCH_BYTES 1000000     /* librdkafka's own default */
#define BULK_LINGER_MS "2"
#define FRAMING_BYTES 4096      /* around a record, with the headers of postbox */

static int set_size(rd_kafka_conf_t *conf, const char *name, size_t value, pb_error *err) {
    char text[24];
    snprintf(text, sizeof text, "%zu", value);
    return pb_kafka_set(conf, name, text, err);
}

/* Properties on which promises rest: the user's own values do not count. */
static int set_promises(rd_kafka_conf_t *conf, const pb_producer_options *options, pb_error *err) {
    size_t batch = options->batch_bytes ? options->batch_bytes : BATCH_BYTES;
    size_t largest = options->record_bytes + FRAMING_BYTES;
    if (pb_kafka_set(conf, "enable.idempotence", "true", err) ||
        pb_kafka_set(conf, "acks", "all", err) ||
        pb_kafka_set(conf, "enable.gapless.guarantee", options->alone ? "false" : "true", err) ||
        pb_kafka_set(conf, "message.timeout.ms", "0", err) || /* a time-out would leave a hole */
        pb_kafka_set(conf, "statistics.interval.ms", "0", err) ||
        set_size(conf, "message.max.bytes", largest > BATCH_BYTES ? largest : BATCH_BYTES, err) ||
        set_size(conf, "batch.size", batch, err))
        return -1;
    return options->alone ? pb_kafka_set(conf, "batch.num.messages", "1", err) : 0;
}

static int set_defaults(rd_kafka_conf_t *conf, const pb_config *config, bool bulk, pb_error *err) {
    return pb_kafka_default(conf, config, "linger.ms", bulk ? BULK_LINGER_MS : "0", err) ||
           pb_kafka_default(conf, config, "queue.buffering.max.messages", QUEUE_MESSAGES, err) ||
           pb_kafka_default(conf, config, "queue.buffering.max.kbytes", QUEUE_KILOBYTES, err);
}

pb_producer *pb_producer_new(const pb_config *config, const pb_producer_options *options,
                             pb_error *err) {
    pb_producer *producer = calloc(1, sizeof *producer);
    rd_kafka_conf_t *conf = producer ? pb_kafka_conf(config, err) : NULL;
    if (!producer) {
        pb_fail_memory(err, "a producer");
        return NULL;
    }
    if (!conf || set_defaults(conf, config, options->bulk, err) || set_promises(conf, options, err)) {
        if (conf)
            rd_kafka_conf_destroy(conf);
        free(producer);
        return NULL;
    }
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    producer->rk = pb_kafka_new(RD_KAFKA_PRODUCER, conf, err);
    if (!producer->rk) {
        free(producer);
        return NULL;
    }
    producer->queue = rd_kafka_queue_get_main(producer->rk);
    if (options->wake_fd >= 0) {
        static const uint64_t one = 1; /* an eventfd takes 8 bytes */
        rd_kafka_queue_io_event_enable(producer->queue, options->wake_fd, &one, sizeof one);
    }
    return producer;
}

rd_kafka_resp_err_t pb_producer_send(pb_producer *producer, const pb_outgoing *record) {
    /* Not rd_kafka_produceva: before 2.12 it frees the headers twice when it fails. */
    return rd_kafka_producev(
        producer->rk, RD_KAFKA_V_RKT(record->topic), RD_KAFKA_V_PARTITION(record->partition),
        RD_KAFKA_V_KEY(record->key.data, record->key.length),
        RD_KAFKA_V_VALUE((void *)record->value.data, record->value.length),
        RD_KAFKA_V_HEADERS(record->headers), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_OPAQUE(record->opaque), RD_KAFKA_V_END);
}

void pb_producer_free(pb_producer *producer) {
    if (!producer)
        return;
    rd_kafka_queue_io_event_enable(producer->queue, -1, NULL, 0);
    rd_kafka_set_log_level(producer->rk, 0); /* what it says about the rest alarms for nothing */
    rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                     RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_queue_destroy(producer->queue);
    rd_kafka_destroy(producer->rk);
    free(producer);
}

pb_verdict pb_producer_verdict(rd_kafka_resp_err_t code) {
    switch (code) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
        return PB_VERDICT_RECORD;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        return PB_VERDICT_TOPIC;
    default:
        return PB_VERDICT_PRODUCER;
    }
}

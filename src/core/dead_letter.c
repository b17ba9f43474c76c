#include "dead_letter.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "kafka.h"

#define SEND_TIMEOUT "10000" /* milliseconds until Kafka's client gives a letter up */
#define REPORT_GRACE 15.0    /* seconds within which it has said so */
#define LARGEST_RECORD "1000000000" /* the broker decides what is too large, not this client */

struct pb_dead_letters {
    pb_config *config;
    rd_kafka_t *rk;
    rd_kafka_queue_t *events;
    int process;
    uintptr_t serial; /* of the letter whose report is waited for */
};

pb_dead_letters *pb_dead_letters_new(pb_config *config, pb_error *err) {
    pb_dead_letters *letters = calloc(1, sizeof *letters);
    if (!letters) {
        pb_fail_memory(err, "the dead letters");
        return NULL;
    }
    letters->config = pb_config_share(config);
    letters->process = (int)getpid();
    return letters;
}

static void drop_producer(pb_dead_letters *letters) {
    if (!letters->rk || letters->process != (int)getpid())
        return;
    /* What is still queued has no reader: its record stays, and the letter is written again. */
    rd_kafka_purge(letters->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_queue_destroy(letters->events);
    rd_kafka_destroy(letters->rk);
    letters->rk = NULL;
}

void pb_dead_letters_free(pb_dead_letters *letters) {
    if (!letters)
        return;
    drop_producer(letters);
    pb_config_release(letters->config);
    free(letters);
}

static int make_producer(pb_dead_letters *letters, pb_error *err) {
    pb_config *config = letters->config;
    rd_kafka_conf_t *conf = pb_kafka_conf(config, err);
    if (!conf)
        return -1;
    if (pb_kafka_set(conf, "enable.idempotence", "true", err) != 0 ||
        pb_kafka_set(conf, "acks", "all", err) != 0 ||
        pb_kafka_set(conf, "linger.ms", "0", err) != 0 ||
        pb_kafka_set(conf, "message.timeout.ms", SEND_TIMEOUT, err) != 0 ||
        pb_kafka_default(conf, config, "message.max.bytes", LARGEST_RECORD, err) != 0) {
        rd_kafka_conf_destroy(conf);
        return -1;
    }
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR);
    letters->rk = pb_kafka_new(RD_KAFKA_PRODUCER, conf, err);
    if (!letters->rk)
        return -1;
    letters->events = rd_kafka_queue_get_main(letters->rk);
    return 0;
}

/*
 * The report of the letter in hand; those of letters that were given up come too and are nothing.
 */
static bool find_report(pb_dead_letters *letters, rd_kafka_event_t *event,
                        rd_kafka_resp_err_t *code) {
    bool found = false;
    const rd_kafka_message_t *message;
    while (event && (message = rd_kafka_event_message_next(event)) != NULL) {
        if ((uintptr_t)message->_private != letters->serial)
            continue;
        *code = message->err;
        found = true;
    }
    return found;
}

static rd_kafka_resp_err_t wait_for_report(pb_dead_letters *letters) {
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    double deadline = pb_now() + REPORT_GRACE;
    bool found = false;
    while (!found && pb_now() < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(letters->events, pb_remaining_ms(deadline));
        found = find_report(letters, event, &code);
        rd_kafka_event_destroy(event);
    }
    return code;
}

/* Same key, value and partition; no timestamp, because retention would count from an old one. */
static rd_kafka_resp_err_t produce(pb_dead_letters *letters, const pb_record *record,
                                   const char *topic, rd_kafka_headers_t *headers) {
    pb_bytes key = pb_record_key(record), value = pb_record_value(record);
    letters->serial++;
    rd_kafka_resp_err_t code = rd_kafka_producev(
        letters->rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(pb_record_partition(record)),
        RD_KAFKA_V_KEY(key.data, key.length), RD_KAFKA_V_VALUE((void *)value.data, value.length),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_OPAQUE((void *)letters->serial), RD_KAFKA_V_END);
    if (code)
        rd_kafka_headers_destroy(headers); /* its own only when it takes the record */
    return code ? code : wait_for_report(letters);
}

static int send_with(pb_dead_letters *letters, const pb_record *record, const pb_reason *reason,
                     const char *topic, pb_detail detail, rd_kafka_resp_err_t *code,
                     pb_error *err) {
    pb_place place = {pb_record_topic(record), pb_record_partition(record),
                      pb_record_offset(record),
                      pb_record_timestamp(record), pb_record_timestamp_type(record)};
    rd_kafka_headers_t *headers =
        pb_dead_letter_headers(pb_record_headers(record), &place, reason, pb_wall_ms(), detail);
    if (!headers)
        return pb_fail_memory(err, "the headers of a dead letter");
    *code = produce(letters, record, topic, headers);
    return 0;
}

static bool is_too_large(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
}

/* The diagnosis gives way before the record does: one that just fitted must still get here. */
static int send_fitting(pb_dead_letters *letters, const pb_record *record, const pb_reason *reason,
                        const char *topic, pb_error *err) {
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int detail = PB_DETAIL_FULL; detail <= PB_DETAIL_NONE; detail++) {
        if (send_with(letters, record, reason, topic, (pb_detail)detail, &code, err) != 0)
            return -1;
        if (!is_too_large(code))
            break;
    }
    if (!code)
        return 0;
    pb_kafka_fail(err, code, "dead letter");
    if (rd_kafka_fatal_error(letters->rk, NULL, 0))
        drop_producer(letters);
    return -1;
}

int pb_dead_letter_send(pb_dead_letters *letters, const pb_record *record, const pb_reason *reason,
                        pb_error *err) {
    if (letters->process != (int)getpid())
        return pb_fail(err, PB_CLOSED, "dead letters: made in another process, before a fork");
    if (!letters->rk && make_producer(letters, err) != 0)
        return -1;
    char *topic = pb_dead_letter_topic(pb_record_topic(record));
    if (!topic)
        return pb_fail_memory(err, "the name of a topic");
    int failed = send_fitting(letters, record, reason, topic, err);
    free(topic);
    return failed;
}

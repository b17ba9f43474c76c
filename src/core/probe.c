#include "probe.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "clock.h"
#include "kafka.h"

#define POLL_MS 100
#define PURGE_MS 1000 /* for the delivery reports of what was purged */

struct pb_probe {
    rd_kafka_t *producer;
    rd_kafka_t *consumer;
    rd_kafka_resp_err_t failure; /* the first delivery report that was none */
};

struct pb_records {
    rd_kafka_message_t **items;
    size_t count, capacity;
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    pb_probe *probe = opaque;
    (void)rk;
    if (message->err && !probe->failure)
        probe->failure = message->err;
}

static rd_kafka_t *open_client(rd_kafka_type_t type, const char *const (*properties)[2],
                               const char *bootstrap, pb_probe *probe, pb_error *err) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, NULL); /* its failures are answers of the functions here */
    rd_kafka_conf_set_opaque(conf, probe);
    if (type == RD_KAFKA_PRODUCER)
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    int failed = pb_kafka_set(conf, "bootstrap.servers", bootstrap, err);
    for (; !failed && (*properties)[0]; properties++)
        failed = pb_kafka_set(conf, (*properties)[0], (*properties)[1], err);
    if (failed) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    return pb_kafka_new(type, conf, err);
}

static const char *const producing[][2] = {{"partitioner", "murmur2_random"},
                                           {"acks", "all"},
                                           {"linger.ms", "1"},
                                           {"socket.nagle.disable", "true"},
                                           {NULL, NULL}};
static const char *const consuming[][2] = {{"enable.partition.eof", "true"},
                                           {"allow.auto.create.topics", "false"},
                                           {"fetch.wait.max.ms", "10"},
                                           {"queued.min.messages", "1000000"},
                                           {"socket.nagle.disable", "true"},
                                           {NULL, NULL}};

pb_probe *pb_probe_new(const char *bootstrap, pb_error *err) {
    pb_probe *probe = calloc(1, sizeof *probe);
    if (!probe) {
        pb_fail_memory(err, "a Kafka client");
        return NULL;
    }
    probe->producer = open_client(RD_KAFKA_PRODUCER, producing, bootstrap, probe, err);
    if (probe->producer)
        probe->consumer = open_client(RD_KAFKA_CONSUMER, consuming, bootstrap, probe, err);
    if (!probe->consumer) {
        pb_probe_free(probe);
        return NULL;
    }
    return probe;
}

void pb_probe_free(pb_probe *probe) {
    if (!probe)
        return;
    if (probe->consumer)
        rd_kafka_destroy(probe->consumer);
    if (probe->producer) {
        rd_kafka_purge(probe->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_destroy(probe->producer);
    }
    free(probe);
}

int pb_probe_create_topic(pb_probe *probe, const char *topic, int partitions, double timeout,
                          pb_error *err) {
    return pb_admin_create_topic(probe->producer, topic, partitions, 1, timeout, err);
}

static rd_kafka_headers_t *copy_headers(const pb_bytes *headers, size_t count) {
    rd_kafka_headers_t *copy = rd_kafka_headers_new(count);
    for (size_t i = 0; copy && i < count; i++) {
        const pb_bytes *name = &headers[2 * i], *value = &headers[2 * i + 1];
        rd_kafka_header_add(copy, name->data, (ssize_t)name->length, value->data,
                            (ssize_t)value->length);
    }
    return copy;
}

int pb_probe_send(pb_probe *probe, const char *topic, const pb_seen *record, const pb_bytes *headers,
                  size_t header_count, pb_error *err) {
    rd_kafka_headers_t *copy = copy_headers(headers, header_count);
    if (!copy)
        return pb_fail_memory(err, "headers");
    rd_kafka_resp_err_t code = rd_kafka_producev(
        probe->producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(record->partition),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_TIMESTAMP(record->timestamp),
        RD_KAFKA_V_KEY(record->key.data, record->key.length),
        RD_KAFKA_V_VALUE((void *)record->value.data, record->value.length), RD_KAFKA_V_HEADERS(copy),
        RD_KAFKA_V_END);
    if (code) {
        rd_kafka_headers_destroy(copy); /* librdkafka takes them only when it succeeds */
        return pb_kafka_fail(err, code, topic);
    }
    return 0;
}

int pb_probe_flush(pb_probe *probe, double timeout, pb_error *err) {
    rd_kafka_resp_err_t code = rd_kafka_flush(probe->producer, (int)(timeout * 1000));
    if (code) { /* the next call is not to wait for these */
        rd_kafka_purge(probe->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_flush(probe->producer, PURGE_MS);
    } else {
        code = probe->failure;
    }
    probe->failure = RD_KAFKA_RESP_ERR_NO_ERROR;
    return code ? pb_kafka_fail(err, code, "kafka: producing") : 0;
}

static int keep(pb_records *records, rd_kafka_message_t *message, pb_error *err) {
    if (records->count == records->capacity) {
        size_t capacity = records->capacity ? 2 * records->capacity : 64;
        void *items = realloc(records->items, capacity * sizeof *records->items);
        if (!items) {
            rd_kafka_message_destroy(message);
            return pb_fail_memory(err, "records");
        }
        records->items = items;
        records->capacity = capacity;
    }
    records->items[records->count++] = message;
    return 0;
}

/* One event: a record, the end of a partition (which takes one off `open`), or an error. */
static int take(pb_records *records, rd_kafka_message_t *message, int *open, pb_error *err) {
    rd_kafka_resp_err_t code = message->err;
    if (!code)
        return keep(records, message, err);
    rd_kafka_message_destroy(message);
    if (code != RD_KAFKA_RESP_ERR__PARTITION_EOF)
        return pb_kafka_fail(err, code, "kafka: reading");
    --*open;
    return 0;
}

static int read_to_the_end(rd_kafka_queue_t *queue, pb_records *records, int open, double deadline,
                           pb_error *err) {
    while (open > 0) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(queue, POLL_MS);
        if (message && take(records, message, &open, err) != 0)
            return -1;
        if (!message && pb_now() >= deadline)
            return pb_fail(err, PB_TIMEOUT, "kafka: %d partitions were not read to their end", open);
    }
    return 0;
}

static int read_topic(pb_probe *probe, const char *topic, pb_records *records, double timeout,
                      pb_error *err) {
    double deadline = pb_now() + timeout;
    int started = 0, failed = 0;
    int count = pb_kafka_partitions(probe->consumer, topic, timeout, err);
    if (count < 0)
        return -1;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(probe->consumer);
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(probe->consumer, topic, NULL);
    if (!queue || !rkt)
        failed = pb_fail_memory(err, "a topic");
    for (; !failed && started < count; started++)
        if (rd_kafka_consume_start_queue(rkt, started, RD_KAFKA_OFFSET_BEGINNING, queue) != 0)
            failed = pb_kafka_fail(err, rd_kafka_last_error(), topic);
    if (!failed)
        failed = read_to_the_end(queue, records, count, deadline, err);
    while (started > 0)
        rd_kafka_consume_stop(rkt, --started);
    if (rkt)
        rd_kafka_topic_destroy(rkt);
    if (queue)
        rd_kafka_queue_destroy(queue);
    return failed;
}

static int by_place(const void *left, const void *right) {
    const rd_kafka_message_t *a = *(rd_kafka_message_t *const *)left;
    const rd_kafka_message_t *b = *(rd_kafka_message_t *const *)right;
    if (a->partition != b->partition)
        return a->partition < b->partition ? -1 : 1;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

pb_records *pb_probe_read(pb_probe *probe, const char *topic, double timeout, pb_error *err) {
    pb_records *records = calloc(1, sizeof *records);
    if (!records) {
        pb_fail_memory(err, "records");
        return NULL;
    }
    if (read_topic(probe, topic, records, timeout, err) != 0) {
        pb_records_free(records);
        return NULL;
    }
    if (records->count)
        qsort(records->items, records->count, sizeof *records->items, by_place);
    return records;
}

size_t pb_records_count(const pb_records *records) {
    return records->count;
}

pb_seen pb_records_get(const pb_records *records, size_t index) {
    const rd_kafka_message_t *message = records->items[index];
    rd_kafka_timestamp_type_t type;
    return (pb_seen){
        .partition = message->partition,
        .offset = message->offset,
        .timestamp = rd_kafka_message_timestamp(message, &type),
        .key = {message->key, message->key_len},
        .value = {message->payload, message->len},
    };
}

bool pb_records_header(const pb_records *records, size_t index, size_t header, const char **name,
                       pb_bytes *value) {
    rd_kafka_headers_t *headers;
    const void *data;
    if (rd_kafka_message_headers(records->items[index], &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_all(headers, header, name, &data, &value->length) !=
            RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    value->data = data;
    return true;
}

void pb_records_free(pb_records *records) {
    if (!records)
        return;
    for (size_t i = 0; i < records->count; i++)
        rd_kafka_message_destroy(records->items[i]);
    free(records->items);
    free(records);
}

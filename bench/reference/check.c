/*
 * An independent look at what a relay has published:
 *   check BOOTSTRAP TOPIC FIRST COUNT
 * Each outbox id from FIRST to FIRST + COUNT - 1 must be in the topic once, all records of a key
 * ("k" and a number) in one partition, in ascending order of ids.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

#define PARTITIONS 64
#define BATCH 4096
#define PATIENCE 30.0

typedef struct history {
    int64_t first, count;
    int64_t records, repeated, foreign, disordered;
    unsigned char *seen;
    int64_t last[KEYS];
    int32_t partition[KEYS];
} history;

static int64_t outbox_id(rd_kafka_message_t *message) {
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;
    if (rd_kafka_message_headers(message, &headers) ||
        rd_kafka_header_get_last(headers, "postbox-outbox-id", &value, &size))
        return -1;
    return atoll(value); /* librdkafka puts a NUL behind it */
}

static int key_number(const rd_kafka_message_t *message) {
    char text[16] = "";
    if (message->key_len < 2 || message->key_len >= sizeof text || *(char *)message->key != 'k')
        return -1;
    memcpy(text, (char *)message->key + 1, message->key_len - 1);
    int number = atoi(text);
    return number >= 0 && number < KEYS ? number : -1;
}

static void look(history *h, rd_kafka_message_t *message) {
    int64_t id = outbox_id(message), place = id - h->first;
    int key = key_number(message);
    h->records++;
    if (place < 0 || place >= h->count || key < 0) {
        h->foreign++;
        return;
    }
    if (h->seen[place]++)
        h->repeated++;
    else if (id < h->last[key] || (h->last[key] && h->partition[key] != message->partition))
        h->disordered++;
    else
        h->last[key] = id;
    h->partition[key] = message->partition;
}

static int64_t missing(const history *h) {
    int64_t count = 0;
    for (int64_t i = 0; i < h->count; i++)
        count += h->seen[i] == 0;
    return count;
}

static void read_all(history *h, rd_kafka_t *kafka, int64_t total) {
    static rd_kafka_message_t *messages[BATCH];
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(kafka);
    double deadline = now() + PATIENCE;
    while (h->records < total) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, 100, messages, BATCH);
        for (ssize_t i = 0; i < got; i++) {
            if (!messages[i]->err)
                look(h, messages[i]);
            rd_kafka_message_destroy(messages[i]);
        }
        if (got > 0)
            deadline = now() + PATIENCE;
        else if (now() > deadline)
            fail("only %lld of %lld records could be read", (long long)h->records,
                 (long long)total);
    }
}

int main(int count, char **arguments) {
    static const property properties[] = {{"group.id", "postbox-bench-check"},
                                          {"enable.auto.commit", "false"},
                                          {"queued.min.messages", "1000000"},
                                          {"queued.max.messages.kbytes", "262144"},
                                          {NULL, NULL}};
    static history h;
    int64_t ends[PARTITIONS], total = 0;
    int partitions = PARTITIONS;
    if (count != 5)
        fail("usage: check BOOTSTRAP TOPIC FIRST COUNT");
    h.first = atoll(arguments[3]);
    h.count = atoll(arguments[4]);
    h.seen = calloc((size_t)h.count + 1, 1);
    if (!h.seen)
        fail("out of memory");
    rd_kafka_t *kafka =
        open_reader(arguments[1], arguments[2], properties, false, ends, &partitions);
    for (int i = 0; i < partitions; i++)
        total += ends[i];
    read_all(&h, kafka, total);
    printf("records %lld\nmissing %lld\nrepeated %lld\nforeign %lld\ndisordered %lld\n",
           (long long)h.records, (long long)missing(&h), (long long)h.repeated,
           (long long)h.foreign, (long long)h.disordered);
    fflush(stdout);
    _Exit(0); /* closing a consumer takes longer than its work */
}

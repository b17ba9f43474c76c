/*
 * The work of a consumer with an inbox and no handler, in C alone:
 *   consume BOOTSTRAP TOPIC DATABASE GROUP COUNT BATCH
 * Takes records in batches, stores the ids of each batch in the inbox in one transaction, and
 * commits offsets behind it. The next batch is taken while the server works on the one before.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

#define PATIENCE 30.0
#define COMMIT_EVERY 20 /* batches, of the offsets in Kafka */
#define UUID_OID 2950
#define UUID_ARRAY_OID 2951
#define ELEMENT (4 + 16)
#define HEAD 20

static const char insert_sql[] =
    "INSERT INTO postbox.inbox (event_id, consumer_group) SELECT id, $2 FROM unnest($1) AS id "
    "ORDER BY id ON CONFLICT DO NOTHING RETURNING event_id";

typedef struct batch {
    rd_kafka_message_t **messages;
    ssize_t count;
    char *ids; /* a binary array of uuids */
    int length;
} batch;

static int digit(char c) {
    return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

static void read_id(unsigned char *out, rd_kafka_message_t *message) {
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;
    if (rd_kafka_message_headers(message, &headers) ||
        rd_kafka_header_get_last(headers, "postbox-event-id", &value, &size) || size != ID_TEXT)
        fail("a record has no event id");
    const char *text = value;
    for (int i = 0; i < 16; i++, text += 2) {
        if (*text == '-')
            text++;
        out[i] = (unsigned char)(digit(text[0]) << 4 | digit(text[1]));
    }
}

static void put_u32(char *out, uint32_t value) {
    value = htobe32(value);
    memcpy(out, &value, sizeof value);
}

static int take(batch *b, rd_kafka_queue_t *queue, int size) {
    uint32_t filled = 0;
    b->count = rd_kafka_consume_batch_queue(queue, 100, b->messages, (size_t)size);
    for (ssize_t i = 0; i < b->count; i++) {
        if (b->messages[i]->err)
            continue;
        char *element = b->ids + HEAD + (size_t)filled++ * ELEMENT;
        put_u32(element, 16);
        read_id((unsigned char *)element + 4, b->messages[i]);
    }
    const uint32_t head[] = {1, 0, UUID_OID, filled, 1};
    for (int i = 0; i < 5; i++)
        put_u32(b->ids + i * 4, head[i]);
    b->length = HEAD + (int)filled * ELEMENT;
    return (int)filled;
}

static void store(PGconn *pg, const batch *b, const char *group) {
    const char *values[] = {b->ids, group};
    int lengths[] = {b->length, 0}, formats[] = {1, 0};
    if (!PQsendQueryPrepared(pg, "insert", 2, values, lengths, formats, 1) || PQflush(pg) < 0)
        fail("PostgreSQL: %s", PQerrorMessage(pg));
}

/* Returns how many ids were new. */
static int stored(PGconn *pg) {
    PGresult *result = expect(pg, PQgetResult(pg), PGRES_TUPLES_OK);
    int fresh = PQntuples(result);
    PQclear(result);
    PQclear(PQgetResult(pg));
    return fresh;
}

static void release(rd_kafka_t *kafka, batch *b, bool commit) {
    for (ssize_t i = 0; i < b->count; i++) {
        rd_kafka_message_t *m = b->messages[i];
        if (!m->err)
            rd_kafka_offset_store(m->rkt, m->partition, m->offset);
        rd_kafka_message_destroy(m);
    }
    b->count = 0;
    if (commit)
        rd_kafka_commit(kafka, NULL, 1);
}

static rd_kafka_t *join(const char *bootstrap, const char *topic, const char *group) {
    const property properties[] = {{"group.id", group},
                                   {"enable.auto.commit", "false"},
                                   {"enable.auto.offset.store", "false"},
                                   {"auto.offset.reset", "earliest"},
                                   {"queued.min.messages", "1000000"},
                                   {"queued.max.messages.kbytes", "262144"},
                                   {NULL, NULL}};
    rd_kafka_t *kafka = open_kafka(RD_KAFKA_CONSUMER, bootstrap, properties, 0);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_poll_set_consumer(kafka);
    rd_kafka_topic_partition_list_add(list, topic, RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(kafka, list))
        fail("the topic %s cannot be subscribed to", topic);
    rd_kafka_topic_partition_list_destroy(list);
    return kafka;
}

static void open_batch(batch *b, int size) {
    b->count = 0;
    b->messages = calloc((size_t)size, sizeof *b->messages);
    b->ids = malloc(HEAD + (size_t)size * ELEMENT);
    if (!b->messages || !b->ids)
        fail("out of memory");
}

int main(int count, char **arguments) {
    static const Oid types[] = {UUID_ARRAY_OID, 25};
    batch batches[2];
    if (count != 7)
        fail("usage: consume BOOTSTRAP TOPIC DATABASE GROUP COUNT BATCH");
    const char *group = arguments[4];
    int64_t wanted = atoll(arguments[5]), taken = 0, fresh = 0, turns = 0;
    int size = atoi(arguments[6]), waiting = -1;
    open_batch(&batches[0], size);
    open_batch(&batches[1], size);
    PGconn *pg = open_database(arguments[3]);
    prepare(pg, "insert", insert_sql, 2, types);
    rd_kafka_t *kafka = join(arguments[1], arguments[2], group);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(kafka);
    double start = 0, cpu = 0, deadline = now() + PATIENCE;
    for (int mine = 0; taken < wanted || waiting >= 0; mine = !mine) {
        int got = taken < wanted ? take(&batches[mine], queue, size) : 0;
        if (got > 0 && start == 0) {
            start = now();
            cpu = own_cpu();
        }
        if (waiting >= 0) {
            fresh += stored(pg);
            release(kafka, &batches[waiting], ++turns % COMMIT_EVERY == 0);
            waiting = -1;
        }
        if (got > 0) {
            store(pg, &batches[mine], group);
            waiting = mine;
            taken += got;
            deadline = now() + PATIENCE;
            continue;
        }
        release(kafka, &batches[mine], false); /* at most errors, which librdkafka mends */
        if (now() > deadline && taken < wanted)
            fail("only %lld of %lld records came", (long long)taken, (long long)wanted);
    }
    rd_kafka_commit(kafka, NULL, 0);
    printf("seconds %.6f\ncpu %.6f\nfresh %lld\n", now() - start, own_cpu() - cpu,
           (long long)fresh);
    fflush(stdout);
    rd_kafka_consumer_close(kafka);
    return 0;
}

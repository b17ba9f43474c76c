/*
 * A business transaction with one event as one writes it by hand: BEGIN, UPDATE, INSERT, COMMIT,
 * prepared statements, one after the other.
 *   transact DATABASE CLIENTS START-END [START-END …]
 * Each client is a thread with a connection. Prints for each stretch of time: "count seconds".
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

#define CLIENTS 64
#define ROUNDS 64
#define ACCOUNTS 10000

typedef struct stretch {
    double start, end;
} stretch;

typedef struct client {
    pthread_t thread;
    PGconn *pg;
    unsigned seed;
    int64_t done[ROUNDS];
    double seconds[ROUNDS];
} client;

static client clients[CLIENTS];
static stretch stretches[ROUNDS];
static int rounds;

static const char update_sql[] =
    "UPDATE bench_account SET balance = balance + 1 WHERE id = $1::integer";
static const char insert_sql[] =
    "INSERT INTO postbox.outbox (event_id, event_type, topic, partition_key, payload, headers) "
    "VALUES (gen_random_uuid(), $1, $2, convert_to($3, 'UTF8'), convert_to($4, 'UTF8'), '')";

static void run(PGconn *pg, const char *name, int count, const char *const *values) {
    PGresult *result = PQexecPrepared(pg, name, count, values, NULL, NULL, 0);
    PQclear(expect(pg, result, PGRES_COMMAND_OK));
}

static void transaction(client *c) {
    char id[16], payload[PAYLOAD_BYTES + 1];
    snprintf(id, sizeof id, "%d", 1 + (int)(rand_r(&c->seed) % ACCOUNTS));
    int length = snprintf(payload, sizeof payload, "{\"accountId\":%s,\"note\":\"", id);
    memset(payload + length, 'x', sizeof payload - 3 - (size_t)length);
    memcpy(payload + PAYLOAD_BYTES - 2, "\"}", 3);
    const char *event[] = {EVENT_TYPE, "order.created", id, payload}, *account[] = {id};
    run(c->pg, "begin", 0, NULL);
    run(c->pg, "update", 1, account);
    run(c->pg, "insert", 4, event);
    run(c->pg, "commit", 0, NULL);
}

static void *work(void *argument) {
    client *c = argument;
    for (int i = 0; i < rounds; i++) {
        sleep_until(stretches[i].start);
        double start = now();
        while (now() < stretches[i].end) {
            transaction(c);
            c->done[i]++;
        }
        c->seconds[i] = now() - start;
    }
    return NULL;
}

static void open_client(client *c, const char *conninfo, int number) {
    static const Oid types[] = {25, 25, 25, 25};
    c->seed = 77u + (unsigned)number;
    c->pg = open_database(conninfo);
    prepare(c->pg, "begin", "BEGIN", 0, NULL);
    prepare(c->pg, "update", update_sql, 0, NULL);
    prepare(c->pg, "insert", insert_sql, 4, types);
    prepare(c->pg, "commit", "COMMIT", 0, NULL);
}

int main(int count, char **arguments) {
    if (count < 4 || count - 3 > ROUNDS)
        fail("usage: transact DATABASE CLIENTS START-END [START-END …]");
    int number = atoi(arguments[2]);
    if (number < 1 || number > CLIENTS)
        fail("1 to %d clients", CLIENTS);
    rounds = count - 3;
    for (int i = 0; i < rounds; i++)
        if (sscanf(arguments[i + 3], "%lf-%lf", &stretches[i].start, &stretches[i].end) != 2)
            fail("%s is no stretch of time", arguments[i + 3]);
    for (int i = 0; i < number; i++)
        open_client(&clients[i], arguments[1], i);
    if (now() > stretches[0].start)
        fail("the start was over before the clients were ready");
    for (int i = 0; i < number; i++)
        if (pthread_create(&clients[i].thread, NULL, work, &clients[i]))
            fail("no thread could be started");
    for (int i = 0; i < number; i++)
        pthread_join(clients[i].thread, NULL);
    for (int i = 0; i < rounds; i++)
        for (int k = 0; k < number; k++)
            printf("%d %lld %.6f\n", i + 1, (long long)clients[k].done[i], clients[k].seconds[i]);
    return 0;
}

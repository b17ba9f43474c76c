/*
 * A relay without its promises: reads the outbox by id, produces, and removes nothing.
 *   copy BOOTSTRAP TOPIC DATABASE COUNT
 * The next rows are asked for while those in hand are produced.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "send.h"

#define ROWS "2000"
#define LINGER_MS "5"
#define INT8_OID 20

static const char read_sql[] =
    "SELECT outbox_id, event_id, partition_key, payload, event_type, topic, partition, headers, "
    "envelope FROM postbox.outbox WHERE outbox_id > $1 ORDER BY outbox_id LIMIT " ROWS;

static void ask(PGconn *pg, int64_t last) {
    uint64_t id = htobe64((uint64_t)last);
    const char *values[] = {(const char *)&id};
    int lengths[] = {sizeof id}, formats[] = {1};
    if (!PQsendQueryPrepared(pg, "read", 1, values, lengths, formats, 1))
        fail("PostgreSQL: %s", PQerrorMessage(pg));
}

static PGresult *answer(PGconn *pg) {
    PGresult *rows = expect(pg, PQgetResult(pg), PGRES_TUPLES_OK);
    PQclear(PQgetResult(pg));
    return rows;
}

static int64_t id_of(const PGresult *rows, int row) {
    uint64_t id;
    memcpy(&id, PQgetvalue(rows, row, 0), sizeof id);
    return (int64_t)be64toh(id);
}

static void send_row(sender *s, const PGresult *rows, int row) {
    char value[VALUE_BYTES];
    const unsigned char *id = (const unsigned char *)PQgetvalue(rows, row, 1);
    size_t length = (size_t)PQgetlength(rows, row, 3);
    if (length > PAYLOAD_BYTES)
        fail("a payload of %zu bytes", length);
    record r = {.key = PQgetvalue(rows, row, 2),
                .key_length = (size_t)PQgetlength(rows, row, 2),
                .value = value,
                .headers = event_headers(id, id_of(rows, row))};
    r.value_length = write_envelope(value, id, PQgetvalue(rows, row, 3), length);
    send_record(s, &r);
}

int main(int count, char **arguments) {
    static const Oid types[] = {INT8_OID};
    if (count != 5)
        fail("usage: copy BOOTSTRAP TOPIC DATABASE COUNT");
    sender s;
    int64_t wanted = atoll(arguments[4]), sent = 0;
    PGconn *pg = open_database(arguments[3]);
    PQclear(expect(pg, PQexec(pg, "SET enable_seqscan = off; SET enable_bitmapscan = off"),
                   PGRES_COMMAND_OK));
    prepare(pg, "read", read_sql, 1, types);
    open_sender(&s, arguments[1], arguments[2], LINGER_MS);
    double cpu = own_cpu(), start = now();
    ask(pg, 0);
    for (;;) {
        PGresult *rows = answer(pg);
        int got = PQntuples(rows);
        if (got == 0)
            break;
        ask(pg, id_of(rows, got - 1));
        for (int i = 0; i < got; i++)
            send_row(&s, rows, i);
        sent += got;
        PQclear(rows);
        take_reports(&s, 0);
    }
    wait_for_reports(&s, sent);
    if (sent != wanted)
        fail("%lld rows were read instead of %lld", (long long)sent, (long long)wanted);
    printf("seconds %.6f\ncpu %.6f\n", now() - start, own_cpu() - cpu);
    return 0;
}

#include "outbox.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LATE_CHECKS "SET CONSTRAINTS ALL IMMEDIATE"

#define LOCK "SELECT set_config('lock_timeout', $3, true), postbox.lock_stripes($1, $2)"

#define STORE                                                                                   \
    "INSERT INTO postbox.outbox (event_id, event_type, topic, partition, partition_key, payload, " \
    "headers, envelope, direct_until) "                                                          \
    "SELECT e.event_id, e.event_type, e.topic, e.partition, e.partition_key, e.payload, "        \
    "e.headers, e.envelope::\"char\", clock_timestamp() + $9::text::interval "                   \
    "FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bytea[], $6::bytea[], "  \
    "$7::bytea[], $8::text[]) WITH ORDINALITY "                                                  \
    "AS e (event_id, event_type, topic, partition, partition_key, payload, headers, envelope, n) " \
    "ORDER BY e.n RETURNING outbox_id"

/* The same where ids are given: those that wait already are compared instead. */
#define STORE_GIVEN                                                                             \
    "SELECT unnest(postbox.store($1::uuid[], $10::boolean[], $2::text[], $3::text[], "           \
    "$4::integer[], $5::bytea[], $6::bytea[], $7::bytea[], $8::text[], "                         \
    "clock_timestamp() + $9::text::interval))"

/*
 * One event without a given id, which is the common case: no arrays, whose plans the server would
 * make anew each time, and the lock in the same statement. The id is drawn in the scan above the
 * one that locks, so after the lock; OFFSET 0 and the volatile functions keep the planner from
 * making one scan of both. lock_timeout is only set where the lock is not free.
 */
#define KEY "('postbox.outbox'::regclass::oid::integer, postbox.stripe($5))"
#define STORE_ONE                                                                               \
    "INSERT INTO postbox.outbox (event_id, event_type, topic, partition, partition_key, payload, " \
    "headers, envelope, direct_until) SELECT $1, $2, $3, $4, $5, $6, $7, $8::\"char\", "         \
    "clock_timestamp() + $9::text::interval FROM (SELECT "                                       \
    "CASE current_setting('synchronous_commit') WHEN 'off' "                                     \
    "THEN set_config('synchronous_commit', 'on', true) END, "                                    \
    "CASE WHEN NOT $10 THEN NULL WHEN pg_try_advisory_xact_lock" KEY " THEN NULL "               \
    "WHEN set_config('lock_timeout', $11, true) IS NULL THEN NULL "                              \
    "ELSE pg_advisory_xact_lock" KEY " END OFFSET 0) AS locked RETURNING outbox_id"

#define CONFLICT_STATE "PB409" /* raised by postbox.store */
#define STATEMENTS 3           /* that pb_outbox_send queues at most */

enum { IDS, TYPES, TOPICS, PARTITIONS, KEYS, PAYLOADS, HEADERS, ENVELOPES, GIVEN, COLUMNS };

struct pb_outbox {
    pb_config *config;
    char *lock, *store, *store_one, *store_given;
    pb_array columns[COLUMNS];
    pb_array lock_keys, lock_ids;
    char lock_timeout[32], direct[48];
    bool any_given;
    int queued; /* statements whose results are to be received */
};

static const uint32_t element_of[COLUMNS] = {PB_OID_UUID,  PB_OID_TEXT,  PB_OID_TEXT,
                                             PB_OID_INT4,  PB_OID_BYTEA, PB_OID_BYTEA,
                                             PB_OID_BYTEA, PB_OID_TEXT,  PB_OID_BOOL};

pb_outbox *pb_outbox_new(pb_config *config, pb_error *err) {
    pb_outbox *outbox = calloc(1, sizeof *outbox);
    if (!outbox) {
        pb_fail_memory(err, "the outbox");
        return NULL;
    }
    outbox->config = pb_config_share(config);
    snprintf(outbox->lock_timeout, sizeof outbox->lock_timeout, "%.0f",
             config->lock_timeout * 1000);
    outbox->lock = pb_config_sql(config, LOCK);
    outbox->store = pb_config_sql(config, STORE);
    outbox->store_given = pb_config_sql(config, STORE_GIVEN);
    outbox->store_one = pb_config_sql(config, STORE_ONE);
    if (!outbox->lock || !outbox->store || !outbox->store_given || !outbox->store_one) {
        pb_outbox_free(outbox);
        pb_fail_memory(err, "the outbox");
        return NULL;
    }
    return outbox;
}

void pb_outbox_free(pb_outbox *outbox) {
    if (!outbox)
        return;
    for (int i = 0; i < COLUMNS; i++)
        pb_array_free(&outbox->columns[i]);
    pb_array_free(&outbox->lock_keys);
    pb_array_free(&outbox->lock_ids);
    free(outbox->lock);
    free(outbox->store);
    free(outbox->store_given);
    free(outbox->store_one);
    pb_config_release(outbox->config);
    free(outbox);
}

static void add_partition(pb_array *column, int32_t partition) {
    if (partition == PB_NO_PARTITION)
        pb_array_add(column, PB_ABSENT);
    else
        pb_array_add_i32(column, partition);
}

static void add_event(pb_outbox *outbox, const pb_event *event) {
    pb_array *c = outbox->columns;
    char envelope = (char)event->envelope;
    pb_bytes id = {(const char *)event->id, PB_ID_SIZE};
    pb_array_add(&c[IDS], id);
    pb_array_add(&c[TYPES], event->type);
    pb_array_add(&c[TOPICS], event->topic);
    add_partition(&c[PARTITIONS], event->partition);
    pb_array_add(&c[KEYS], event->key);
    pb_array_add(&c[PAYLOADS], event->payload);
    pb_array_add(&c[HEADERS], event->headers);
    pb_array_add(&c[ENVELOPES], (pb_bytes){&envelope, 1});
    pb_array_add_bool(&c[GIVEN], event->id_given);
    if (event->ordered && event->key.data)
        pb_array_add(&outbox->lock_keys, event->key);
    if (event->id_given) {
        pb_array_add(&outbox->lock_ids, id);
        outbox->any_given = true;
    }
}

static bool out_of_memory(const pb_outbox *outbox) {
    bool failed = outbox->lock_keys.bytes.failed || outbox->lock_ids.bytes.failed;
    for (int i = 0; i < COLUMNS; i++)
        failed = failed || outbox->columns[i].bytes.failed;
    return failed;
}

static int fill(pb_outbox *outbox, const pb_batch *batch, pb_error *err) {
    pb_event event;
    for (int i = 0; i < COLUMNS; i++)
        pb_array_open(&outbox->columns[i], element_of[i]);
    pb_array_open(&outbox->lock_keys, PB_OID_BYTEA);
    pb_array_open(&outbox->lock_ids, PB_OID_UUID);
    outbox->any_given = false;
    for (int i = 0; i < batch->count; i++) {
        pb_batch_get(batch, i, &event);
        add_event(outbox, &event);
    }
    return out_of_memory(outbox) ? pb_fail_memory(err, "the events of a transaction") : 0;
}

static pb_param timeout_param(pb_outbox *outbox) {
    return pb_param_text(pb_bytes_of(outbox->lock_timeout));
}

static pb_param direct_param(pb_outbox *outbox, double direct_seconds) {
    if (direct_seconds <= 0)
        return pb_param_null();
    snprintf(outbox->direct, sizeof outbox->direct, "%.3f seconds", direct_seconds);
    return pb_param_text(pb_bytes_of(outbox->direct));
}

static int send_many(pb_outbox *outbox, pb_pg *pg, const pb_batch *batch, double direct_seconds,
                     pb_error *err) {
    if (fill(outbox, batch, err) != 0)
        return -1;
    pb_param locks[] = {pb_param_array(&outbox->lock_keys), pb_param_array(&outbox->lock_ids),
                        timeout_param(outbox)};
    pb_param row[COLUMNS + 1];
    int count = 0;
    for (int i = IDS; i <= ENVELOPES; i++)
        row[count++] = pb_param_array(&outbox->columns[i]);
    row[count++] = direct_param(outbox, direct_seconds);
    if (outbox->any_given)
        row[count++] = pb_param_array(&outbox->columns[GIVEN]);
    if (pb_pg_send(pg, outbox->lock, locks, 3, PB_TEXT_RESULT, err) != 0)
        return -1;
    return pb_pg_send(pg, outbox->any_given ? outbox->store_given : outbox->store, row, count,
                      PB_BINARY_RESULT, err);
}

static pb_param typed(pb_bytes text, uint32_t oid) {
    pb_param param = pb_param_text(text);
    param.oid = oid;
    return param;
}

static int send_one(pb_outbox *outbox, pb_pg *pg, const pb_event *event, double direct_seconds,
                    pb_error *err) {
    char envelope[2] = {(char)event->envelope, '\0'}, partition[16];
    const char *locks = event->ordered && event->key.data ? "t" : "f";
    pb_param row[] = {
        pb_param_uuid(event->id),
        typed(event->type, PB_OID_TEXT),
        typed(event->topic, PB_OID_TEXT),
        typed(PB_ABSENT, PB_OID_INT4),
        pb_param_bytea(event->key),
        pb_param_bytea(event->payload),
        pb_param_bytea(event->headers),
        pb_param_text(pb_bytes_of(envelope)),
        direct_param(outbox, direct_seconds),
        pb_param_text(pb_bytes_of(locks)),
        timeout_param(outbox),
    };
    row[1].binary = row[2].binary = true; /* slices have no NUL behind them */
    if (event->partition != PB_NO_PARTITION) {
        snprintf(partition, sizeof partition, "%d", event->partition);
        row[3] = typed(pb_bytes_of(partition), PB_OID_INT4);
    }
    return pb_pg_send(pg, outbox->store_one, row, sizeof row / sizeof *row, PB_BINARY_RESULT, err);
}

int pb_outbox_send(pb_outbox *outbox, pb_pg *pg, const pb_batch *batch, double direct_seconds,
                   pb_error *err) {
    pb_event first;
    outbox->queued = 0;
    if (!batch || batch->count == 0)
        return 0;
    pb_batch_get(batch, 0, &first);
    bool alone = batch->count == 1 && !first.id_given;
    if (pb_pg_send(pg, LATE_CHECKS, NULL, 0, PB_TEXT_RESULT, err) != 0)
        return -1;
    int failed = alone ? send_one(outbox, pg, &first, direct_seconds, err)
                       : send_many(outbox, pg, batch, direct_seconds, err);
    if (failed)
        return -1;
    outbox->queued = alone ? STATEMENTS - 1 : STATEMENTS;
    return 0;
}

static void set_rows(pb_batch *batch, const PGresult *result) {
    for (int i = 0; i < batch->count && i < PQntuples(result); i++)
        if (!PQgetisnull(result, i, 0))
            pb_batch_set_row(batch, i, (int64_t)pb_read_u64(PQgetvalue(result, i, 0)));
}

int pb_outbox_receive(pb_outbox *outbox, pb_pg *pg, double deadline, pb_batch *batch,
                      pb_error *err) {
    static const char *const many[] = {"checking deferred constraints", "locking partition keys",
                                       "storing events"};
    static const char *const one[] = {"checking deferred constraints",
                                      "locking the key and storing the event"};
    const char *const *doing = outbox->queued == STATEMENTS ? many : one;
    for (int i = 0; i < outbox->queued; i++) {
        PGresult *result;
        if (pb_pg_receive(pg, deadline, &result, err) != 0)
            return -1;
        int failed = pb_pg_check(result, doing[i], err);
        if (!failed && i == outbox->queued - 1)
            set_rows(batch, result);
        PQclear(result);
        if (failed && strcmp(err->sqlstate, CONFLICT_STATE) == 0)
            err->code = PB_CONFLICT;
        if (failed)
            return -1;
    }
    return 0;
}

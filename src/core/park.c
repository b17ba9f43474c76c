#include "park.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024

typedef struct held_key {
    struct held_key *next;
    char *topic, *key;
    size_t topic_length, key_length;
} held_key;

struct pb_held {
    held_key *buckets[BUCKETS];
    size_t count;
};

#define COLUMNS                                                                                \
    "outbox_id, event_id, id_given, event_type, topic, partition, partition_key, payload, "    \
    "headers, envelope, created_at"

static const char load_sql[] =
    "SELECT DISTINCT topic, partition_key FROM postbox.parked"
    " WHERE holds_key AND partition_key IS NOT NULL";
static const char park_sql[] =
    "WITH moved AS (DELETE FROM postbox.outbox WHERE outbox_id = ANY ($1::bigint[])"
    "  AND EXISTS (SELECT 1 FROM postbox.lease WHERE epoch = $2::bigint) RETURNING *)"
    " INSERT INTO postbox.parked (" COLUMNS ", reason, holds_key)"
    " SELECT " COLUMNS ", $3, partition_key IS NOT NULL AND $4::bigint = 1 FROM moved";
/* One statement: the rows are in one of the two tables at any time, and the ids below the low-water
 * id are only there again when a relay that takes over looks for them. */
static const char release_sql[] =
    "WITH lowest AS (SELECT min(outbox_id) AS id FROM postbox.parked WHERE released),"
    " mine AS (UPDATE postbox.lease SET low_water = least(low_water, lowest.id - 1) FROM lowest"
    "  WHERE epoch = $1::bigint AND lowest.id IS NOT NULL RETURNING epoch),"
    /* with those that were parked behind them since */
    " moved AS (DELETE FROM postbox.parked p USING mine WHERE p.released OR (p.holds_key AND EXISTS"
    "  (SELECT 1 FROM postbox.parked r WHERE r.released AND r.holds_key AND r.topic = p.topic"
    "   AND r.partition_key = p.partition_key)) RETURNING p.*)"
    " INSERT INTO postbox.outbox (" COLUMNS ") OVERRIDING SYSTEM VALUE"
    " SELECT " COLUMNS " FROM moved RETURNING outbox_id";

pb_held *pb_held_new(void) {
    return calloc(1, sizeof(pb_held));
}

static void clear(pb_held *held) {
    for (int i = 0; i < BUCKETS; i++) {
        for (held_key *k = held->buckets[i], *next; k; k = next) {
            next = k->next;
            free(k->topic);
            free(k->key);
            free(k);
        }
        held->buckets[i] = NULL;
    }
    held->count = 0;
}

void pb_held_free(pb_held *held) {
    if (held)
        clear(held);
    free(held);
}

size_t pb_held_count(const pb_held *held) {
    return held->count;
}

static unsigned mix(unsigned h, pb_bytes bytes) {
    for (size_t i = 0; i < bytes.length; i++)
        h = (h ^ (unsigned char)bytes.data[i]) * 16777619u;
    return h;
}

static unsigned bucket_of(pb_bytes topic, pb_bytes key) {
    return mix(mix(2166136261u, topic), key) % BUCKETS;
}

bool pb_held_has(const pb_held *held, pb_bytes topic, pb_bytes key) {
    for (held_key *k = held->buckets[bucket_of(topic, key)]; k; k = k->next)
        if (k->topic_length == topic.length && k->key_length == key.length &&
            memcmp(k->topic, topic.data, topic.length) == 0 &&
            memcmp(k->key, key.data, key.length) == 0)
            return true;
    return false;
}

static int add(pb_held *held, pb_bytes topic, pb_bytes key) {
    held_key *k = calloc(1, sizeof *k);
    if (!k)
        return -1;
    k->topic = pb_bytes_copy(topic);
    k->key = pb_bytes_copy(key);
    if (!k->topic || !k->key) {
        free(k->topic);
        free(k->key);
        free(k);
        return -1;
    }
    k->topic_length = topic.length;
    k->key_length = key.length;
    unsigned bucket = bucket_of(topic, key);
    k->next = held->buckets[bucket];
    held->buckets[bucket] = k;
    held->count++;
    return 0;
}

static int run(pb_pg *pg, const char *sql, const pb_param *params, int count, PGresult **result,
               pb_error *err) {
    char *text = pb_config_sql(pb_pg_config(pg), sql);
    if (!text)
        return pb_fail_memory(err, "a statement");
    int done = pb_pg_run(pg, text, params, count, PB_BINARY_RESULT, result, err);
    free(text);
    return done;
}

static pb_bytes field(const PGresult *result, int row, int column) {
    return (pb_bytes){PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column)};
}

int pb_held_load(pb_held *held, pb_pg *pg, pb_error *err) {
    PGresult *result = NULL;
    if (run(pg, load_sql, NULL, 0, &result, err) != 0)
        return -1;
    clear(held);
    int failed = 0;
    for (int i = 0; i < PQntuples(result) && !failed; i++)
        failed = add(held, field(result, i, 0), field(result, i, 1));
    PQclear(result);
    return failed ? pb_fail_memory(err, "the held keys") : 0;
}

int64_t pb_park(pb_pg *pg, const pb_lease *lease, const int64_t *ids, size_t count,
                const char *reason, bool hold, pb_error *err) {
    PGresult *result = NULL;
    pb_array array = {0};
    pb_array_open(&array, PB_OID_INT8);
    for (size_t i = 0; i < count; i++)
        pb_array_add_i64(&array, ids[i]);
    pb_param params[] = {pb_param_array(&array), pb_param_i64(lease->epoch),
                         pb_param_text(pb_bytes_of(reason)), pb_param_i64(hold)};
    int failed = array.bytes.failed ? pb_fail_memory(err, "the rows to park")
                                    : run(pg, park_sql, params, 4, &result, err);
    pb_array_free(&array);
    if (failed)
        return -1;
    int64_t moved = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return moved;
}

int pb_park_release(pb_pg *pg, const pb_lease *lease, int64_t **back, size_t *count,
                    pb_error *err) {
    PGresult *result = NULL;
    pb_param params[] = {pb_param_i64(lease->epoch)};
    *back = NULL;
    *count = 0;
    if (run(pg, release_sql, params, 1, &result, err) != 0)
        return -1;
    int rows = PQntuples(result);
    int64_t *ids = malloc(((size_t)rows + 1) * sizeof *ids);
    for (int i = 0; ids && i < rows; i++)
        ids[i] = (int64_t)pb_read_u64(PQgetvalue(result, i, 0));
    PQclear(result);
    if (!ids)
        return pb_fail_memory(err, "the released rows"); /* a take-over finds them */
    *back = ids;
    *count = (size_t)rows;
    return 0;
}

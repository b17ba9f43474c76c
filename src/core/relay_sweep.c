/*
 * The sweep: an alarm that looks, now and then, for rows at or below the position that nothing
 * here knows of. It must never find one; what it finds is told and read again as a gap. A page of
 * ids at a time, so that it costs little. And the age of the oldest row.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "relay_internal.h"

#define PAGE 2000 /* ids of one look */

static PGresult *ask(pb_active *a, const char *sql, const pb_param *params, int count,
                     pb_error *err) {
    PGresult *result = NULL;
    char *text = pb_config_sql(a->config, sql);
    int failed = text ? pb_pg_run(a->remover, text, params, count, PB_BINARY_RESULT, &result, err)
                      : pb_fail_memory(err, "a statement");
    free(text);
    return failed ? NULL : result;
}

/* -- what is known --------------------------------------------------------------------------- */

typedef struct known {
    pb_ids ids;
    int64_t resume; /* rows from here on are read again by the lanes that fell behind */
    bool failed;
} known;

static void note(known *k, int64_t id) {
    if (id != PB_NEVER && pb_ids_add(&k->ids, id) != 0)
        k->failed = true;
}

static void note_lane(pb_active *a, pb_lane *lane, void *arg) {
    known *k = arg;
    (void)a;
    if (lane->resume < k->resume)
        k->resume = lane->resume;
    for (size_t i = 0; i < lane->count; i++)
        note(k, lane->waiting[lane->first + i].id);
}

static void note_list(known *k, const pb_ids *ids) {
    for (size_t i = 0; i < ids->count; i++)
        note(k, ids->list[i]);
}

static int collect(pb_active *a, known *k, pb_error *err) {
    k->resume = PB_NEVER;
    pb_topics_each_lane(a, note_lane, k);
    for (int i = 0; i < PB_TOPIC_BUCKETS; i++)
        for (pb_topic *topic = a->topics[i]; topic; topic = topic->next)
            if (topic->resume < k->resume)
                k->resume = topic->resume;
    for (size_t i = 0; i < a->chunk_count; i++)
        for (int s = 0; s < PB_SLOT_CHUNK; s++)
            note(k, a->chunks[i][s].id);
    for (size_t i = 0; i < a->refused_count; i++)
        note(k, a->refused[i].id);
    note_list(k, &a->removal.acked);
    note_list(k, &a->removal.removing);
    note_list(k, &a->to_park);
    if (pb_later_each(a, &k->ids) != 0)
        k->failed = true;
    return k->failed || pb_ids_sort(&k->ids) ? pb_fail_memory(err, "the rows under way") : 0;
}

static bool is_known(const pb_active *a, const known *k, int64_t id) {
    return pb_ids_contain(&k->ids, id) || pb_gaps_contain(a->gaps, id) ||
           (a->awaiting && pb_awaiting_has(a->awaiting, id));
}

/* -- the look -------------------------------------------------------------------------------- */

static int raise_alarm(pb_active *a, int64_t id, pb_error *err) {
    pb_relay_counts(a->relay)->alarms++;
    pb_log_write(a->config->log, PB_ERROR_LEVEL,
                 "relay: row %lld of the outbox was missed by the reading; it is sent now: please "
                 "report this defect",
                 (long long)id);
    return pb_gaps_add(a->gaps, id, id) ? pb_fail_memory(err, "the gaps") : 0;
}

/* The remover has nothing under way, so rows and lists are of the same moment. */
static int look(pb_active *a, pb_error *err) {
    pb_removal *r = &a->removal;
    known k = {0};
    int failed = collect(a, &k, err);
    int64_t upper = k.resume <= a->position ? k.resume - 1 : a->position;
    pb_param params[] = {pb_param_i64(r->swept), pb_param_i64(upper), pb_param_i64(PAGE)};
    PGresult *result =
        failed ? NULL
               : ask(a, "SELECT outbox_id FROM postbox.outbox WHERE outbox_id > $1::bigint AND"
                        " outbox_id <= $2::bigint ORDER BY outbox_id LIMIT $3::bigint",
                     params, 3, err);
    int rows = result ? PQntuples(result) : 0;
    failed = !result;
    for (int i = 0; i < rows && !failed; i++) {
        r->swept = (int64_t)pb_read_u64(PQgetvalue(result, i, 0));
        if (!is_known(a, &k, r->swept))
            failed = raise_alarm(a, r->swept, err);
    }
    if (rows < PAGE)
        r->swept = -1; /* the end */
    PQclear(result);
    free(k.ids.list);
    return failed ? -1 : 0;
}

int pb_sweep_step(pb_active *a, double now, pb_error *err) {
    pb_removal *r = &a->removal;
    /* Large rows that are being fetched, and what an end of the producer left, are in no list. */
    if (now < r->sweep_at || a->turn.state == PB_TURN_LARGE || a->broken)
        return 0;
    if (look(a, err) != 0)
        return -1;
    if (r->swept < 0) {
        r->swept = 0;
        r->sweep_at = now + a->relay->options.sweep;
    }
    return 0;
}

int pb_oldest_step(pb_active *a, pb_error *err) {
    pb_relay_stats *counts = pb_relay_counts(a->relay);
    pb_param param = pb_param_i64(pb_active_low_water(a));
    PGresult *result =
        ask(a, "SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM"
               " postbox.outbox WHERE outbox_id > $1::bigint ORDER BY outbox_id LIMIT 1",
            &param, 1, err);
    if (!result)
        return -1;
    counts->oldest = 0;
    if (PQntuples(result) == 1) {
        uint64_t bits = pb_read_u64(PQgetvalue(result, 0, 0));
        memcpy(&counts->oldest, &bits, sizeof bits);
    }
    PQclear(result);
    return 0;
}

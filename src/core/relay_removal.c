/*
 * The second connection: deletes what is proven, as exact runs of ids that were read and
 * acknowledged, and renews the lease, while the first one reads on.
 */
#include <stdlib.h>

#include "clock.h"
#include "relay_internal.h"

#define ENOUGH_TO_REMOVE 8000 /* rows */
#define LONGEST_WAIT 0.02     /* seconds that acknowledged rows wait for company */
#define RENEWALS 8            /* in one term of the lease */

static const char *const what = "relay: removing published events";

static void add_runs(const pb_ids *ids, pb_array *lows, pb_array *highs) {
    for (size_t i = 0; i < ids->count;) {
        size_t end = i;
        while (end + 1 < ids->count && ids->list[end + 1] == ids->list[end] + 1)
            end++;
        pb_array_add_i64(lows, ids->list[i]);
        pb_array_add_i64(highs, ids->list[end]);
        i = end + 1;
    }
}

static void begin(pb_active *a, int wanted) {
    a->removal.answers = (pb_answers){.wanted = wanted, .deadline = pb_pg_deadline(a->remover)};
    a->removal.busy = true;
}

static int send_delete(pb_active *a, pb_error *err) {
    pb_removal *r = &a->removal;
    pb_array lows = {0}, highs = {0};
    pb_array_open(&lows, PB_OID_INT8);
    pb_array_open(&highs, PB_OID_INT8);
    add_runs(&r->removing, &lows, &highs);
    pb_param params[] = {pb_param_array(&lows), pb_param_array(&highs),
                         pb_param_i64(a->lease->epoch)};
    int failed = lows.bytes.failed || highs.bytes.failed;
    if (failed)
        pb_fail_memory(err, "the rows to remove");
    failed = failed ||
             pb_pg_send(a->remover, pb_relay_planner_sql, NULL, 0, PB_BINARY_RESULT, err) ||
             pb_pg_send(a->remover, a->sql_delete, params, 3, PB_BINARY_RESULT, err) ||
             pb_pg_sync(a->remover, pb_pg_deadline(a->remover), err);
    pb_array_free(&lows);
    pb_array_free(&highs);
    return failed ? -1 : 0;
}

static int64_t lowest_in_flight(const pb_active *a) {
    int64_t lowest = PB_NEVER;
    for (size_t i = 0; i < a->chunk_count; i++)
        for (int k = 0; k < PB_SLOT_CHUNK; k++)
            if (a->chunks[i][k].id < lowest)
                lowest = a->chunks[i][k].id;
    return lowest;
}

static void find_dirt(pb_active *a, pb_lane *lane, void *arg) {
    (void)a;
    *(bool *)arg = *(bool *)arg || lane->dirty;
}

/*
 * Of many, those whose neighbours are still under way wait for them: a page of the table whose
 * rows are deleted together is cleaned once. Not when somebody counts on the next DELETE.
 */
static int leave_ragged_end(pb_active *a) {
    pb_removal *r = &a->removal;
    size_t count = r->removing.count, kept = count;
    bool awaited = a->awaiting != NULL;
    pb_topics_each_lane(a, find_dirt, &awaited);
    if (awaited || count < ENOUGH_TO_REMOVE)
        return 0;
    int64_t lowest = lowest_in_flight(a);
    while (kept > 0 && r->removing.list[kept - 1] > lowest)
        kept--;
    if (kept < count / 2)
        return 0;
    for (size_t i = kept; i < count; i++)
        if (pb_ids_add(&r->acked, r->removing.list[i]) != 0)
            return -1;
    r->removing.count = kept;
    return 0;
}

static int start_delete(pb_active *a, pb_error *err) {
    pb_removal *r = &a->removal;
    pb_ids empty = r->removing;
    empty.count = 0;
    r->removing = r->acked;
    r->acked = empty;
    r->since = a->now;
    if (pb_ids_sort(&r->removing) != 0 || leave_ragged_end(a) != 0)
        return pb_fail_memory(err, "the rows to remove");
    r->started++;
    r->renewing = false;
    begin(a, 2);
    return send_delete(a, err);
}

static int start_renewal(pb_active *a, double now, pb_error *err) {
    pb_removal *r = &a->removal;
    r->renewing = true;
    r->renew_at = now + a->lease->term / RENEWALS;
    r->renew_sent_at = pb_now();
    begin(a, 1);
    if (pb_lease_send_renewal(a->lease, a->remover, pb_active_low_water(a), err) != 0)
        return -1;
    return pb_pg_sync(a->remover, pb_pg_deadline(a->remover), err);
}

static int finish(pb_active *a, pb_error *err) {
    pb_removal *r = &a->removal;
    int failed = 0;
    if (r->renewing) {
        failed = pb_lease_renewed(a->lease, r->answers.results[0], r->renew_sent_at, err);
    } else {
        int64_t removed = strtoll(PQcmdTuples(r->answers.results[1]), NULL, 10);
        pb_relay_counts(a->relay)->removed += removed;
        /* Their publishers may have removed some, or the epoch is not ours any more: ask. */
        if (removed < (int64_t)r->removing.count)
            r->renew_at = 0;
        r->removing.count = 0;
        r->done = r->started;
    }
    pb_answers_clear(&r->answers);
    r->busy = false;
    return failed;
}

static bool is_due(const pb_active *a, double now) {
    const pb_removal *r = &a->removal;
    return r->acked.count >= ENOUGH_TO_REMOVE ||
           (r->acked.count > 0 &&
            (now - r->since >= LONGEST_WAIT || a->stopping || a->broken));
}

int pb_removal_step(pb_active *a, double now, pb_error *err) {
    pb_removal *r = &a->removal;
    if (r->busy) {
        int state = pb_answers_poll(&r->answers, a->remover, what, err);
        if (state < 0 || (state == 1 && finish(a, err) != 0))
            return -1;
        if (state == 0)
            return 0;
    }
    if (now >= r->renew_at)
        return start_renewal(a, now, err);
    return is_due(a, now) ? start_delete(a, err) : 0;
}

void pb_removal_free(pb_active *a) {
    pb_answers_clear(&a->removal.answers);
    free(a->removal.acked.list);
    free(a->removal.removing.list);
}

/* What happens now and then: parking, releasing, topics that are asked for, the sweep. */
#include <stdlib.h>

#include "clock.h"
#include "relay_internal.h"

#define CHORES_EVERY 0.5  /* seconds */

static int park_followers(pb_active *a, pb_error *err) {
    if (a->to_park.count == 0)
        return 0;
    int64_t moved =
        pb_park(a->remover, a->lease, a->to_park.list, a->to_park.count, NULL, true, err);
    if (moved < 0)
        return -1;
    pb_relay_counts(a->relay)->parked += moved;
    a->to_park.count = 0;
    return 0;
}

static int is_any_released(pb_active *a, pb_error *err) {
    PGresult *result = NULL;
    char *sql = pb_config_sql(a->config, "SELECT 1 FROM postbox.parked WHERE released LIMIT 1");
    if (!sql)
        return pb_fail_memory(err, "a statement");
    int failed = pb_pg_run(a->remover, sql, NULL, 0, PB_TEXT_RESULT, &result, err);
    free(sql);
    if (failed)
        return -1;
    int any = PQntuples(result) > 0;
    PQclear(result);
    return any;
}

/*
 * Moves released rows back. What was read before may hold later rows of their keys, so that
 * reading is thrown away: the next one finds the released rows in the gaps, and sends them first.
 */
static int release(pb_active *a, pb_error *err) {
    int64_t *ids;
    size_t count;
    int any = is_any_released(a, err);
    if (any <= 0 || a->turn.state == PB_TURN_LARGE)
        return any < 0 ? -1 : 0;
    if (pb_park_release(a->remover, a->lease, &ids, &count, err) != 0)
        return -1;
    int failed = 0;
    for (size_t i = 0; i < count && !failed; i++)
        failed = pb_gaps_add(a->gaps, ids[i], ids[i]);
    free(ids);
    if (failed)
        return pb_fail_memory(err, "the gaps");
    pb_relay_counts(a->relay)->released += (int64_t)count;
    a->turn.discard = a->turn.state != PB_TURN_IDLE;
    a->turn.next = 0;
    return pb_held_load(a->held, a->remover, err);
}

/* Topics that publishers ask about by a row without a count. */
static int look_for_topics(pb_active *a, pb_error *err) {
    PGresult *result = NULL;
    char *sql = pb_config_sql(a->config, "SELECT topic FROM postbox.topics"
                                         " WHERE partitions IS NULL LIMIT 100");
    if (!sql)
        return pb_fail_memory(err, "a statement");
    int failed = pb_pg_run(a->remover, sql, NULL, 0, PB_TEXT_RESULT, &result, err);
    free(sql);
    if (failed)
        return -1;
    for (int i = 0; i < PQntuples(result) && !failed; i++) {
        pb_topic *topic = pb_topics_get(a, pb_bytes_of(PQgetvalue(result, i, 0)));
        if (topic)
            pb_topic_want(a, topic);
        else
            failed = pb_fail_memory(err, "a topic");
    }
    PQclear(result);
    return failed;
}

int pb_chores_step(pb_active *a, double now, pb_error *err) {
    pb_removal *r = &a->removal;
    if (r->busy || (now < r->chores_at && a->to_park.count == 0 && a->refused_count == 0))
        return 0;
    if (pb_park_refused(a, err) != 0 || park_followers(a, err) != 0)
        return -1;
    if (now < r->chores_at || a->stopping)
        return 0;
    r->chores_at = now + CHORES_EVERY;
    if (release(a, err) != 0 || look_for_topics(a, err) != 0)
        return -1;
    return pb_oldest_step(a, err) || pb_sweep_step(a, now, err) ? -1 : 0;
}

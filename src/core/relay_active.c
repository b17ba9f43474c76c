/* The period in which this relay holds the lease: what it sets up, its loop, what it gives back. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "relay_internal.h"

#define BREAK_PATIENCE 2.0  /* seconds for the reports of the others when a record was refused */
#define BATCH_BYTES 900000  /* largest produce request: below what brokers take by default */
#define FIRST_ROW_BYTES 8192 /* a guess, until rows were seen */
#define NO_ROOM_WAIT 0.005  /* seconds */
#define LONGEST_WAIT 0.05
#define STOP_RESERVE 0.25   /* part of a stop's time that is kept for deletes and the lease */

static const char holders_sql[] =
    "SELECT virtualtransaction, pid FROM pg_catalog.pg_locks WHERE locktype = 'relation'"
    " AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
    " AND relation = 'postbox.outbox'::regclass AND mode = 'RowExclusiveLock'";
static const char delete_sql[] =
    "DELETE FROM postbox.outbox o USING unnest($1::bigint[], $2::bigint[]) AS r(low, high)"
    " WHERE o.outbox_id BETWEEN r.low AND r.high"
    " AND EXISTS (SELECT 1 FROM postbox.lease WHERE epoch = $3::bigint)";

static int prepare_sql(pb_active *a, pb_error *err) {
    a->sql_main = pb_config_sql(a->config, pb_row_main_sql);
    a->sql_gap = pb_config_sql(a->config, pb_row_gap_sql);
    a->sql_large = pb_config_sql(a->config, pb_row_large_sql);
    a->sql_holders = pb_config_sql(a->config, holders_sql);
    a->sql_delete = pb_config_sql(a->config, delete_sql);
    a->gaps = pb_gaps_new();
    a->held = pb_held_new();
    a->taken = pb_awaiting_new();
    if (a->sql_main && a->sql_gap && a->sql_large && a->sql_holders && a->sql_delete && a->gaps &&
        a->held && a->taken)
        return 0;
    return pb_fail_memory(err, "the relay's statements");
}

pb_producer *pb_active_producer(pb_active *a, pb_manner manner, pb_error *err) {
    pb_producer_options options = {.batch_bytes = manner == PB_ALONE ? 0 : a->batch_bytes,
                                   .record_bytes = (size_t)a->settings.max_record_bytes,
                                   .alone = manner == PB_ALONE,
                                   .bulk = manner == PB_IN_BULK,
                                   .wake_fd = a->relay->wake_fd};
    if (!a->producers[manner])
        a->producers[manner] = pb_producer_new(a->config, &options, err);
    return a->producers[manner];
}

/* Both connections are there and the lease is ours. */
int pb_active_open(pb_active *a, pb_error *err) {
    double now = a->now = pb_now();
    a->position = a->lease->low_water;
    a->batch_bytes = a->relay->batch_bytes ? a->relay->batch_bytes : BATCH_BYTES;
    a->turn.row_bytes = FIRST_ROW_BYTES;
    a->removal.started = a->removal.done = 1; /* 0 is the number of no DELETE */
    a->later_next = (double)PB_NEVER;
    a->removal.renew_at = now;
    a->removal.chores_at = now;
    a->suspects = &a->relay->suspects;
    if (pb_ids_sort(a->suspects) != 0)
        return pb_fail_memory(err, "the suspects");
    pb_ids_unique(a->suspects);
    if (prepare_sql(a, err) != 0 || pb_held_load(a->held, a->remover, err) != 0 ||
        pb_readback_open(a, err) != 0 || pb_topics_load(a, err) != 0)
        return -1;
    return pb_active_producer(a, PB_AT_ONCE, err) ? 0 : -1;
}

static void free_producer(pb_active *a, pb_manner manner) {
    for (int i = 0; i < PB_TOPIC_BUCKETS; i++)
        for (pb_topic *topic = a->topics[i]; topic; topic = topic->next) {
            if (topic->handles[manner])
                rd_kafka_topic_destroy(topic->handles[manner]);
            topic->handles[manner] = NULL;
        }
    pb_producer_free(a->producers[manner]);
    a->producers[manner] = NULL;
}

void pb_active_close(pb_active *a) {
    pb_turn_clear(a);
    for (pb_manner manner = 0; manner < PB_MANNERS; manner++)
        free_producer(a, manner);
    pb_topics_free(a);
    pb_readback_close(a);
    pb_removal_free(a);
    pb_gaps_free(a->gaps);
    pb_held_free(a->held);
    for (size_t i = 0; i < a->chunk_count; i++)
        free(a->chunks[i]);
    free(a->chunks);
    free(a->turn.noted.list);
    free(a->to_park.list);
    free(a->refused);
    free(a->later);
    pb_awaiting_free(a->taken);
    pb_buffer_free(&a->scratch);
    free(a->sql_main);
    free(a->sql_gap);
    free(a->sql_large);
    free(a->sql_holders);
    free(a->sql_delete);
}

static int64_t lower(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void lower_by_lane(pb_active *a, pb_lane *lane, void *arg) {
    int64_t *lowest = arg;
    (void)a;
    *lowest = lower(*lowest, lane->resume);
    if (lane->count > 0)
        *lowest = lower(*lowest, lane->waiting[lane->first].id);
}

/* Every id at or below it is published and deleted, or proven dead. */
int64_t pb_active_low_water(const pb_active *a) {
    int64_t lowest = lower(a->position + 1, pb_gaps_lowest(a->gaps));
    /* Rows whose large fields are being fetched are counted nowhere; nor are those that a broken
     * producer gave back: they are only in the table, and the next period reads them from there. */
    if (a->turn.state == PB_TURN_LARGE || a->broken)
        return a->lease->low_water;
    lowest = lower(lowest, pb_ids_lowest(&a->removal.acked));
    lowest = lower(lowest, pb_ids_lowest(&a->removal.removing));
    lowest = lower(lowest, pb_ids_lowest(&a->to_park));
    lowest = lower(lowest, pb_later_lowest(a));
    for (size_t i = 0; i < a->refused_count; i++)
        lowest = lower(lowest, a->refused[i].id);
    for (size_t i = 0; i < a->chunk_count; i++)
        for (int k = 0; k < PB_SLOT_CHUNK; k++)
            lowest = lower(lowest, a->chunks[i][k].id);
    if (a->awaiting)
        lowest = lower(lowest, pb_awaiting_lowest(a->awaiting));
    pb_topics_each_lane((pb_active *)a, lower_by_lane, &lowest);
    for (int i = 0; i < PB_TOPIC_BUCKETS; i++)
        for (pb_topic *topic = a->topics[i]; topic; topic = topic->next)
            lowest = lower(lowest, topic->resume);
    a->lease->low_water = lowest - 1;
    return lowest - 1;
}

/*
 * A topic with a smaller limit has come: all that is in flight ends first. Where a partition has no
 * leader that may be never, so the period ends and the next one begins with the smaller batches.
 */
static void renew_producers(pb_active *a, double now) {
    if (!a->renew_producers)
        return;
    if (a->renew_since == 0)
        a->renew_since = now;
    if (a->in_flight > 0) {
        if (now > a->renew_since + BREAK_PATIENCE)
            pb_break_off(a, RD_KAFKA_RESP_ERR__TIMED_OUT, "relay: reports before smaller batches");
        return;
    }
    a->renew_since = 0;
    free_producer(a, PB_AT_ONCE);
    free_producer(a, PB_IN_BULK);
    a->renew_producers = false;
    a->flush = true;
}

static int step(pb_active *a, double now, pb_error *err) {
    if (pb_reports_serve(a, err) || pb_removal_step(a, now, err) || pb_readback_step(a, now, err) ||
        pb_chores_step(a, now, err) || pb_topics_step(a, now, err) || pb_later_step(a, now, err) ||
        pb_turn_step(a, now, err))
        return -1;
    renew_producers(a, now);
    pb_lanes_check(a, now);
    if (!a->broken && !a->stopping && pb_lanes_flush(a, err) != 0)
        return -1;
    if (pb_lease_is_over(a->lease))
        return pb_fail(err, PB_TIMEOUT, "relay: the lease was not renewed in time");
    return 0;
}

static bool is_quiet(const pb_active *a) {
    return a->removal.acked.count == 0 && !a->removal.busy && a->to_park.count == 0 &&
           a->refused_count == 0;
}

/* 1 it is over, 0 it goes on. */
static bool is_over(pb_active *a, double now) {
    if (a->broken)
        return (a->in_flight == 0 && is_quiet(a)) || now > a->broken_at + BREAK_PATIENCE;
    if (!a->stopping)
        return false;
    bool seen = !a->awaiting || pb_awaiting_count(a->awaiting) == 0;
    return (a->in_flight == 0 && seen && is_quiet(a)) || now > a->stop_at;
}

static double wait_time(const pb_active *a, double now) {
    double until = now + LONGEST_WAIT;
    const pb_removal *r = &a->removal;
    if (a->turn.state == PB_TURN_IDLE) {
        double next = a->turn.next > now ? a->turn.next : now + NO_ROOM_WAIT;
        until = next < until ? next : until;
    }
    if (!r->busy && r->acked.count > 0 && r->since + 0.02 < until)
        until = r->since + 0.02;
    if (!r->busy && r->renew_at < until)
        until = r->renew_at;
    return until > now ? until - now : 0;
}

static void wait_for_news(pb_active *a, double now) {
    struct pollfd fds[3] = {{a->relay->wake_fd, POLLIN, 0}};
    int count = 1;
    double seconds = wait_time(a, now);
    struct timespec timeout = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    if (a->turn.state != PB_TURN_IDLE)
        fds[count++] = (struct pollfd){pb_pg_socket(a->reader), POLLIN, 0};
    if (a->removal.busy)
        fds[count++] = (struct pollfd){pb_pg_socket(a->remover), POLLIN, 0};
    ppoll(fds, (nfds_t)count, &timeout, NULL);
}

static void hear(pb_active *a, double now) {
    double deadline;
    if (pb_relay_woken(a->relay)) {
        a->turn.next = now;
        a->turn.pause = 0;
    }
    if (!a->stopping && pb_relay_stop_wanted(a->relay, &deadline)) {
        double left = deadline - now;
        a->stopping = true;
        a->stop_at = deadline - (left > 0 ? left * STOP_RESERVE : 0);
    }
}

static void count(pb_active *a) {
    pb_relay_stats *counts = pb_relay_counts(a->relay);
    counts->position = a->position;
    counts->pending = (int64_t)a->waiting;
    counts->in_flight = (int64_t)a->in_flight;
    counts->gaps = (int64_t)pb_gaps_count(a->gaps);
    pb_relay_publish_stats(a->relay);
}

int pb_active_run(pb_active *a, pb_error *err) {
    for (;;) {
        double now = a->now = pb_now();
        hear(a, now);
        a->again = false;
        if (step(a, now, err) != 0)
            return -1;
        count(a);
        if (is_over(a, now)) {
            if (a->broken)
                *err = a->why;
            return a->broken ? -1 : 0;
        }
        if (!a->again)
            wait_for_news(a, pb_now());
    }
}

/*
 * Lanes: one a partition. Each has its own clock (a small send waits for its reports before the
 * next, only full ones overlap) and its own part of the window, so that one partition without a
 * leader cannot stop the others: it falls behind, and is read again from there when it is back.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "relay_internal.h"

#define FULL_ROWS 256          /* a send of so many rows, or bytes, may overlap with the next */
#define FULL_BYTES (128u << 10)
/*
 * Sends of one partition at once. An idempotent producer has at most 5 requests of a partition
 * under way, and with more to send its thread asks for a free one without a pause.
 */
#define MOST_SENDS 4
#define CHECK_EVERY 0.1        /* seconds between looks for stalled partitions */

size_t pb_lane_limit(const pb_active *a) {
    size_t part = PB_WINDOW_ROWS / (a->lane_count ? a->lane_count : 1);
    return part < PB_LANE_ROWS_LEAST ? PB_LANE_ROWS_LEAST : part;
}

bool pb_lane_stalled(const pb_lane *lane, double now) {
    return lane->topic->state != PB_TOPIC_READY ||
           (lane->in_flight > 0 && now - lane->progress > PB_STALL);
}

/* Rows that were sent from there on must be deleted first, or they would be sent twice. */
static bool is_clean(const pb_active *a, const pb_lane *lane) {
    return !lane->dirty || (lane->clean_after > 0 && a->removal.done >= lane->clean_after);
}

bool pb_lane_can_catch_up(const pb_active *a, const pb_lane *lane, double now) {
    return lane->resume != PB_NEVER && !pb_lane_stalled(lane, now) && is_clean(a, lane) &&
           lane->count + lane->in_flight < pb_lane_limit(a) / 2;
}

/* `arg`: whether the turn is a catch-up at all. */
void pb_lane_mark(pb_active *a, pb_lane *lane, void *arg) {
    lane->catching_up = *(bool *)arg && pb_lane_can_catch_up(a, lane, pb_now());
}

/* A lane has seen all up to the bound, also where none of the rows was its own. */
void pb_lane_caught_up(pb_active *a, pb_lane *lane, void *arg) {
    const int64_t *bound = arg;
    (void)a;
    if (!lane->catching_up)
        return;
    if (*bound == PB_NEVER) {
        lane->resume = PB_NEVER;
        lane->dirty = false;
        lane->clean_after = 0;
    } else if (lane->resume <= *bound) {
        lane->resume = *bound + 1;
    }
}

static int make_room(pb_lane *lane) {
    if (lane->first + lane->count < lane->capacity)
        return 0;
    if (lane->first > lane->capacity / 2) {
        memmove(lane->waiting, lane->waiting + lane->first, lane->count * sizeof *lane->waiting);
        lane->first = 0;
        return 0;
    }
    size_t wanted = lane->capacity ? lane->capacity * 2 : 64;
    pb_waiting *grown = realloc(lane->waiting, wanted * sizeof *grown);
    if (!grown)
        return -1;
    lane->waiting = grown;
    lane->capacity = wanted;
    return 0;
}

/* In the order of ids, which is commit order per key: rows found late go before those that wait. */
int pb_lane_put(pb_active *a, pb_lane *lane, pb_page *page, int row, int64_t id, uint32_t bytes) {
    if (make_room(lane) != 0)
        return -1;
    pb_waiting *list = lane->waiting + lane->first;
    size_t at = lane->count;
    while (at > 0 && list[at - 1].id > id)
        at--;
    if (at > 0 && list[at - 1].id == id)
        return 0; /* the same row, found by both reads */
    memmove(list + at + 1, list + at, (lane->count - at) * sizeof *list);
    list[at] = (pb_waiting){id, page, row, bytes};
    page->references++;
    lane->count++;
    lane->waiting_bytes += bytes;
    a->waiting++;
    a->bytes += bytes;
    a->flush = true;
    return 0;
}

static void take_off(pb_active *a, pb_lane *lane, const pb_waiting *row) {
    lane->waiting_bytes -= row->bytes;
    a->waiting--;
    a->bytes -= row->bytes;
    pb_page_release(row->page);
}

static void leave_queue(pb_active *a, pb_lane *lane) {
    const pb_waiting *row = &lane->waiting[lane->first];
    lane->first++;
    lane->count--;
    take_off(a, lane, row);
}

void pb_lane_fall_behind(pb_active *a, pb_lane *lane, int64_t id) {
    if (lane->count > 0 && lane->waiting[lane->first].id < id)
        id = lane->waiting[lane->first].id;
    for (size_t i = 0; i < lane->count; i++)
        take_off(a, lane, &lane->waiting[lane->first + i]);
    lane->first = lane->count = 0;
    if (id < lane->resume)
        lane->resume = id;
    if (lane->resume <= lane->high) {
        lane->dirty = true;
        lane->clean_after = 0;
    }
    /* A read that is under way for it began behind what was just dropped: it is not for this lane. */
    lane->catching_up = false;
}

void pb_lane_drop(pb_active *a, pb_lane *lane) {
    if (lane->count > 0)
        pb_lane_fall_behind(a, lane, PB_NEVER);
}

/* All it sent is acknowledged: the DELETE that is next, or under way, takes the last of it. */
static void watch_dirt(const pb_active *a, pb_lane *lane) {
    if (lane->dirty && lane->in_flight == 0 && lane->clean_after == 0)
        lane->clean_after = a->removal.started + (a->removal.acked.count > 0 ? 1 : 0);
}

static void drop_where_stalled(pb_active *a, pb_lane *lane, void *now) {
    pb_relay_stats *counts = pb_relay_counts(a->relay);
    watch_dirt(a, lane);
    if (pb_lane_stalled(lane, *(double *)now)) {
        pb_lane_drop(a, lane);
        counts->stalled_partitions++;
    } else if (lane->resume != PB_NEVER) {
        counts->stalled_partitions++;
    }
}

void pb_lanes_check(pb_active *a, double now) {
    pb_relay_stats *counts = pb_relay_counts(a->relay);
    if (now < a->checked_at + CHECK_EVERY)
        return;
    a->checked_at = now;
    counts->stalled_partitions = counts->paused_topics = 0;
    pb_topics_each_lane(a, drop_where_stalled, &now);
    for (int i = 0; i < PB_TOPIC_BUCKETS; i++)
        for (pb_topic *topic = a->topics[i]; topic; topic = topic->next)
            counts->paused_topics += topic->state == PB_TOPIC_PAUSED;
}

static bool may_send(const pb_active *a, const pb_lane *lane) {
    if (lane->count == 0 || lane->alone || lane->topic->state != PB_TOPIC_READY)
        return false;
    if (lane->in_flight == 0)
        return true;
    if (lane->manner != a->manner)
        return false; /* never two producers at once in one partition: they would race */
    return !lane->last_small && lane->sends < MOST_SENDS && lane->in_flight < pb_lane_limit(a) &&
           (lane->count >= FULL_ROWS || lane->waiting_bytes >= FULL_BYTES);
}

static rd_kafka_topic_t *handle_of(pb_topic *topic, const pb_producer *producer, pb_manner manner) {
    rd_kafka_topic_t **handle = &topic->handles[manner];
    if (!*handle)
        *handle = rd_kafka_topic_new(producer->rk, topic->name, NULL);
    return *handle;
}

static pb_slot *fill_slot(pb_active *a, pb_lane *lane, const pb_waiting *row) {
    pb_slot *slot = pb_slot_take(a);
    if (slot)
        *slot = (pb_slot){.id = row->id, .lane = lane, .bytes = row->bytes};
    return slot;
}

/* The producer itself said no. 0 its queue is full, -1 failed. */
static int not_sent(pb_active *a, const pb_slot *slot, rd_kafka_resp_err_t code, pb_error *err) {
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return 0;
    if (pb_producer_verdict(code) != PB_VERDICT_RECORD) {
        pb_break_off(a, code, "relay: sending");
        return 0;
    }
    pb_kafka_fail(err, code, "refused by the producer");
    if (slot->suspect) { /* again, and alone: it is at fault */
        slot->lane->alone = true;
        return pb_refuse(a, slot->id, err->message) ? pb_fail_memory(err, "a refused record") : 0;
    }
    return pb_ids_add(a->suspects, slot->id) ? pb_fail_memory(err, "a refused record") : -1;
}

/* 1 sent, 0 not now, -1 failed. */
static int send_row(pb_active *a, pb_lane *lane, const pb_waiting *w, bool suspect, pb_error *err) {
    pb_row row;
    pb_manner manner = suspect ? PB_ALONE : lane->manner;
    pb_producer *producer = pb_active_producer(a, manner, err);
    if (!producer)
        return -1;
    pb_row_read(w->page, w->row, &row);
    pb_outgoing record = {.partition = lane->partition, .key = row.key};
    pb_slot *slot = fill_slot(a, lane, w);
    record.value = pb_row_value(&row, &a->scratch);
    record.topic = handle_of(lane->topic, producer, manner);
    record.headers = pb_row_headers(&row);
    record.opaque = slot;
    if (!slot || !record.headers || !record.topic || a->scratch.failed)
        return pb_fail_memory(err, "a record");
    slot->suspect = suspect;
    rd_kafka_resp_err_t code = pb_producer_send(producer, &record);
    if (!code) {
        lane->newest = slot;
        return 1;
    }
    rd_kafka_headers_destroy(record.headers);
    int done = not_sent(a, slot, code, err);
    pb_slot_give_back(a, slot);
    return done;
}

static int send_lane(pb_active *a, pb_lane *lane, pb_error *err) {
    size_t limit = pb_lane_limit(a), sent = 0, bytes = 0;
    int state = 1;
    lane->manner = a->manner;
    while (lane->count > 0 && lane->in_flight < limit) {
        pb_waiting *w = &lane->waiting[lane->first];
        bool suspect = pb_is_suspect(a, lane, w->id);
        if (suspect && lane->in_flight > 0)
            break; /* what was sent before it comes first */
        state = send_row(a, lane, w, suspect, err);
        if (state == 0 && lane->alone)
            leave_queue(a, lane); /* refused on the spot: it waits to be parked */
        if (state != 1)
            break;
        lane->alone = suspect;
        if (a->awaiting && pb_awaiting_add(a->awaiting, w->id) != 0)
            return pb_fail_memory(err, "the events that are awaited");
        if (lane->in_flight++ == 0)
            lane->progress = a->now;
        a->in_flight++;
        a->bytes += w->bytes; /* until its report */
        if (w->id > lane->high)
            lane->high = w->id;
        sent++;
        bytes += w->bytes;
        leave_queue(a, lane);
        if (suspect)
            break;
    }
    if (lane->count == 0)
        lane->first = 0;
    if (sent > 0) {
        lane->newest->ends_send = true;
        lane->sends++;
    }
    lane->last_small = sent < FULL_ROWS && bytes < FULL_BYTES;
    return state < 0 ? -1 : 0;
}

typedef struct flushing {
    pb_error *err;
    int failed;
} flushing;

static void flush_lane(pb_active *a, pb_lane *lane, void *arg) {
    flushing *f = arg;
    if (!f->failed && may_send(a, lane))
        f->failed = send_lane(a, lane, f->err);
}

/* Without it, as at a limit of threads, the other producer sends all. */
static void make_bulk_producer(pb_active *a) {
    pb_error why;
    if (a->manner != PB_IN_BULK || pb_active_producer(a, PB_IN_BULK, &why))
        return;
    a->manner = PB_AT_ONCE;
    pb_relay_show_error(a->relay, &why);
}

int pb_lanes_flush(pb_active *a, pb_error *err) {
    flushing f = {err, 0};
    if (a->flush && !a->renew_producers)
        make_bulk_producer(a);
    if (!a->flush || a->renew_producers || !pb_lease_is_fresh(a->lease))
        return 0;
    a->flush = false;
    pb_topics_each_lane(a, flush_lane, &f);
    return f.failed;
}

/*
 * Records that Kafka refused, or that stood in a batch with one: each is sent again alone, on a
 * producer of its own, when nothing else of its partition is in flight. What is refused alone is
 * parked, with the later rows of its key. A topic that was paused is tried the same way.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "relay_internal.h"

#define FIRST_BACKOFF 1.0 /* seconds that a forbidden topic rests, doubled each time */
#define LONGEST_BACKOFF 60.0
#define FORGET_AFTER 300.0

bool pb_is_suspect(const pb_active *a, const pb_lane *lane, int64_t id) {
    return lane->topic->on_trial || (a->suspects->count > 0 && pb_ids_contain(a->suspects, id));
}

static void acquit(pb_active *a, int64_t id) {
    pb_ids *s = a->suspects;
    for (size_t i = 0; i < s->count; i++)
        if (s->list[i] == id) {
            s->count--;
            memmove(s->list + i, s->list + i + 1, (s->count - i) * sizeof *s->list);
            return;
        }
}

int pb_refuse(pb_active *a, int64_t id, const char *reason) {
    pb_refused *grown = realloc(a->refused, (a->refused_count + 1) * sizeof *grown);
    if (!grown)
        return -1;
    a->refused = grown;
    pb_refused *r = &grown[a->refused_count++];
    r->id = id;
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    acquit(a, id);
    return 0;
}

/* -- topics that refuse ----------------------------------------------------------------------- */

static pb_banned *find_banned(pb_relay *relay, const char *topic) {
    for (size_t i = 0; i < relay->banned_count; i++)
        if (strcmp(relay->banned[i].topic, topic) == 0)
            return &relay->banned[i];
    return NULL;
}

/* How long it rests this time. It outlives the period: each would begin with the same failure. */
double pb_ban_topic(pb_relay *relay, const char *topic, double now) {
    pb_banned *b = find_banned(relay, topic);
    if (!b) {
        pb_banned *grown = realloc(relay->banned, (relay->banned_count + 1) * sizeof *grown);
        if (!grown)
            return FIRST_BACKOFF;
        relay->banned = grown;
        b = &grown[relay->banned_count++];
        *b = (pb_banned){.backoff = FIRST_BACKOFF / 2};
        snprintf(b->topic, sizeof b->topic, "%s", topic);
    }
    if (now > b->until + FORGET_AFTER)
        b->backoff = FIRST_BACKOFF / 2;
    b->backoff = b->backoff * 2 < LONGEST_BACKOFF ? b->backoff * 2 : LONGEST_BACKOFF;
    b->until = now + b->backoff;
    return b->backoff;
}

/* Has it refused lately? Then until when it rests. */
bool pb_topic_is_banned(pb_relay *relay, const char *topic, double now, double *until) {
    const pb_banned *b = find_banned(relay, topic);
    *until = b ? b->until : 0;
    return b && now < b->until + FORGET_AFTER;
}

/* -- reports ---------------------------------------------------------------------------------- */

/* 1 stored; 0 dealt with; -1 no memory; 2 the producer cannot go on. */
int pb_suspect_reported(pb_active *a, pb_slot *slot, rd_kafka_resp_err_t code) {
    pb_lane *lane = slot->lane;
    pb_error why;
    lane->alone = false;
    if (!code) {
        lane->topic->on_trial = false;
        acquit(a, slot->id);
        return 1;
    }
    pb_kafka_fail(&why, code, "refused by Kafka");
    switch (pb_producer_verdict(code)) {
    case PB_VERDICT_RECORD:
        lane->alone = true; /* until its row and its key are out of the way */
        return pb_refuse(a, slot->id, why.message) ? -1 : 0;
    case PB_VERDICT_TOPIC:
        pb_lane_fall_behind(a, lane, slot->id);
        pb_topic_pause(a, lane->topic, pb_now(), &why);
        return 0;
    default:
        return 2;
    }
}

/* -- parking ---------------------------------------------------------------------------------- */

static void park_waiting(pb_active *a, pb_lane *lane, void *arg) {
    bool *failed = arg;
    size_t kept = 0;
    if (lane->in_flight == 0)
        lane->alone = false; /* it waited for its row to be parked, not for a report */
    a->flush = true;
    for (size_t i = 0; i < lane->count; i++) {
        pb_waiting *w = &lane->waiting[lane->first + i];
        pb_row row;
        pb_row_read(w->page, w->row, &row);
        if (row.key.data && pb_held_has(a->held, row.topic, row.key)) {
            *failed = *failed || pb_ids_add(&a->to_park, w->id) != 0;
            lane->waiting_bytes -= w->bytes;
            a->waiting--;
            a->bytes -= w->bytes;
            pb_page_release(w->page);
        } else {
            lane->waiting[lane->first + kept++] = *w;
        }
    }
    lane->count = kept;
}

int pb_park_refused(pb_active *a, pb_error *err) {
    bool failed = false;
    if (a->refused_count == 0)
        return 0;
    for (size_t i = 0; i < a->refused_count; i++) {
        const pb_refused *r = &a->refused[i];
        int64_t moved = pb_park(a->remover, a->lease, &r->id, 1, r->reason,
                                !a->settings.skip_refused, err);
        if (moved < 0)
            return -1;
        pb_relay_counts(a->relay)->parked += moved;
        pb_log_write(a->config->log, PB_WARNING, "relay: row %lld of the outbox is parked: %s",
                     (long long)r->id, r->reason);
    }
    a->refused_count = 0;
    if (pb_held_load(a->held, a->remover, err) != 0)
        return -1;
    pb_topics_each_lane(a, park_waiting, &failed);
    return failed ? pb_fail_memory(err, "the rows to park") : 0;
}

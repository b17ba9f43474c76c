/*
 * A turn of reading: the hot read behind the position (or, for partitions that fell behind, a
 * second read from where they stopped), then the gap read, whose rows go first. All travel in one
 * round trip and one implicit transaction, in which the planner's settings hold.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "relay_internal.h"

#define SHORTEST_PAUSE 0.001      /* seconds between reads while events come */
#define LONGEST_PAUSE 0.025
#define BACK_PRESSURE_PAUSE 0.1   /* while no partition makes progress */
#define HOLDERS_EVERY 0.05        /* seconds between listings of the holders while there are gaps */
#define READ_BYTES (4u << 20)     /* a read's rows should have about so many bytes */
#define LARGE_BYTES (4 << 20)     /* large rows that are fetched at once (but at least one) */
#define LEAST_ROWS 32
#define SAMPLE_EVERY 16           /* rows whose size is looked at */
#define MOST_ACKED 32768          /* rows to be deleted: reading waits for the deletes */
#define HOT_EVERY 0.1             /* seconds between hot reads that few partitions are ready for */

static const char *const what = "relay: reading the outbox";

typedef struct survey {
    double now;
    int64_t resume; /* lowest of the lanes that can catch up */
    size_t moving, stalled;
    bool crowded, behind;
} survey;

static void look(pb_active *a, pb_lane *lane, void *arg) {
    survey *s = arg;
    if (pb_lane_can_catch_up(a, lane, s->now) && lane->resume < s->resume)
        s->resume = lane->resume;
    if (lane->resume != PB_NEVER && !pb_lane_stalled(lane, s->now))
        s->behind = true;
    if (lane->in_flight > 0) {
        bool stalled = pb_lane_stalled(lane, s->now);
        *(stalled ? &s->stalled : &s->moving) += 1;
        if (!stalled && lane->resume == PB_NEVER &&
            lane->count + lane->in_flight >= pb_lane_limit(a))
            s->crowded = true;
    }
}

static bool has_room(const pb_active *a) {
    const pb_turn *placed = &a->placed; /* its rows are being placed while the next read leaves */
    size_t sent = a->awaiting ? pb_awaiting_count(a->awaiting) : a->in_flight;
    size_t known = a->waiting + sent +
                   (size_t)(placed->main_rows + placed->gap_rows + placed->again_rows);
    return known + (size_t)a->turn.limit <= PB_WINDOW_ROWS &&
           a->bytes < PB_WINDOW_BYTES && !pb_later_is_full(a) &&
           a->removal.acked.count + a->removal.removing.count + a->to_park.count < MOST_ACKED;
}

static void choose_limit(pb_turn *turn) {
    double rows = turn->row_bytes > 0 ? READ_BYTES / turn->row_bytes : PB_READ_ROWS;
    turn->limit = rows > PB_READ_ROWS ? PB_READ_ROWS : rows < LEAST_ROWS ? LEAST_ROWS : (int)rows;
}

/* -- sending -------------------------------------------------------------------------------- */

static int send_settings(pb_active *a, pb_error *err) {
    a->turn.answers = (pb_answers){.wanted = 1, .deadline = pb_pg_deadline(a->reader)};
    return pb_pg_send(a->reader, pb_relay_planner_sql, NULL, 0, PB_BINARY_RESULT, err);
}

static int send_main(pb_active *a, int64_t from, pb_error *err) {
    pb_turn *turn = &a->turn;
    pb_param params[] = {pb_param_i64(from), pb_param_i64(turn->upper), pb_param_i64(turn->limit)};
    turn->main_read = true;
    turn->answers.wanted++;
    return pb_pg_send(a->reader, a->sql_main, params, 3, PB_BINARY_RESULT, err);
}

static int send_gaps(pb_active *a, pb_error *err) {
    pb_array lows = {0}, highs = {0};
    int failed = 0;
    pb_array_open(&lows, PB_OID_INT8);
    pb_array_open(&highs, PB_OID_INT8);
    a->turn.gap_read = pb_gaps_ask(a->gaps, &lows, &highs) > 0;
    if (a->turn.gap_read) {
        pb_param params[] = {pb_param_array(&lows), pb_param_array(&highs),
                             pb_param_i64(a->turn.limit)};
        a->turn.answers.wanted++;
        failed = lows.bytes.failed || highs.bytes.failed
                     ? pb_fail_memory(err, "the gaps to read")
                     : pb_pg_send(a->reader, a->sql_gap, params, 3, PB_BINARY_RESULT, err);
    }
    pb_array_free(&lows);
    pb_array_free(&highs);
    return failed;
}

static int send_holders(pb_active *a, double now, pb_error *err) {
    a->turn.holders_read = true;
    a->turn.holders_at = now;
    a->turn.answers.wanted++;
    return pb_pg_send(a->reader, a->sql_holders, NULL, 0, PB_TEXT_RESULT, err);
}

static int go(pb_active *a, pb_turn_state state, pb_error *err) {
    a->turn.state = state;
    return pb_pg_sync(a->reader, a->turn.answers.deadline, err);
}

static int start(pb_active *a, const survey *s, double now, pb_error *err) {
    pb_turn *turn = &a->turn;
    bool full = pb_gaps_count(a->gaps) >= PB_GAP_LIMIT;
    turn->catch_up = s->resume != PB_NEVER && (!turn->caught_up_last || now < turn->hot_at);
    turn->caught_up_last = turn->catch_up;
    turn->main_read = turn->gap_read = turn->holders_read = turn->gap_cut = turn->discard = false;
    turn->upper = turn->catch_up ? a->position : PB_NEVER;
    turn->bound = 0;
    turn->taken = 0;
    turn->noted.count = 0;
    pb_topics_each_lane(a, pb_lane_mark, &turn->catch_up);
    if (send_settings(a, err) != 0)
        return -1;
    if ((turn->catch_up || !full) &&
        send_main(a, turn->catch_up ? s->resume - 1 : a->position, err) != 0)
        return -1;
    if (pb_gaps_count(a->gaps) > 0) {
        if (send_gaps(a, err) != 0)
            return -1;
        if (now >= turn->holders_at + HOLDERS_EVERY && send_holders(a, now, err) != 0)
            return -1;
    }
    return go(a, PB_TURN_READ, err);
}

static int may_start(pb_active *a, double now, bool catch_up, pb_error *err) {
    pb_turn *turn = &a->turn;
    survey s = {.now = now, .resume = PB_NEVER};
    if (now < turn->next || a->stopping || a->broken || a->renew_producers ||
        !pb_lease_is_fresh(a->lease))
        return 0;
    choose_limit(turn);
    if (!has_room(a))
        return 0; /* a report, or the end of a delete, brings us here again */
    pb_topics_each_lane(a, look, &s);
    if (s.stalled > 0 && s.moving == 0)
        turn->next = now + BACK_PRESSURE_PAUSE;
    if (now < turn->hot_at && s.resume == PB_NEVER && (s.behind || pb_topics_are_asked(a)))
        return 0;
    return s.crowded || (!catch_up && s.resume != PB_NEVER) ? 0 : start(a, &s, now, err);
}

/* -- receiving ------------------------------------------------------------------------------ */

static pb_page *take_page(pb_turn *turn, int at) {
    PGresult *result = turn->answers.results[at];
    turn->answers.results[at] = NULL;
    return pb_page_new(result);
}

/* How many rows of the page are used, so that its large ones stay within the limit. */
static int count_used(const pb_page *page, int64_t *large, pb_ids *ids) {
    int rows = page ? PQntuples(page->result) : 0;
    for (int i = 0; i < rows; i++) {
        int64_t bytes = pb_row_large(page, i);
        if (bytes > 0 && *large > 0 && *large + bytes > LARGE_BYTES)
            return i;
        *large += bytes;
        if (bytes > 0 && pb_ids_add(ids, pb_row_id(page, i)) != 0)
            return -1;
    }
    return rows;
}

static int take_gap_ids(pb_active *a, const pb_page *page, int rows) {
    for (int i = 0; i < rows; i++)
        if (pb_gaps_remove(a->gaps, pb_row_id(page, i)) < 0)
            return -1;
    pb_relay_counts(a->relay)->late += rows;
    return 0;
}

/* What the position jumps over is watched from now on. */
static int advance(pb_active *a) {
    pb_turn *turn = &a->turn;
    for (int i = 0; i < turn->main_rows; i++) {
        int64_t id = pb_row_id(turn->main, i);
        if (id > a->position + 1 && pb_gaps_add(a->gaps, a->position + 1, id - 1) != 0)
            return -1;
        a->position = id;
    }
    return 0;
}

static uint64_t holder_number(const char *text) { /* "3/55"; prepared ones begin with -1 */
    char *rest;
    long backend = strtol(text, &rest, 10);
    unsigned long local = *rest == '/' ? strtoul(rest + 1, NULL, 10) : 0;
    return (uint64_t)(uint32_t)backend << 32 | (uint32_t)local;
}

static int take_holders(pb_active *a, const PGresult *result) {
    int count = PQntuples(result), named = 0;
    bool nameless = false;
    uint64_t *holders = malloc(((size_t)count + 1) * sizeof *holders);
    if (!holders)
        return -1;
    for (int i = 0; i < count; i++) {
        holders[named++] = holder_number(PQgetvalue(result, i, 0));
        nameless = nameless || PQgetisnull(result, i, 1);
    }
    int done = pb_gaps_holders(a->gaps, holders, (size_t)named, nameless);
    free(holders);
    return done;
}

static void set_pause(pb_turn *turn, int rows, double now) {
    if (rows >= turn->limit)
        turn->pause = 0;
    else if (rows > 0)
        turn->pause = SHORTEST_PAUSE;
    else
        turn->pause = turn->pause < SHORTEST_PAUSE    ? SHORTEST_PAUSE
                      : turn->pause * 1.5 < LONGEST_PAUSE ? turn->pause * 1.5
                                                          : LONGEST_PAUSE;
    if (turn->next < now + turn->pause)
        turn->next = now + turn->pause;
}

static void learn_row_bytes(pb_turn *turn) {
    size_t bytes = 0;
    int samples = 0;
    for (int i = 0; i < turn->main_rows; i += SAMPLE_EVERY, samples++) {
        pb_row row;
        pb_row_read(turn->main, i, &row);
        bytes += pb_row_bytes(&row) + (row.large ? 8192 : 0);
    }
    if (samples > 0)
        turn->row_bytes = (double)bytes / samples;
}

static void release_pages(pb_turn *turn) {
    pb_page_release(turn->main);
    pb_page_release(turn->gaps);
    pb_page_release(turn->again);
    pb_page_release(turn->large);
    turn->main = turn->gaps = turn->again = turn->large = NULL;
    turn->main_rows = turn->gap_rows = turn->again_rows = 0;
}

static int64_t bound_of(const pb_turn *turn, bool exhausted) {
    if (turn->gap_cut || !turn->catch_up)
        return 0;
    if (exhausted)
        return PB_NEVER;
    return turn->main_rows > 0 ? pb_row_id(turn->main, turn->main_rows - 1) : 0;
}

/* Few of the rows had a partition that is ready for them: those that fell behind come first. */
static void note_use(pb_active *a, double now) {
    const pb_turn *placed = &a->placed;
    if (!placed->catch_up && placed->main_rows == placed->limit &&
        placed->taken < placed->main_rows / 2)
        a->turn.hot_at = now + HOT_EVERY;
}

/* Places the rows; after a full hot read the next one is on its way meanwhile. */
static int publish(pb_active *a, double now, pb_error *err) {
    pb_turn *turn = &a->turn, *placed = &a->placed;
    int rows = turn->main_rows + turn->gap_rows + turn->again_rows;
    bool cut = turn->main && turn->main_rows < PQntuples(turn->main->result);
    bool exhausted = turn->main && !cut && turn->main_rows < turn->limit;
    turn->bound = bound_of(turn, exhausted);
    learn_row_bytes(turn);
    set_pause(turn, cut || turn->gap_cut ? turn->limit : rows, now);
    a->manner = turn->pause == 0 ? PB_IN_BULK : PB_AT_ONCE;
    *placed = *turn;
    turn->main = turn->gaps = turn->again = turn->large = NULL;
    pb_turn_clear(a);
    a->again = true;
    int failed = turn->pause == 0 && !turn->catch_up ? may_start(a, now, false, err) : 0;
    failed = failed || pb_place_rows(a, err);
    note_use(a, now);
    if (placed->catch_up) {
        turn->noted = placed->noted;
        if (!failed)
            pb_topics_each_lane(a, pb_lane_caught_up, &placed->bound);
    }
    release_pages(placed);
    return failed ? -1 : 0;
}

/* Fields of large rows come in a read of their own, so that no read is larger than planned. */
static int fetch_large(pb_active *a, double now, pb_error *err) {
    pb_turn *turn = &a->turn;
    pb_ids ids = {0};
    int64_t large = 0;
    int gap_rows = count_used(turn->gaps, &large, &ids);
    int again_rows = count_used(turn->again, &large, &ids);
    int main_rows = turn->gap_cut ? 0 : count_used(turn->main, &large, &ids);
    if (gap_rows < 0 || again_rows < 0 || main_rows < 0)
        return pb_fail_memory(err, "a list of large rows");
    bool cut = (turn->gaps && gap_rows < PQntuples(turn->gaps->result)) ||
               (turn->again && again_rows < PQntuples(turn->again->result));
    turn->gap_cut = turn->gap_cut || cut;
    turn->gap_rows = gap_rows;
    turn->again_rows = again_rows;
    turn->main_rows = turn->gap_cut ? 0 : main_rows;
    int failed = take_gap_ids(a, turn->gaps, gap_rows) || take_gap_ids(a, turn->again, again_rows);
    if (turn->gap_read || turn->again)
        pb_gaps_answered(a->gaps, !turn->gap_cut);
    if (!failed && !turn->catch_up)
        failed = advance(a);
    if (failed || ids.count == 0) {
        free(ids.list);
        return failed ? pb_fail_memory(err, "the gaps") : publish(a, now, err);
    }
    pb_array wanted = {0};
    pb_array_open(&wanted, PB_OID_INT8);
    for (size_t i = 0; i < ids.count; i++)
        pb_array_add_i64(&wanted, ids.list[i]);
    free(ids.list);
    pb_param param = pb_param_array(&wanted);
    failed = send_settings(a, err);
    turn->answers.wanted++;
    failed = failed || wanted.bytes.failed ||
             pb_pg_send(a->reader, a->sql_large, &param, 1, PB_BINARY_RESULT, err);
    pb_array_free(&wanted);
    return failed ? -1 : go(a, PB_TURN_LARGE, err);
}

/* -- states --------------------------------------------------------------------------------- */

static int no_page(pb_error *err) {
    return pb_fail_memory(err, "rows of the outbox");
}

static int got_read(pb_active *a, double now, pb_error *err) {
    pb_turn *turn = &a->turn;
    int at = 1;
    if (turn->main_read && !(turn->main = take_page(turn, at++)))
        return no_page(err);
    if (turn->gap_read && !(turn->gaps = take_page(turn, at++)))
        return no_page(err);
    if (turn->holders_read && take_holders(a, turn->answers.results[at]) != 0)
        return no_page(err);
    turn->gap_cut = turn->gaps && PQntuples(turn->gaps->result) >= turn->limit;
    bool something = turn->main && PQntuples(turn->main->result) > 0;
    pb_answers_clear(&turn->answers);
    /* A wide gap that was left out may have been filled before the main read saw its successors. */
    if (something && !turn->gap_cut && pb_gaps_left_out(a->gaps) > 0) {
        if (send_settings(a, err) || send_holders(a, now, err))
            return -1;
        return go(a, PB_TURN_HOLDERS, err);
    }
    return fetch_large(a, now, err);
}

static int got_holders(pb_active *a, double now, pb_error *err) {
    size_t before = pb_gaps_left_out(a->gaps);
    if (take_holders(a, a->turn.answers.results[1]) != 0)
        return no_page(err);
    pb_answers_clear(&a->turn.answers);
    if (pb_gaps_left_out(a->gaps) == before)
        return fetch_large(a, now, err);
    bool first = a->turn.gap_read;
    if (send_settings(a, err) || send_gaps(a, err))
        return -1;
    a->turn.gap_read = first || a->turn.gap_read;
    return go(a, PB_TURN_AGAIN, err);
}

static int got_again(pb_active *a, double now, pb_error *err) {
    pb_turn *turn = &a->turn;
    if (turn->answers.got > 1 && !(turn->again = take_page(turn, 1)))
        return no_page(err);
    if (turn->again && PQntuples(turn->again->result) >= turn->limit)
        turn->gap_cut = true;
    pb_answers_clear(&turn->answers);
    return fetch_large(a, now, err);
}

static int got_large(pb_active *a, double now, pb_error *err) {
    if (!(a->turn.large = take_page(&a->turn, 1)))
        return no_page(err);
    pb_answers_clear(&a->turn.answers);
    return publish(a, now, err);
}

void pb_turn_clear(pb_active *a) {
    release_pages(&a->turn);
    pb_answers_clear(&a->turn.answers);
    a->turn.state = PB_TURN_IDLE;
}

int pb_turn_step(pb_active *a, double now, pb_error *err) {
    pb_turn *turn = &a->turn;
    if (turn->state == PB_TURN_IDLE)
        return may_start(a, now, true, err);
    int state = pb_answers_poll(&turn->answers, a->reader, what, err);
    if (state != 1)
        return state;
    if (turn->discard || a->broken) {
        pb_gaps_answered(a->gaps, false);
        pb_turn_clear(a);
        return 0;
    }
    switch (turn->state) {
    case PB_TURN_READ: return got_read(a, now, err);
    case PB_TURN_HOLDERS: return got_holders(a, now, err);
    case PB_TURN_AGAIN: return got_again(a, now, err);
    default: return got_large(a, now, err);
    }
}

/* Where the rows of a turn go: to their partitions, aside, or to be read again later. */
#include <stdlib.h>

#include "relay_internal.h"

typedef enum part { GAP_PART, HOT_PART, CATCH_UP_PART } part;

static pb_lane *lane_of(const pb_topic *topic, const pb_row *row) {
    int32_t partition = pb_row_partition(row, topic->partitions);
    return partition < topic->partitions ? topic->lanes[partition] : NULL;
}

static int put(pb_active *a, pb_lane *lane, pb_page *page, int at, const pb_row *row) {
    if (row->direct_left > 0)
        pb_awaiting_remove(a->taken, row->id);
    if (a->awaiting && pb_awaiting_has(a->awaiting, row->id))
        return 0; /* sent, and not read back yet: its lane fell behind meanwhile */
    return pb_lane_put(a, lane, page, at, row->id, pb_row_bytes(row));
}

static int place_gap_row(pb_active *a, pb_lane *lane, pb_page *page, int at, const pb_row *row) {
    pb_turn *turn = &a->placed;
    bool behind = lane->resume != PB_NEVER;
    if (turn->catch_up && lane->catching_up) {
        if (row->id >= lane->resume && row->id > turn->bound)
            return 0; /* the next catch-up reads it in its place */
        return pb_ids_add(&turn->noted, row->id) || put(a, lane, page, at, row) ? -1 : 0;
    }
    if (behind && row->id >= lane->resume)
        return 0;
    if (pb_lane_stalled(lane, a->now)) {
        pb_lane_fall_behind(a, lane, row->id);
        return 0;
    }
    return put(a, lane, page, at, row);
}

static int place_hot_row(pb_active *a, pb_lane *lane, pb_page *page, int at, const pb_row *row) {
    if (lane->resume != PB_NEVER)
        return 0;
    if (pb_lane_stalled(lane, a->now)) {
        pb_lane_fall_behind(a, lane, row->id);
        return 0;
    }
    a->placed.taken++;
    return put(a, lane, page, at, row);
}

static int place_old_row(pb_active *a, pb_lane *lane, pb_page *page, int at, const pb_row *row) {
    if (!lane->catching_up || row->id < lane->resume)
        return 0;
    lane->resume = row->id + 1;
    if (pb_ids_contain(&a->placed.noted, row->id))
        return 0;
    if (pb_gaps_remove(a->gaps, row->id) < 0)
        return -1;
    return put(a, lane, page, at, row);
}

/* A large row's fields are in a page of their own; 0 where it is not there any more. */
static bool find_large(const pb_active *a, pb_row *row, pb_page **page, int *at) {
    pb_page *large = a->placed.large;
    int low = 0, high = large ? PQntuples(large->result) : 0;
    while (low < high) {
        int middle = (low + high) / 2;
        if (pb_row_id(large, middle) < row->id)
            low = middle + 1;
        else
            high = middle;
    }
    if (!large || low >= PQntuples(large->result) || pb_row_id(large, low) != row->id)
        return false;
    *page = large;
    *at = low;
    pb_row_read(large, low, row);
    return true;
}

static int place_row(pb_active *a, pb_page *page, int at, part which, pb_error *err) {
    pb_row row;
    int failed;
    pb_row_read(page, at, &row);
    if (row.large && !find_large(a, &row, &page, &at))
        return 0; /* its publisher has sent and deleted it meanwhile */
    pb_topic *topic = pb_topics_get(a, row.topic);
    if (!topic)
        return pb_fail_memory(err, "a topic");
    if (pb_is_later(a, &row)) /* a catch-up meets those that the hot read has noted */
        return which != CATCH_UP_PART && pb_later_add(a, &row) ? pb_fail_memory(err, "rows") : 0;
    if (topic->partitions == 0) {
        if (row.id < topic->resume)
            topic->resume = row.id;
        pb_topic_want(a, topic);
        return 0;
    }
    if (row.key.data && pb_held_count(a->held) > 0 && pb_held_has(a->held, row.topic, row.key))
        return pb_ids_add(&a->to_park, row.id) ? pb_fail_memory(err, "a parked row") : 0;
    pb_lane *lane = lane_of(topic, &row);
    if (!lane) /* a stored partition that the topic does not have: refused, as Kafka would */
        return pb_refuse(a, row.id, "the topic has no such partition")
                   ? pb_fail_memory(err, "a refused row")
                   : 0;
    if (which == GAP_PART)
        failed = place_gap_row(a, lane, page, at, &row);
    else if (which == HOT_PART)
        failed = place_hot_row(a, lane, page, at, &row);
    else
        failed = place_old_row(a, lane, page, at, &row);
    return failed ? pb_fail_memory(err, "waiting rows") : 0;
}

static int place_page(pb_active *a, pb_page *page, int rows, part which, pb_error *err) {
    int failed = 0;
    for (int i = 0; page && i < rows && !failed; i++)
        failed = place_row(a, page, i, which, err);
    return failed;
}

int pb_place_rows(pb_active *a, pb_error *err) {
    pb_turn *turn = &a->placed;
    if (place_page(a, turn->gaps, turn->gap_rows, GAP_PART, err) ||
        place_page(a, turn->again, turn->again_rows, GAP_PART, err))
        return -1;
    if (turn->gap_cut)
        return 0;
    if (pb_ids_sort(&turn->noted) != 0)
        return pb_fail_memory(err, "the rows of a turn");
    return place_page(a, turn->main, turn->main_rows, turn->catch_up ? CATCH_UP_PART : HOT_PART, err);
}

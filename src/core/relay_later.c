/*
 * delivery = "direct": rows that their publishers still have to send themselves. They are left
 * alone until their time is over; then they, and the later rows of their keys, are read again as
 * gaps. It is decided here, on rows that were read: a filtered read would take them for dead.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "relay_internal.h"

#define MOST_LATER 65536 /* rows; reading waits while there are more */
#define LOOK_EVERY 0.05

typedef struct pb_later_row {
    int64_t id;
    double until;
    uint64_t key; /* hash of topic and key, 0 for none */
} pb_later_row;

static uint64_t hash(const pb_row *row) {
    uint64_t h = 14695981039346656037u;
    if (!row->key.data)
        return 0;
    for (size_t i = 0; i < row->topic.length; i++)
        h = (h ^ (unsigned char)row->topic.data[i]) * 1099511628211u;
    for (size_t i = 0; i < row->key.length; i++)
        h = (h ^ (unsigned char)row->key.data[i]) * 1099511628211u;
    return h | 1;
}

bool pb_is_later(const pb_active *a, const pb_row *row) {
    return row->direct_left > 0 && !pb_awaiting_has(a->taken, row->id);
}

bool pb_later_is_full(const pb_active *a) {
    return a->later_count >= MOST_LATER;
}

int pb_later_add(pb_active *a, const pb_row *row) {
    if (a->later_count == a->later_capacity) {
        size_t wanted = a->later_capacity ? a->later_capacity * 2 : 64;
        pb_later_row *grown = realloc(a->later, wanted * sizeof *grown);
        if (!grown)
            return -1;
        a->later = grown;
        a->later_capacity = wanted;
    }
    double until = pb_now() + row->direct_left;
    a->later[a->later_count++] = (pb_later_row){row->id, until, hash(row)};
    if (until < a->later_next)
        a->later_next = until;
    return 0;
}

int64_t pb_later_lowest(const pb_active *a) {
    int64_t lowest = PB_NEVER;
    for (size_t i = 0; i < a->later_count; i++)
        if (a->later[i].id < lowest)
            lowest = a->later[i].id;
    return lowest;
}

int pb_later_each(const pb_active *a, pb_ids *ids) {
    int failed = 0;
    for (size_t i = 0; i < a->later_count && !failed; i++)
        failed = pb_ids_add(ids, a->later[i].id);
    return failed;
}

static int by_number(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* The keys whose publishers did not make it in time. */
static size_t overdue_keys(const pb_active *a, double now, uint64_t *keys) {
    size_t count = 0;
    for (size_t i = 0; i < a->later_count; i++)
        if (a->later[i].until <= now && a->later[i].key)
            keys[count++] = a->later[i].key;
    qsort(keys, count, sizeof *keys, by_number);
    return count;
}

static bool is_due(const pb_later_row *row, double now, const uint64_t *keys, size_t count) {
    return row->until <= now ||
           (row->key && bsearch(&row->key, keys, count, sizeof *keys, by_number));
}

int pb_later_step(pb_active *a, double now, pb_error *err) {
    if (a->later_count == 0 || now < a->later_next)
        return 0;
    uint64_t *keys = malloc((a->later_count + 1) * sizeof *keys);
    if (!keys)
        return pb_fail_memory(err, "the rows of other publishers");
    size_t count = overdue_keys(a, now, keys), kept = 0;
    int failed = 0;
    a->later_next = (double)PB_NEVER;
    for (size_t i = 0; i < a->later_count; i++) {
        pb_later_row *row = &a->later[i];
        if (failed == 0 && is_due(row, now, keys, count)) {
            failed = pb_gaps_add(a->gaps, row->id, row->id) || pb_awaiting_add(a->taken, row->id);
        } else {
            if (row->until < a->later_next)
                a->later_next = row->until;
            a->later[kept++] = *row;
        }
    }
    free(keys);
    a->later_count = kept;
    if (a->later_next < now + LOOK_EVERY)
        a->later_next = now + LOOK_EVERY;
    a->turn.next = now;
    return failed ? pb_fail_memory(err, "the rows of other publishers") : 0;
}

/* Lists of ids, and answers of the database that are awaited together. */
#include <stdlib.h>
#include <string.h>

#include "relay_internal.h"
#include "clock.h"

int pb_ids_add(pb_ids *ids, int64_t id) {
    if (ids->count == ids->capacity) {
        size_t wanted = ids->capacity ? ids->capacity * 2 : 256;
        int64_t *grown = realloc(ids->list, wanted * sizeof *grown);
        if (!grown)
            return -1;
        ids->list = grown;
        ids->capacity = wanted;
    }
    ids->list[ids->count++] = id;
    return 0;
}

/* The end of the ascending run that begins at `at`. */
static size_t run_end(const int64_t *list, size_t count, size_t at) {
    size_t end = at + 1;
    while (end < count && list[end - 1] <= list[end])
        end++;
    return end;
}

static void merge(const int64_t *from, size_t low, size_t middle, size_t high, int64_t *to) {
    size_t left = low, right = middle, at = low;
    while (left < middle && right < high)
        to[at++] = from[left] <= from[right] ? from[left++] : from[right++];
    memcpy(to + at, from + left, (middle - left) * sizeof *to);
    at += middle - left;
    memcpy(to + at, from + right, (high - right) * sizeof *to);
}

/* Merges neighbouring runs; how many runs are left. */
static size_t pass(const int64_t *from, size_t count, int64_t *to) {
    size_t runs = 0;
    for (size_t low = 0, high; low < count; low = high, runs++) {
        size_t middle = run_end(from, count, low);
        high = middle < count ? run_end(from, count, middle) : middle;
        merge(from, low, middle, high, to);
    }
    return runs;
}

/* Reports come as ascending runs, one a request: merging them is far quicker than qsort. */
int pb_ids_sort(pb_ids *ids) {
    if (ids->count < 2 || run_end(ids->list, ids->count, 0) == ids->count)
        return 0;
    int64_t *other = malloc(ids->capacity * sizeof *other);
    if (!other)
        return -1;
    size_t runs;
    do {
        runs = pass(ids->list, ids->count, other);
        int64_t *list = ids->list;
        ids->list = other;
        other = list;
    } while (runs > 1);
    free(other);
    return 0;
}

void pb_ids_unique(pb_ids *sorted) {
    size_t kept = 0;
    for (size_t i = 0; i < sorted->count; i++)
        if (kept == 0 || sorted->list[i] != sorted->list[kept - 1])
            sorted->list[kept++] = sorted->list[i];
    sorted->count = kept;
}

bool pb_ids_contain(const pb_ids *sorted, int64_t id) {
    size_t low = 0, high = sorted->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sorted->list[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sorted->count && sorted->list[low] == id;
}

int64_t pb_ids_lowest(const pb_ids *ids) {
    int64_t lowest = PB_NEVER;
    for (size_t i = 0; i < ids->count; i++)
        if (ids->list[i] < lowest)
            lowest = ids->list[i];
    return lowest;
}

int pb_answers_poll(pb_answers *answers, pb_pg *pg, const char *what, pb_error *err) {
    while (pb_pg_pending(pg) > 0) {
        PGresult *result = NULL;
        int state = pb_pg_try_receive(pg, &result, err);
        if (state < 0)
            return -1;
        if (state == 0 && pb_pg_pending(pg) == 0)
            break; /* the sync was taken */
        if (state == 0)
            return pb_now() < answers->deadline
                       ? 0
                       : pb_fail(err, PB_TIMEOUT, "%s: no answer within the deadline", what);
        if (answers->got == PB_ANSWERS) {
            PQclear(result);
            return pb_fail(err, PB_CONNECTION, "%s: more answers than questions", what);
        }
        answers->results[answers->got++] = result;
        if (pb_pg_check(result, what, err) != 0)
            return -1;
    }
    return answers->got == answers->wanted
               ? 1
               : pb_fail(err, PB_CONNECTION, "%s: fewer answers than questions", what);
}

void pb_answers_clear(pb_answers *answers) {
    for (int i = 0; i < answers->got; i++)
        PQclear(answers->results[i]);
    *answers = (pb_answers){0};
}

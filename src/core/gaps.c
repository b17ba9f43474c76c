#include "gaps.h"

#include <stdlib.h>
#include <string.h>

#define COHORTS 32 /* groups of gaps that were seen between two listings of holders */
#define FRESH (-1) /* holders not listed yet */

typedef enum cohort_state {
    UNUSED,
    HELD,   /* holders are left */
    LONELY, /* none is left: one more read decides */
    ASKED   /* that read is under way */
} cohort_state;

typedef struct cohort {
    cohort_state state;
    bool changed; /* a holder ended since the wide ranges were read */
    bool reading; /* they are being read */
    uint64_t *holders;
    size_t count;
} cohort;

typedef struct gap {
    int64_t low, high;
    int cohort;
} gap;

struct pb_gaps {
    gap *list; /* ascending, disjoint */
    size_t count, capacity;
    cohort cohorts[COHORTS];
};

pb_gaps *pb_gaps_new(void) {
    return calloc(1, sizeof(pb_gaps));
}

void pb_gaps_free(pb_gaps *gaps) {
    if (!gaps)
        return;
    for (int i = 0; i < COHORTS; i++)
        free(gaps->cohorts[i].holders);
    free(gaps->list);
    free(gaps);
}

size_t pb_gaps_count(const pb_gaps *gaps) {
    return gaps->count;
}

int64_t pb_gaps_lowest(const pb_gaps *gaps) {
    return gaps->count ? gaps->list[0].low : INT64_MAX;
}

/* The first gap that ends at or behind `id`. */
static size_t find(const pb_gaps *gaps, int64_t id) {
    size_t low = 0, high = gaps->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (gaps->list[middle].high < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool pb_gaps_contain(const pb_gaps *gaps, int64_t id) {
    size_t at = find(gaps, id);
    return at < gaps->count && gaps->list[at].low <= id;
}

static int insert(pb_gaps *gaps, size_t at, gap what) {
    if (gaps->count == gaps->capacity) {
        size_t wanted = gaps->capacity ? gaps->capacity * 2 : 64;
        gap *grown = realloc(gaps->list, wanted * sizeof *grown);
        if (!grown)
            return -1;
        gaps->list = grown;
        gaps->capacity = wanted;
    }
    memmove(gaps->list + at + 1, gaps->list + at, (gaps->count - at) * sizeof *gaps->list);
    gaps->list[at] = what;
    gaps->count++;
    return 0;
}

static void erase(pb_gaps *gaps, size_t at) {
    gaps->count--;
    memmove(gaps->list + at, gaps->list + at + 1, (gaps->count - at) * sizeof *gaps->list);
}

int pb_gaps_add(pb_gaps *gaps, int64_t low, int64_t high) {
    if (low > high)
        return 0;
    size_t at = find(gaps, low);
    if (low == high && pb_gaps_contain(gaps, low)) {
        /* A row that came back (released) into a wider range, which may be asked for rarely. */
        if (pb_gaps_remove(gaps, low) < 0)
            return -1;
        at = find(gaps, low);
    }
    gap *before = at > 0 ? &gaps->list[at - 1] : NULL;
    if (before && before->high + 1 == low && before->cohort == FRESH) {
        before->high = high;
        return 0;
    }
    return insert(gaps, at, (gap){low, high, FRESH});
}

int pb_gaps_remove(pb_gaps *gaps, int64_t id) {
    size_t at = find(gaps, id);
    if (at == gaps->count || gaps->list[at].low > id)
        return 0;
    gap *found = &gaps->list[at];
    if (found->low == found->high) {
        erase(gaps, at);
    } else if (found->low == id) {
        found->low++;
    } else if (found->high == id) {
        found->high--;
    } else {
        gap rest = {id + 1, found->high, found->cohort};
        if (insert(gaps, at + 1, rest) != 0)
            return -1;
        gaps->list[at].high = id - 1;
    }
    return 1;
}

static bool contains(const uint64_t *holders, size_t count, uint64_t holder) {
    for (size_t i = 0; i < count; i++)
        if (holders[i] == holder)
            return true;
    return false;
}

/* Keeps those that are still there. */
static void shrink(cohort *c, const uint64_t *holders, size_t count, bool nameless) {
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++)
        if (contains(holders, count, c->holders[i]))
            c->holders[kept++] = c->holders[i];
    if (kept < c->count)
        c->changed = true;
    c->count = kept;
    if (kept == 0 && !nameless) {
        c->state = LONELY;
        c->changed = true;
    }
}

static int adopt(pb_gaps *gaps, int at, const uint64_t *holders, size_t count, bool nameless) {
    cohort *c = &gaps->cohorts[at];
    uint64_t *copy = malloc((count + 1) * sizeof *copy);
    if (!copy)
        return -1;
    if (count)
        memcpy(copy, holders, count * sizeof *copy);
    free(c->holders);
    *c = (cohort){count || nameless ? HELD : LONELY, true, false, copy, count};
    for (size_t i = 0; i < gaps->count; i++)
        if (gaps->list[i].cohort == FRESH)
            gaps->list[i].cohort = at;
    return 0;
}

int pb_gaps_holders(pb_gaps *gaps, const uint64_t *holders, size_t count, bool nameless) {
    bool fresh = false, used[COHORTS] = {false};
    int free_place = -1;
    for (size_t i = 0; i < gaps->count; i++) {
        if (gaps->list[i].cohort == FRESH)
            fresh = true;
        else
            used[gaps->list[i].cohort] = true;
    }
    for (int i = 0; i < COHORTS; i++) {
        cohort *c = &gaps->cohorts[i];
        if (!used[i])
            c->state = UNUSED;
        if (c->state == UNUSED)
            free_place = i;
        else if (c->state == HELD)
            shrink(c, holders, count, nameless);
    }
    /* Without a place the fresh ones wait: their holders are listed a little later. */
    return fresh && free_place >= 0 ? adopt(gaps, free_place, holders, count, nameless) : 0;
}

static bool is_left_out(const pb_gaps *gaps, const gap *g) {
    if (g->high - g->low < PB_GAP_WIDE || g->cohort == FRESH)
        return false;
    const cohort *c = &gaps->cohorts[g->cohort];
    return c->state == HELD && !c->changed;
}

size_t pb_gaps_left_out(const pb_gaps *gaps) {
    size_t count = 0;
    for (size_t i = 0; i < gaps->count; i++)
        count += is_left_out(gaps, &gaps->list[i]);
    return count;
}

size_t pb_gaps_ask(pb_gaps *gaps, pb_array *lows, pb_array *highs) {
    size_t asked = 0;
    for (size_t i = 0; i < gaps->count; i++) {
        if (is_left_out(gaps, &gaps->list[i]))
            continue;
        pb_array_add_i64(lows, gaps->list[i].low);
        pb_array_add_i64(highs, gaps->list[i].high);
        asked++;
    }
    for (int i = 0; i < COHORTS; i++) {
        cohort *c = &gaps->cohorts[i];
        if (c->state == LONELY)
            c->state = ASKED;
        c->reading = c->reading || c->changed;
        c->changed = false; /* an end that is noticed from here on asks for another read */
    }
    return asked;
}

static int64_t drop_asked(pb_gaps *gaps) {
    int64_t died = 0;
    size_t kept = 0;
    for (size_t i = 0; i < gaps->count; i++) {
        gap *g = &gaps->list[i];
        if (g->cohort != FRESH && gaps->cohorts[g->cohort].state == ASKED)
            died += g->high - g->low + 1;
        else
            gaps->list[kept++] = *g;
    }
    gaps->count = kept;
    return died;
}

int64_t pb_gaps_answered(pb_gaps *gaps, bool all) {
    int64_t died = all ? drop_asked(gaps) : 0;
    for (int i = 0; i < COHORTS; i++) {
        cohort *c = &gaps->cohorts[i];
        if (c->state == ASKED)
            c->state = all ? UNUSED : LONELY;
        if (!all && c->reading)
            c->changed = true;
        c->reading = false;
    }
    return died;
}

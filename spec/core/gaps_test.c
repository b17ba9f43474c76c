/* Gaps: what was jumped over stays until it is found or proven dead. */
#include "gaps.h"

#include <stdlib.h>

#include "test.h"

static pb_array lows, highs;

static size_t ask(pb_gaps *gaps) {
    pb_array_open(&lows, PB_OID_INT8);
    pb_array_open(&highs, PB_OID_INT8);
    return pb_gaps_ask(gaps, &lows, &highs);
}

static void holders(pb_gaps *gaps, size_t count, uint64_t a, uint64_t b, bool nameless) {
    uint64_t list[] = {a, b};
    CHECK(pb_gaps_holders(gaps, list, count, nameless) == 0);
}

static void test_ranges(void) {
    pb_gaps *gaps = pb_gaps_new();
    CHECK(pb_gaps_lowest(gaps) == INT64_MAX);
    CHECK(pb_gaps_add(gaps, 5, 4) == 0 && pb_gaps_count(gaps) == 0);
    CHECK(pb_gaps_add(gaps, 10, 19) == 0);
    CHECK(pb_gaps_add(gaps, 30, 30) == 0);
    CHECK(pb_gaps_add(gaps, 31, 31) == 0); /* a neighbour joins */
    CHECK(pb_gaps_count(gaps) == 2 && pb_gaps_lowest(gaps) == 10);
    CHECK(pb_gaps_remove(gaps, 9) == 0 && pb_gaps_remove(gaps, 20) == 0);
    CHECK(pb_gaps_remove(gaps, 15) == 1 && pb_gaps_count(gaps) == 3);
    CHECK(pb_gaps_remove(gaps, 15) == 0);
    CHECK(pb_gaps_remove(gaps, 10) == 1 && pb_gaps_lowest(gaps) == 11);
    CHECK(pb_gaps_remove(gaps, 19) == 1 && pb_gaps_remove(gaps, 18) == 1);
    CHECK(pb_gaps_remove(gaps, 30) == 1 && pb_gaps_remove(gaps, 31) == 1);
    CHECK(pb_gaps_count(gaps) == 2); /* 11-14 and 16-17 */
    CHECK(ask(gaps) == 2);
    pb_gaps_free(gaps);
}

static void test_death(void) { /* */
    pb_gaps *gaps = pb_gaps_new();
    pb_gaps_add(gaps, 1, 3);
    ask(gaps);
    CHECK(pb_gaps_answered(gaps, true) == 0); /* nobody knows the holders yet */
    holders(gaps, 2, 7, 8, false);
    ask(gaps);
    CHECK(pb_gaps_answered(gaps, true) == 0);
    holders(gaps, 2, 8, 9, false); /* 7 has ended; 9 came later and cannot have the id */
    ask(gaps);
    CHECK(pb_gaps_answered(gaps, true) == 0);
    ask(gaps); /* sent before 8 is known to have ended: it proves nothing */
    holders(gaps, 1, 9, 0, false);
    CHECK(pb_gaps_answered(gaps, true) == 0);
    ask(gaps);
    CHECK(pb_gaps_answered(gaps, false) == 0); /* cut short: nor does this */
    ask(gaps);
    CHECK(pb_gaps_answered(gaps, true) == 3);
    CHECK(pb_gaps_count(gaps) == 0);
    pb_gaps_free(gaps);
}

static void test_prepared(void) { /* */
    pb_gaps *gaps = pb_gaps_new();
    pb_gaps_add(gaps, 1, 1);
    holders(gaps, 1, 7, 0, false);
    holders(gaps, 0, 0, 0, true); /* 7 is gone, and a transaction without a process is there */
    ask(gaps);
    CHECK(pb_gaps_answered(gaps, true) == 0);
    holders(gaps, 0, 0, 0, false);
    ask(gaps);
    CHECK(pb_gaps_answered(gaps, true) == 1);
    pb_gaps_free(gaps);
}

static void test_wide(void) { /* */
    pb_gaps *gaps = pb_gaps_new();
    pb_gaps_add(gaps, 1, 1000000);
    CHECK(ask(gaps) == 1 && pb_gaps_left_out(gaps) == 0);
    pb_gaps_answered(gaps, true);
    holders(gaps, 2, 7, 8, false);
    CHECK(ask(gaps) == 1); /* once with the holders known */
    pb_gaps_answered(gaps, true);
    CHECK(pb_gaps_left_out(gaps) == 1 && ask(gaps) == 0);
    pb_gaps_answered(gaps, true);
    holders(gaps, 2, 7, 8, false);
    CHECK(ask(gaps) == 0); /* all are still there */
    pb_gaps_answered(gaps, true);
    holders(gaps, 1, 8, 0, false);
    CHECK(pb_gaps_left_out(gaps) == 0 && ask(gaps) == 1);
    pb_gaps_answered(gaps, false); /* cut short: once more */
    CHECK(ask(gaps) == 1);
    pb_gaps_answered(gaps, true);
    CHECK(ask(gaps) == 0);
    pb_gaps_answered(gaps, true);
    holders(gaps, 0, 0, 0, false);
    CHECK(ask(gaps) == 1 && pb_gaps_answered(gaps, true) == 1000000);
    pb_gaps_free(gaps);
}

static void test_many_cohorts(void) {
    pb_gaps *gaps = pb_gaps_new();
    for (uint64_t i = 1; i <= 200; i++) { /* one writer that never ends, and a gap each time */
        pb_gaps_add(gaps, (int64_t)i * 10, (int64_t)i * 10);
        holders(gaps, 2, 7, 100 + i, false);
    }
    CHECK(pb_gaps_count(gaps) == 200);
    holders(gaps, 0, 0, 0, false);
    ask(gaps);
    pb_gaps_answered(gaps, true);
    holders(gaps, 0, 0, 0, false);
    ask(gaps);
    pb_gaps_answered(gaps, true);
    CHECK(pb_gaps_count(gaps) == 0);
    pb_gaps_free(gaps);
}

/* Against a plain table of what is in a gap. */
static void test_random(void) {
    enum { IDS = 400 };
    bool in[IDS + 1] = {false};
    pb_gaps *gaps = pb_gaps_new();
    srand(1);
    for (int low = 1; low <= IDS;) {
        int high = low + rand() % 9;
        if (high > IDS)
            high = IDS;
        pb_gaps_add(gaps, low, high);
        for (int i = low; i <= high; i++)
            in[i] = true;
        low = high + 2 + rand() % 5;
    }
    for (int round = 0; round < 2000; round++) {
        int id = 1 + rand() % IDS;
        CHECK(pb_gaps_remove(gaps, id) == in[id]);
        in[id] = false;
    }
    pb_gaps_free(gaps);
}

int main(void) {
    test_ranges();
    test_death();
    test_prepared();
    test_wide();
    test_many_cohorts();
    test_random();
    pb_array_free(&lows);
    pb_array_free(&highs);
    return test_report();
}

/*
 * Ids that the reading position has jumped over and whose fate is not known: a transaction that
 * is still open may hold them, or they were rolled back. Kept as ranges, in order.
 *
 * A gap ends when its row is found (pb_gaps_remove) or when it is proven dead. The proof: gap
 * seen, then the transactions that hold the outbox's insert lock are listed (pb_gaps_holders),
 * later none of them is left, then one more read (pb_gaps_ask, pb_gaps_answered) finds nothing.
 * Nobody else can fill it, because the lock is taken before the id.
 */
#ifndef PB_GAPS_H
#define PB_GAPS_H

#include <stdbool.h>

#include "array.h"

#define PB_GAP_LIMIT 16384 /* ranges; the reading position stops when there are more */
#define PB_GAP_WIDE 10000  /* ids; wider ranges are asked only when one of their holders ended */

typedef struct pb_gaps pb_gaps;

pb_gaps *pb_gaps_new(void); /* NULL without memory */
void pb_gaps_free(pb_gaps *gaps);
int pb_gaps_add(pb_gaps *gaps, int64_t low, int64_t high); /* -1 without memory */
int pb_gaps_remove(pb_gaps *gaps, int64_t id); /* 1 it was in a gap, 0 it was not, -1 no memory */
bool pb_gaps_contain(const pb_gaps *gaps, int64_t id);
size_t pb_gaps_count(const pb_gaps *gaps);     /* ranges */
int64_t pb_gaps_lowest(const pb_gaps *gaps);   /* INT64_MAX where there is none */

/*
 * The transactions that hold the lock now, as numbers; `nameless` where one of them is prepared
 * (it has no process and changes its name, so it counts as a holder of every gap).
 */
int pb_gaps_holders(pb_gaps *gaps, const uint64_t *holders, size_t count, bool nameless);

/* Wide ranges that are left out because all of their holders were there when last listed. */
size_t pb_gaps_left_out(const pb_gaps *gaps);
/* Adds to both arrays the ranges to read now; how many they are. */
size_t pb_gaps_ask(pb_gaps *gaps, pb_array *lows, pb_array *highs);
/* The rows found were removed; `all` where the read was not cut short. How many ids died. */
int64_t pb_gaps_answered(pb_gaps *gaps, bool all);

#endif

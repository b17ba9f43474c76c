/*
 * Parked rows: what Kafka refused for itself, and the later rows of its key, moved aside in one
 * transaction each time. The held keys are kept in memory while a relay is active.
 */
#ifndef PB_PARK_H
#define PB_PARK_H

#include "lease.h"
#include "pg.h"

typedef struct pb_held pb_held; /* the keys, by topic */

pb_held *pb_held_new(void);
void pb_held_free(pb_held *held);
bool pb_held_has(const pb_held *held, pb_bytes topic, pb_bytes key);
size_t pb_held_count(const pb_held *held);
/* Reads them from the table, in place of those known so far. */
int pb_held_load(pb_held *held, pb_pg *pg, pb_error *err);

/*
 * Moves rows of the outbox to the parked ones, if the lease's epoch still stands. `reason`: they
 * were refused (NULL: they only wait behind one that was); `hold`: the later rows of their keys
 * follow. How many were moved, or -1.
 */
int64_t pb_park(pb_pg *pg, const pb_lease *lease, const int64_t *ids, size_t count,
                const char *reason, bool hold, pb_error *err);
/*
 * Moves back what was released, and lowers the low-water id in the same transaction. The ids come
 * in `back`, to be freed. 0, or -1 without having moved anything.
 */
int pb_park_release(pb_pg *pg, const pb_lease *lease, int64_t **back, size_t *count, pb_error *err);

#endif

/*
 * Storing events: the statements that stand just before COMMIT, in one round trip with it.
 *
 * First deferred constraints are checked, so that nothing of the application runs behind the
 * locks; then the stripes of all keys are locked in sorted order, which makes the order of ids
 * the order of commits for each key; then all events are inserted by one statement. A single event
 * without a given id is locked and inserted by one.
 */
#ifndef PB_OUTBOX_H
#define PB_OUTBOX_H

#include "batch.h"
#include "pg.h"

/* Prepares the statements' parameters once; keeps them until the results are received. */
typedef struct pb_outbox pb_outbox;

pb_outbox *pb_outbox_new(pb_config *config, pb_error *err);
void pb_outbox_free(pb_outbox *outbox);

/*
 * Queues the statements for the events of `batch`, without a sync and without COMMIT; nothing
 * for an empty batch. `direct_seconds` above 0: the publisher sends them itself for that long.
 */
int pb_outbox_send(pb_outbox *outbox, pb_pg *pg, const pb_batch *batch, double direct_seconds,
                   pb_error *err);
/*
 * Receives their results; with a failure the rest up to the sync is still to be received.
 * Sets the row of each event. `conflict`: a given id waits already with other content.
 */
int pb_outbox_receive(pb_outbox *outbox, pb_pg *pg, double deadline, pb_batch *batch,
                      pb_error *err);

#endif

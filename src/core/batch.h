/* Events of one transaction that wait for its commit, with copies of their bytes. */
#ifndef PB_BATCH_H
#define PB_BATCH_H

#include "event.h"

#define PB_BATCH_EVENTS 100000           /* events of one transaction */
#define PB_BATCH_BYTES (256u * 1024 * 1024) /* their bytes; PostgreSQL's messages end at 1 GiB */

typedef struct pb_batch_entry pb_batch_entry;

typedef struct pb_batch {
    pb_buffer bytes;         /* all slices, one behind the other */
    pb_batch_entry *entries;
    int count, capacity;
} pb_batch;

/* Copies the event. -1: too_large or full, and the batch is as before. */
int pb_batch_add(pb_batch *batch, const pb_event *event, pb_error *err);
/* The i-th event; its slices are valid until the next change of the batch. */
void pb_batch_get(const pb_batch *batch, int i, pb_event *event);
void pb_batch_cut(pb_batch *batch, int count); /* forgets the events from `count` on */
/* The row that the event got, 0 until it is stored or where it waited already. */
void pb_batch_set_row(pb_batch *batch, int i, int64_t outbox_id);
int64_t pb_batch_row(const pb_batch *batch, int i);
void pb_batch_free(pb_batch *batch);

#endif

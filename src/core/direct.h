/*
 * delivery = "direct": the process that committed events publishes them itself, on a thread of its
 * own, and deletes their rows after the reports. It promises nothing: what it does not get done in
 * time (no room, no broker, a crash) is the relay's.
 */
#ifndef PB_DIRECT_H
#define PB_DIRECT_H

#include "batch.h"
#include "config.h"

typedef struct pb_direct pb_direct;

typedef struct pb_direct_stats {
    int64_t published; /* reports of success */
    int64_t removed;   /* rows deleted; none with read-back, which does that */
    int64_t left;      /* events that were left to the relay */
} pb_direct_stats;

/* Starts its thread. `max_record_bytes`: the outbox's setting. */
pb_direct *pb_direct_new(pb_config *config, bool readback, size_t max_record_bytes, pb_error *err);
/* After the commit: copies the events of the batch that have rows. Never waits. */
void pb_direct_publish(pb_direct *direct, const pb_batch *batch);
void pb_direct_read_stats(pb_direct *direct, pb_direct_stats *stats);
/* Publishes what it has and ends, within `seconds`. -1: a time-out; it ends by itself. */
int pb_direct_stop(pb_direct *direct, double seconds, pb_error *err);
bool pb_direct_is_foreign(const pb_direct *direct); /* made before a fork, in the parent */
void pb_direct_free(pb_direct *direct);

#endif

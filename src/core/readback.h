/*
 * Reads the outbox's own topics, so that an event counts as published only when it is seen there.
 * A group of the outbox's own keeps the offsets; only the active relay reads.
 */
#ifndef PB_READBACK_H
#define PB_READBACK_H

#include "kafka.h"

typedef struct pb_readback pb_readback;

/* `outbox` names the group. `wake_fd` is written when records come. */
pb_readback *pb_readback_new(const pb_config *config, const char *outbox, int wake_fd,
                             pb_error *err);
void pb_readback_free(pb_readback *readback);
/* Reads these partitions too, from the committed offset or else from the beginning. */
int pb_readback_add(pb_readback *readback, const char *topic, int partitions, pb_error *err);
/* The next record without waiting, to be destroyed; NULL where none is there. */
rd_kafka_message_t *pb_readback_next(pb_readback *readback);
/* What was taken so far may be committed when delete number `after` is done ... */
void pb_readback_mark(pb_readback *readback, int64_t after, double now);
/* ... and is, when it is. */
void pb_readback_commit(pb_readback *readback, int64_t done, double now);

#endif

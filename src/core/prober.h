/*
 * Asks Kafka about topics on a thread and a connection of its own, by metadata and configuration
 * only: a topic that is missing or slow to answer about holds nobody up.
 */
#ifndef PB_PROBER_H
#define PB_PROBER_H

#include <stdint.h>

#include "config.h"

typedef struct pb_prober pb_prober;

typedef struct pb_probed {
    char *topic;        /* to be freed by the taker */
    int partitions;     /* -1: see err */
    int64_t max_bytes;  /* max.message.bytes, 0 where the broker does not tell */
    bool compacted;
    pb_error err;
} pb_probed;

/* `wake_fd` is written when an answer is there. */
pb_prober *pb_prober_new(pb_config *config, int wake_fd, pb_error *err);
int pb_prober_ask(pb_prober *prober, const char *topic); /* -1 without memory */
bool pb_prober_take(pb_prober *prober, pb_probed *answer);
void pb_prober_free(pb_prober *prober);

#endif

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

typedef struct pb_prober_options {
    int partitions;  /* missing topics are made with so many; 0: they are not made */
    int replication; /* -1: as the broker says */
    int wake_fd;     /* written when an answer is there */
} pb_prober_options;

pb_prober *pb_prober_new(pb_config *config, const pb_prober_options *options, pb_error *err);
/*
 * `wanted`: events wait for it, so it comes before the others, and is made where it is missing
 * and the options say so. It may be answered twice: a broker that is slow to tell the
 * configuration holds the partitions back no longer than a moment. -1 without memory.
 */
int pb_prober_ask(pb_prober *prober, const char *topic, bool wanted);
bool pb_prober_take(pb_prober *prober, pb_probed *answer);
void pb_prober_free(pb_prober *prober);

#endif

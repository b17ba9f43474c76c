/*
 * A member of a consumer group, for one thread. Offsets are committed only for records that the
 * caller has finished; what it gives back unfinished is handed out again, in order, when its
 * partition's wait is over. Meanwhile the partition is paused and polling goes on.
 */
#ifndef PB_CONSUMER_H
#define PB_CONSUMER_H

#include "config.h"
#include "intake.h"

typedef struct pb_consumer pb_consumer;

typedef struct pb_consumer_options {
    const char *group;
    const char *const *topics;
    size_t topic_count;
    bool throughput;     /* large queues in Kafka's client: rate for memory */
    pb_codec codec;
    const char *const *types; /* event types that have a handler; the route is the index */
    size_t type_count;
    int default_route;   /* of all other types: a handler's number, or a PB_ROUTE_ */
} pb_consumer_options;

/* Copies the options. Connects in the background. */
pb_consumer *pb_consumer_open(pb_config *config, const pb_consumer_options *options, pb_error *err);

/*
 * Commits what is finished and leaves the group within the deadline. Every intake must have been
 * settled or freed before.
 */
void pb_consumer_close(pb_consumer *consumer, double deadline);

typedef enum pb_polled {
    PB_POLLED_FAILED = -1, /* for good: close the consumer */
    PB_POLLED,             /* intake->count records, maybe none */
    PB_POLLED_REVOKED      /* finish what is in hand, then pb_consumer_give_up */
} pb_polled;

/* Adds at most `most` records to an empty intake, with routes; waits up to `timeout` seconds. */
pb_polled pb_consumer_poll(pb_consumer *consumer, double timeout, size_t most, pb_intake *intake,
                           pb_error *err);

/* The group took partitions away without asking (a session that lapsed): commit nothing. */
bool pb_consumer_lost(const pb_consumer *consumer);
/* Ends a revocation: commits what is finished, and lets the partitions go. */
void pb_consumer_give_up(pb_consumer *consumer, double deadline);

/* Takes the records back: finished ones move their offsets, the others wait to be handed out. */
int pb_consumer_settle(pb_consumer *consumer, pb_intake *intake, pb_error *err);
/* The record's partition, or all of them, hand out nothing for so long. */
void pb_consumer_hold(pb_consumer *consumer, const pb_record *record, double seconds);
void pb_consumer_hold_all(pb_consumer *consumer, double seconds);

/* Commits offsets that moved. With deadline 0 in the background, at most every PB_COMMIT_EVERY. */
#define PB_COMMIT_EVERY 0.1
int pb_consumer_commit(pb_consumer *consumer, double deadline, pb_error *err);

/* The first record of a partition since it was assigned, until that is noted. */
bool pb_record_is_start(const pb_intake *intake, size_t i);
void pb_intake_started(pb_intake *intake);
/* Still ours: neither revoked nor lost since the record was handed out. */
bool pb_record_is_ours(const pb_record *record);

/* the group has assigned something, or nothing */
bool pb_consumer_joined(const pb_consumer *consumer);
size_t pb_consumer_waiting(const pb_consumer *consumer); /* records that were given back */

/* Calls `each` for each partition that is ours and whose first record was handed out. */
void pb_consumer_partitions(const pb_consumer *consumer,
                            void (*each)(void *arg, const char *topic,
                                         int32_t partition), void *arg);

/* Partitions of a topic. -1 and `err`: topic_unknown, connection, timeout. */
int pb_consumer_topic(pb_consumer *consumer, const char *topic, double timeout, pb_error *err);
int pb_consumer_create_topic(pb_consumer *consumer, const char *topic, int partitions,
                             int replication, double timeout, pb_error *err);

#endif

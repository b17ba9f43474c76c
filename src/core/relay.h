/*
 * The relay: moves committed events from the outbox to Kafka, on a thread of its own.
 *
 * Any number of relays may run; one holds the lease and works, the others stand by. A row leaves
 * the table only when Kafka has acknowledged it, so nothing is lost wherever a relay dies.
 */
#ifndef PB_RELAY_H
#define PB_RELAY_H

#include <stdint.h>

#include "config.h"

typedef struct pb_relay pb_relay;

typedef struct pb_relay_options {
    double lease;            /* seconds until a standby takes over from a relay that is gone */
    double readback_timeout; /* confirm = readback: seconds until an unseen event is sent again */
    double sweep;            /* seconds between looks for rows that the reading missed */
    int partitions;          /* missing topics are made with so many; 0: they are not made */
    int replication;         /* ... and so many replicas; -1: as the broker says */
} pb_relay_options;

typedef struct pb_relay_stats {
    bool running, active;      /* the thread lives; it holds the lease */
    int64_t epoch;             /* of its lease, 0 on standby */
    int64_t position;          /* highest id read */
    int64_t pending;           /* read and not yet sent */
    int64_t in_flight;         /* sent and not yet proven */
    int64_t published;         /* reports of success, repeats included */
    int64_t removed;           /* rows deleted */
    int64_t parked;            /* rows moved to the parked table */
    int64_t released;          /* rows moved back */
    int64_t repeats;           /* sent again because read-back did not see them */
    int64_t late;              /* committed behind the reading position, found by the gap read */
    int64_t gaps;              /* ranges that are watched now */
    int64_t takeovers;         /* times that it began anew */
    int64_t paused_topics;     /* missing or forbidden */
    int64_t stalled_partitions;/* without a report for some time, or behind because of that */
    int64_t alarms;            /* rows that the sweep found and the reading had missed: a defect */
    double oldest;             /* seconds since the oldest waiting row was written, of late */
    char last_error[PB_ERROR_TEXT]; /* "" while all is well */
} pb_relay_stats;

pb_relay_options pb_relay_defaults(void);
pb_relay *pb_relay_new(pb_config *config, const pb_relay_options *options, pb_error *err);
int pb_relay_start(pb_relay *relay, pb_error *err);
/*
 * Stops reading, waits for the reports, removes what is acknowledged and gives the lease back,
 * all within `seconds`. 0, or -1 and a time-out: the thread ends a little later by itself.
 */
int pb_relay_stop(pb_relay *relay, double seconds, pb_error *err);
void pb_relay_wake(pb_relay *relay); /* something was committed: read at once; any thread */
void pb_relay_read_stats(pb_relay *relay, pb_relay_stats *stats);
bool pb_relay_is_foreign(const pb_relay *relay); /* made before a fork, in the parent */
void pb_relay_free(pb_relay *relay); /* stops it where it runs, in bounded time */

#endif

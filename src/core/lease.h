/* The lease: which relay is the active one, by the database's clock, with an epoch that only grows. */
#ifndef PB_LEASE_H
#define PB_LEASE_H

#include "pg.h"

#define PB_HOLDER_SIZE 128

typedef struct pb_lease {
    char holder[PB_HOLDER_SIZE]; /* host, process and a random part */
    double term;                 /* seconds */
    int64_t epoch;               /* 0: not ours */
    int64_t low_water;           /* no row at or below it is waiting */
    double asked_at;             /* monotonic clock, before the last good renewal was sent */
} pb_lease;

void pb_lease_name(pb_lease *lease); /* gives this process its own holder name */
/* 1 it is ours, 0 somebody else has it, -1 failed. */
int pb_lease_take(pb_lease *lease, pb_pg *pg, pb_error *err);
/* Queues the renewal; pb_lease_renewed reads its result. */
int pb_lease_send_renewal(const pb_lease *lease, pb_pg *pg, int64_t low_water, pb_error *err);
/* 0, or -1 where another relay has it now. `asked_at`: pb_now() before it was sent. */
int pb_lease_renewed(pb_lease *lease, const PGresult *result, double asked_at, pb_error *err);
int pb_lease_give_back(pb_lease *lease, pb_pg *pg, int64_t low_water, pb_error *err);

/* May something new be started? False in the last part of the term. */
bool pb_lease_is_fresh(const pb_lease *lease);
bool pb_lease_is_over(const pb_lease *lease); /* somebody else may have it */

#endif

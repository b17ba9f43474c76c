/*
 * A connection as the API uses it: statements, and transactions that begin with their first
 * statement and end with the events that were published in them.
 */
#ifndef PB_SESSION_H
#define PB_SESSION_H

#include "batch.h"
#include "outbox.h"
#include "pg.h"

typedef struct pb_session pb_session;

typedef enum pb_isolation {
    PB_ISOLATION_DEFAULT,
    PB_READ_COMMITTED,
    PB_REPEATABLE_READ,
    PB_SERIALIZABLE
} pb_isolation;

typedef struct pb_begin {
    pb_isolation isolation;
    bool read_only;
    double idle_timeout; /* seconds after which the server ends a transaction left open; 0: never */
    bool at_once;        /* BEGIN has a round trip of its own */
} pb_begin;

typedef enum pb_session_state {
    PB_SESSION_IDLE,
    PB_SESSION_OPEN,   /* a transaction, begun or about to begin */
    PB_SESSION_FAILED, /* a statement of the transaction failed: only a rollback is left */
    PB_SESSION_LOST    /* the connection broke */
} pb_session_state;

pb_session *pb_session_open(pb_config *config, const char *application_name, pb_error *err);
void pb_session_close(pb_session *session);

pb_session_state pb_session_status(const pb_session *session);
pb_pg *pb_session_pg(pb_session *session);

/* Opens a transaction; BEGIN travels with the first statement, or at once. busy where one is open. */
int pb_session_begin(pb_session *session, const pb_begin *begin, pb_error *err);
/* Queues BEGIN and what follows it, where it is still to be sent; *queued results to receive. */
int pb_session_send_begin(pb_session *session, int *queued, pb_error *err);
int pb_session_receive_begin(pb_session *session, int queued, double deadline, pb_error *err);

/* One statement, in the open transaction or on its own. The result is the caller's to clear. */
int pb_session_query(pb_session *session, const char *sql, const pb_param *params, int count,
                     PGresult **result, pb_error *err);

typedef struct pb_commit {
    pb_batch *batch;       /* events to store first; NULL or empty: none */
    double direct_seconds; /* see pb_outbox_send */
    bool one_trip;         /* do not fetch the transaction id first: the answer may be all there is */
} pb_commit;

/*
 * Stores the events and commits. Fails with aborted (nothing took effect), conflict, connection
 * or timeout (likewise), or unknown: the connection broke after COMMIT was sent; err->xid then has
 * the transaction's id. In each case the transaction is over.
 */
int pb_session_commit(pb_session *session, const pb_commit *commit, pb_error *err);
int pb_session_rollback(pb_session *session, pb_error *err);

#endif

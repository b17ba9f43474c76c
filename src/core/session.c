#include "session.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define IMPLICIT_REFUSED "25001" /* "cannot run inside a transaction block" */
#define STALE_PLAN "0A000"       /* also "cached plan must not change result type" */

/* The id first: once COMMIT is on its way it is too late to ask for it. */
#define ID "SELECT pg_current_xact_id()::text, "
#define LIMIT "set_config('statement_timeout', $1, true)"
#define IDLE_LIMIT ", set_config('idle_in_transaction_session_timeout', $2, true)"
#define ONE_LIMIT "SELECT " LIMIT

struct pb_session {
    pb_pg *pg;
    pb_outbox *outbox;
    bool open;          /* a transaction was opened and has not ended */
    bool begun;         /* and BEGIN was sent */
    pb_begin begin;
    char xid[24];       /* of the open transaction, "" where it is not known */
    char statement_ms[32], idle_ms[32];
};

pb_session *pb_session_open(pb_config *config, const char *application_name, pb_error *err) {
    pb_session *session = calloc(1, sizeof *session);
    if (!session) {
        pb_fail_memory(err, "a database connection");
        return NULL;
    }
    session->outbox = pb_outbox_new(config, err);
    if (session->outbox)
        session->pg = pb_pg_open(config, application_name, err);
    if (!session->pg) {
        pb_session_close(session);
        return NULL;
    }
    snprintf(session->statement_ms, sizeof session->statement_ms, "%.0f",
             config->statement_timeout * 1000);
    return session;
}

void pb_session_close(pb_session *session) {
    if (!session)
        return;
    pb_pg_close(session->pg);
    pb_outbox_free(session->outbox);
    free(session);
}

pb_session_state pb_session_status(const pb_session *session) {
    if (pb_pg_lost(session->pg))
        return PB_SESSION_LOST;
    if (session->begun && pb_pg_transaction_failed(session->pg))
        return PB_SESSION_FAILED;
    return session->open ? PB_SESSION_OPEN : PB_SESSION_IDLE;
}

pb_pg *pb_session_pg(pb_session *session) {
    return session->pg;
}

static const char *begin_text(const pb_begin *begin) {
    static const char *const texts[][2] = {
        {"BEGIN", "BEGIN READ ONLY"},
        {"BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"},
        {"BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"},
        {"BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"},
    };
    return texts[begin->isolation][begin->read_only];
}

/* What follows BEGIN in its round trip: the transaction's id, and its limits. */
static const char *second_text(const pb_begin *begin) {
    static const char *const texts[2][2] = {{ID LIMIT, ID LIMIT IDLE_LIMIT},
                                            {"SELECT " LIMIT, "SELECT " LIMIT IDLE_LIMIT}};
    return texts[begin->read_only][begin->idle_timeout > 0];
}

int pb_session_send_begin(pb_session *session, int *queued, pb_error *err) {
    const pb_begin *begin = &session->begin;
    *queued = 0;
    if (!session->open || session->begun)
        return 0;
    if (begin->idle_timeout > 0)
        snprintf(session->idle_ms, sizeof session->idle_ms, "%.0f", begin->idle_timeout * 1000);
    pb_param params[] = {pb_param_text(pb_bytes_of(session->statement_ms)),
                         pb_param_text(pb_bytes_of(session->idle_ms))};
    if (pb_pg_send(session->pg, begin_text(begin), NULL, 0, PB_TEXT_RESULT, err) != 0 ||
        pb_pg_send(session->pg, second_text(begin), params, begin->idle_timeout > 0 ? 2 : 1,
                   PB_TEXT_RESULT, err) != 0)
        return -1;
    session->begun = true;
    *queued = 2;
    return 0;
}

int pb_session_receive_begin(pb_session *session, int queued, double deadline, pb_error *err) {
    for (int i = 0; i < queued; i++) {
        PGresult *result;
        if (pb_pg_receive(session->pg, deadline, &result, err) != 0)
            return -1;
        int failed = pb_pg_check(result, "opening a transaction", err);
        if (!failed && i == 1 && !session->begin.read_only)
            snprintf(session->xid, sizeof session->xid, "%s", PQgetvalue(result, 0, 0));
        PQclear(result);
        if (failed)
            return -1;
    }
    return 0;
}

/* The rest of the batch; a failure while something went wrong already is that one's. */
static int finish(pb_session *session, double deadline, int failed, pb_error *err) {
    pb_error later;
    return pb_pg_finish(session->pg, deadline, failed ? &later : err) || failed ? -1 : 0;
}

/* A statement was not sent: what was queued before it must not be answered to the next one. */
static int fail_queued(pb_session *session) {
    if (pb_pg_pending(session->pg) > 0)
        pb_pg_abandon(session->pg);
    return -1;
}

static int roll_back_quietly(pb_session *session) {
    pb_error ignored;
    return pb_session_rollback(session, &ignored);
}

/* Sends BEGIN if it is still to be sent, and so makes the transaction's id known. */
static int begin_now(pb_session *session, pb_error *err) {
    int queued;
    double deadline = pb_pg_deadline(session->pg);
    if (pb_session_send_begin(session, &queued, err) != 0)
        return -1;
    if (queued == 0)
        return 0;
    if (pb_pg_sync(session->pg, deadline, err) != 0)
        return -1;
    int failed = pb_session_receive_begin(session, queued, deadline, err);
    return finish(session, deadline, failed, err);
}

int pb_session_begin(pb_session *session, const pb_begin *begin, pb_error *err) {
    if (session->open)
        return pb_fail(err, PB_BUSY, "a transaction is open on this connection already");
    session->open = true;
    session->begun = false;
    session->begin = *begin;
    session->xid[0] = '\0';
    if (!begin->at_once || begin_now(session, err) == 0)
        return 0;
    roll_back_quietly(session);
    return -1;
}

static int query_in_transaction(pb_session *session, const char *sql, const pb_param *params,
                                int count, PGresult **result, pb_error *err) {
    int queued;
    double deadline = pb_pg_deadline(session->pg);
    if (pb_session_send_begin(session, &queued, err) != 0 ||
        pb_pg_send(session->pg, sql, params, count, PB_TEXT_RESULT, err) != 0 ||
        pb_pg_sync(session->pg, deadline, err) != 0)
        return fail_queued(session);
    int failed = pb_session_receive_begin(session, queued, deadline, err) ||
                 pb_pg_receive(session->pg, deadline, result, err);
    return finish(session, deadline, failed, err);
}

/* Without a transaction of its own the batch is one: the time-out holds up to its sync. */
static int query_alone(pb_session *session, const char *sql, const pb_param *params, int count,
                       bool limited, PGresult **result, pb_error *err) {
    double deadline = pb_pg_deadline(session->pg);
    pb_param limit = pb_param_text(pb_bytes_of(session->statement_ms));
    PGresult *set = NULL;
    if ((limited && pb_pg_send(session->pg, ONE_LIMIT, &limit, 1, PB_TEXT_RESULT, err) != 0) ||
        pb_pg_send(session->pg, sql, params, count, PB_TEXT_RESULT, err) != 0 ||
        pb_pg_sync(session->pg, deadline, err) != 0)
        return fail_queued(session);
    int failed = (limited && pb_pg_receive(session->pg, deadline, &set, err)) ||
                 pb_pg_receive(session->pg, deadline, result, err);
    PQclear(set);
    return finish(session, deadline, failed, err);
}

static bool is_refusal(const PGresult *result, const char *sqlstate) {
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    return state && strcmp(state, sqlstate) == 0;
}

static void end(pb_session *session) {
    session->open = session->begun = false;
}

/*
 * BEGIN outside a transaction would leave it open in the pool; COMMIT, ROLLBACK and PREPARE
 * TRANSACTION inside one would part the data from its events.
 */
static int check_still_ours(pb_session *session, PGresult *result, pb_error *err) {
    bool inside = pb_pg_in_transaction(session->pg);
    if (session->begun == inside && !(inside && strcmp(PQcmdStatus(result), "COMMIT") == 0))
        return 0;
    bool was_open = session->open;
    end(session);
    if (inside && pb_pg_run(session->pg, "ROLLBACK", NULL, 0, PB_TEXT_RESULT, NULL, err) != 0)
        pb_pg_abandon(session->pg);
    if (was_open)
        return pb_fail(err, PB_CONFIG,
                       "query: the statement ended the transaction, which is over: what it "
                       "committed stays, and no event is stored; return from the function, or use "
                       "tx:rollback");
    return pb_fail(err, PB_CONFIG,
                   "query: the statement opened a transaction, which was rolled back: use "
                   "box:transaction");
}

int pb_session_query(pb_session *session, const char *sql, const pb_param *params, int count,
                     PGresult **result, pb_error *err) {
    int failed;
    *result = NULL;
    if (session->open) {
        failed = query_in_transaction(session, sql, params, count, result, err);
    } else {
        failed = query_alone(session, sql, params, count, true, result, err);
        if (!failed && is_refusal(*result, IMPLICIT_REFUSED)) { /* VACUUM and its like */
            PQclear(*result);
            *result = NULL;
            failed = query_alone(session, sql, params, count, false, result, err);
        }
    }
    if (!failed && pb_pg_check(*result, "database", err) == 0 &&
        check_still_ours(session, *result, err) == 0)
        return 0;
    if (is_refusal(*result, STALE_PLAN))
        pb_pg_forget_statements(session->pg);
    PQclear(*result);
    *result = NULL;
    return -1;
}

static int fail_unknown(pb_session *session, pb_error *err) {
    char why[400];
    snprintf(why, sizeof why, "%.390s", err->message);
    pb_fail(err, PB_UNKNOWN,
            "the connection broke while the transaction was committed, so it is not known whether it "
            "took effect: ask box:outcome(err.xid) (%s)",
            why);
    snprintf(err->xid, sizeof err->xid, "%s", session->xid);
    return -1;
}

/* COMMIT succeeds with the tag ROLLBACK where the transaction had failed. */
static int check_commit(PGresult *result, pb_error *err) {
    if (pb_pg_check(result, "COMMIT", err) != 0)
        return -1;
    if (strcmp(PQcmdStatus(result), "COMMIT") != 0)
        return pb_fail(err, PB_ABORTED,
                       "the transaction was rolled back by the server: a statement in it had failed");
    return 0;
}

/* Receives the answers up to COMMIT's. *sure: the server has said how it ended. */
static int receive_commit(pb_session *session, int queued, pb_batch *batch, double deadline,
                          bool *sure, pb_error *err) {
    PGresult *result;
    *sure = false;
    if (pb_session_receive_begin(session, queued, deadline, err) != 0 ||
        pb_outbox_receive(session->outbox, session->pg, deadline, batch, err) != 0) {
        *sure = !pb_pg_lost(session->pg); /* a statement was refused: COMMIT is skipped */
        return -1;
    }
    if (pb_pg_receive(session->pg, deadline, &result, err) != 0)
        return -1;
    int failed = check_commit(result, err);
    PQclear(result);
    /* A server that goes down may say so instead of answering. */
    *sure = !(failed && err->code == PB_CONNECTION);
    return failed;
}

static int commit_now(pb_session *session, const pb_commit *commit, pb_error *err) {
    int queued;
    bool sure;
    pb_pg *pg = session->pg;
    double deadline = pb_pg_deadline(pg) + pb_pg_config(pg)->lock_timeout;
    if (pb_session_send_begin(session, &queued, err) != 0 ||
        pb_outbox_send(session->outbox, pg, commit->batch, commit->direct_seconds, err) != 0 ||
        pb_pg_send(pg, "COMMIT", NULL, 0, PB_TEXT_RESULT, err) != 0) {
        pb_pg_abandon(pg); /* half a batch is queued, and nothing was synced: drop the connection */
        return -1;
    }
    if (pb_pg_sync(pg, deadline, err) != 0)
        return fail_unknown(session, err);
    int failed = receive_commit(session, queued, commit->batch, deadline, &sure, err);
    if (failed && !sure)
        return fail_unknown(session, err);
    pb_error later; /* a connection that breaks behind the answer takes nothing of it back */
    pb_pg_finish(pg, deadline, &later);
    return failed;
}

int pb_session_commit(pb_session *session, const pb_commit *commit, pb_error *err) {
    if (!session->open)
        return pb_fail(err, PB_CLOSED, "no transaction is open on this connection");
    bool nothing = !session->begun && (!commit->batch || commit->batch->count == 0);
    if (nothing) {
        end(session);
        return 0;
    }
    if (pb_session_status(session) == PB_SESSION_FAILED) {
        roll_back_quietly(session);
        return pb_fail(err, PB_ABORTED,
                       "the transaction was rolled back: a statement in it had failed");
    }
    int failed = (!commit->one_trip && begin_now(session, err)) || commit_now(session, commit, err);
    if (failed && !pb_pg_lost(session->pg) && pb_pg_in_transaction(session->pg))
        roll_back_quietly(session);
    end(session);
    return failed ? -1 : 0;
}

int pb_session_rollback(pb_session *session, pb_error *err) {
    bool begun = session->begun;
    end(session);
    if (!begun)
        return 0;
    return pb_pg_run(session->pg, "ROLLBACK", NULL, 0, PB_TEXT_RESULT, NULL, err);
}

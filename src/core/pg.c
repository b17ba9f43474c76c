#include "pg.h"

#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "pg_internal.h"
#include "thread.h"

#define MAX_PARAMS 256          /* parameters of one statement */
#define MAX_PENDING 1024        /* statements between two syncs */
#define CLIENT_GRACE 5.0        /* seconds beyond the server's own time-out */
#define NUMBER_TEXT 24

typedef enum { PREPARE, STATEMENT, SYNC } expected_kind;

typedef struct expected {
    expected_kind kind;
    const char *name; /* of the statement to prepare; owned by `statements` */
} expected;

struct pb_pg {
    PGconn *conn;
    pb_config *config;
    pb_statements *statements;
    expected pending[MAX_PENDING]; /* ring, in the order of sending */
    int first, count;
    bool lost;
    PGresult *refused; /* why a Prepare failed: the result of its statement */
    bool uncommitted;  /* the sync of statements without a transaction failed: */
    pb_error why;      /* a deferred constraint, or another transaction */
};

pb_param pb_param_null(void) {
    return (pb_param){PB_ABSENT, 0, false, false, 0};
}

pb_param pb_param_text(pb_bytes text) {
    return (pb_param){text, 0, false, false, 0};
}

pb_param pb_param_bytea(pb_bytes bytes) {
    return (pb_param){bytes, PB_OID_BYTEA, true, false, 0};
}

pb_param pb_param_uuid(const unsigned char id[16]) {
    return (pb_param){{(const char *)id, 16}, PB_OID_UUID, true, false, 0};
}

pb_param pb_param_i64(int64_t number) {
    return (pb_param){PB_ABSENT, PB_OID_INT8, true, true, number};
}

static uint32_t array_oid(uint32_t element) {
    switch (element) {
    case PB_OID_BOOL: return 1000;
    case PB_OID_BYTEA: return 1001;
    case PB_OID_INT2: return 1005;
    case PB_OID_INT4: return 1007;
    case PB_OID_TEXT: return 1009;
    case PB_OID_INT8: return 1016;
    case PB_OID_UUID: return 2951;
    default: return 0;
    }
}

pb_param pb_param_array(pb_array *array) {
    pb_bytes bytes = pb_array_close(array);
    return (pb_param){bytes, array_oid(array->element), true, false, 0};
}

static void ignore_notice(void *arg, const PGresult *result) {
    (void)arg;
    (void)result;
}

pb_pg *pb_pg_open(pb_config *config, const char *application_name, pb_error *err) {
    pb_pg *pg = calloc(1, sizeof *pg);
    if (!pg || !(pg->statements = pb_statements_new())) {
        free(pg);
        pb_fail_memory(err, "a database connection");
        return NULL;
    }
    pg->config = pb_config_share(config);
    pg->conn = pb_pg_connect(config, application_name, err);
    if (!pg->conn) {
        pb_pg_close(pg);
        return NULL;
    }
    PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
    if (PQsetnonblocking(pg->conn, 1) != 0 || !PQenterPipelineMode(pg->conn)) {
        pb_fail(err, PB_CONNECTION, "database: cannot use the connection without waiting");
        pb_pg_close(pg);
        return NULL;
    }
    return pg;
}

void pb_pg_close(pb_pg *pg) {
    if (!pg)
        return;
    PQclear(pg->refused);
    if (pg->conn)
        PQfinish(pg->conn);
    pb_statements_free(pg->statements);
    pb_config_release(pg->config);
    free(pg);
}

static int fail_lost(pb_pg *pg, pb_error *err) {
    const char *text = PQerrorMessage(pg->conn);
    pg->lost = true;
    return pb_fail(err, PB_CONNECTION, "database: the connection broke: %.*s",
                   (int)strcspn(text, "\n"), text[0] ? text : "the server closed it");
}

static int fail_late(pb_pg *pg, pb_error *err) {
    pg->lost = true; /* an answer may still come, to a question that nobody asks any more */
    return pb_fail(err, PB_TIMEOUT, "database: no answer within the deadline; the connection was dropped");
}

static int expect(pb_pg *pg, expected_kind kind, const char *name, pb_error *err) {
    if (pg->count == MAX_PENDING)
        return pb_fail(err, PB_FULL, "more than %d statements in one batch", MAX_PENDING);
    pg->pending[(pg->first + pg->count++) % MAX_PENDING] = (expected){kind, name};
    return 0;
}

/* Parameters as libpq wants them. */
typedef struct wire {
    const char *values[MAX_PARAMS];
    int lengths[MAX_PARAMS], formats[MAX_PARAMS];
    Oid oids[MAX_PARAMS];
    uint8_t numbers[MAX_PARAMS][8];
} wire;

static void to_wire(wire *w, const pb_param *params, int count) {
    for (int i = 0; i < count; i++) {
        const pb_param *p = &params[i];
        w->values[i] = p->value.data;
        w->lengths[i] = (int)p->value.length;
        w->formats[i] = p->binary;
        w->oids[i] = p->oid;
        if (p->is_number) {
            for (int byte = 0; byte < 8; byte++)
                w->numbers[i][byte] = (uint8_t)((uint64_t)p->number >> (56 - 8 * byte));
            w->values[i] = (const char *)w->numbers[i];
            w->lengths[i] = 8;
        }
    }
}

static int send_named(pb_pg *pg, const char *sql, const wire *w, int count, int format,
                      pb_error *err) {
    bool is_new = false;
    const char *name =
        pg->config->prepare ? pb_statements_name(pg->statements, sql, w->oids, count, &is_new)
                            : NULL;
    if (is_new) {
        if (expect(pg, PREPARE, name, err) != 0)
            return -1;
        if (!PQsendPrepare(pg->conn, name, sql, count, w->oids))
            return fail_lost(pg, err);
    }
    if (expect(pg, STATEMENT, name, err) != 0)
        return -1;
    int sent = name ? PQsendQueryPrepared(pg->conn, name, count, w->values, w->lengths,
                                          w->formats, format)
                    : PQsendQueryParams(pg->conn, sql, count, w->oids, w->values, w->lengths,
                                        w->formats, format);
    return sent ? 0 : fail_lost(pg, err);
}

int pb_pg_send(pb_pg *pg, const char *sql, const pb_param *params, int count, int result_format,
               pb_error *err) {
    wire w;
    if (pg->lost)
        return pb_fail(err, PB_CONNECTION, "database: the connection is lost");
    if (count > MAX_PARAMS)
        return pb_fail(err, PB_CONFIG, "a statement has %d parameters; the limit is %d", count,
                       MAX_PARAMS);
    for (int i = 0; i < count; i++)
        if (params[i].value.length > 0x3fffffff)
            return pb_fail(err, PB_TOO_LARGE, "parameter %d has %zu bytes; PostgreSQL takes 1 GiB",
                           i + 1, params[i].value.length);
    to_wire(&w, params, count);
    return send_named(pg, sql, &w, count, result_format, err);
}

/* Waits for the socket; 0 ready, 1 the deadline passed, or the thread is to give up. */
static int wait_socket(pb_pg *pg, bool writing, double deadline) {
    struct pollfd fds[] = {{PQsocket(pg->conn), POLLIN, 0}, {pb_thread_interrupt(), POLLIN, 0}};
    if (writing)
        fds[0].events |= POLLOUT;
    int left = pb_remaining_ms(deadline);
    if (left == 0)
        return 1;
    poll(fds, 2, left); /* a descriptor of -1 is passed over */
    return fds[1].revents ? 1 : 0;
}

/* Pushes out what is queued; reads meanwhile, so that a server that answers is never stuck. */
static int flush(pb_pg *pg, double deadline, pb_error *err) {
    int left;
    while ((left = PQflush(pg->conn)) > 0) {
        if (wait_socket(pg, true, deadline) != 0)
            return fail_late(pg, err);
        if (!PQconsumeInput(pg->conn))
            return fail_lost(pg, err);
    }
    return left == 0 ? 0 : fail_lost(pg, err);
}

int pb_pg_sync(pb_pg *pg, double deadline, pb_error *err) {
    if (pg->lost)
        return pb_fail(err, PB_CONNECTION, "database: the connection is lost");
    if (expect(pg, SYNC, NULL, err) != 0)
        return -1;
    if (!PQpipelineSync(pg->conn))
        return fail_lost(pg, err);
    return flush(pg, deadline, err);
}

static void pop(pb_pg *pg) {
    pg->first = (pg->first + 1) % MAX_PENDING;
    pg->count--;
}

/* 1 libpq can give the next result at once, 0 not yet, -1 failed. */
static int ready(pb_pg *pg, pb_error *err) {
    if (PQflush(pg->conn) < 0)
        return fail_lost(pg, err);
    if (!PQisBusy(pg->conn))
        return 1;
    if (!PQconsumeInput(pg->conn))
        return fail_lost(pg, err);
    return PQisBusy(pg->conn) ? 0 : 1;
}

/* Statements without a transaction are committed by their sync: the error comes before it then. */
static int take_sync(pb_pg *pg, PGresult *got, pb_error *err) {
    ExecStatusType status = PQresultStatus(got);
    if (status == PGRES_FATAL_ERROR && !pg->uncommitted) {
        pg->uncommitted = pb_pg_check(got, "database", &pg->why) != 0;
        PQclear(got);
        PQclear(PQgetResult(pg->conn));
        return 0;
    }
    PQclear(got);
    if (status != PGRES_PIPELINE_SYNC)
        return fail_lost(pg, err);
    pop(pg);
    if (!pg->uncommitted)
        return 0;
    pg->uncommitted = false;
    *err = pg->why;
    return -1;
}

/* Takes the result of the head of the ring; each but a sync is followed by a NULL. */
static int take(pb_pg *pg, PGresult **result, pb_error *err) {
    expected head = pg->pending[pg->first];
    PGresult *got = PQgetResult(pg->conn);
    if (!got || PQstatus(pg->conn) == CONNECTION_BAD) {
        PQclear(got);
        return fail_lost(pg, err);
    }
    if (head.kind == SYNC)
        return take_sync(pg, got, err);
    pop(pg);
    PQclear(PQgetResult(pg->conn));
    if (head.kind == STATEMENT) {
        if (pg->refused) {
            PQclear(got);
            got = pg->refused;
            pg->refused = NULL;
        }
        *result = got;
        return 1;
    }
    if (PQresultStatus(got) == PGRES_COMMAND_OK) {
        PQclear(got);
        return 0;
    }
    pb_statements_forget(pg->statements, head.name);
    pg->refused = got;
    return 0;
}

/* As pb_pg_try_receive, up to and including a SYNC when `through_sync`. */
static int step(pb_pg *pg, PGresult **result, pb_error *err) {
    if (pg->lost)
        return pb_fail(err, PB_CONNECTION, "database: the connection is lost");
    while (pg->count > 0) {
        int state = ready(pg, err);
        if (state != 1)
            return state;
        state = take(pg, result, err);
        if (state != 0)
            return state;
    }
    return 2; /* nothing is pending */
}

int pb_pg_try_receive(pb_pg *pg, PGresult **result, pb_error *err) {
    int state = step(pg, result, err);
    return state == 2 ? 0 : state;
}

/*
 * Nothing has come, so that reading would only be told so: wait at once. Encrypted connections may
 * hold bytes that the socket does not show.
 */
static bool must_wait(const pb_pg *pg) {
    return pg->count > 0 && !pb_pg_lost(pg) && PQisBusy(pg->conn) && !PQsslInUse(pg->conn) &&
           !PQgssEncInUse(pg->conn);
}

int pb_pg_receive(pb_pg *pg, double deadline, PGresult **result, pb_error *err) {
    if (must_wait(pg) && wait_socket(pg, PQflush(pg->conn) > 0, deadline) != 0)
        return fail_late(pg, err);
    for (;;) {
        int state = step(pg, result, err);
        if (state == 1)
            return 0;
        if (state < 0)
            return -1;
        if (state == 2)
            return pb_fail(err, PB_CONNECTION, "database: no statement is waiting for an answer");
        if (wait_socket(pg, PQflush(pg->conn) > 0, deadline) != 0)
            return fail_late(pg, err);
    }
}

int pb_pg_finish(pb_pg *pg, double deadline, pb_error *err) {
    while (pg->count > 0) {
        PGresult *result = NULL;
        int state = step(pg, &result, err);
        if (state == 1)
            PQclear(result);
        else if (state < 0)
            return -1;
        else if (state == 0 && wait_socket(pg, PQflush(pg->conn) > 0, deadline) != 0)
            return fail_late(pg, err);
    }
    return 0;
}

static void set_sqlstate(pb_error *err, const char *sqlstate) {
    snprintf(err->sqlstate, sizeof err->sqlstate, "%s", sqlstate);
}

static pb_code code_of(const char *sqlstate) {
    if (strcmp(sqlstate, "08P01") == 0) /* a wrong message, such as too few parameters: our side's fault */
        return PB_ABORTED;
    if (strncmp(sqlstate, "08", 2) == 0 || strncmp(sqlstate, "57P", 3) == 0 ||
        strncmp(sqlstate, "53", 2) == 0 || strcmp(sqlstate, "25006") == 0)
        return PB_CONNECTION;
    if (strcmp(sqlstate, "57014") == 0)
        return PB_TIMEOUT;
    return PB_ABORTED;
}

static bool retriable_state(const char *sqlstate) {
    static const char *const states[] = {"40001", "40P01", "55P03"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (strcmp(sqlstate, states[i]) == 0)
            return true;
    return code_of(sqlstate) == PB_CONNECTION;
}

int pb_pg_check(const PGresult *result, const char *what, pb_error *err) {
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY)
        return 0;
    if (status == PGRES_PIPELINE_ABORTED)
        return pb_fail(err, PB_ABORTED, "%s: skipped, because a statement before it failed", what);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (!sqlstate)
        sqlstate = "";
    /* Only the primary text: the detail may quote the row, which may be a payload. */
    pb_fail(err, code_of(sqlstate), "%s: %s%s%s%s", what, text ? text : "no answer from the server",
            sqlstate[0] ? " (SQLSTATE " : "", sqlstate, sqlstate[0] ? ")" : "");
    err->retriable = retriable_state(sqlstate);
    set_sqlstate(err, sqlstate);
    return -1;
}

int pb_pg_run(pb_pg *pg, const char *sql, const pb_param *params, int count, int result_format,
              PGresult **result, pb_error *err) {
    PGresult *got = NULL;
    pb_error late;
    double deadline = pb_pg_deadline(pg);
    if (pb_pg_send(pg, sql, params, count, result_format, err) != 0 ||
        pb_pg_sync(pg, deadline, err) != 0 || pb_pg_receive(pg, deadline, &got, err) != 0)
        return -1;
    int checked = pb_pg_check(got, "database", err);
    if (pb_pg_finish(pg, deadline, checked == 0 ? err : &late) != 0)
        checked = -1;
    if (checked == 0 && result) {
        *result = got;
        return 0;
    }
    PQclear(got);
    return checked;
}

/* Outside pipeline mode, all results of a text of several statements. */
static int read_script(pb_pg *pg, double deadline, pb_error *err) {
    int failed = 0;
    for (;;) {
        while (PQisBusy(pg->conn)) {
            if (wait_socket(pg, PQflush(pg->conn) > 0, deadline) != 0)
                return fail_late(pg, err);
            if (!PQconsumeInput(pg->conn))
                return fail_lost(pg, err);
        }
        PGresult *result = PQgetResult(pg->conn);
        if (!result)
            return failed;
        if (PQstatus(pg->conn) == CONNECTION_BAD) {
            PQclear(result);
            return fail_lost(pg, err);
        }
        if (!failed && pb_pg_check(result, "database", err) != 0)
            failed = -1;
        PQclear(result);
    }
}

int pb_pg_script(pb_pg *pg, const char *sql, double deadline, pb_error *err) {
    if (pg->lost)
        return pb_fail(err, PB_CONNECTION, "database: the connection is lost");
    if (!PQexitPipelineMode(pg->conn))
        return pb_fail(err, PB_BUSY, "the connection has answers that were not received yet");
    if (!PQsendQuery(pg->conn, sql))
        return fail_lost(pg, err);
    int done = read_script(pg, deadline, err);
    if (!pg->lost && !PQenterPipelineMode(pg->conn))
        return fail_lost(pg, err);
    return done;
}

void pb_pg_forget_statements(pb_pg *pg) {
    pb_statements_forget_all(pg->statements);
}

void pb_pg_abandon(pb_pg *pg) {
    pg->lost = true;
}

bool pb_pg_in_transaction(const pb_pg *pg) {
    PGTransactionStatusType state = PQtransactionStatus(pg->conn);
    return state == PQTRANS_INTRANS || state == PQTRANS_INERROR || state == PQTRANS_ACTIVE;
}

bool pb_pg_transaction_failed(const pb_pg *pg) {
    return PQtransactionStatus(pg->conn) == PQTRANS_INERROR;
}

bool pb_pg_lost(const pb_pg *pg) {
    return pg->lost || PQstatus(pg->conn) == CONNECTION_BAD;
}

bool pb_pg_alive(pb_pg *pg) {
    struct pollfd fd = {PQsocket(pg->conn), POLLIN, 0};
    /* A server that ends a connection says why first: its end is behind that. */
    while (!pb_pg_lost(pg) && poll(&fd, 1, 0) > 0)
        pg->lost = !PQconsumeInput(pg->conn);
    return !pb_pg_lost(pg);
}

int pb_pg_pending(const pb_pg *pg) {
    return pg->count;
}

int pb_pg_socket(const pb_pg *pg) {
    return PQsocket(pg->conn);
}

double pb_pg_deadline(const pb_pg *pg) {
    return pb_now() + pg->config->statement_timeout + CLIENT_GRACE;
}

pb_config *pb_pg_config(const pb_pg *pg) {
    return pg->config;
}

/*
 * A connection to PostgreSQL on which every wait has a deadline.
 *
 * Statements are sent without waiting (libpq's pipeline mode) and their results are received in
 * the same order: pb_pg_send, pb_pg_send ..., pb_pg_sync, then one pb_pg_receive a statement and
 * pb_pg_finish. pb_pg_run does all of it for a single statement. After a statement that fails the
 * server skips the rest up to the sync; their results say PGRES_PIPELINE_ABORTED.
 */
#ifndef PB_PG_H
#define PB_PG_H

#include "array.h"
#include "buffer.h"
#include "config.h"
#include "error.h"

typedef struct pb_pg pb_pg;
typedef struct pg_result PGresult; /* libpq's; who looks into one includes libpq-fe.h */

typedef struct pb_param {
    pb_bytes value;  /* absent: NULL, or `number` where the oid is PB_OID_INT8 and `is_number` */
    uint32_t oid;    /* 0: the server infers it */
    bool binary;     /* value is in the binary format */
    bool is_number;
    int64_t number;
} pb_param;

pb_param pb_param_null(void);
pb_param pb_param_text(pb_bytes text);  /* type inferred by the server; no NUL inside */
pb_param pb_param_bytea(pb_bytes bytes);
pb_param pb_param_uuid(const unsigned char id[16]);
pb_param pb_param_i64(int64_t number);
pb_param pb_param_array(pb_array *array); /* closes it */

enum { PB_TEXT_RESULT = 0, PB_BINARY_RESULT = 1 };

/* Connects within config->connect_timeout. NULL and `err` (config, connection, timeout). */
pb_pg *pb_pg_open(pb_config *config, const char *application_name, pb_error *err);
void pb_pg_close(pb_pg *pg); /* at once, without a word to the server where it is lost */

/* Queues one statement. Named prepared where config->prepare; `sql` may be freed afterwards. */
int pb_pg_send(pb_pg *pg, const char *sql, const pb_param *params, int count, int result_format,
               pb_error *err);
/* Ends the batch and pushes it out. */
int pb_pg_sync(pb_pg *pg, double deadline, pb_error *err);
/*
 * The next statement's result, to be PQclear'ed. A server's refusal is a result (see
 * pb_pg_check), not a failure of this call; it fails when the connection breaks (connection) or
 * the deadline passes (timeout), and then the connection is lost.
 */
int pb_pg_receive(pb_pg *pg, double deadline, PGresult **result, pb_error *err);
/* The same without waiting: 1 a result, 0 not yet, -1 failed. */
int pb_pg_try_receive(pb_pg *pg, PGresult **result, pb_error *err);
/* Throws away what is left up to the sync. */
int pb_pg_finish(pb_pg *pg, double deadline, pb_error *err);

/* One statement, sent, received and checked; `result` may be NULL. */
int pb_pg_run(pb_pg *pg, const char *sql, const pb_param *params, int count, int result_format,
              PGresult **result, pb_error *err);
/* Several statements in one text, without parameters, as psql -c sends them. */
int pb_pg_script(pb_pg *pg, const char *sql, double deadline, pb_error *err);

/* 0 where the result is a success; -1 and `err` with the SQLSTATE, the code and `what`. */
int pb_pg_check(const PGresult *result, const char *what, pb_error *err);

/* Prepared statements are prepared again: their plans no longer fit the tables. */
void pb_pg_forget_statements(pb_pg *pg);
/* Gives the connection up: half a batch was queued that must not be sent. */
void pb_pg_abandon(pb_pg *pg);

bool pb_pg_in_transaction(const pb_pg *pg);     /* open or failed */
bool pb_pg_transaction_failed(const pb_pg *pg); /* only a rollback is left */
/* Looks at an idle connection without asking the server: false where the other side has closed it. */
bool pb_pg_alive(pb_pg *pg);
bool pb_pg_lost(const pb_pg *pg);  /* broken: close it and open another */
int pb_pg_pending(const pb_pg *pg);/* results that are still to be received */
int pb_pg_socket(const pb_pg *pg);
double pb_pg_deadline(const pb_pg *pg); /* for a statement sent now: the server's time-out and a grace */
pb_config *pb_pg_config(const pb_pg *pg);

#endif

#include "connection.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../core/clock.h"
#include "batch.h"
#include "config.h"
#include "core.h"
#include "failure.h"
#include "rows.h"

#define CONNECTION_CLASS "postbox.connection"
#define NAME_BYTES 64 /* of application_name; PostgreSQL keeps as many */

typedef struct connection {
    pb_use use;          /* first: see released() */
    pb_session *session; /* NULL once closed */
    int pid;
    bool closing;        /* closed while a call used it */
    bool lapsed;         /* closed because its transaction was left alone */
    double idle_timeout; /* of the transaction that is open, seconds; 0: none */
    double used_at;      /* when its last call ended */
} connection;

static connection *check(lua_State *L, int index) {
    connection *c = luaL_checkudata(L, index, CONNECTION_CLASS);
    pb_error err;
    if (!c->session || c->closing) {
        pb_fail(&err, PB_CLOSED, "the connection is closed");
        pb_raise(L, &err);
    }
    pb_check_process(L, c->pid, "database connection");
    return c;
}

int pb_use_session(lua_State *L, int index, pb_call *call, pb_session **session) {
    connection *c = luaL_checkudata(L, index, CONNECTION_CLASS);
    if (c->lapsed) /* not a mistake of the caller's: a failure as any other */
        return pb_fail(&call->err, PB_CLOSED,
                       "the transaction was rolled back, because nothing was done in it for longer "
                       "than transaction_lease");
    check(L, index);
    *session = c->session;
    return pb_use_object(call, &c->use, "database connection");
}

static void close_now(connection *c) {
    /* After a fork the socket is the parent's: a word on it would end the parent's session. */
    if (c->session && c->pid == (int)getpid())
        pb_session_close(c->session);
    c->session = NULL;
}

static void released(pb_use *use) {
    connection *c = (connection *)use;
    c->used_at = pb_now();
    if (c->closing)
        close_now(c);
}

/* core.connect(config [, application_name]) -> connection */
typedef struct connect_call {
    pb_call call;
    pb_config *config;
    connection *connection;
    int place; /* of the connection on the stack */
    char name[NAME_BYTES];
} connect_call;

static int prepare_connect(lua_State *L, pb_call *call) {
    connect_call *c = (connect_call *)call;
    c->config = pb_check_config(L, 1);
    snprintf(c->name, sizeof c->name, "%s", luaL_optstring(L, 2, "postbox"));
    c->connection = pb_new_object(L, sizeof *c->connection, CONNECTION_CLASS);
    c->place = lua_gettop(L);
    c->connection->pid = (int)getpid();
    c->connection->use.released = released;
    return pb_use_object(call, &c->connection->use, "database connection");
}

static int work_connect(pb_call *call) {
    connect_call *c = (connect_call *)call;
    c->connection->session = pb_session_open(c->config, c->name, &call->err);
    return c->connection->session ? 0 : -1;
}

static int finish_connect(lua_State *L, pb_call *call) {
    lua_pushvalue(L, ((connect_call *)call)->place);
    return 1;
}

/* connection:query(sql, ...) -> rows */
typedef struct query_call {
    pb_call call;
    pb_session *session;
    const char *sql;
    PGresult **result;
    pb_query_params params;
} query_call;

static int prepare_query(lua_State *L, pb_call *call) {
    query_call *q = (query_call *)call;
    size_t length;
    if (pb_use_session(L, 1, call, &q->session) != 0)
        return -1;
    q->sql = luaL_checklstring(L, 2, &length);
    if (strlen(q->sql) != length)
        return pb_fail(&call->err, PB_CONFIG, "query: the SQL text has a NUL byte");
    if (pb_read_params(L, 3, call->arguments, call->hosted, &q->params, &call->err) != 0)
        return -1;
    q->result = pb_push_result_owner(L);
    return 0;
}

static int work_query(pb_call *call) {
    query_call *q = (query_call *)call;
    return pb_session_query(q->session, q->sql, q->params.params, q->params.count, q->result,
                            &call->err);
}

static int finish_query(lua_State *L, pb_call *call) {
    query_call *q = (query_call *)call;
    pb_push_rows(L, *q->result);
    pb_result_free(*q->result);
    *q->result = NULL;
    return 1;
}

static pb_isolation isolation_option(lua_State *L, int index) {
    static const char *const names[] = {"default", "read committed", "repeatable read",
                                        "serializable", NULL};
    lua_getfield(L, index, "isolation");
    int isolation = luaL_checkoption(L, -1, "default", names);
    lua_pop(L, 1);
    return (pb_isolation)isolation;
}

/* connection:begin{ isolation, read_only, idle_timeout, at_once } -> true, or nil, message, err.
 * at_once waits here, in an event loop too: for measurements. */
static int begin(lua_State *L) {
    connection *c = check(L, 1);
    pb_begin options = {PB_ISOLATION_DEFAULT, false, 0, false};
    pb_error err;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        options.isolation = isolation_option(L, 2);
        lua_getfield(L, 2, "read_only");
        options.read_only = lua_toboolean(L, -1);
        lua_getfield(L, 2, "idle_timeout");
        options.idle_timeout = luaL_optnumber(L, -1, 0);
        lua_getfield(L, 2, "at_once");
        options.at_once = lua_toboolean(L, -1);
    }
    if (c->use.busy) {
        pb_fail(&err, PB_BUSY, "the database connection is in use by another thread");
        return pb_push_failure(L, &err);
    }
    c->idle_timeout = options.idle_timeout;
    c->used_at = pb_now();
    return pb_push_outcome(L, pb_session_begin(c->session, &options, &err), &err);
}

/* connection:commit([batch [, direct_seconds [, one_trip]]]) */
typedef struct commit_call {
    pb_call call;
    pb_session *session;
    pb_commit commit;
} commit_call;

static int prepare_commit(lua_State *L, pb_call *call) {
    commit_call *c = (commit_call *)call;
    c->commit = (pb_commit){NULL, luaL_optnumber(L, 3, 0), lua_toboolean(L, 4)};
    if (pb_use_session(L, 1, call, &c->session) != 0)
        return -1;
    return pb_opt_batch(L, 2, call, &c->commit.batch);
}

static int work_commit(pb_call *call) {
    commit_call *c = (commit_call *)call;
    return pb_session_commit(c->session, &c->commit, &call->err);
}

/* connection:rollback() */
typedef struct rollback_call {
    pb_call call;
    pb_session *session;
} rollback_call;

static int prepare_rollback(lua_State *L, pb_call *call) {
    return pb_use_session(L, 1, call, &((rollback_call *)call)->session);
}

static int work_rollback(pb_call *call) {
    return pb_session_rollback(((rollback_call *)call)->session, &call->err);
}

/* connection:script(sql [, seconds]): several statements in one text */
typedef struct script_call {
    pb_call call;
    pb_session *session;
    const char *sql;
    double seconds;
} script_call;

static int prepare_script(lua_State *L, pb_call *call) {
    script_call *s = (script_call *)call;
    s->sql = luaL_checkstring(L, 2);
    s->seconds = luaL_optnumber(L, 3, 0);
    return pb_use_session(L, 1, call, &s->session);
}

static int work_script(pb_call *call) {
    script_call *s = (script_call *)call;
    pb_pg *pg = pb_session_pg(s->session);
    return pb_pg_script(pg, s->sql, pb_pg_deadline(pg) + s->seconds, &call->err);
}

/* connection:status() -> "idle", "open", "failed" or "lost"; "busy" while a call uses it */
static int status(lua_State *L) {
    static const char *const names[] = {"idle", "open", "failed", "lost"};
    connection *c = luaL_checkudata(L, 1, CONNECTION_CLASS);
    if (!c->lapsed)
        check(L, 1);
    if (c->use.busy)
        lua_pushliteral(L, "busy");
    else
        lua_pushstring(L, names[c->lapsed ? PB_SESSION_LOST : pb_session_status(c->session)]);
    return 1;
}

/* connection:alive() -> false where the server has closed it; asks nobody */
static int alive(lua_State *L) {
    connection *c = check(L, 1);
    lua_pushboolean(L, c->use.busy || pb_pg_alive(pb_session_pg(c->session)));
    return 1;
}

static bool has_lapsed(const connection *c) {
    return !c->use.busy && c->idle_timeout > 0 && pb_now() - c->used_at > c->idle_timeout &&
           pb_session_status(c->session) != PB_SESSION_IDLE;
}

/* connection:lapse() -> true where its transaction was left alone for longer than its idle_timeout;
   then it is closed, and the server rolls back */
static int lapse(lua_State *L) {
    connection *c = luaL_checkudata(L, 1, CONNECTION_CLASS);
    c->lapsed = c->session && c->pid == (int)getpid() && has_lapsed(c);
    if (c->lapsed)
        close_now(c);
    lua_pushboolean(L, c->lapsed);
    return 1;
}

/* connection:close(); where a call uses it, when that has ended */
static int close_connection(lua_State *L) {
    connection *c = luaL_checkudata(L, 1, CONNECTION_CLASS);
    c->closing = true;
    if (!c->use.busy)
        close_now(c);
    return 0;
}

static int collect(lua_State *L) {
    connection *c = luaL_checkudata(L, 1, CONNECTION_CLASS);
    pb_end_use(&c->use);
    close_now(c);
    return 0;
}

static int text(lua_State *L) {
    connection *c = luaL_checkudata(L, 1, CONNECTION_CLASS);
    lua_pushfstring(L, "postbox.connection (%s)", c->session && !c->closing ? "open" : "closed");
    return 1;
}

static const luaL_Reg methods[] = {
    {"begin", begin},   {"status", status},          {"alive", alive},
    {"lapse", lapse},   {"close", close_connection}, {NULL, NULL},
};
static const luaL_Reg metamethods[] = {{"__gc", collect}, {"__tostring", text}, {NULL, NULL}};

static const pb_operation waiting[] = {
    {"query", PB_ANY_ARGUMENTS, sizeof(query_call), prepare_query, work_query, finish_query},
    {"commit", 4, sizeof(commit_call), prepare_commit, work_commit, NULL},
    {"rollback", 1, sizeof(rollback_call), prepare_rollback, work_rollback, NULL},
    {"script", 3, sizeof(script_call), prepare_script, work_script, NULL},
};
static const pb_operation opening[] = {
    {"connect", 2, sizeof(connect_call), prepare_connect, work_connect, finish_connect},
};

void pb_open_connection(lua_State *L) {
    pb_register_class(L, CONNECTION_CLASS, methods, metamethods);
    pb_set_class_operations(L, CONNECTION_CLASS, waiting, sizeof waiting / sizeof *waiting);
    pb_set_operations(L, opening, 1);
}

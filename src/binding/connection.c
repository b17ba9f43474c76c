#include "connection.h"

#include <string.h>
#include <unistd.h>

#include "batch.h"
#include "config.h"
#include "core.h"
#include "failure.h"
#include "rows.h"

#define CONNECTION_CLASS "postbox.connection"

typedef struct connection {
    pb_session *session; /* NULL once closed */
    int pid;
} connection;

static connection *check(lua_State *L, int index) {
    connection *c = luaL_checkudata(L, index, CONNECTION_CLASS);
    pb_error err;
    if (!c->session) {
        pb_fail(&err, PB_CLOSED, "the connection is closed");
        pb_raise(L, &err);
    }
    pb_check_process(L, c->pid, "database connection");
    return c;
}

pb_session *pb_check_session(lua_State *L, int index) {
    return check(L, index)->session;
}

pb_pg *pb_check_connection(lua_State *L, int index) {
    return pb_session_pg(check(L, index)->session);
}

/* core.connect(config [, application_name]) -> connection, or nil, message, err */
static int connect(lua_State *L) {
    pb_config *config = pb_check_config(L, 1);
    const char *name = luaL_optstring(L, 2, "postbox");
    pb_error err;
    connection *c = pb_new_object(L, sizeof *c, CONNECTION_CLASS);
    c->pid = (int)getpid();
    c->session = pb_session_open(config, name, &err);
    return c->session ? 1 : pb_push_failure(L, &err);
}

/* connection:query(sql, ...) -> rows, or nil, message, err */
static int query(lua_State *L) {
    pb_session *session = pb_check_session(L, 1);
    size_t length;
    const char *sql = luaL_checklstring(L, 2, &length);
    pb_query_params params;
    pb_error err;
    if (strlen(sql) != length) {
        pb_fail(&err, PB_CONFIG, "query: the SQL text has a NUL byte");
        return pb_push_failure(L, &err);
    }
    if (pb_read_params(L, 3, &params, &err) != 0)
        return pb_push_failure(L, &err);
    PGresult **result = pb_push_result_owner(L);
    if (pb_session_query(session, sql, params.params, params.count, result, &err) != 0)
        return pb_push_failure(L, &err);
    pb_push_rows(L, *result);
    pb_result_free(*result);
    *result = NULL;
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

/* connection:begin{ isolation, read_only, idle_timeout, at_once } -> true, or nil, message, err */
static int begin(lua_State *L) {
    pb_session *session = pb_check_session(L, 1);
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
    int failed = pb_session_begin(session, &options, &err);
    return pb_push_outcome(L, failed, &err);
}

/* connection:commit([batch [, direct_seconds [, one_trip]]]) -> true, or nil, message, err */
static int commit(lua_State *L) {
    pb_session *session = pb_check_session(L, 1);
    pb_commit options = {pb_opt_batch(L, 2), luaL_optnumber(L, 3, 0), lua_toboolean(L, 4)};
    pb_error err;
    int failed = pb_session_commit(session, &options, &err);
    return pb_push_outcome(L, failed, &err);
}

static int rollback(lua_State *L) {
    pb_error err;
    int failed = pb_session_rollback(pb_check_session(L, 1), &err);
    return pb_push_outcome(L, failed, &err);
}

/* connection:status() -> "idle", "open", "failed" or "lost" */
static int status(lua_State *L) {
    static const char *const names[] = {"idle", "open", "failed", "lost"};
    lua_pushstring(L, names[pb_session_status(pb_check_session(L, 1))]);
    return 1;
}

/* connection:alive() -> false where the server has closed it; asks nobody */
static int alive(lua_State *L) {
    lua_pushboolean(L, pb_pg_alive(pb_check_connection(L, 1)));
    return 1;
}

/* connection:script(sql [, seconds]): several statements in one text */
static int script(lua_State *L) {
    pb_pg *pg = pb_check_connection(L, 1);
    const char *sql = luaL_checkstring(L, 2);
    double seconds = luaL_optnumber(L, 3, 0);
    pb_error err;
    double deadline = pb_pg_deadline(pg) + seconds;
    int failed = pb_pg_script(pg, sql, deadline, &err);
    return pb_push_outcome(L, failed, &err);
}

static int close_connection(lua_State *L) {
    connection *c = luaL_checkudata(L, 1, CONNECTION_CLASS);
    /* After a fork the socket is the parent's: a word on it would end the parent's session. */
    if (c->session && c->pid == (int)getpid())
        pb_session_close(c->session);
    c->session = NULL;
    return 0;
}

static int text(lua_State *L) {
    connection *c = luaL_checkudata(L, 1, CONNECTION_CLASS);
    lua_pushfstring(L, "postbox.connection (%s)", c->session ? "open" : "closed");
    return 1;
}

static const luaL_Reg methods[] = {
    {"query", query}, {"begin", begin},   {"commit", commit}, {"rollback", rollback},
    {"status", status}, {"alive", alive}, {"script", script}, {"close", close_connection},
    {NULL, NULL},
};
static const luaL_Reg metamethods[] = {
    {"__gc", close_connection}, {"__tostring", text}, {NULL, NULL}};

void pb_open_connection(lua_State *L) {
    pb_register_class(L, CONNECTION_CLASS, methods, metamethods);
    lua_pushcfunction(L, connect);
    lua_setfield(L, -2, "connect");
}

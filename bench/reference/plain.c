/*
 * PostgreSQL for Lua as thin as it can be: what a program without postbox has. Each statement is
 * prepared, and takes one round trip. Parameters are texts, all failures raise.
 *   connection = require("bench.plain").connect(conninfo)
 *   connection:prepare(name, sql)
 *   connection:run(name, ...)
 */
#include <lauxlib.h>
#include <libpq-fe.h>
#include <lua.h>

#define CLASS "bench.plain"
#define MAX_PARAMS 16

__attribute__((visibility("default"))) int luaopen_bench_plain(lua_State *L);

static PGconn *check(lua_State *L) {
    return *(PGconn **)luaL_checkudata(L, 1, CLASS);
}

static int finish(lua_State *L, PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    if (status != PGRES_COMMAND_OK)
        return luaL_error(L, "%s", PQerrorMessage(check(L)));
    return 0;
}

static int prepare(lua_State *L) {
    return finish(L, PQprepare(check(L), luaL_checkstring(L, 2), luaL_checkstring(L, 3), 0, NULL));
}

static int run(lua_State *L) {
    const char *values[MAX_PARAMS];
    int count = lua_gettop(L) - 2;
    luaL_argcheck(L, count <= MAX_PARAMS, 3, "too many parameters");
    for (int i = 0; i < count; i++)
        values[i] = luaL_checkstring(L, i + 3);
    return finish(L, PQexecPrepared(check(L), luaL_checkstring(L, 2), count, values, NULL, NULL, 0));
}

static int collect(lua_State *L) {
    PQfinish(check(L));
    return 0;
}

static int connect(lua_State *L) {
    PGconn *pg = PQconnectdb(luaL_checkstring(L, 1));
    *(PGconn **)lua_newuserdata(L, sizeof pg) = pg;
    luaL_getmetatable(L, CLASS);
    lua_setmetatable(L, -2);
    return PQstatus(pg) == CONNECTION_OK ? 1 : luaL_error(L, "%s", PQerrorMessage(pg));
}

static void set(lua_State *L, const char *name, lua_CFunction function) {
    lua_pushcfunction(L, function);
    lua_setfield(L, -2, name);
}

int luaopen_bench_plain(lua_State *L) {
    luaL_newmetatable(L, CLASS);
    set(L, "__gc", collect);
    set(L, "prepare", prepare);
    set(L, "run", run);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    set(L, "connect", connect);
    return 1;
}

#include "failure.h"

#include <sys/types.h>
#include <unistd.h>

#include "core.h"

#define ERROR_CLASS "postbox.error"

static void set_text(lua_State *L, const char *field, const char *text) {
    if (!text[0])
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, field);
}

void pb_push_error(lua_State *L, const pb_error *err) {
    lua_createtable(L, 0, 5);
    set_text(L, "code", pb_code_name(err->code));
    set_text(L, "message", err->message);
    set_text(L, "sqlstate", err->sqlstate);
    set_text(L, "xid", err->xid);
    lua_pushboolean(L, err->retriable);
    lua_setfield(L, -2, "retriable");
    luaL_getmetatable(L, ERROR_CLASS);
    lua_setmetatable(L, -2);
}

int pb_push_failure(lua_State *L, const pb_error *err) {
    lua_pushnil(L);
    lua_pushstring(L, err->message);
    pb_push_error(L, err);
    return 3;
}

int pb_push_outcome(lua_State *L, int failed, const pb_error *err) {
    if (failed)
        return pb_push_failure(L, err);
    lua_pushboolean(L, 1);
    return 1;
}

int pb_raise(lua_State *L, const pb_error *err) {
    pb_push_error(L, err);
    return lua_error(L);
}

void pb_check_process(lua_State *L, int pid, const char *what) {
    pb_error err;
    if (pid == (int)getpid())
        return;
    pb_fail(&err, PB_CLOSED,
            "the %s was made in process %d and is used in process %d: make it after fork", what, pid,
            (int)getpid());
    pb_raise(L, &err);
}

static int error_text(lua_State *L) {
    lua_getfield(L, 1, "message");
    return 1;
}

void pb_open_failure(lua_State *L) {
    luaL_newmetatable(L, ERROR_CLASS);
    lua_pushcfunction(L, error_text);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, ERROR_CLASS);
    lua_setfield(L, -2, "__name");
    lua_setfield(L, -2, "error_metatable");
}

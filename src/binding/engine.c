/* core.engine: the engine of this process, for the adapters of event-loop hosts. */
#include "../core/engine.h"

#include <unistd.h>

#include "../core/thread.h"
#include "core.h"
#include "failure.h"

#define ENGINE_CLASS "postbox.engine" /* its __gc ends the engine with the Lua state */

#if LUA_VERSION_NUM < 503
/* LuaJIT has it, plain 5.1 has not. */
__attribute__((weak)) int lua_isyieldable(lua_State *L);
#endif

static const void *owner_of(lua_State *L) {
    return lua_topointer(L, LUA_REGISTRYINDEX);
}

/* engine.attach() -> true, or nil, message, err */
static int attach(lua_State *L) {
    pb_error err;
    if (pb_engine_attach(owner_of(L), &err) != 0)
        return pb_push_failure(L, &err);
    lua_getfield(L, LUA_REGISTRYINDEX, ENGINE_CLASS ".end");
    if (lua_isnil(L, -1)) {
        pb_new_object(L, 1, ENGINE_CLASS);
        lua_setfield(L, LUA_REGISTRYINDEX, ENGINE_CLASS ".end");
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* engine.can_yield() -> may the running coroutine yield? No C function is between it and its resume. */
static int can_yield(lua_State *L) {
#if LUA_VERSION_NUM < 503
    lua_pushboolean(L, lua_isyieldable && lua_isyieldable(L));
#else
    lua_pushboolean(L, lua_isyieldable(L));
#endif
    return 1;
}

static int pending(lua_State *L) {
    lua_pushinteger(L, pb_engine_pending());
    return 1;
}

static int poke(lua_State *L) {
    (void)L;
    pb_engine_poke();
    return 0;
}

/* engine.fd() -> a descriptor that is readable when core.take_job has something */
static int fd(lua_State *L) {
    pb_error err;
    int number = pb_engine_fd(&err);
    if (number < 0)
        return pb_push_failure(L, &err);
    lua_pushinteger(L, number);
    return 1;
}

static int clear(lua_State *L) {
    (void)L;
    pb_engine_clear();
    return 0;
}

/* engine.listen() -> the path of a socket to connect to; then engine.accept() */
static int listen_here(lua_State *L) {
    char path[PB_ENGINE_PATH];
    pb_error err;
    if (pb_engine_listen(path, &err) != 0)
        return pb_push_failure(L, &err);
    lua_pushstring(L, path);
    return 1;
}

static int accept_own(lua_State *L) {
    pb_error err;
    return pb_push_outcome(L, pb_engine_accept(&err), &err);
}

/* engine.stop(seconds): at the process's end */
static int stop(lua_State *L) {
    pb_engine_detach(owner_of(L), luaL_checknumber(L, 1));
    return 0;
}

static int unpin(lua_State *L) {
    (void)L;
    pb_thread_unpin();
    return 0;
}

static int collect(lua_State *L) {
    pb_engine_detach(owner_of(L), PB_ENGINE_STOP);
    return 0;
}

static const luaL_Reg functions[] = {
    {"attach", attach}, {"can_yield", can_yield}, {"pending", pending}, {"poke", poke},
    {"fd", fd},         {"clear", clear},         {"listen", listen_here}, {"accept", accept_own},
    {"stop", stop},     {"unpin", unpin},         {NULL, NULL},
};
static const luaL_Reg metamethods[] = {{"__gc", collect}, {NULL, NULL}};

void pb_open_engine(lua_State *L) {
    pb_register_class(L, ENGINE_CLASS, NULL, metamethods);
    lua_newtable(L);
    pb_set_functions(L, functions);
    lua_setfield(L, -2, "engine");
}

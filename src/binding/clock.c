/* core.now(): monotonic seconds; core.sleep(seconds). */
#include "../core/clock.h"

#include "core.h"

#define LONGEST_SLEEP 86400.0

static int now(lua_State *L) {
    lua_pushnumber(L, pb_now());
    return 1;
}

static int pause_for(lua_State *L) {
    double seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0 && seconds <= LONGEST_SLEEP, 1, "seconds from 0 to a day");
    pb_sleep(seconds);
    return 0;
}

void pb_open_clock(lua_State *L) {
    lua_pushcfunction(L, now);
    lua_setfield(L, -2, "now");
    lua_pushcfunction(L, pause_for);
    lua_setfield(L, -2, "sleep");
}

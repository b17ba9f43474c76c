/* The module postbox.core: one function a file adds what that file binds. */
#include "compat.h"

void pb_open_failure(lua_State *L);
void pb_open_config(lua_State *L);
void pb_open_json(lua_State *L);
void pb_open_pin(lua_State *L);
void pb_open_testing(lua_State *L);
void pb_open_connection(lua_State *L);
void pb_open_batch(lua_State *L);
void pb_open_rows(lua_State *L);
void pb_open_relay(lua_State *L);
void pb_open_direct(lua_State *L);
void pb_open_signals(lua_State *L);
void pb_open_clock(lua_State *L);
void pb_open_consumer(lua_State *L);

__attribute__((visibility("default"))) int luaopen_postbox_core(lua_State *L);

int luaopen_postbox_core(lua_State *L) {
    lua_newtable(L);
    pb_open_failure(L);
    pb_open_config(L);
    pb_open_json(L);
    pb_open_pin(L);
    pb_open_testing(L);
    pb_open_connection(L);
    pb_open_batch(L);
    pb_open_rows(L);
    pb_open_relay(L);
    pb_open_direct(L);
    pb_open_signals(L);
    pb_open_clock(L);
    pb_open_consumer(L);
    return 1;
}

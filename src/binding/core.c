/* The module postbox.core. */
#include "core.h"

__attribute__((visibility("default"))) int luaopen_postbox_core(lua_State *L);

int luaopen_postbox_core(lua_State *L) {
    lua_newtable(L);
    pb_open_failure(L);
    pb_open_job(L);
    pb_open_engine(L);
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

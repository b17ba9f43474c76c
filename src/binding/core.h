/* What each file adds to the table of the module postbox.core, which is on top of the stack. */
#ifndef PB_BINDING_CORE_H
#define PB_BINDING_CORE_H

#include "compat.h"

void pb_open_failure(lua_State *L);
void pb_open_job(lua_State *L);
void pb_open_engine(lua_State *L);
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

#endif

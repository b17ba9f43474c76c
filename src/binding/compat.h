/* One Lua C API for 5.1, LuaJIT and 5.4: what the older ones lack. */
#ifndef PB_COMPAT_H
#define PB_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if LUA_VERSION_NUM == 501
#define lua_rawlen lua_objlen
#ifndef LUA_OK
#define LUA_OK 0
#endif
#endif

/* Names of their own, because LuaJIT has some of these functions and plain 5.1 has none. */
void pb_set_functions(lua_State *L, const luaL_Reg *functions); /* into the table on top */
bool pb_is_integer(lua_State *L, int index); /* a number without a fraction, exactly held */
void pb_push_i64(lua_State *L, int64_t number); /* before 5.3 a double: exact up to 2^53 */
/* One table that a userdata keeps alive: taken from the top, or pushed. */
void pb_set_user_table(lua_State *L, int userdata);
void pb_push_user_table(lua_State *L, int userdata);

/*
 * Classes: a metatable by name, methods apart from metamethods. A new object is zeroed and has
 * its metatable before it owns anything, so that __gc can always run.
 */
void pb_register_class(lua_State *L, const char *class_name, const luaL_Reg *methods,
                       const luaL_Reg *metamethods);
void *pb_new_object(lua_State *L, size_t size, const char *class_name);

#endif

#include "compat.h"

#include <math.h>
#include <string.h>

#define EXACT_LIMIT 9007199254740992.0 /* 2^53: up to it doubles hold every integer */

void pb_set_functions(lua_State *L, const luaL_Reg *functions) {
    for (; functions && functions->name; functions++) {
        lua_pushcfunction(L, functions->func);
        lua_setfield(L, -2, functions->name);
    }
}

bool pb_is_integer(lua_State *L, int index) {
    if (lua_type(L, index) != LUA_TNUMBER)
        return false;
#if LUA_VERSION_NUM >= 503
    if (lua_isinteger(L, index))
        return true;
#endif
    double n = lua_tonumber(L, index);
    return n == floor(n) && fabs(n) <= EXACT_LIMIT;
}

void pb_push_i64(lua_State *L, int64_t number) {
#if LUA_VERSION_NUM >= 503
    lua_pushinteger(L, number);
#else
    lua_pushnumber(L, (lua_Number)number);
#endif
}

void pb_set_user_table(lua_State *L, int userdata) {
#if LUA_VERSION_NUM == 501
    lua_setfenv(L, userdata);
#else
    lua_setuservalue(L, userdata);
#endif
}

void pb_push_user_table(lua_State *L, int userdata) {
#if LUA_VERSION_NUM == 501
    lua_getfenv(L, userdata);
#else
    lua_getuservalue(L, userdata);
#endif
}

void pb_register_class(lua_State *L, const char *class_name, const luaL_Reg *methods,
                       const luaL_Reg *metamethods) {
    luaL_newmetatable(L, class_name);
    pb_set_functions(L, metamethods);
    lua_pushstring(L, class_name);
    lua_setfield(L, -2, "__name");
    lua_newtable(L);
    pb_set_functions(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void *pb_new_object(lua_State *L, size_t size, const char *class_name) {
    void *object = lua_newuserdata(L, size);
    memset(object, 0, size);
    luaL_getmetatable(L, class_name);
    lua_setmetatable(L, -2);
    return object;
}

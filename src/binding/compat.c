#include "compat.h"

#include <math.h>
#include <string.h>

int pb_absindex(lua_State *L, int index) {
    return index > 0 || index <= LUA_REGISTRYINDEX ? index : lua_gettop(L) + index + 1;
}

void pb_set_functions(lua_State *L, const luaL_Reg *functions) {
    for (; functions && functions->name; functions++) {
        lua_pushcfunction(L, functions->func);
        lua_setfield(L, -2, functions->name);
    }
}

void *pb_test_object(lua_State *L, int index, const char *class_name) {
    void *object = lua_touserdata(L, index);
    if (!object || !lua_getmetatable(L, index))
        return NULL;
    luaL_getmetatable(L, class_name);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? object : NULL;
}

bool pb_is_integer(lua_State *L, int index) {
    if (lua_type(L, index) != LUA_TNUMBER)
        return false;
#if LUA_VERSION_NUM >= 503
    if (lua_isinteger(L, index))
        return true;
#endif
    double n = lua_tonumber(L, index);
    return n == floor(n) && fabs(n) <= 9007199254740992.0;
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

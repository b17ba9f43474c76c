#include "marks.h"

#include "compat.h"

#define MARKS "postbox.marks" /* in the registry: metatable or lightuserdata -> pb_mark */
#define ARRAY_CLASS "postbox.array"

static const struct {
    const char *name, *class_name;
    pb_mark mark;
} own_marks[] = {
    {"raw", "postbox.raw", PB_MARK_RAW},
    {"bytes", "postbox.bytes", PB_MARK_BYTES},
    {"tombstone", "postbox.tombstone", PB_MARK_TOMBSTONE},
    {"array", ARRAY_CLASS, PB_MARK_ARRAY},
};

pb_mark pb_mark_of(lua_State *L, int index) {
    if (lua_type(L, index) == LUA_TLIGHTUSERDATA)
        lua_pushvalue(L, index);
    else if (!lua_getmetatable(L, index))
        return PB_MARK_NONE;
    lua_getfield(L, LUA_REGISTRYINDEX, MARKS);
    lua_insert(L, -2);
    lua_rawget(L, -2);
    pb_mark mark = (pb_mark)lua_tointeger(L, -1); /* nil is 0 is none */
    lua_pop(L, 2);
    return mark;
}

void pb_mark_array(lua_State *L) {
    luaL_getmetatable(L, ARRAY_CLASS);
    lua_setmetatable(L, -2);
}

/* core.mark(value, "array" | "empty_array"): another library's mark counts as well */
static int add_mark(lua_State *L) {
    static const char *const names[] = {"array", "empty_array", NULL};
    static const pb_mark marks[] = {PB_MARK_ARRAY, PB_MARK_EMPTY_ARRAY};
    if (lua_type(L, 1) != LUA_TLIGHTUSERDATA)
        luaL_checktype(L, 1, LUA_TTABLE);
    pb_mark mark = marks[luaL_checkoption(L, 2, NULL, names)];
    lua_getfield(L, LUA_REGISTRYINDEX, MARKS);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, mark);
    lua_rawset(L, -3);
    return 0;
}

void pb_open_marks(lua_State *L) {
    lua_newtable(L); /* core.marks: name -> metatable, for values.lua */
    lua_newtable(L); /* the registry's */
    for (size_t i = 0; i < sizeof own_marks / sizeof *own_marks; i++) {
        luaL_newmetatable(L, own_marks[i].class_name);
        lua_pushvalue(L, -1);
        lua_setfield(L, -4, own_marks[i].name);
        lua_pushinteger(L, own_marks[i].mark);
        lua_rawset(L, -3);
    }
    lua_setfield(L, LUA_REGISTRYINDEX, MARKS);
    lua_setfield(L, -2, "marks");
    lua_pushcfunction(L, add_mark);
    lua_setfield(L, -2, "mark");
}

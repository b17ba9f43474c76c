/* What publish takes as a payload, and the functions of postbox.core around texts and ids. */
#include "../core/event.h"
#include "../core/json.h"
#include "../core/partition.h"
#include "failure.h"
#include "json.h"
#include "marks.h"

static bool text_inside(lua_State *L, int index, pb_bytes *text) {
    lua_rawgeti(L, index, 1);
    bool found = lua_type(L, -1) == LUA_TSTRING;
    if (found)
        text->data = lua_tolstring(L, -1, &text->length);
    lua_pop(L, 1); /* the table at `index` keeps it alive */
    return found;
}

bool pb_test_bytes(lua_State *L, int index, pb_bytes *value) {
    return lua_type(L, index) == LUA_TTABLE && pb_mark_of(L, index) == PB_MARK_BYTES &&
           text_inside(L, index, value);
}

int pb_read_payload(lua_State *L, int index, pb_buffer *out, pb_payload_kind *kind, pb_error *err) {
    pb_bytes bytes;
    if (!lua_checkstack(L, LUA_MINSTACK))
        return pb_fail_memory(err, "Lua stack");
    *kind = PB_PAYLOAD_JSON;
    if (lua_type(L, index) != LUA_TTABLE)
        return pb_json_encode(L, index, out, err);
    if (pb_test_bytes(L, index, &bytes)) {
        *kind = PB_PAYLOAD_BYTES;
        pb_buffer_add_bytes(out, bytes);
        return out->failed ? pb_fail_memory(err, "a payload") : 0;
    }
    if (pb_mark_of(L, index) == PB_MARK_TOMBSTONE) {
        *kind = PB_PAYLOAD_TOMBSTONE;
        return 0;
    }
    return pb_json_encode(L, index, out, err);
}

/* core.encode(value) -> JSON text | nil, message, err */
static int encode(lua_State *L) {
    pb_buffer out = {0};
    pb_error err;
    luaL_checkany(L, 1);
    int result = pb_json_encode(L, 1, &out, &err);
    if (result == 0)
        lua_pushlstring(L, out.data, out.length);
    pb_buffer_free(&out);
    return result == 0 ? 1 : pb_push_failure(L, &err);
}

/* core.decode(text) -> value | nil, message, err */
static int decode(lua_State *L) {
    pb_error err;
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    return pb_json_decode(L, 1, &err) == 0 ? 1 : pb_push_failure(L, &err);
}

/* core.check_json(text) -> true | nil, message, err */
static int check_json(lua_State *L) {
    pb_bytes text;
    pb_error err;
    text.data = luaL_checklstring(L, 1, &text.length);
    if (pb_json_check(text, PB_JSON_DEPTH, &err))
        return pb_push_failure(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* core.new_id() -> a UUIDv7 as text */
static int new_id(lua_State *L) {
    uint8_t id[PB_ID_SIZE];
    char text[PB_ID_TEXT + 1];
    pb_id_new(id);
    pb_id_text(id, text);
    lua_pushlstring(L, text, PB_ID_TEXT);
    return 1;
}

/* core.partition_of(key, partitions) -> the number that Kafka's own default partitioner chooses */
static int partition_of(lua_State *L) {
    pb_bytes key;
    key.data = luaL_checklstring(L, 1, &key.length);
    lua_Integer partitions = luaL_checkinteger(L, 2);
    luaL_argcheck(L, partitions >= 1 && partitions <= INT32_MAX, 2, "at least one partition");
    lua_pushinteger(L, pb_kafka_partition_of(key, (int32_t)partitions));
    return 1;
}

void pb_open_json(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"encode", encode},
        {"decode", decode},
        {"check_json", check_json},
        {"new_id", new_id},
        {"partition_of", partition_of},
        {NULL, NULL},
    };
    pb_open_marks(L);
    pb_set_functions(L, functions);
    lua_pushlightuserdata(L, NULL); /* core.null, which is what cjson's null and ngx.null are too */
    lua_setfield(L, -2, "null");
}

/*
 * Lua value -> JSON text. Decisions that show: object keys are sorted by their bytes; a float with
 * an integral value is written as an integer (3.0 becomes 3, on every Lua the same text); an empty
 * table is {} unless marked as an array; tables are read raw.
 */
#include "json.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/json.h"
#include "../core/utf8.h"
#include "compat.h"
#include "marks.h"
#include "path.h"

#define STACK_SLOTS 8  /* of the Lua stack, for one level of tables */
#define SMALL_OBJECT 16 /* keys that are sorted by insertion */

typedef struct encoder {
    lua_State *L;
    pb_buffer *out;
    pb_error *err;
    pb_buffer keys; /* pb_bytes of the keys of the objects that are open */
    pb_path path;
} encoder;

/* What the keys of a table say. */
typedef struct shape {
    size_t names, positions; /* how many keys of each kind */
    double last;             /* the highest position */
} shape;

static int encode_value(encoder *e);

static int refuse(encoder *e, const char *why) {
    return pb_path_fail(&e->path, e->err, PB_CONFIG, why);
}

static int encode_number(encoder *e) {
#if LUA_VERSION_NUM >= 503
    if (lua_isinteger(e->L, -1)) {
        pb_json_write_integer(e->out, lua_tointeger(e->L, -1));
        return 0;
    }
#endif
    if (!pb_json_write_number(e->out, lua_tonumber(e->L, -1)))
        return refuse(e, "NaN and infinity are no JSON numbers");
    return 0;
}

static pb_bytes string_at(lua_State *L, int index) {
    pb_bytes text;
    text.data = lua_tolstring(L, index, &text.length);
    return text;
}

static int encode_string(encoder *e, pb_bytes text) {
    if (!pb_utf8_valid(text))
        return refuse(e, "a string that is not valid UTF-8 (postbox.bytes carries any bytes, as "
                         "the whole payload)");
    pb_json_write_string(e->out, text);
    return 0;
}

static int encode_raw(encoder *e) {
    pb_error inner;
    lua_rawgeti(e->L, -1, 1);
    pb_bytes text = lua_type(e->L, -1) == LUA_TSTRING ? string_at(e->L, -1) : PB_ABSENT;
    int result = pb_json_check(text, PB_JSON_DEPTH - e->path.depth, &inner);
    if (result == 0)
        pb_buffer_add_bytes(e->out, text);
    lua_pop(e->L, 1);
    return result ? refuse(e, inner.message) : 0;
}

static int read_key(encoder *e, int index, shape *found) {
    double position;
    switch (lua_type(e->L, index)) {
    case LUA_TSTRING: {
        pb_bytes name = string_at(e->L, index); /* the table keeps it alive */
        pb_buffer_add(&e->keys, &name, sizeof name);
        found->names++;
        return 0;
    }
    case LUA_TNUMBER:
        position = lua_tonumber(e->L, index);
        if (!pb_is_integer(e->L, index) || position < 1)
            return refuse(e, "a numeric key that is no position 1, 2, 3 …; an object's keys are "
                             "strings: use tostring()");
        found->positions++;
        if (position > found->last)
            found->last = position;
        return 0;
    default:
        return refuse(e, "a key that is neither a string nor a position in an array");
    }
}

/* Reads all keys of the table on top; the names are left at the end of e->keys. */
static int read_keys(encoder *e, shape *found) {
    *found = (shape){0};
    lua_pushnil(e->L);
    while (lua_next(e->L, -2)) {
        lua_pop(e->L, 1);
        if (read_key(e, -1, found)) {
            lua_pop(e->L, 1);
            return -1;
        }
    }
    if (found->names > 0 && found->positions > 0)
        return refuse(e, "a table with string keys and with positions is neither an object nor an "
                         "array");
    if (found->last != (double)found->positions || found->last > INT_MAX)
        return refuse(e, "an array with holes (postbox.null fills a hole; an object's keys are "
                         "strings: use tostring())");
    return 0;
}

static int encode_array(encoder *e, int count) {
    pb_buffer_add_u8(e->out, '[');
    for (int i = 1; i <= count; i++) {
        if (i > 1)
            pb_buffer_add_u8(e->out, ',');
        pb_path_position(&e->path, i);
        lua_rawgeti(e->L, -1, i);
        int result = encode_value(e);
        lua_pop(e->L, 1);
        if (result)
            return -1;
    }
    pb_buffer_add_u8(e->out, ']');
    return 0;
}

static int compare(const void *left, const void *right) {
    const pb_bytes *a = left, *b = right;
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->data, b->data, shorter);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static void sort_names(pb_bytes *names, size_t count) {
    if (count > SMALL_OBJECT) {
        qsort(names, count, sizeof *names, compare);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        pb_bytes name = names[i];
        size_t at = i;
        for (; at > 0 && compare(&names[at - 1], &name) > 0; at--)
            names[at] = names[at - 1];
        names[at] = name;
    }
}

/* `start`: where the object's names begin in e->keys. */
static int encode_object(encoder *e, size_t start, size_t count) {
    if (e->keys.failed)
        return pb_fail_memory(e->err, "the keys of a JSON object");
    if (count > 0)
        sort_names((pb_bytes *)(e->keys.data + start), count);
    pb_buffer_add_u8(e->out, '{');
    for (size_t i = 0; i < count; i++) {
        /* Copied, because the list moves when an inner object adds to it. */
        pb_bytes name = ((pb_bytes *)(e->keys.data + start))[i];
        if (i > 0)
            pb_buffer_add_u8(e->out, ',');
        pb_path_name(&e->path, name);
        if (encode_string(e, name))
            return -1;
        pb_buffer_add_u8(e->out, ':');
        lua_pushlstring(e->L, name.data, name.length);
        lua_rawget(e->L, -2);
        int result = encode_value(e);
        lua_pop(e->L, 1);
        if (result)
            return -1;
    }
    pb_buffer_add_u8(e->out, '}');
    return 0;
}

static int check_limits(encoder *e) {
    if (e->path.depth == PB_JSON_DEPTH)
        return refuse(e, "tables inside one another deeper than 128 (is one inside itself?)");
    if (e->out->length > PB_JSON_TEXT_LIMIT)
        return pb_path_fail(&e->path, e->err, PB_TOO_LARGE,
                            "the JSON text is over 64 MiB (one table, reached many times?)");
    if (!lua_checkstack(e->L, STACK_SLOTS))
        return pb_fail_memory(e->err, "Lua stack");
    return 0;
}

/* The table on top, which is no postbox value but may be marked as an array. */
static int encode_plain_table(encoder *e, pb_mark mark) {
    size_t start = e->keys.length;
    shape found;
    if (check_limits(e) || read_keys(e, &found))
        return -1;
    bool marked = mark == PB_MARK_ARRAY || mark == PB_MARK_EMPTY_ARRAY;
    if (mark == PB_MARK_ARRAY && found.names > 0)
        return refuse(e, "a table marked as an array has string keys");
    pb_path_enter(&e->path);
    int result = found.positions > 0 || (marked && found.names == 0)
                     ? encode_array(e, (int)found.positions)
                     : encode_object(e, start, found.names);
    if (result == 0) /* where it failed, the path stays for the message */
        pb_path_leave(&e->path);
    e->keys.length = start;
    return result;
}

static int encode_table(encoder *e) {
    pb_mark mark = pb_mark_of(e->L, -1);
    switch (mark) {
    case PB_MARK_RAW:
        return encode_raw(e);
    case PB_MARK_BYTES:
        return refuse(e, "postbox.bytes can only be the whole payload");
    case PB_MARK_TOMBSTONE:
        return refuse(e, "postbox.tombstone can only be the whole payload");
    default:
        return encode_plain_table(e, mark);
    }
}

static int encode_pointer(encoder *e) {
    if (lua_touserdata(e->L, -1) == NULL) { /* cjson.null, ngx.null */
        pb_buffer_add_text(e->out, "null");
        return 0;
    }
    if (pb_mark_of(e->L, -1) != PB_MARK_EMPTY_ARRAY)
        return refuse(e, "a lightuserdata has no JSON form");
    pb_buffer_add_text(e->out, "[]");
    return 0;
}

static int refuse_kind(encoder *e, int type) {
    char why[80];
    snprintf(why, sizeof why, "a %s has no JSON form", type > LUA_TTHREAD ? "cdata"
                                                       : lua_typename(e->L, type));
    return refuse(e, why);
}

/* The value on top, which stays there. */
static int encode_value(encoder *e) {
    int type = lua_type(e->L, -1);
    switch (type) {
    case LUA_TNIL:
        pb_buffer_add_text(e->out, "null");
        return 0;
    case LUA_TBOOLEAN:
        pb_buffer_add_text(e->out, lua_toboolean(e->L, -1) ? "true" : "false");
        return 0;
    case LUA_TNUMBER:
        return encode_number(e);
    case LUA_TSTRING:
        return encode_string(e, string_at(e->L, -1));
    case LUA_TTABLE:
        return encode_table(e);
    case LUA_TLIGHTUSERDATA:
        return encode_pointer(e);
    default:
        return refuse_kind(e, type);
    }
}

int pb_json_encode(lua_State *L, int index, pb_buffer *out, pb_error *err) {
    encoder e = {.L = L, .out = out, .err = err};
    if (!lua_checkstack(L, STACK_SLOTS))
        return pb_fail_memory(err, "Lua stack");
    if (lua_isnone(L, index))
        lua_pushnil(L);
    else
        lua_pushvalue(L, index);
    int result = encode_value(&e);
    lua_pop(L, 1);
    pb_buffer_free(&e.keys);
    if (result == 0 && out->failed)
        return pb_fail_memory(err, "the JSON text of a payload");
    return result;
}

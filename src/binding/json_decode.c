/*
 * JSON text -> Lua value. The text is checked first, so that building can rely on it: every string
 * ends, everything that opens closes, and nothing is deeper than PB_JSON_DEPTH. What is open is
 * kept on the Lua stack and in a list of the call, and all memory is Lua's: there is no recursion,
 * and nothing is lost where Lua raises.
 */
#include <limits.h>

#include "../core/json.h"
#include "../core/json_escape.h"
#include "compat.h"
#include "json.h"
#include "marks.h"

#define LEVEL_SLOTS 2     /* of the Lua stack: a table, and the name of the member that is read */
#define WORKING_SLOTS 8   /* above the innermost table */
#define SMALL_STRING 512  /* bytes that are unescaped without an allocation */
#define FIRST_MEMBERS 4   /* room in a table that is not empty */
#define EXACT_LIMIT (INT64_C(1) << 53) /* up to it doubles hold every integer */

typedef struct level {
    bool object;
    int count; /* of an array's elements so far */
} level;

typedef struct decoder {
    lua_State *L;
    const char *at; /* a NUL ends the text */
    int depth;
    level levels[PB_JSON_DEPTH];
} decoder;

static void skip_space(decoder *d) {
    while (*d->at == ' ' || *d->at == '\n' || *d->at == '\r' || *d->at == '\t')
        d->at++;
}

static void push_unescaped(lua_State *L, pb_bytes text) {
    char small[SMALL_STRING];
    if (text.length <= sizeof small) {
        lua_pushlstring(L, small, pb_json_unescape_to(small, text));
        return;
    }
    char *large = lua_newuserdata(L, text.length);
    lua_pushlstring(L, large, pb_json_unescape_to(large, text));
    lua_remove(L, -2);
}

static void push_string(decoder *d) {
    const char *start = ++d->at, *end = start;
    bool escaped = false;
    for (; *end != '"'; end++)
        if (*end == '\\') {
            escaped = true;
            end++;
        }
    d->at = end + 1;
    if (escaped)
        push_unescaped(d->L, (pb_bytes){start, (size_t)(end - start)});
    else
        lua_pushlstring(d->L, start, (size_t)(end - start));
}

static bool push_integer(lua_State *L, int64_t integer) {
#if LUA_VERSION_NUM >= 503
    lua_pushinteger(L, integer);
#else
    if (integer < -EXACT_LIMIT || integer > EXACT_LIMIT)
        return false;
    lua_pushnumber(L, (lua_Number)integer);
#endif
    return true;
}

/* What this Lua cannot hold is a string, as an int8 that tx:query returns is. */
static void push_number(decoder *d) {
    const char *start = d->at;
    int64_t integer = 0;
    double number = 0;
    pb_json_number kind = pb_json_read_number(&d->at, &integer, &number);
    if (kind == PB_JSON_FLOAT)
        lua_pushnumber(d->L, number);
    else if (kind == PB_JSON_BEYOND || !push_integer(d->L, integer))
        lua_pushlstring(d->L, start, (size_t)(d->at - start));
}

static void push_scalar(decoder *d) {
    switch (*d->at) {
    case '"':
        push_string(d);
        break;
    case 't':
        lua_pushboolean(d->L, 1);
        d->at += sizeof "true" - 1;
        break;
    case 'f':
        lua_pushboolean(d->L, 0);
        d->at += sizeof "false" - 1;
        break;
    case 'n':
        lua_pushlightuserdata(d->L, NULL);
        d->at += sizeof "null" - 1;
        break;
    default:
        push_number(d);
    }
}

/* Pushes a member's name, and moves behind the colon. */
static void push_name(decoder *d) {
    skip_space(d);
    push_string(d);
    skip_space(d);
    d->at++;
}

/* Pushes a table for the array or object that begins here. false: it is empty, and read. */
static bool open_table(decoder *d) {
    bool object = *d->at++ == '{';
    luaL_checkstack(d->L, LEVEL_SLOTS + WORKING_SLOTS, "JSON");
    skip_space(d);
    if (*d->at == (object ? '}' : ']')) {
        d->at++;
        lua_newtable(d->L);
        if (!object)
            pb_mark_array(d->L);
        return false;
    }
    lua_createtable(d->L, object ? 0 : FIRST_MEMBERS, object ? FIRST_MEMBERS : 0);
    d->levels[d->depth++] = (level){.object = object};
    if (object)
        push_name(d);
    return true;
}

/* The value on top goes into its table. true: another one follows in the innermost table. */
static bool store(decoder *d) {
    while (d->depth > 0) {
        level *innermost = &d->levels[d->depth - 1];
        if (innermost->object)
            lua_rawset(d->L, -3);
        else
            lua_rawseti(d->L, -2, ++innermost->count);
        skip_space(d);
        if (*d->at++ == ',') {
            if (innermost->object)
                push_name(d);
            return true;
        }
        d->depth--; /* closed: the table is on top, the value of the one around it */
    }
    return false;
}

static void push_value(decoder *d) {
    do {
        skip_space(d);
        if (*d->at != '{' && *d->at != '[')
            push_scalar(d);
        else if (open_table(d))
            continue;
        if (!store(d))
            return;
    } while (true);
}

int pb_json_decode(lua_State *L, int index, pb_error *err) {
    pb_bytes text;
    decoder d;
    text.data = lua_tolstring(L, index, &text.length);
    if (text.length > INT_MAX) /* so that positions fit */
        return pb_fail(err, PB_TOO_LARGE, "JSON: the text is over 2 GiB");
    if (pb_json_check(text, PB_JSON_DEPTH, err))
        return -1;
    d.L = L;
    d.at = text.data;
    d.depth = 0;
    luaL_checkstack(L, WORKING_SLOTS, "JSON");
    push_value(&d);
    return 0;
}

#include "rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/json.h"
#include "json.h"

#define RESULT_CLASS "postbox.result"
#define EXACT 9007199254740992.0    /* 2^53: beyond it a double skips integers */

static int read_number(lua_State *L, int index, char *text, pb_error *err) {
    double n = lua_tonumber(L, index);
    pb_buffer out = {0};
#if LUA_VERSION_NUM >= 503
    if (lua_isinteger(L, index)) {
        snprintf(text, PB_NUMBER_TEXT, "%lld", (long long)lua_tointeger(L, index));
        return 0;
    }
#endif
    if (!pb_json_write_number(&out, n)) {
        snprintf(text, PB_NUMBER_TEXT, "%s", isnan(n) ? "NaN" : n > 0 ? "Infinity" : "-Infinity");
        return 0;
    }
    bool failed = out.failed;
    snprintf(text, PB_NUMBER_TEXT, "%.*s", (int)out.length, failed ? "" : out.data);
    pb_buffer_free(&out);
    return failed ? pb_fail_memory(err, "a parameter") : 0;
}

static int read_text(lua_State *L, int index, int place, pb_param *param, pb_error *err) {
    size_t length;
    const char *text = lua_tolstring(L, index, &length);
    if (memchr(text, '\0', length))
        return pb_fail(err, PB_CONFIG,
                       "query: parameter %d has a NUL byte, which no text of PostgreSQL can hold: pass "
                       "postbox.bytes(s) for bytea",
                       place);
    *param = pb_param_text((pb_bytes){text, length});
    return 0;
}

static int read_param(lua_State *L, int index, int place, pb_param *param, char *number,
                      pb_error *err) {
    pb_bytes bytes;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        *param = pb_param_null();
        return 0;
    case LUA_TBOOLEAN:
        *param = pb_param_text(pb_bytes_of(lua_toboolean(L, index) ? "true" : "false"));
        return 0;
    case LUA_TNUMBER:
        if (read_number(L, index, number, err) != 0)
            return -1;
        *param = pb_param_text(pb_bytes_of(number));
        return 0;
    case LUA_TSTRING:
        return read_text(L, index, place, param, err);
    case LUA_TLIGHTUSERDATA: /* postbox.null, and cjson's */
        if (lua_touserdata(L, index) == NULL) {
            *param = pb_param_null();
            return 0;
        }
        break;
    case LUA_TTABLE:
        if (pb_test_bytes(L, index, &bytes)) {
            *param = pb_param_bytea(bytes);
            return 0;
        }
        break;
    default:
        break;
    }
    return pb_fail(err, PB_CONFIG,
                   "query: parameter %d is a %s; it can be nil, a boolean, a number, a string or "
                   "postbox.bytes(s)",
                   place, luaL_typename(L, index));
}

static void keep_bytes(lua_State *L, pb_param *param) {
    if (!param->binary || param->value.length == 0)
        return;
    luaL_checkstack(L, 1, "too many parameters");
    char *copy = lua_newuserdata(L, param->value.length);
    memcpy(copy, param->value.data, param->value.length);
    param->value.data = copy;
}

int pb_read_params(lua_State *L, int first, int last, bool keep, pb_query_params *query,
                   pb_error *err) {
    int count = last - first + 1;
    query->count = count > 0 ? count : 0;
    if (query->count > PB_QUERY_PARAMS)
        return pb_fail(err, PB_CONFIG, "query: %d parameters; the limit is %d", query->count,
                       PB_QUERY_PARAMS);
    for (int i = 0; i < query->count; i++) {
        if (read_param(L, first + i, i + 1, &query->params[i], query->numbers[i], err) != 0)
            return -1;
        if (keep)
            keep_bytes(L, &query->params[i]);
    }
    return 0;
}

static void push_integer(lua_State *L, const char *text) {
#if LUA_VERSION_NUM >= 503
    lua_pushinteger(L, (lua_Integer)strtoll(text, NULL, 10));
#else
    long long n = strtoll(text, NULL, 10);
    if (n > (long long)EXACT || n < -(long long)EXACT)
        lua_pushstring(L, text);
    else
        lua_pushnumber(L, (lua_Number)n);
#endif
}

static int hex_digit(char c) {
    return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

/* \x and two digits a byte; or, where the database says bytea_output = escape, \\ and \ooo. */
static void push_bytea(lua_State *L, const char *text, int length) {
    bool is_hex = length >= 2 && text[0] == '\\' && text[1] == 'x';
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = is_hex ? 2 : 0; i < length;) {
        const char *at = text + i;
        if (is_hex && i + 1 < length) {
            luaL_addchar(&b, (char)(hex_digit(at[0]) << 4 | hex_digit(at[1])));
            i += 2;
        } else if (at[0] == '\\' && i + 3 < length && at[1] != '\\') {
            luaL_addchar(&b, (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0')));
            i += 4;
        } else {
            luaL_addchar(&b, at[0]);
            i += at[0] == '\\' ? 2 : 1;
        }
    }
    luaL_pushresult(&b);
}

/* Not by strtod, for which a number may have a comma where the program's locale says so. */
static void push_float(lua_State *L, const char *text) {
    int64_t integer = 0;
    double number = 0;
    bool is_word = strpbrk(text, "Ny") != NULL; /* NaN, Infinity */
    switch (is_word ? PB_JSON_BEYOND : pb_json_read_number(&text, &integer, &number)) {
    case PB_JSON_INTEGER:
        lua_pushnumber(L, (lua_Number)integer);
        break;
    case PB_JSON_FLOAT:
        lua_pushnumber(L, number);
        break;
    default: /* words, and integers of many digits: nothing in them that a locale changes */
        lua_pushnumber(L, strtod(text, NULL));
    }
}

static void push_value(lua_State *L, const PGresult *result, int row, int column) {
    const char *text = pb_result_value(result, row, column);
    switch (pb_result_type(result, column)) {
    case PB_OID_BOOL:
        lua_pushboolean(L, text[0] == 't');
        break;
    case PB_OID_INT2:
    case PB_OID_INT4:
    case PB_OID_INT8:
        push_integer(L, text);
        break;
    case PB_OID_FLOAT8:
        push_float(L, text);
        break;
    case PB_OID_BYTEA:
        push_bytea(L, text, pb_result_length(result, row, column));
        break;
    default:
        lua_pushlstring(L, text, (size_t)pb_result_length(result, row, column));
    }
}

void pb_push_rows(lua_State *L, const PGresult *result) {
    int rows = pb_result_rows(result), columns = pb_result_columns(result);
    const char *affected = pb_result_affected(result);
    luaL_checkstack(L, 8, "too many results");
    lua_createtable(L, rows, 1);
    for (int row = 0; row < rows; row++) {
        lua_createtable(L, 0, columns);
        for (int column = 0; column < columns; column++) {
            if (pb_result_is_null(result, row, column))
                continue;
            push_value(L, result, row, column);
            lua_setfield(L, -2, pb_result_name(result, column));
        }
        lua_rawseti(L, -2, row + 1);
    }
    lua_pushinteger(L, affected[0] ? (lua_Integer)strtoll(affected, NULL, 10) : 0);
    lua_setfield(L, -2, "affected_rows");
}

PGresult **pb_push_result_owner(lua_State *L) {
    return pb_new_object(L, sizeof(PGresult *), RESULT_CLASS);
}

static int collect(lua_State *L) {
    PGresult **slot = luaL_checkudata(L, 1, RESULT_CLASS);
    pb_result_free(*slot);
    *slot = NULL;
    return 0;
}

static const luaL_Reg metamethods[] = {{"__gc", collect}, {NULL, NULL}};

void pb_open_rows(lua_State *L) {
    pb_register_class(L, RESULT_CLASS, NULL, metamethods);
}

#include "rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

#define RESULT_CLASS "postbox.result"
#define EXACT 9007199254740992.0    /* 2^53: beyond it a double skips integers */

static int read_number(lua_State *L, int index, char *text, pb_error *err) {
    double n = lua_tonumber(L, index);
#if LUA_VERSION_NUM >= 503
    if (lua_isinteger(L, index)) {
        snprintf(text, PB_NUMBER_TEXT, "%lld", (long long)lua_tointeger(L, index));
        return 0;
    }
#endif
    if (isnan(n) || isinf(n))
        snprintf(text, PB_NUMBER_TEXT, "%s", isnan(n) ? "NaN" : n > 0 ? "Infinity" : "-Infinity");
    else if (n == floor(n) && fabs(n) <= EXACT)
        snprintf(text, PB_NUMBER_TEXT, "%.0f", n == 0 ? 0.0 : n);
    else
        snprintf(text, PB_NUMBER_TEXT, "%.17g", n);
    (void)err;
    return 0;
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
    case LUA_TLIGHTUSERDATA: /* cjson's null, which is postbox.null */
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

int pb_read_params(lua_State *L, int first, pb_query_params *query, pb_error *err) {
    int count = lua_gettop(L) - first + 1;
    query->count = count > 0 ? count : 0;
    if (query->count > PB_QUERY_PARAMS)
        return pb_fail(err, PB_CONFIG, "query: %d parameters; the limit is %d", query->count,
                       PB_QUERY_PARAMS);
    for (int i = 0; i < query->count; i++)
        if (read_param(L, first + i, i + 1, &query->params[i], query->numbers[i], err) != 0)
            return -1;
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

/* bytea comes as \x and two digits a byte, in every version that we support. */
static void push_bytea(lua_State *L, const char *text, int length) {
    luaL_Buffer b;
    if (length < 2 || text[0] != '\\' || text[1] != 'x') {
        lua_pushlstring(L, text, (size_t)length);
        return;
    }
    luaL_buffinit(L, &b);
    for (int i = 2; i + 1 < length; i += 2)
        luaL_addchar(&b, (char)(hex_digit(text[i]) << 4 | hex_digit(text[i + 1])));
    luaL_pushresult(&b);
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
        lua_pushnumber(L, strtod(text, NULL));
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

#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "failure.h"

#define CONFIG_CLASS "postbox.config"

pb_config *pb_check_config(lua_State *L, int index) {
    pb_config **handle = luaL_checkudata(L, index, CONFIG_CLASS);
    return *handle;
}

/* libpq and librdkafka read C strings: what stands behind a NUL would be left out silently. */
static const char *checked_text(lua_State *L, int index, const char *name) {
    size_t length;
    pb_error err;
    const char *text = luaL_checklstring(L, index, &length);
    if (strlen(text) != length) {
        pb_fail(&err, PB_CONFIG, "%s has a NUL byte", name);
        pb_raise(L, &err);
    }
    return text;
}

static const char *text_field(lua_State *L, const char *name) {
    lua_getfield(L, 1, name);
    const char *text = checked_text(L, -1, name); /* the table keeps it alive */
    lua_pop(L, 1);
    return text;
}

static double number_field(lua_State *L, const char *name) {
    lua_getfield(L, 1, name);
    double number = luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return number;
}

static bool flag_field(lua_State *L, const char *name) {
    lua_getfield(L, 1, name);
    bool flag = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return flag;
}

/* kafka = list of {name, value}; the strings stay owned by that list. */
static void kafka_properties(lua_State *L, pb_config *values) {
    lua_getfield(L, 1, "kafka");
    luaL_checktype(L, -1, LUA_TTABLE);
    values->kafka_count = lua_rawlen(L, -1);
    values->kafka = lua_newuserdata(L, (values->kafka_count + 1) * sizeof *values->kafka);
    for (size_t i = 0; i < values->kafka_count; i++) {
        lua_rawgeti(L, -2, (int)i + 1);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        values->kafka[i].name = (char *)checked_text(L, -2, "kafka: a property's name");
        values->kafka[i].value = (char *)checked_text(L, -1, "kafka: a property's value");
        lua_pop(L, 3);
    }
}

/* core.config{database, schema, kafka, insecure, prepare, *_timeout, queue_log} */
static int new_config(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    pb_error err;
    pb_config values = {
        .database = (char *)text_field(L, "database"),
        .schema = (char *)text_field(L, "schema"),
        .insecure = flag_field(L, "insecure"),
        .prepare = flag_field(L, "prepare"),
        .connect_timeout = number_field(L, "connect_timeout"),
        .statement_timeout = number_field(L, "statement_timeout"),
        .lock_timeout = number_field(L, "lock_timeout"),
    };
    kafka_properties(L, &values);
    pb_config **handle = pb_new_object(L, sizeof *handle, CONFIG_CLASS);
    values.log = pb_log_new(flag_field(L, "queue_log"));
    if (!values.log) {
        pb_fail_memory(&err, "a log");
        return pb_push_failure(L, &err);
    }
    *handle = pb_config_new(&values, &err);
    pb_log_release(values.log); /* the configuration has its own share */
    return *handle ? 1 : pb_push_failure(L, &err);
}

/* config:take_log() -> level, text of the oldest record that waits, or nothing */
static int take_log(lua_State *L) {
    pb_log_record record;
    if (!pb_log_take(pb_check_config(L, 1)->log, &record))
        return 0;
    lua_pushstring(L, pb_level_name(record.level));
    lua_pushstring(L, record.text);
    return 2;
}

static int collect(lua_State *L) {
    pb_config **handle = luaL_checkudata(L, 1, CONFIG_CLASS);
    pb_config_release(*handle);
    *handle = NULL;
    return 0;
}

static const luaL_Reg methods[] = {{"take_log", take_log}, {NULL, NULL}};
static const luaL_Reg metamethods[] = {{"__gc", collect}, {NULL, NULL}};

void pb_open_config(lua_State *L) {
    pb_register_class(L, CONFIG_CLASS, methods, metamethods);
    lua_pushcfunction(L, new_config);
    lua_setfield(L, -2, "config");
}

/*
 * What postbox.testing is made of: the mock cluster, a client that looks at Kafka from outside,
 * and processes. The Lua side (postbox.testing) checks arguments and gives them names.
 */
#include <signal.h>
#include <stdlib.h>

#include "../core/mock.h"
#include "../core/probe.h"
#include "../core/process.h"
#include "core.h"
#include "failure.h"

#define MOCK_CLASS "postbox.mock"
#define PROBE_CLASS "postbox.probe"
#define RECORDS_CLASS "postbox.records"
#define PROCESS_CLASS "postbox.process"
#define HEADERS_LIMIT 256

static void *check_open(lua_State *L, const char *class_name) {
    void **handle = luaL_checkudata(L, 1, class_name);
    if (!*handle)
        luaL_error(L, "the %s is closed", class_name);
    return *handle;
}

/* Mock cluster */

static int new_mock(lua_State *L) { /* core.mock(brokers) */
    pb_error err;
    int brokers = (int)luaL_checkinteger(L, 1);
    pb_mock **handle = pb_new_object(L, sizeof *handle, MOCK_CLASS);
    *handle = pb_mock_new(brokers, &err);
    return *handle ? 1 : pb_push_failure(L, &err);
}

static int mock_bootstrap(lua_State *L) {
    lua_pushstring(L, pb_mock_bootstrap(check_open(L, MOCK_CLASS)));
    return 1;
}

static int mock_create_topic(lua_State *L) { /* name, partitions */
    pb_error err;
    pb_mock *mock = check_open(L, MOCK_CLASS);
    int failed = pb_mock_create_topic(mock, luaL_checkstring(L, 2), (int)luaL_checkinteger(L, 3),
                                      &err);
    return pb_push_outcome(L, failed, &err);
}

static int mock_fail_topic(lua_State *L) { /* topic, error or nil */
    pb_error err;
    pb_mock *mock = check_open(L, MOCK_CLASS);
    int failed = pb_mock_fail_topic(mock, luaL_checkstring(L, 2), luaL_optstring(L, 3, NULL), &err);
    return pb_push_outcome(L, failed, &err);
}

static int mock_fail_requests(lua_State *L) { /* request, error, count */
    pb_error err;
    pb_mock *mock = check_open(L, MOCK_CLASS);
    int failed = pb_mock_fail_requests(mock, luaL_checkstring(L, 2), luaL_checkstring(L, 3),
                                       (int)luaL_checkinteger(L, 4), &err);
    return pb_push_outcome(L, failed, &err);
}

static int mock_set_leader(lua_State *L) { /* topic, partition, broker or 0 */
    pb_error err;
    pb_mock *mock = check_open(L, MOCK_CLASS);
    int failed = pb_mock_set_leader(mock, luaL_checkstring(L, 2), (int32_t)luaL_checkinteger(L, 3),
                                    (int)luaL_checkinteger(L, 4), &err);
    return pb_push_outcome(L, failed, &err);
}

static int mock_set_down(lua_State *L) { /* broker or 0, down */
    pb_error err;
    pb_mock *mock = check_open(L, MOCK_CLASS);
    int failed = pb_mock_set_down(mock, (int)luaL_checkinteger(L, 2), lua_toboolean(L, 3), &err);
    return pb_push_outcome(L, failed, &err);
}

static int mock_set_round_trip(lua_State *L) { /* seconds */
    pb_error err;
    pb_mock *mock = check_open(L, MOCK_CLASS);
    int failed = pb_mock_set_round_trip(mock, luaL_checknumber(L, 2), &err);
    return pb_push_outcome(L, failed, &err);
}

static int mock_close(lua_State *L) {
    pb_mock **handle = luaL_checkudata(L, 1, MOCK_CLASS);
    pb_mock_free(*handle);
    *handle = NULL;
    return 0;
}

/* Client */

static int new_probe(lua_State *L) { /* core.probe(bootstrap) */
    pb_error err;
    const char *bootstrap = luaL_checkstring(L, 1);
    pb_probe **handle = pb_new_object(L, sizeof *handle, PROBE_CLASS);
    *handle = pb_probe_new(bootstrap, &err);
    return *handle ? 1 : pb_push_failure(L, &err);
}

static int probe_create_topic(lua_State *L) { /* name, partitions, seconds */
    pb_error err;
    pb_probe *probe = check_open(L, PROBE_CLASS);
    int failed = pb_probe_create_topic(probe, luaL_checkstring(L, 2),
                                       (int)luaL_checkinteger(L, 3), luaL_checknumber(L, 4), &err);
    return pb_push_outcome(L, failed, &err);
}

static pb_bytes optional_bytes(lua_State *L, int index) {
    pb_bytes bytes = PB_ABSENT;
    if (!lua_isnoneornil(L, index))
        bytes.data = luaL_checklstring(L, index, &bytes.length);
    return bytes;
}

/* topic, partition, key, value, timestamp, {name, value, ...} */
static int probe_send(lua_State *L) {
    pb_error err;
    pb_bytes headers[2 * HEADERS_LIMIT];
    pb_probe *probe = check_open(L, PROBE_CLASS);
    const char *topic = luaL_checkstring(L, 2);
    pb_seen record = {.partition = (int32_t)luaL_checkinteger(L, 3),
                      .key = optional_bytes(L, 4),
                      .value = optional_bytes(L, 5),
                      .timestamp = (int64_t)luaL_checknumber(L, 6)};
    luaL_checktype(L, 7, LUA_TTABLE);
    size_t count = lua_rawlen(L, 7);
    luaL_argcheck(L, count <= 2 * HEADERS_LIMIT, 7, "too many headers");
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 7, (int)i + 1);
        headers[i] = lua_toboolean(L, -1) ? optional_bytes(L, -1) : PB_ABSENT; /* false: null */
        lua_pop(L, 1); /* the table keeps it alive */
    }
    int failed = pb_probe_send(probe, topic, &record, headers, count / 2, &err);
    return pb_push_outcome(L, failed, &err);
}

static int probe_flush(lua_State *L) { /* seconds */
    pb_error err;
    pb_probe *probe = check_open(L, PROBE_CLASS);
    int failed = pb_probe_flush(probe, luaL_checknumber(L, 2), &err);
    return pb_push_outcome(L, failed, &err);
}

static void set_bytes(lua_State *L, const char *field, pb_bytes bytes) {
    if (!bytes.data)
        return;
    lua_pushlstring(L, bytes.data, bytes.length);
    lua_setfield(L, -2, field);
}

static void push_headers(lua_State *L, const pb_records *records, size_t index) {
    const char *name;
    pb_bytes value;
    lua_newtable(L);
    for (size_t h = 0; pb_records_header(records, index, h, &name, &value); h++) {
        lua_createtable(L, 2, 0);
        lua_pushstring(L, name);
        lua_rawseti(L, -2, 1);
        if (value.data)
            lua_pushlstring(L, value.data, value.length);
        else
            lua_pushnil(L);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (int)h + 1);
    }
}

static void push_record(lua_State *L, const pb_records *records, size_t index) {
    pb_seen seen = pb_records_get(records, index);
    lua_createtable(L, 0, 6);
    lua_pushinteger(L, seen.partition);
    lua_setfield(L, -2, "partition");
    lua_pushinteger(L, (lua_Integer)seen.offset);
    lua_setfield(L, -2, "offset");
    lua_pushnumber(L, (lua_Number)seen.timestamp / 1000);
    lua_setfield(L, -2, "timestamp");
    set_bytes(L, "key", seen.key);
    set_bytes(L, "value", seen.value);
    push_headers(L, records, index);
    lua_setfield(L, -2, "headers");
}

static int records_close(lua_State *L) {
    pb_records **handle = luaL_checkudata(L, -1, RECORDS_CLASS);
    pb_records_free(*handle);
    *handle = NULL;
    return 0;
}

static int probe_read(lua_State *L) { /* topic, seconds -> list of records */
    pb_error err;
    pb_probe *probe = check_open(L, PROBE_CLASS);
    const char *topic = luaL_checkstring(L, 2);
    double seconds = luaL_checknumber(L, 3);
    lua_newtable(L);
    pb_records **handle = pb_new_object(L, sizeof *handle, RECORDS_CLASS);
    *handle = pb_probe_read(probe, topic, seconds, &err);
    if (!*handle)
        return pb_push_failure(L, &err);
    for (size_t i = 0; i < pb_records_count(*handle); i++) {
        push_record(L, *handle, i);
        lua_rawseti(L, -3, (int)i + 1);
    }
    records_close(L);
    lua_pop(L, 1);
    return 1;
}

static int probe_close(lua_State *L) {
    pb_probe **handle = luaL_checkudata(L, 1, PROBE_CLASS);
    pb_probe_free(*handle);
    *handle = NULL;
    return 0;
}

/* Processes */

/* The strings of a list as a C array in a userdata on the stack; the list keeps them alive. */
static char **string_list(lua_State *L, int index) {
    luaL_checktype(L, index, LUA_TTABLE);
    size_t count = lua_rawlen(L, index);
    char **list = lua_newuserdata(L, (count + 1) * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        list[i] = (char *)luaL_checkstring(L, -1);
        lua_pop(L, 1);
    }
    list[count] = NULL;
    return list;
}

static int new_process(lua_State *L) { /* core.process(arguments, environment, output, outlives) */
    pb_error err;
    pb_program program = {.arguments = string_list(L, 1),
                          .environment = string_list(L, 2),
                          .output = luaL_optstring(L, 3, NULL),
                          .outlives = lua_toboolean(L, 4)};
    luaL_argcheck(L, program.arguments[0], 1, "no program is named");
    pb_process **handle = pb_new_object(L, sizeof *handle, PROCESS_CLASS);
    *handle = pb_process_start(&program, &err);
    return *handle ? 1 : pb_push_failure(L, &err);
}

static int process_id(lua_State *L) {
    lua_pushinteger(L, pb_process_id(check_open(L, PROCESS_CLASS)));
    return 1;
}

static int process_kill(lua_State *L) { /* signal number, group */
    pb_process *process = check_open(L, PROCESS_CLASS);
    lua_pushboolean(L, pb_process_kill(process, (int)luaL_checkinteger(L, 2), lua_toboolean(L, 3)));
    return 1;
}

static int process_wait(lua_State *L) { /* seconds -> status or nothing */
    int status;
    pb_process *process = check_open(L, PROCESS_CLASS);
    if (!pb_process_wait(process, luaL_checknumber(L, 2), &status))
        return 0;
    lua_pushinteger(L, status);
    return 1;
}

static int process_close(lua_State *L) {
    pb_process **handle = luaL_checkudata(L, 1, PROCESS_CLASS);
    pb_process_free(*handle);
    *handle = NULL;
    return 0;
}

static int send_signal(lua_State *L) { /* core.kill(pid, signal): 0 asks whether it runs */
    lua_pushboolean(L, kill((pid_t)luaL_checkinteger(L, 1), (int)luaL_checkinteger(L, 2)) == 0);
    return 1;
}

static int free_port(lua_State *L) {
    pb_error err;
    int port = pb_free_port(&err);
    if (port < 0)
        return pb_push_failure(L, &err);
    lua_pushinteger(L, port);
    return 1;
}

static const luaL_Reg mock_methods[] = {{"bootstrap", mock_bootstrap},
                                        {"create_topic", mock_create_topic},
                                        {"fail_topic", mock_fail_topic},
                                        {"fail_requests", mock_fail_requests},
                                        {"set_leader", mock_set_leader},
                                        {"set_down", mock_set_down},
                                        {"set_round_trip", mock_set_round_trip},
                                        {"close", mock_close},
                                        {NULL, NULL}};
static const luaL_Reg probe_methods[] = {{"create_topic", probe_create_topic},
                                         {"send", probe_send},
                                         {"flush", probe_flush},
                                         {"read", probe_read},
                                         {"close", probe_close},
                                         {NULL, NULL}};
static const luaL_Reg process_methods[] = {{"id", process_id},
                                           {"kill", process_kill},
                                           {"wait", process_wait},
                                           {"close", process_close},
                                           {NULL, NULL}};
static const luaL_Reg mock_meta[] = {{"__gc", mock_close}, {NULL, NULL}};
static const luaL_Reg probe_meta[] = {{"__gc", probe_close}, {NULL, NULL}};
static const luaL_Reg records_meta[] = {{"__gc", records_close}, {NULL, NULL}};
static const luaL_Reg process_meta[] = {{"__gc", process_close}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"mock", new_mock},       {"probe", new_probe},
                                     {"process", new_process}, {"kill", send_signal},
                                     {"free_port", free_port}, {NULL, NULL}};

void pb_open_testing(lua_State *L) {
    pb_register_class(L, MOCK_CLASS, mock_methods, mock_meta);
    pb_register_class(L, PROBE_CLASS, probe_methods, probe_meta);
    pb_register_class(L, RECORDS_CLASS, NULL, records_meta);
    pb_register_class(L, PROCESS_CLASS, process_methods, process_meta);
    pb_set_functions(L, functions);
}

#include "record.h"

#include <stdlib.h>
#include <string.h>

#include "failure.h"

#define INTAKE_CLASS "postbox.intake"

pb_held_intake *pb_check_intake(lua_State *L, int index) {
    return *(pb_held_intake **)luaL_checkudata(L, index, INTAKE_CLASS);
}

pb_record *pb_check_record(lua_State *L, int index, pb_held_intake *held) {
    lua_Integer i = luaL_checkinteger(L, index);
    luaL_argcheck(L, i >= 1 && (size_t)i <= held->intake.count, index, "no such record");
    return &held->intake.records[i - 1];
}

pb_held_intake *pb_push_intake(lua_State *L) {
    pb_held_intake **held = pb_new_object(L, sizeof *held, INTAKE_CLASS);
    *held = calloc(1, sizeof **held);
    if (*held)
        (*held)->references = 1;
    return *held;
}

void pb_intake_emptied(pb_held_intake *held) {
    held->serial++;
}

void pb_release_intake(pb_held_intake *held) {
    if (!held || --held->references > 0)
        return;
    pb_intake_free(&held->intake);
    free(held);
}

static int collect(lua_State *L) {
    pb_held_intake **held = luaL_checkudata(L, 1, INTAKE_CLASS);
    pb_release_intake(*held);
    *held = NULL;
    return 0;
}

static void push_bytes(lua_State *L, pb_bytes bytes) {
    if (bytes.data)
        lua_pushlstring(L, bytes.data, bytes.length);
    else
        lua_pushnil(L);
}

/* A table by name; of several headers of one name the last. A null value is an empty string. */
static void push_headers(lua_State *L, const pb_record *record) {
    const char *name;
    pb_bytes value;
    lua_newtable(L);
    for (size_t i = 0; pb_record_header_at(record, i, &name, &value); i++) {
        lua_pushlstring(L, value.data ? value.data : "", value.length);
        lua_setfield(L, -2, name);
    }
}

static void push_traceparent(lua_State *L, const pb_record *record) {
    pb_bytes value;
    pb_record_header(pb_record_headers(record), "traceparent", &value);
    push_bytes(L, value);
}

/* Lua fields of a record, in the order of `names` in get(). */
static void push_field(lua_State *L, const pb_record *record, int field) {
    switch (field) {
    case 0: push_bytes(L, record->fields.id); break;
    case 1: push_bytes(L, record->fields.type); break;
    case 2: push_bytes(L, record->fields.payload); break;
    case 3: push_bytes(L, pb_record_key(record)); break;
    case 4: push_bytes(L, pb_record_value(record)); break;
    case 5: push_headers(L, record); break;
    case 6: lua_pushstring(L, pb_record_topic(record)); break;
    case 7: lua_pushinteger(L, pb_record_partition(record)); break;
    case 8: pb_push_i64(L, pb_record_offset(record)); break;
    case 9: lua_pushnumber(L, (lua_Number)pb_record_timestamp(record) / 1000); break;
    default: push_traceparent(L, record); break;
    }
}

/* intake:get(i, serial, name) -> value; raises where the records are gone */
static int get(lua_State *L) {
    static const char *const names[] = {"id",        "type",  "payload",   "key",
                                        "value",     "headers", "topic",   "partition",
                                        "offset",    "timestamp", "traceparent", NULL};
    pb_held_intake *held = pb_check_intake(L, 1);
    if (luaL_checkinteger(L, 3) != held->serial) {
        pb_error err;
        pb_fail(&err, PB_CLOSED, "the event is over: read what you need of it inside its handler");
        return pb_raise(L, &err);
    }
    pb_record *record = pb_check_record(L, 2, held);
    push_field(L, record, luaL_checkoption(L, 4, NULL, names));
    return 1;
}

static int count(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)pb_check_intake(L, 1)->intake.count);
    return 1;
}

static int serial(lua_State *L) {
    lua_pushinteger(L, pb_check_intake(L, 1)->serial);
    return 1;
}

/* intake:next(i) -> number and handler of the next claimed record; nothing behind the last */
static int next_claimed(lua_State *L) {
    pb_intake *intake = &pb_check_intake(L, 1)->intake;
    for (size_t i = (size_t)luaL_checkinteger(L, 2); i < intake->count; i++) {
        if (intake->records[i].state != PB_RECORD_CLAIMED)
            continue;
        lua_pushinteger(L, (lua_Integer)i + 1);
        lua_pushinteger(L, intake->records[i].route + 1);
        return 2;
    }
    return 0;
}

/*
 * intake:state(i) -> "open", "claimed", "repeat" or "done"; and the handler's number or what else
 */
static int state(lua_State *L) {
    static const char *const states[] = {"open", "claimed", "repeat", "done"};
    static const char *const routes[] = {"ignore", "reject", "unreadable", "none"};
    pb_record *record = pb_check_record(L, 2, pb_check_intake(L, 1));
    lua_pushstring(L, states[record->state]);
    if (record->route >= 0)
        lua_pushinteger(L, record->route + 1);
    else
        lua_pushstring(L, routes[record->route - PB_ROUTE_IGNORE]);
    return 2;
}

static int set_done(lua_State *L) {
    pb_check_record(L, 2, pb_check_intake(L, 1))->state = PB_RECORD_DONE;
    return 0;
}

/*
 * intake:finish() -> records left: what was claimed, repeated or ignored is done; others are open
 */
static int finish(lua_State *L) {
    pb_intake *intake = &pb_check_intake(L, 1)->intake;
    lua_Integer left = 0;
    for (size_t i = 0; i < intake->count; i++) {
        pb_record *record = &intake->records[i];
        if (record->state != PB_RECORD_OPEN || record->route == PB_ROUTE_IGNORE)
            record->state = PB_RECORD_DONE;
        else
            left++;
    }
    lua_pushinteger(L, left);
    return 1;
}

/* intake:reopen([i]): the transaction was rolled back; nothing, or not that one, is claimed */
static int reopen(lua_State *L) {
    pb_held_intake *held = pb_check_intake(L, 1);
    size_t first = 0, behind = held->intake.count;
    if (!lua_isnoneornil(L, 2)) {
        first = (size_t)(pb_check_record(L, 2, held) - held->intake.records);
        behind = first + 1;
    }
    for (size_t i = first; i < behind; i++)
        if (held->intake.records[i].state != PB_RECORD_DONE)
            held->intake.records[i].state = PB_RECORD_OPEN;
    return 0;
}

/* intake:why(i, codec number) -> why a record cannot be read */
static int why(lua_State *L) {
    pb_record *record = pb_check_record(L, 2, pb_check_intake(L, 1));
    pb_buffer scratch = {0};
    pb_fields fields;
    pb_error err = {0};
    pb_codec codec = (pb_codec)luaL_checkinteger(L, 3);
    pb_record_read(codec, pb_record_value(record), pb_record_headers(record), &scratch, &fields,
                   &err);
    pb_buffer_free(&scratch);
    lua_pushstring(L, err.message);
    return 1;
}

/*
 * intake:route(i, handler number | "ignore" | "reject" | "unreadable", id): what a codec in Lua
 * read
 */
static int route(lua_State *L) {
    static const char *const routes[] = {"ignore", "reject", "unreadable", NULL};
    pb_record *record = pb_check_record(L, 2, pb_check_intake(L, 1));
    size_t length;
    const char *id = luaL_optlstring(L, 4, NULL, &length);
    pb_error err;
    if (lua_type(L, 3) == LUA_TNUMBER)
        record->route = (int)lua_tointeger(L, 3) - 1;
    else
        record->route = PB_ROUTE_IGNORE + luaL_checkoption(L, 3, NULL, routes);
    if (pb_record_set_id(record, id ? (pb_bytes){id, length} : PB_ABSENT, &err) != 0)
        return pb_raise(L, &err);
    return 0;
}

static const luaL_Reg methods[] = {
    {"get", get},       {"count", count},   {"serial", serial}, {"next", next_claimed},
    {"state", state},   {"done", set_done}, {"finish", finish}, {"reopen", reopen},
    {"why", why},       {"route", route},   {NULL, NULL},
};
static const luaL_Reg metamethods[] = {{"__gc", collect}, {NULL, NULL}};

void pb_open_record(lua_State *L) {
    pb_register_class(L, INTAKE_CLASS, methods, metamethods);
}

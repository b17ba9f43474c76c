/* Class postbox.relay: core.relay(config, { lease, readback_timeout, sweep, create_topics }). */
#include "../core/relay.h"

#include <unistd.h>

#include "config.h"
#include "core.h"
#include "failure.h"
#include "job.h"

#define RELAY_CLASS "postbox.relay"

typedef struct handle {
    pb_use use;
    pb_relay *relay;
    pid_t process;
} handle;

static pb_relay *check(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, RELAY_CLASS);
    pb_check_process(L, (int)h->process, "relay");
    if (!h->relay) {
        pb_error err;
        pb_fail(&err, PB_CLOSED, "relay: it is closed");
        pb_raise(L, &err);
    }
    return h->relay;
}

static double number_field(lua_State *L, int index, const char *name, double otherwise) {
    lua_getfield(L, index, name);
    double value = luaL_optnumber(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

/* create_topics = { partitions =, replication = } */
static void read_create_topics(lua_State *L, int index, pb_relay_options *options) {
    lua_getfield(L, index, "create_topics");
    if (!lua_isnil(L, -1)) {
        luaL_checktype(L, -1, LUA_TTABLE);
        options->partitions = (int)number_field(L, lua_gettop(L), "partitions", 1);
        options->replication =
            (int)number_field(L, lua_gettop(L), "replication", options->replication);
    }
    lua_pop(L, 1);
}

static int new_relay(lua_State *L) {
    pb_error err;
    pb_config *config = pb_check_config(L, 1);
    pb_relay_options options = pb_relay_defaults();
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        options.lease = number_field(L, 2, "lease", options.lease);
        options.readback_timeout =
            number_field(L, 2, "readback_timeout", options.readback_timeout);
        options.sweep = number_field(L, 2, "sweep", options.sweep);
        read_create_topics(L, 2, &options);
    }
    handle *h = pb_new_object(L, sizeof *h, RELAY_CLASS);
    h->process = getpid();
    h->relay = pb_relay_new(config, &options, &err);
    return h->relay ? 1 : pb_push_failure(L, &err);
}

static int start(lua_State *L) {
    pb_error err;
    int failed = pb_relay_start(check(L), &err);
    return pb_push_outcome(L, failed, &err);
}

/* relay:stop(seconds) */
typedef struct stop_call {
    pb_call call;
    pb_relay *relay;
    double seconds;
} stop_call;

static int prepare_stop(lua_State *L, pb_call *call) {
    stop_call *c = (stop_call *)call;
    handle *h = luaL_checkudata(L, 1, RELAY_CLASS);
    c->relay = check(L);
    c->seconds = luaL_checknumber(L, 2);
    return pb_use_object(call, &h->use, "relay");
}

static int work_stop(pb_call *call) {
    stop_call *c = (stop_call *)call;
    return pb_relay_stop(c->relay, c->seconds, &call->err);
}

static int wake(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, RELAY_CLASS);
    if (h->relay && h->process == getpid())
        pb_relay_wake(h->relay);
    return 0;
}

static void set_number(lua_State *L, const char *name, int64_t value) {
    pb_push_i64(L, value);
    lua_setfield(L, -2, name);
}

static void set_seconds(lua_State *L, const char *name, double value) {
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static void set_boolean(lua_State *L, const char *name, int value) {
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

static int stats(lua_State *L) {
    pb_relay_stats s;
    pb_relay_read_stats(check(L), &s);
    lua_newtable(L);
    set_boolean(L, "running", s.running);
    set_boolean(L, "active", s.active);
    set_number(L, "epoch", s.epoch);
    set_number(L, "position", s.position);
    set_number(L, "pending", s.pending);
    set_number(L, "in_flight", s.in_flight);
    set_number(L, "published", s.published);
    set_number(L, "removed", s.removed);
    set_number(L, "parked", s.parked);
    set_number(L, "released", s.released);
    set_number(L, "repeats", s.repeats);
    set_number(L, "late", s.late);
    set_number(L, "gaps", s.gaps);
    set_number(L, "takeovers", s.takeovers);
    set_number(L, "paused_topics", s.paused_topics);
    set_number(L, "stalled_partitions", s.stalled_partitions);
    set_number(L, "alarms", s.alarms);
    set_seconds(L, "oldest", s.oldest);
    if (s.last_error[0]) {
        lua_pushstring(L, s.last_error);
        lua_setfield(L, -2, "last_error");
    }
    return 1;
}

static int collect(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, RELAY_CLASS);
    pb_end_use(&h->use);
    if (h->process == getpid())
        pb_relay_free(h->relay);
    h->relay = NULL;
    return 0;
}

static const luaL_Reg methods[] = {{"start", start}, {"wake", wake}, {"stats", stats},
                                   {"close", collect}, {NULL, NULL}};
static const luaL_Reg metamethods[] = {{"__gc", collect}, {NULL, NULL}};
static const pb_operation operations[] = {
    {"stop", 2, sizeof(stop_call), prepare_stop, work_stop, NULL}};
static const luaL_Reg functions[] = {{"relay", new_relay}, {NULL, NULL}};

void pb_open_relay(lua_State *L) {
    pb_register_class(L, RELAY_CLASS, methods, metamethods);
    pb_set_class_operations(L, RELAY_CLASS, operations, 1);
    pb_set_functions(L, functions);
}

/*
 * userdata "postbox.consumer", made by core.consumer(config, options): a member of a group, its
 * inbox and its dead letters. The loop that calls handlers is Lua's.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/clock.h"
#include "../core/dead_letter.h"
#include "../core/inbox.h"
#include "config.h"
#include "consumer.h"
#include "core.h"
#include "failure.h"

pb_lua_consumer *pb_check_consumer(lua_State *L, int index) {
    pb_lua_consumer *c = luaL_checkudata(L, index, PB_CONSUMER_CLASS);
    pb_error err;
    if (!c->native) {
        pb_fail(&err, PB_CLOSED, "the consumer is closed");
        pb_raise(L, &err);
    }
    pb_check_process(L, c->pid, "consumer");
    return c;
}

/* The strings of the list at `index`, which stay anchored in it; in memory that Lua collects. */
static const char **read_list(lua_State *L, int index, const char *field, size_t *count) {
    lua_getfield(L, index, field);
    luaL_checktype(L, -1, LUA_TTABLE);
    int list = lua_gettop(L);
    *count = lua_rawlen(L, list);
    const char **texts = lua_newuserdata(L, (*count + 1) * sizeof *texts);
    for (size_t i = 0; i < *count; i++) {
        lua_rawgeti(L, list, (int)i + 1);
        texts[i] = luaL_checkstring(L, -1);
        lua_pop(L, 1);
    }
    return texts;
}

static int default_route(lua_State *L, int index) {
    static const char *const names[] = {"ignore", "reject", NULL};
    lua_getfield(L, index, "default");
    if (lua_type(L, -1) == LUA_TNUMBER)
        return (int)lua_tointeger(L, -1) - 1;
    return PB_ROUTE_IGNORE + luaL_checkoption(L, -1, "ignore", names);
}

static void read_options(lua_State *L, int index, pb_consumer_options *options) {
    static const char *const codecs[] = {"postbox", "json", "bytes", "custom", NULL};
    lua_getfield(L, index, "group");
    options->group = luaL_checkstring(L, -1);
    options->topics = read_list(L, index, "topics", &options->topic_count);
    options->types = read_list(L, index, "types", &options->type_count);
    lua_getfield(L, index, "throughput");
    options->throughput = lua_toboolean(L, -1);
    lua_getfield(L, index, "codec");
    options->codec = (pb_codec)luaL_checkoption(L, -1, "postbox", codecs);
    options->default_route = default_route(L, index);
}

/* core.consumer(config, { group, topics, types, default, codec, throughput }) */
static int open_consumer(lua_State *L) {
    pb_config *config = pb_check_config(L, 1);
    pb_consumer_options options = {0};
    pb_error err;
    luaL_checktype(L, 2, LUA_TTABLE);
    read_options(L, 2, &options);
    pb_lua_consumer *c = pb_new_object(L, sizeof *c, PB_CONSUMER_CLASS);
    c->pid = (int)getpid();
    c->codec = options.codec;
    c->group = strdup(options.group);
    c->inbox = pb_inbox_new(config, options.group, &err);
    c->letters = c->inbox ? pb_dead_letters_new(config, &err) : NULL;
    c->native = c->letters ? pb_consumer_open(config, &options, &err) : NULL;
    return c->native ? 1 : pb_push_failure(L, &err);
}

/* consumer:intake() -> an empty intake */
static int new_intake(lua_State *L) {
    pb_lua_consumer *c = pb_check_consumer(L, 1);
    pb_error err;
    for (int i = 0; i < PB_CONSUMER_INTAKES; i++) {
        if (c->intakes[i])
            continue;
        c->intakes[i] = pb_push_intake(L);
        if (c->intakes[i]) {
            c->intakes[i]->references++;
            return 1;
        }
        pb_fail_memory(&err, "a batch of records");
        return pb_raise(L, &err);
    }
    return luaL_error(L, "a consumer has at most %d intakes", PB_CONSUMER_INTAKES);
}

static int settle(lua_State *L) {
    pb_lua_consumer *c = pb_check_consumer(L, 1);
    pb_held_intake *held = pb_check_intake(L, 2);
    pb_error err;
    int failed = pb_consumer_settle(c->native, &held->intake, &err);
    pb_intake_emptied(held);
    return pb_push_outcome(L, failed, &err);
}

/* consumer:commit([seconds]): waits so long for the answer; without, in the background */
static int commit(lua_State *L) {
    pb_lua_consumer *c = pb_check_consumer(L, 1);
    pb_error err;
    double seconds = luaL_optnumber(L, 2, 0);
    int failed = pb_consumer_commit(c->native, seconds > 0 ? pb_now() + seconds : 0, &err);
    return pb_push_outcome(L, failed, &err);
}

static int lost(lua_State *L) {
    lua_pushboolean(L, pb_consumer_lost(pb_check_consumer(L, 1)->native));
    return 1;
}

/* consumer:hold(intake, i, seconds) */
static int hold(lua_State *L) {
    pb_lua_consumer *c = pb_check_consumer(L, 1);
    pb_record *record = pb_check_record(L, 3, pb_check_intake(L, 2));
    pb_consumer_hold(c->native, record, luaL_checknumber(L, 4));
    return 0;
}

static int hold_all(lua_State *L) {
    pb_consumer_hold_all(pb_check_consumer(L, 1)->native, luaL_checknumber(L, 2));
    return 0;
}

/* consumer:starts(intake) -> list of the records that begin their partition, or nothing */
static int starts(lua_State *L) {
    pb_check_consumer(L, 1);
    pb_intake *intake = &pb_check_intake(L, 2)->intake;
    int n = 0;
    for (size_t i = 0; i < intake->count; i++) {
        if (!pb_record_is_start(intake, i))
            continue;
        if (n == 0)
            lua_newtable(L);
        lua_pushinteger(L, (lua_Integer)i + 1);
        lua_rawseti(L, -2, ++n);
    }
    return n > 0;
}

/* consumer:started(intake): the starts have been noted */
static int started(lua_State *L) {
    pb_check_consumer(L, 1);
    pb_intake_started(&pb_check_intake(L, 2)->intake);
    return 0;
}

static void add_partition(void *arg, const char *topic, int32_t partition) {
    lua_State *L = arg;
    lua_createtable(L, 0, 2);
    lua_pushstring(L, topic);
    lua_setfield(L, -2, "topic");
    lua_pushinteger(L, partition);
    lua_setfield(L, -2, "partition");
    lua_rawseti(L, -2, (int)lua_rawlen(L, -2) + 1);
}

/* consumer:partitions() -> list of { topic, partition } that are assigned */
static int partitions(lua_State *L) {
    pb_lua_consumer *c = pb_check_consumer(L, 1);
    lua_newtable(L);
    pb_consumer_partitions(c->native, add_partition, L);
    return 1;
}

static int joined(lua_State *L) {
    lua_pushboolean(L, pb_consumer_joined(pb_check_consumer(L, 1)->native));
    return 1;
}

static int waiting(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)pb_consumer_waiting(pb_check_consumer(L, 1)->native));
    return 1;
}

void pb_consumer_drop_intakes(pb_lua_consumer *c) {
    for (int i = 0; i < PB_CONSUMER_INTAKES; i++) {
        pb_held_intake *held = c->intakes[i];
        c->intakes[i] = NULL;
        if (held) {
            pb_intake_free(&held->intake);
            pb_intake_emptied(held);
        }
        pb_release_intake(held);
    }
}

void pb_consumer_drop(pb_lua_consumer *c, double seconds) {
    bool ours = c->pid == (int)getpid();
    if (ours)
        pb_consumer_drop_intakes(c);
    pb_consumer_close(c->native, pb_now() + seconds);
    c->native = NULL;
    if (ours)
        pb_dead_letters_free(c->letters);
    c->letters = NULL;
    pb_inbox_free(c->inbox);
    c->inbox = NULL;
    free(c->group);
    c->group = NULL;
}

static int collect(lua_State *L) {
    pb_lua_consumer *c = luaL_checkudata(L, 1, PB_CONSUMER_CLASS);
    pb_end_use(&c->use);
    pb_consumer_drop(c, PB_CONSUMER_CLOSE);
    return 0;
}

static int text(lua_State *L) {
    pb_lua_consumer *c = luaL_checkudata(L, 1, PB_CONSUMER_CLASS);
    lua_pushfstring(L, "postbox.consumer (%s)", c->native ? "open" : "closed");
    return 1;
}

static const luaL_Reg methods[] = {
    {"intake", new_intake}, {"settle", settle},     {"commit", commit},
    {"lost", lost},         {"hold", hold},         {"hold_all", hold_all},
    {"starts", starts},     {"started", started},   {"partitions", partitions},
    {"joined", joined},     {"waiting", waiting},   {NULL, NULL},
};
static const luaL_Reg metamethods[] = {{"__gc", collect}, {"__tostring", text}, {NULL, NULL}};

void pb_open_consumer(lua_State *L) {
    pb_register_class(L, PB_CONSUMER_CLASS, methods, metamethods);
    pb_set_consumer_calls(L);
    pb_open_record(L);
    lua_pushcfunction(L, open_consumer);
    lua_setfield(L, -2, "consumer");
}

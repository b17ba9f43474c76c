/*
 * userdata "postbox.consumer", made by core.consumer(config, options): a member of a group, its
 * inbox and its dead letters. The loop that calls handlers is Lua's.
 */
#include "../core/consumer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/clock.h"
#include "../core/dead_letter.h"
#include "../core/inbox.h"
#include "config.h"
#include "connection.h"
#include "core.h"
#include "failure.h"
#include "record.h"

#define CONSUMER_CLASS "postbox.consumer"
#define INTAKES 4           /* at most, of one consumer */
#define GC_CLOSE_SECONDS 2.0 /* for one that nobody closed */

typedef struct consumer {
    pb_consumer *native; /* NULL once closed */
    pb_inbox *inbox;
    pb_dead_letters *letters;
    pb_codec codec;
    char *group;
    int pid;
    pb_held_intake *intakes[INTAKES];
} consumer;

static consumer *check(lua_State *L, int index) {
    consumer *c = luaL_checkudata(L, index, CONSUMER_CLASS);
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
    consumer *c = pb_new_object(L, sizeof *c, CONSUMER_CLASS);
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
    consumer *c = check(L, 1);
    pb_error err;
    for (int i = 0; i < INTAKES; i++) {
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
    return luaL_error(L, "a consumer has at most %d intakes", INTAKES);
}

/* consumer:poll(intake, seconds, most) -> count of records | "revoked", or nil, message, err */
static int poll_records(lua_State *L) {
    consumer *c = check(L, 1);
    pb_held_intake *held = pb_check_intake(L, 2);
    pb_error err;
    luaL_argcheck(L, held->intake.count == 0, 2, "an empty intake");
    pb_polled polled = pb_consumer_poll(c->native, luaL_checknumber(L, 3),
                                        (size_t)luaL_checkinteger(L, 4), &held->intake, &err);
    if (polled == PB_POLLED_FAILED)
        return pb_push_failure(L, &err);
    if (polled == PB_POLLED_REVOKED)
        lua_pushliteral(L, "revoked");
    else
        lua_pushinteger(L, (lua_Integer)held->intake.count);
    return 1;
}

static int settle(lua_State *L) {
    consumer *c = check(L, 1);
    pb_held_intake *held = pb_check_intake(L, 2);
    pb_error err;
    int failed = pb_consumer_settle(c->native, &held->intake, &err);
    pb_intake_emptied(held);
    return pb_push_outcome(L, failed, &err);
}

/* consumer:commit([seconds]): waits so long for the answer; without, in the background */
static int commit(lua_State *L) {
    consumer *c = check(L, 1);
    pb_error err;
    double seconds = luaL_optnumber(L, 2, 0);
    int failed = pb_consumer_commit(c->native, seconds > 0 ? pb_now() + seconds : 0, &err);
    return pb_push_outcome(L, failed, &err);
}

static int lost(lua_State *L) {
    lua_pushboolean(L, pb_consumer_lost(check(L, 1)->native));
    return 1;
}

static int give_up(lua_State *L) {
    pb_consumer_give_up(check(L, 1)->native, pb_now() + luaL_checknumber(L, 2));
    return 0;
}

/* consumer:hold(intake, i, seconds) */
static int hold(lua_State *L) {
    consumer *c = check(L, 1);
    pb_record *record = pb_check_record(L, 3, pb_check_intake(L, 2));
    pb_consumer_hold(c->native, record, luaL_checknumber(L, 4));
    return 0;
}

static int hold_all(lua_State *L) {
    pb_consumer_hold_all(check(L, 1)->native, luaL_checknumber(L, 2));
    return 0;
}

/* consumer:starts(intake) -> list of the records that begin their partition, or nothing */
static int starts(lua_State *L) {
    check(L, 1);
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
    check(L, 1);
    pb_intake_started(&pb_check_intake(L, 2)->intake);
    return 0;
}

/* consumer:claim(connection, intake [, i]): all records, or that one */
static int claim(lua_State *L) {
    consumer *c = check(L, 1);
    pb_session *session = pb_check_session(L, 2);
    pb_held_intake *held = pb_check_intake(L, 3);
    size_t first = 0, count = held->intake.count;
    pb_error err;
    if (!lua_isnoneornil(L, 4)) {
        first = (size_t)(pb_check_record(L, 4, held) - held->intake.records);
        count = 1;
    }
    int failed = pb_inbox_claim(c->inbox, session, &held->intake, first, count, &err);
    return pb_push_outcome(L, failed, &err);
}

static int mark_dead(lua_State *L) {
    consumer *c = check(L, 1);
    pb_record *record = pb_check_record(L, 4, pb_check_intake(L, 3));
    pb_error err;
    int failed = pb_inbox_mark_dead(c->inbox, pb_check_session(L, 2), record, &err);
    return pb_push_outcome(L, failed, &err);
}

static int make_days(lua_State *L) {
    consumer *c = check(L, 1);
    pb_held_intake *held = pb_check_intake(L, 3);
    pb_error err;
    int failed = pb_inbox_make_days(c->inbox, pb_check_session(L, 2), &held->intake, &err);
    return pb_push_outcome(L, failed, &err);
}

static pb_bytes optional_bytes(lua_State *L, int index, const char *field) {
    pb_bytes bytes = PB_ABSENT;
    lua_getfield(L, index, field);
    if (lua_type(L, -1) == LUA_TSTRING)
        bytes.data = lua_tolstring(L, -1, &bytes.length);
    return bytes; /* stays anchored in the table */
}

/* consumer:dead_letter(intake, i, { code, class, cause, message, trace, attempts }) */
static int dead_letter(lua_State *L) {
    consumer *c = check(L, 1);
    pb_record *record = pb_check_record(L, 3, pb_check_intake(L, 2));
    pb_error err;
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_getfield(L, 4, "attempts");
    pb_reason reason = {
        .code = optional_bytes(L, 4, "code").data,
        .class_name = optional_bytes(L, 4, "class").data,
        .cause_class = optional_bytes(L, 4, "cause").data,
        .message = optional_bytes(L, 4, "message"),
        .trace = optional_bytes(L, 4, "trace"),
        .group = c->group,
        .attempts = (int)luaL_optinteger(L, 5, 0),
    };
    return pb_push_outcome(L, pb_dead_letter_send(c->letters, record, &reason, &err), &err);
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
    consumer *c = check(L, 1);
    lua_newtable(L);
    pb_consumer_partitions(c->native, add_partition, L);
    return 1;
}

static int joined(lua_State *L) {
    lua_pushboolean(L, pb_consumer_joined(check(L, 1)->native));
    return 1;
}

static int waiting(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)pb_consumer_waiting(check(L, 1)->native));
    return 1;
}

/* consumer:topic(name, seconds) -> its partitions, or nil, message, err */
static int topic(lua_State *L) {
    consumer *c = check(L, 1);
    pb_error err;
    int count = pb_consumer_topic(c->native, luaL_checkstring(L, 2), luaL_checknumber(L, 3), &err);
    if (count < 0)
        return pb_push_failure(L, &err);
    lua_pushinteger(L, count);
    return 1;
}

/* consumer:create_topic(name, partitions, replication, seconds) */
static int create_topic(lua_State *L) {
    consumer *c = check(L, 1);
    pb_error err;
    int partitions = (int)luaL_checkinteger(L, 3), replication = (int)luaL_checkinteger(L, 4);
    int failed = pb_consumer_create_topic(c->native, luaL_checkstring(L, 2), partitions,
                                          replication, luaL_checknumber(L, 5), &err);
    return pb_push_outcome(L, failed, &err);
}

static void drop(consumer *c, double seconds) {
    bool ours = c->pid == (int)getpid();
    for (int i = 0; i < INTAKES; i++) {
        pb_held_intake *held = c->intakes[i];
        c->intakes[i] = NULL;
        if (held && ours) { /* records that live on would stop the client's end for ever */
            pb_intake_free(&held->intake);
            pb_intake_emptied(held);
        }
        if (ours)
            pb_release_intake(held);
    }
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

/* consumer:close([seconds]) */
static int close_consumer(lua_State *L) {
    consumer *c = luaL_checkudata(L, 1, CONSUMER_CLASS);
    drop(c, luaL_optnumber(L, 2, GC_CLOSE_SECONDS));
    return 0;
}

static int text(lua_State *L) {
    consumer *c = luaL_checkudata(L, 1, CONSUMER_CLASS);
    lua_pushfstring(L, "postbox.consumer (%s)", c->native ? "open" : "closed");
    return 1;
}

static const luaL_Reg methods[] = {
    {"intake", new_intake},         {"poll", poll_records},   {"settle", settle},
    {"commit", commit},             {"lost", lost},           {"give_up", give_up},
    {"hold", hold},                 {"hold_all", hold_all},   {"starts", starts},
    {"started", started},           {"claim", claim},         {"mark_dead", mark_dead},
    {"make_days", make_days},       {"dead_letter", dead_letter}, {"partitions", partitions},
    {"joined", joined},             {"waiting", waiting},     {"topic", topic},
    {"create_topic", create_topic}, {"close", close_consumer}, {NULL, NULL},
};
static const luaL_Reg metamethods[] = {
    {"__gc", close_consumer}, {"__tostring", text}, {NULL, NULL}};

void pb_open_consumer(lua_State *L) {
    pb_register_class(L, CONSUMER_CLASS, methods, metamethods);
    pb_open_record(L);
    lua_pushcfunction(L, open_consumer);
    lua_setfield(L, -2, "consumer");
}

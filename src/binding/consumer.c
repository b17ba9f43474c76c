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
#include "job.h"
#include "record.h"

#define CONSUMER_CLASS "postbox.consumer"
#define INTAKES 4           /* at most, of one consumer */
#define GC_CLOSE_SECONDS 2.0 /* for one that nobody closed */

typedef struct consumer {
    pb_use use;
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

/* What the calls that wait are given; each uses some of it. */
typedef struct consumer_call {
    pb_call call;
    consumer *consumer;
    pb_session *session;
    pb_held_intake *held;
    pb_record *record;
    size_t first, count;
    double seconds;
    const char *topic;
    int partitions, replication;
    pb_reason reason;
    pb_polled polled;
} consumer_call;

static int use_consumer(lua_State *L, pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->consumer = check(L, 1);
    return pb_use_object(call, &c->consumer->use, "consumer");
}

/* consumer:poll(intake, seconds, most) -> count of records | "revoked" */
static int prepare_poll(lua_State *L, pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->held = pb_check_intake(L, 2);
    luaL_argcheck(L, c->held->intake.count == 0, 2, "an empty intake");
    c->seconds = luaL_checknumber(L, 3);
    c->count = (size_t)luaL_checkinteger(L, 4);
    return use_consumer(L, call);
}

static int work_poll(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->polled = pb_consumer_poll(c->consumer->native, c->seconds, c->count, &c->held->intake,
                                 &call->err);
    return c->polled == PB_POLLED_FAILED ? -1 : 0;
}

static int finish_poll(lua_State *L, pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    if (c->polled == PB_POLLED_REVOKED)
        lua_pushliteral(L, "revoked");
    else
        lua_pushinteger(L, (lua_Integer)c->held->intake.count);
    return 1;
}

/* consumer:give_up(seconds) */
static int prepare_give_up(lua_State *L, pb_call *call) {
    ((consumer_call *)call)->seconds = luaL_checknumber(L, 2);
    return use_consumer(L, call);
}

static int work_give_up(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    pb_consumer_give_up(c->consumer->native, pb_now() + c->seconds);
    return 0;
}

/* (connection, intake [, i]) */
static int prepare_inbox(lua_State *L, pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->held = pb_check_intake(L, 3);
    c->record = lua_isnoneornil(L, 4) ? NULL : pb_check_record(L, 4, c->held);
    c->first = c->record ? (size_t)(c->record - c->held->intake.records) : 0;
    c->count = c->record ? 1 : c->held->intake.count;
    return pb_use_session(L, 2, call, &c->session) || use_consumer(L, call) ? -1 : 0;
}

/* consumer:claim(connection, intake [, i]): all records, or that one */
static int work_claim(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    return pb_inbox_claim(c->consumer->inbox, c->session, &c->held->intake, c->first, c->count,
                          &call->err);
}

/* consumer:mark_dead(connection, intake, i) */
static int prepare_mark_dead(lua_State *L, pb_call *call) {
    luaL_checkinteger(L, 4);
    return prepare_inbox(L, call);
}

static int work_mark_dead(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    return pb_inbox_mark_dead(c->consumer->inbox, c->session, c->record, &call->err);
}

/* consumer:make_days(connection, intake) */
static int work_make_days(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    return pb_inbox_make_days(c->consumer->inbox, c->session, &c->held->intake, &call->err);
}

static pb_bytes optional_bytes(lua_State *L, int index, const char *field) {
    pb_bytes bytes = PB_ABSENT;
    lua_getfield(L, index, field);
    if (lua_type(L, -1) == LUA_TSTRING)
        bytes.data = lua_tolstring(L, -1, &bytes.length);
    return bytes; /* stays on the stack */
}

/* consumer:dead_letter(intake, i, { code, class, cause, message, trace, attempts }) */
static int prepare_dead_letter(lua_State *L, pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->record = pb_check_record(L, 3, pb_check_intake(L, 2));
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_getfield(L, 4, "attempts");
    int attempts = (int)luaL_optinteger(L, -1, 0);
    c->reason = (pb_reason){
        .code = optional_bytes(L, 4, "code").data,
        .class_name = optional_bytes(L, 4, "class").data,
        .cause_class = optional_bytes(L, 4, "cause").data,
        .message = optional_bytes(L, 4, "message"),
        .trace = optional_bytes(L, 4, "trace"),
        .attempts = attempts,
    };
    if (use_consumer(L, call) != 0)
        return -1;
    c->reason.group = c->consumer->group;
    return 0;
}

static int work_dead_letter(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    return pb_dead_letter_send(c->consumer->letters, c->record, &c->reason, &call->err);
}

/* consumer:topic(name, seconds) -> its partitions */
static int prepare_topic(lua_State *L, pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->topic = luaL_checkstring(L, 2);
    c->seconds = luaL_checknumber(L, 3);
    return use_consumer(L, call);
}

static int work_topic(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->partitions = pb_consumer_topic(c->consumer->native, c->topic, c->seconds, &call->err);
    return c->partitions < 0 ? -1 : 0;
}

static int finish_topic(lua_State *L, pb_call *call) {
    lua_pushinteger(L, ((consumer_call *)call)->partitions);
    return 1;
}

/* consumer:create_topic(name, partitions, replication, seconds) */
static int prepare_create_topic(lua_State *L, pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->topic = luaL_checkstring(L, 2);
    c->partitions = (int)luaL_checkinteger(L, 3);
    c->replication = (int)luaL_checkinteger(L, 4);
    c->seconds = luaL_checknumber(L, 5);
    return use_consumer(L, call);
}

static int work_create_topic(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    return pb_consumer_create_topic(c->consumer->native, c->topic, c->partitions, c->replication,
                                    c->seconds, &call->err);
}

/* Records that live on would stop the client's end for ever. */
static void drop_intakes(consumer *c) {
    for (int i = 0; i < INTAKES; i++) {
        pb_held_intake *held = c->intakes[i];
        c->intakes[i] = NULL;
        if (held) {
            pb_intake_free(&held->intake);
            pb_intake_emptied(held);
        }
        pb_release_intake(held);
    }
}

static void drop(consumer *c, double seconds) {
    bool ours = c->pid == (int)getpid();
    if (ours)
        drop_intakes(c);
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
static int prepare_close(lua_State *L, pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->consumer = luaL_checkudata(L, 1, CONSUMER_CLASS);
    c->seconds = luaL_optnumber(L, 2, GC_CLOSE_SECONDS);
    if (pb_use_object(call, &c->consumer->use, "consumer") != 0)
        return -1;
    if (c->consumer->pid == (int)getpid())
        drop_intakes(c->consumer); /* here, because Lua has a share in them */
    return 0;
}

static int work_close(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    drop(c->consumer, c->seconds);
    return 0;
}

static int collect(lua_State *L) {
    consumer *c = luaL_checkudata(L, 1, CONSUMER_CLASS);
    pb_end_use(&c->use);
    drop(c, GC_CLOSE_SECONDS);
    return 0;
}

static int text(lua_State *L) {
    consumer *c = luaL_checkudata(L, 1, CONSUMER_CLASS);
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

#define WAITS(name, arguments, prepare, work, finish)                                             \
    {name, arguments, sizeof(consumer_call), prepare, work, finish}
static const pb_operation operations[] = {
    WAITS("poll", 4, prepare_poll, work_poll, finish_poll),
    WAITS("give_up", 2, prepare_give_up, work_give_up, NULL),
    WAITS("claim", 4, prepare_inbox, work_claim, NULL),
    WAITS("mark_dead", 4, prepare_mark_dead, work_mark_dead, NULL),
    WAITS("make_days", 4, prepare_inbox, work_make_days, NULL),
    WAITS("dead_letter", 4, prepare_dead_letter, work_dead_letter, NULL),
    WAITS("topic", 3, prepare_topic, work_topic, finish_topic),
    WAITS("create_topic", 5, prepare_create_topic, work_create_topic, NULL),
    WAITS("close", 2, prepare_close, work_close, NULL),
};

void pb_open_consumer(lua_State *L) {
    pb_register_class(L, CONSUMER_CLASS, methods, metamethods);
    pb_set_class_operations(L, CONSUMER_CLASS, operations, sizeof operations / sizeof *operations);
    pb_open_record(L);
    lua_pushcfunction(L, open_consumer);
    lua_setfield(L, -2, "consumer");
}

/* The calls of a consumer that wait. */
#include <unistd.h>

#include "../core/clock.h"
#include "connection.h"
#include "consumer.h"

/* What the calls that wait are given; each uses some of it. */
typedef struct consumer_call {
    pb_call call;
    pb_lua_consumer *consumer;
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
    c->consumer = pb_check_consumer(L, 1);
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

/* consumer:close([seconds]) */
static int prepare_close(lua_State *L, pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    c->consumer = luaL_checkudata(L, 1, PB_CONSUMER_CLASS);
    c->seconds = luaL_optnumber(L, 2, PB_CONSUMER_CLOSE);
    if (pb_use_object(call, &c->consumer->use, "consumer") != 0)
        return -1;
    if (c->consumer->pid == (int)getpid())
        pb_consumer_drop_intakes(c->consumer); /* here, because Lua has a share in them */
    return 0;
}

static int work_close(pb_call *call) {
    consumer_call *c = (consumer_call *)call;
    pb_consumer_drop(c->consumer, c->seconds);
    return 0;
}

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

void pb_set_consumer_calls(lua_State *L) {
    pb_set_class_operations(L, PB_CONSUMER_CLASS, operations, sizeof operations / sizeof *operations);
}

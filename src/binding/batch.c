#include "batch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core.h"
#include "failure.h"
#include "json.h"

#define BATCH_CLASS "postbox.batch"
#define NUMBER_TEXT 32

/* The arguments of batch:add. */
enum { SELF = 1, TYPE, KEY, PAYLOAD, FIELDS };

/* What is built for one event and must outlive nothing but pb_batch_add. */
typedef struct scratch {
    pb_buffer payload, headers;
    char number[NUMBER_TEXT];
} scratch;

typedef struct handle {
    pb_batch batch;
    scratch scratch; /* kept for its memory, and freed with the batch if Lua raises */
    pb_use use;
} handle;

pb_batch *pb_check_batch(lua_State *L, int index) {
    handle *h = luaL_checkudata(L, index, BATCH_CLASS);
    return &h->batch;
}

int pb_opt_batch(lua_State *L, int index, pb_call *call, pb_batch **batch) {
    *batch = NULL;
    if (lua_isnoneornil(L, index))
        return 0;
    handle *h = luaL_checkudata(L, index, BATCH_CLASS);
    *batch = &h->batch;
    return pb_use_object(call, &h->use, "batch of events");
}

/* A string of the table at FIELDS, absent for nil; the table keeps it alive. */
static int text_field(lua_State *L, const char *name, pb_bytes *text, pb_error *err) {
    int failed = 0;
    lua_getfield(L, FIELDS, name);
    if (lua_isnil(L, -1))
        *text = PB_ABSENT;
    else if (lua_type(L, -1) == LUA_TSTRING)
        text->data = lua_tolstring(L, -1, &text->length);
    else
        failed = pb_fail(err, PB_CONFIG, "publish: %s must be a string, not a %s", name,
                         luaL_typename(L, -1));
    lua_pop(L, 1);
    return failed;
}

static bool flag_field(lua_State *L, const char *name) {
    lua_getfield(L, FIELDS, name);
    bool flag = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return flag;
}

static int read_key(lua_State *L, scratch *s, pb_bytes *key, pb_error *err) {
    if (lua_isnoneornil(L, KEY)) {
        *key = PB_ABSENT;
        return 0;
    }
    if (pb_is_integer(L, KEY)) {
#if LUA_VERSION_NUM >= 503
        if (lua_isinteger(L, KEY))
            snprintf(s->number, sizeof s->number, "%lld", (long long)lua_tointeger(L, KEY));
        else
#endif
            snprintf(s->number, sizeof s->number, "%.0f", lua_tonumber(L, KEY) + 0.0);
        *key = pb_bytes_of(s->number);
        return 0;
    }
    if (lua_type(L, KEY) != LUA_TSTRING)
        return pb_fail(err, PB_CONFIG,
                       "publish: the partition key must be a string, an integer or nil, not a %s",
                       lua_type(L, KEY) == LUA_TNUMBER ? "number that is no integer"
                                                       : luaL_typename(L, KEY));
    key->data = lua_tolstring(L, KEY, &key->length);
    if (key->length > PB_KEY_LIMIT)
        return pb_fail(err, PB_TOO_LARGE, "publish: the partition key has %zu bytes; the limit is %d",
                       key->length, PB_KEY_LIMIT);
    return 0;
}

static int read_id(lua_State *L, pb_event *event, pb_error *err) {
    pb_bytes text;
    if (text_field(L, "id", &text, err) != 0)
        return -1;
    event->id_given = text.data != NULL;
    if (!event->id_given)
        pb_id_new(event->id);
    else if (!pb_id_parse(text, event->id))
        return pb_fail(err, PB_CONFIG, "publish: id is not a UUID");
    return 0;
}

static int read_partition(lua_State *L, pb_event *event, pb_error *err) {
    int failed = 0;
    event->partition = PB_NO_PARTITION;
    lua_getfield(L, FIELDS, "partition");
    if (pb_is_integer(L, -1) && lua_tonumber(L, -1) >= 0 && lua_tonumber(L, -1) <= INT32_MAX)
        event->partition = (int32_t)lua_tonumber(L, -1);
    else if (!lua_isnil(L, -1))
        failed = pb_fail(err, PB_CONFIG, "publish: partition must be an integer from 0 on");
    lua_pop(L, 1);
    return failed;
}

/* One entry of fields.headers, a list of {name, value} that the Lua side has sorted. */
static int read_header(lua_State *L, scratch *s, pb_error *err) {
    pb_bytes name = PB_ABSENT, value = PB_ABSENT;
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
        name.data = lua_tolstring(L, -2, &name.length);
        value.data = lua_tolstring(L, -1, &value.length);
    }
    lua_pop(L, 2); /* the pair keeps both */
    if (!name.data)
        return pb_fail(err, PB_CONFIG, "publish: headers must have strings as names and values");
    if (pb_check_header(name, value, err) != 0)
        return -1;
    pb_headers_add(&s->headers, name, value);
    return 0;
}

static int read_headers(lua_State *L, scratch *s, pb_error *err) {
    int failed = 0;
    pb_buffer_clear(&s->headers);
    lua_getfield(L, FIELDS, "headers");
    int count = lua_istable(L, -1) ? (int)lua_rawlen(L, -1) : 0;
    for (int i = 1; !failed && i <= count; i++) {
        lua_rawgeti(L, -1, i);
        failed = read_header(L, s, err);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return failed || pb_check_headers(pb_buffer_bytes(&s->headers), err) ? -1 : 0;
}

/* The event that made the handler run, in whose transaction this one is published. */
static int read_cause(lua_State *L, scratch *s, pb_error *err) {
    pb_bytes cause;
    if (text_field(L, "causation_id", &cause, err) != 0)
        return -1;
    if (cause.data)
        pb_headers_add(&s->headers, pb_bytes_of("postbox-causation-id"), cause);
    return 0;
}

static int read_payload(lua_State *L, scratch *s, pb_event *event, pb_error *err) {
    pb_payload_kind kind;
    pb_buffer_clear(&s->payload);
    if (pb_read_payload(L, PAYLOAD, &s->payload, &kind, err) != 0)
        return -1;
    bool in_headers = kind != PB_PAYLOAD_JSON || flag_field(L, "envelope_headers");
    event->envelope = in_headers ? PB_ENVELOPE_HEADERS : PB_ENVELOPE_JSON;
    event->payload = kind == PB_PAYLOAD_TOMBSTONE ? PB_ABSENT : pb_buffer_bytes(&s->payload);
    return 0;
}

static int check_size(lua_State *L, const pb_event *event, pb_error *err) {
    lua_getfield(L, FIELDS, "max_record_bytes");
    double limit = lua_tonumber(L, -1);
    lua_pop(L, 1);
    size_t bytes = pb_event_record_bytes(event);
    if ((double)bytes <= limit)
        return 0;
    return pb_fail(err, PB_TOO_LARGE,
                   "publish: the record of this %.*s event takes %zu bytes; max_record_bytes is %.0f",
                   (int)event->type.length, event->type.data, bytes, limit);
}

static int read_event(lua_State *L, scratch *s, pb_event *event, pb_error *err) {
    if (lua_type(L, TYPE) != LUA_TSTRING)
        return pb_fail(err, PB_CONFIG, "publish: the event type must be a string, not a %s",
                       luaL_typename(L, TYPE));
    event->type.data = lua_tolstring(L, TYPE, &event->type.length);
    event->ordered = !flag_field(L, "unordered");
    if (pb_check_type(event->type, err) != 0 || text_field(L, "topic", &event->topic, err) != 0 ||
        pb_check_topic(event->topic, err) != 0 || read_key(L, s, &event->key, err) != 0 ||
        read_id(L, event, err) != 0 || read_partition(L, event, err) != 0 ||
        read_headers(L, s, err) != 0 || read_cause(L, s, err) != 0 ||
        read_payload(L, s, event, err) != 0)
        return -1;
    if (s->payload.failed || s->headers.failed)
        return pb_fail_memory(err, "an event");
    event->headers = pb_buffer_bytes(&s->headers);
    return check_size(L, event, err);
}

/*
 * batch:add(type, key, payload, fields) -> id, or nil, message, err.
 * fields: topic, id, partition, headers (list of pairs), unordered, envelope_headers,
 * causation_id, max_record_bytes.
 */
static int add(lua_State *L) {
    handle *h = luaL_checkudata(L, SELF, BATCH_CLASS);
    pb_error err;
    pb_event event = {0};
    char id[PB_ID_TEXT + 1];
    luaL_checktype(L, FIELDS, LUA_TTABLE);
    lua_settop(L, FIELDS);
    if (h->use.busy) {
        pb_fail(&err, PB_BUSY, "publish: the events of this transaction are being stored");
        return pb_push_failure(L, &err);
    }
    if (read_event(L, &h->scratch, &event, &err) != 0 ||
        pb_batch_add(&h->batch, &event, &err) != 0)
        return pb_push_failure(L, &err);
    pb_id_text(event.id, id);
    lua_pushstring(L, id);
    return 1;
}

static int count(lua_State *L) {
    lua_pushinteger(L, pb_check_batch(L, 1)->count);
    return 1;
}

static int cut(lua_State *L) {
    pb_batch_cut(pb_check_batch(L, 1), (int)luaL_checkinteger(L, 2));
    return 0;
}

static int collect(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, BATCH_CLASS);
    pb_end_use(&h->use);
    pb_batch_free(&h->batch);
    pb_buffer_free(&h->scratch.payload);
    pb_buffer_free(&h->scratch.headers);
    return 0;
}

static int new_batch(lua_State *L) {
    pb_new_object(L, sizeof(handle), BATCH_CLASS);
    return 1;
}

static const luaL_Reg methods[] = {{"add", add}, {"count", count}, {"cut", cut}, {NULL, NULL}};
static const luaL_Reg metamethods[] = {{"__gc", collect}, {NULL, NULL}};

void pb_open_batch(lua_State *L) {
    pb_register_class(L, BATCH_CLASS, methods, metamethods);
    lua_pushcfunction(L, new_batch);
    lua_setfield(L, -2, "batch");
}

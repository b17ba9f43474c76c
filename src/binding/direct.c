/* Class postbox.direct: core.direct(config, readback), the background publisher of a process. */
#include "../core/direct.h"

#include <unistd.h>

#include "batch.h"
#include "config.h"
#include "core.h"
#include "failure.h"
#include "job.h"

#define DIRECT_CLASS "postbox.direct"

typedef struct handle {
    pb_use use;
    pb_direct *direct;
    pid_t process;
} handle;

static int new_direct(lua_State *L) {
    pb_error err;
    pb_config *config = pb_check_config(L, 1);
    handle *h = pb_new_object(L, sizeof *h, DIRECT_CLASS);
    h->process = getpid();
    double largest = luaL_checknumber(L, 3);
    h->direct = pb_direct_new(config, lua_toboolean(L, 2), (size_t)largest, &err);
    return h->direct ? 1 : pb_push_failure(L, &err);
}

/* direct:publish(batch), after its commit. In a forked child it does nothing: the relay sends. */
static int publish(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, DIRECT_CLASS);
    pb_batch *batch = pb_check_batch(L, 2);
    if (h->direct && h->process == getpid())
        pb_direct_publish(h->direct, batch);
    return 0;
}

/* direct:stop(seconds) */
typedef struct stop_call {
    pb_call call;
    pb_direct *direct;
    double seconds;
} stop_call;

static int prepare_stop(lua_State *L, pb_call *call) {
    stop_call *c = (stop_call *)call;
    handle *h = luaL_checkudata(L, 1, DIRECT_CLASS);
    pb_check_process(L, (int)h->process, "direct");
    c->direct = h->direct;
    c->seconds = luaL_checknumber(L, 2);
    return pb_use_object(call, &h->use, "direct delivery");
}

static int work_stop(pb_call *call) {
    stop_call *c = (stop_call *)call;
    return c->direct ? pb_direct_stop(c->direct, c->seconds, &call->err) : 0;
}

static void set_count(lua_State *L, const char *name, int64_t value) {
    pb_push_i64(L, value);
    lua_setfield(L, -2, name);
}

static int stats(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, DIRECT_CLASS);
    pb_direct_stats s = {0};
    pb_check_process(L, (int)h->process, "direct");
    if (h->direct)
        pb_direct_read_stats(h->direct, &s);
    lua_newtable(L);
    set_count(L, "published", s.published);
    set_count(L, "removed", s.removed);
    set_count(L, "left", s.left);
    return 1;
}

static int collect(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, DIRECT_CLASS);
    pb_end_use(&h->use);
    if (h->process == getpid())
        pb_direct_free(h->direct);
    h->direct = NULL;
    return 0;
}

static const luaL_Reg methods[] = {
    {"publish", publish}, {"stats", stats}, {"close", collect}, {NULL, NULL}};
static const pb_operation operations[] = {
    {"stop", 2, sizeof(stop_call), prepare_stop, work_stop, NULL}};
static const luaL_Reg metamethods[] = {{"__gc", collect}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"direct", new_direct}, {NULL, NULL}};

void pb_open_direct(lua_State *L) {
    pb_register_class(L, DIRECT_CLASS, methods, metamethods);
    pb_set_class_operations(L, DIRECT_CLASS, operations, 1);
    pb_set_functions(L, functions);
}

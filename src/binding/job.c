#include "job.h"

#include <string.h>

#include "core.h"
#include "failure.h"

#define JOB_CLASS "postbox.job"
#define PINS "postbox.pins"       /* registry: jobs that the engine has */
#define WAITING "postbox.waiting" /* registry: the list core.waiting */

typedef union storage {
    max_align_t align;
    char bytes[PB_CALL_BYTES];
} storage;

int pb_use_object(pb_call *call, pb_use *use, const char *what) {
    if (use->busy)
        return pb_fail(&call->err, PB_BUSY,
                       "the %s is in use by another thread: let one call end before the next", what);
    for (int i = 0; i < PB_CALL_OBJECTS; i++)
        if (!call->uses[i]) {
            call->uses[i] = use;
            return 0;
        }
    return pb_fail(&call->err, PB_CONFIG, "one call uses more than %d objects", PB_CALL_OBJECTS);
}

void pb_end_use(const pb_use *use) {
    if (use->busy)
        pb_engine_end();
}

/* The operation is the C function's first upvalue, as a userdata that holds its address. */
static const pb_operation *operation_of(lua_State *L) {
    const pb_operation **slot = lua_touserdata(L, lua_upvalueindex(1));
    return *slot;
}

static void begin(lua_State *L, pb_call *call, const pb_operation *operation, bool hosted) {
    memset(call, 0, sizeof *call);
    call->operation = operation;
    call->arguments = lua_gettop(L);
    call->hosted = hosted;
}

static void fill_arguments(lua_State *L, const pb_operation *operation) {
    if (operation->arguments != PB_ANY_ARGUMENTS)
        lua_settop(L, operation->arguments);
}

static int push_results(lua_State *L, pb_call *call) {
    if (call->failed)
        return pb_push_failure(L, &call->err);
    if (call->operation->finish)
        return call->operation->finish(L, call);
    lua_pushboolean(L, 1);
    return 1;
}

/* Plain Lua: on this thread, now. */
static int call_here(lua_State *L) {
    storage memory;
    pb_call *call = (pb_call *)&memory;
    const pb_operation *operation = operation_of(L);
    fill_arguments(L, operation);
    begin(L, call, operation, false);
    call->failed = operation->prepare(L, call) != 0 || operation->work(call) != 0;
    return push_results(L, call);
}

static void run(pb_job *job) {
    pb_call *call = (pb_call *)job;
    call->failed = call->operation->work(call) != 0;
}

static void set_busy(pb_call *call, bool busy) {
    for (int i = 0; i < PB_CALL_OBJECTS; i++)
        if (call->uses[i])
            call->uses[i]->busy = busy;
}

/* The job keeps what is on the stack, so that `finish` finds it there as `prepare` has left it. */
static void keep_stack(lua_State *L, int job) {
    int top = lua_gettop(L);
    lua_createtable(L, top, 0);
    for (int i = 1; i <= top; i++) {
        lua_pushvalue(L, i);
        lua_rawseti(L, -2, i);
    }
    lua_pushinteger(L, top);
    lua_setfield(L, -2, "top");
    pb_set_user_table(L, job);
}

static int pin(lua_State *L, int job) {
    lua_getfield(L, LUA_REGISTRYINDEX, PINS);
    lua_pushvalue(L, job);
    int place = luaL_ref(L, -2);
    lua_pop(L, 1);
    return place;
}

static void push_pinned(lua_State *L, int place) {
    lua_getfield(L, LUA_REGISTRYINDEX, PINS);
    lua_rawgeti(L, -1, place);
    luaL_unref(L, -2, place);
    lua_remove(L, -2);
}

/* A host: on a thread of the engine. A job, or nil, message, err. */
static int submit(lua_State *L) {
    const pb_operation *operation = operation_of(L);
    fill_arguments(L, operation);
    int job = lua_gettop(L) + 1;
    pb_call *call = lua_newuserdata(L, operation->size);
    begin(L, call, operation, true);
    call->arguments = job - 1;
    call->job.run = run;
    luaL_getmetatable(L, JOB_CLASS);
    lua_setmetatable(L, job);
    if (operation->prepare(L, call) != 0)
        return pb_push_failure(L, &call->err);
    keep_stack(L, job);
    call->pin = pin(L, job);
    set_busy(call, true);
    if (pb_engine_submit(&call->job, &call->err) != 0) {
        set_busy(call, false);
        push_pinned(L, call->pin);
        return pb_push_failure(L, &call->err);
    }
    lua_pushvalue(L, job);
    return 1;
}

/* core.take_job() -> a job that has ended, or nothing */
static int take_job(lua_State *L) {
    pb_call *call = (pb_call *)pb_engine_take();
    if (!call)
        return 0;
    set_busy(call, false);
    for (int i = 0; i < PB_CALL_OBJECTS; i++)
        if (call->uses[i] && call->uses[i]->released)
            call->uses[i]->released(call->uses[i]);
    call->taken = true;
    push_pinned(L, call->pin);
    return 1;
}

/* job:finish() -> the operation's results */
static int finish(lua_State *L) {
    pb_call *call = luaL_checkudata(L, 1, JOB_CLASS);
    luaL_argcheck(L, call->taken, 1, "a job that has ended");
    lua_settop(L, 1);
    pb_push_user_table(L, 1);
    lua_replace(L, 1); /* the table keeps the job */
    lua_getfield(L, 1, "top");
    int top = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    luaL_checkstack(L, top + LUA_MINSTACK, "too many arguments");
    for (int i = 2; i <= top; i++)
        lua_rawgeti(L, 1, i);
    if (top > 0) {
        lua_rawgeti(L, 1, 1);
        lua_replace(L, 1);
    }
    return push_results(L, call);
}

static int collect(lua_State *L) {
    pb_call *call = luaL_checkudata(L, 1, JOB_CLASS);
    bool running = call->job.state == PB_JOB_QUEUED || call->job.state == PB_JOB_RUNNING;
    if (running && !call->taken)
        pb_engine_end(); /* the Lua state ends: the thread must not write into freed memory */
    return 0;
}

static void push_closure(lua_State *L, const pb_operation *operation, lua_CFunction function) {
    const pb_operation **slot = lua_newuserdata(L, sizeof *slot);
    *slot = operation;
    lua_pushcclosure(L, function, 1);
}

/* { table, name, submit } at the end of core.waiting; the table is below the top. */
static void list_operation(lua_State *L, const pb_operation *operation, int table) {
    lua_getfield(L, LUA_REGISTRYINDEX, WAITING);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, table);
    lua_setfield(L, -2, "table");
    lua_pushstring(L, operation->name);
    lua_setfield(L, -2, "name");
    push_closure(L, operation, submit);
    lua_setfield(L, -2, "submit");
    lua_rawseti(L, -2, (int)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

void pb_set_operations(lua_State *L, const pb_operation *operations, size_t count) {
    int table = lua_gettop(L);
    for (size_t i = 0; i < count; i++) {
        if (operations[i].size > PB_CALL_BYTES)
            luaL_error(L, "postbox: the call %s is too large", operations[i].name);
        push_closure(L, &operations[i], call_here);
        lua_setfield(L, table, operations[i].name);
        list_operation(L, &operations[i], table);
    }
}

void pb_set_class_operations(lua_State *L, const char *class_name, const pb_operation *operations,
                             size_t count) {
    luaL_getmetatable(L, class_name);
    lua_getfield(L, -1, "__index");
    pb_set_operations(L, operations, count);
    lua_pop(L, 2);
}

static const luaL_Reg methods[] = {{"finish", finish}, {NULL, NULL}};
static const luaL_Reg metamethods[] = {{"__gc", collect}, {NULL, NULL}};

void pb_open_job(lua_State *L) {
    pb_register_class(L, JOB_CLASS, methods, metamethods);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, PINS);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, WAITING);
    lua_setfield(L, -2, "waiting"); /* all operations: { table =, name =, submit = } */
    lua_pushcfunction(L, take_job);
    lua_setfield(L, -2, "take_job");
}

/*
 * Calls that wait. Each is an operation of three parts: `prepare` reads the arguments, `work`
 * waits and knows no Lua, `finish` pushes the results. Plain Lua does all three in one call. An
 * event-loop host calls the operation's other form, which gives `work` to a thread of the engine
 * and returns a job; when that has ended, job:finish() returns the results.
 */
#ifndef PB_BINDING_JOB_H
#define PB_BINDING_JOB_H

#include "../core/engine.h"
#include "compat.h"

#define PB_CALL_BYTES 9000  /* largest call: it stands on the C stack in plain Lua */
#define PB_CALL_OBJECTS 2   /* that one call uses */
#define PB_ANY_ARGUMENTS (-1)

typedef struct pb_operation pb_operation;

/* An object that one call at a time may use; __gc of its owner calls pb_end_use first. */
typedef struct pb_use {
    bool busy;
    void (*released)(struct pb_use *use); /* called when the call has ended in a host; or NULL */
} pb_use;

/* The head of each operation's own struct. */
typedef struct pb_call {
    pb_job job;
    const pb_operation *operation;
    int arguments; /* 1 ... so many are on the stack; what `prepare` pushes stays behind them */
    int pin;       /* keeps the job from being collected while it runs */
    bool hosted;   /* `work` runs when prepare's caller has gone on: Lua's memory must be copied or kept */
    bool taken;    /* it has ended, and nothing uses its objects any more */
    bool failed;
    pb_error err;
    pb_use *uses[PB_CALL_OBJECTS];
} pb_call;

struct pb_operation {
    const char *name;
    int arguments; /* missing ones are filled up with nil; PB_ANY_ARGUMENTS: as they come */
    size_t size;   /* of its struct */
    int (*prepare)(lua_State *L, pb_call *call); /* -1 and call->err; may raise */
    int (*work)(pb_call *call);                  /* -1 and call->err */
    int (*finish)(lua_State *L, pb_call *call);  /* after success; NULL: true */
};

/* `what` names the object; -1 and busy where another call uses it. */
int pb_use_object(pb_call *call, pb_use *use, const char *what);
/* A Lua state that ends collects objects in any order: what still uses this one is ended first. */
void pb_end_use(const pb_use *use);

/* Into the table on top; in core.waiting it is listed with its other form. */
void pb_set_operations(lua_State *L, const pb_operation *operations, size_t count);
/* The same for a class's methods. */
void pb_set_class_operations(lua_State *L, const char *class_name, const pb_operation *operations,
                             size_t count);

#endif

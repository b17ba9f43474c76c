/* The core's errors as Lua sees them. */
#ifndef PB_FAILURE_H
#define PB_FAILURE_H

#include "../core/error.h"
#include "compat.h"

/* The error as a table: code, message, retriable, and sqlstate and xid where there is one. */
void pb_push_error(lua_State *L, const pb_error *err);
/* nil, message, error table: `return pb_push_failure(L, &err);` */
int pb_push_failure(lua_State *L, const pb_error *err);
/* true, or what pb_push_failure pushes where `failed`. */
int pb_push_outcome(lua_State *L, int failed, const pb_error *err);
/* Raises the error table. */
int pb_raise(lua_State *L, const pb_error *err);
/* Raises where the object was made in another process: threads and sockets do not survive fork. */
void pb_check_process(lua_State *L, int pid, const char *what);

#endif

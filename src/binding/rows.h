/* Results of PostgreSQL as Lua tables, Lua values as parameters. */
#ifndef PB_BINDING_ROWS_H
#define PB_BINDING_ROWS_H

#include "../core/pg.h"
#include "../core/result.h"
#include "compat.h"

#define PB_QUERY_PARAMS 100 /* parameters of one query */
#define PB_NUMBER_TEXT 32

typedef struct pb_query_params {
    pb_param params[PB_QUERY_PARAMS];
    char numbers[PB_QUERY_PARAMS][PB_NUMBER_TEXT];
    int count;
} pb_query_params;

/*
 * From the stack, `first` to `last`. Strings stay where they are; with `keep` those that only a
 * table holds, which may change, are copied and left on the stack. -1 and `err` (config).
 */
int pb_read_params(lua_State *L, int first, int last, bool keep, pb_query_params *query,
                   pb_error *err);

/* Pushes a list of rows with .affected_rows. May raise (memory): the result has an owner. */
void pb_push_rows(lua_State *L, const PGresult *result);

/* An owner of a result on the stack: *slot is cleared when it is collected. */
PGresult **pb_push_result_owner(lua_State *L);

void pb_open_rows(lua_State *L);

#endif

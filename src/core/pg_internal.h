/* Shared by the files of pg; nobody else includes it. */
#ifndef PB_PG_INTERNAL_H
#define PB_PG_INTERNAL_H

#include <libpq-fe.h>

#include "pg.h"

PGconn *pb_pg_connect(const pb_config *config, const char *application_name, pb_error *err);

/* Names of prepared statements, by their text and the types of their parameters. */
typedef struct pb_statements pb_statements;

pb_statements *pb_statements_new(void);
void pb_statements_free(pb_statements *statements);
/*
 * The name for `sql`, and whether it must be prepared first. NULL where it is not to be named
 * (too many statements, or out of memory): send it unnamed.
 */
const char *pb_statements_name(pb_statements *statements, const char *sql, const Oid *types,
                               int count, bool *is_new);
void pb_statements_forget(pb_statements *statements, const char *name); /* its Prepare failed */
void pb_statements_forget_all(pb_statements *statements);           /* names are never used twice */

#endif

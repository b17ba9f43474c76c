/* Reading a result of PostgreSQL without libpq's header. */
#ifndef PB_RESULT_H
#define PB_RESULT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct pg_result PGresult;

int pb_result_rows(const PGresult *result);
int pb_result_columns(const PGresult *result);
const char *pb_result_name(const PGresult *result, int column);
uint32_t pb_result_type(const PGresult *result, int column); /* oid */
bool pb_result_is_null(const PGresult *result, int row, int column);
const char *pb_result_value(const PGresult *result, int row, int column);
int pb_result_length(const PGresult *result, int row, int column);
const char *pb_result_affected(const PGresult *result); /* digits, or "" */
void pb_result_free(PGresult *result);

#endif

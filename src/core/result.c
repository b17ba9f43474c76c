#include "result.h"

#include <libpq-fe.h>

int pb_result_rows(const PGresult *result) {
    return PQntuples(result);
}

int pb_result_columns(const PGresult *result) {
    return PQnfields(result);
}

const char *pb_result_name(const PGresult *result, int column) {
    return PQfname(result, column);
}

uint32_t pb_result_type(const PGresult *result, int column) {
    return PQftype(result, column);
}

bool pb_result_is_null(const PGresult *result, int row, int column) {
    return PQgetisnull(result, row, column);
}

const char *pb_result_value(const PGresult *result, int row, int column) {
    return PQgetvalue(result, row, column);
}

int pb_result_length(const PGresult *result, int row, int column) {
    return PQgetlength(result, row, column);
}

const char *pb_result_affected(const PGresult *result) {
    return PQcmdTuples((PGresult *)result); /* libpq forgot the const */
}

void pb_result_free(PGresult *result) {
    PQclear(result);
}

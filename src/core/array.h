/* PostgreSQL arrays in the binary format, as parameters of `unnest($1::bigint[])` and the like. */
#ifndef PB_ARRAY_H
#define PB_ARRAY_H

#include "buffer.h"

/* Type oids that PostgreSQL has fixed for ever. */
enum {
    PB_OID_BOOL = 16,
    PB_OID_BYTEA = 17,
    PB_OID_INT8 = 20,
    PB_OID_INT2 = 21,
    PB_OID_INT4 = 23,
    PB_OID_TEXT = 25,
    PB_OID_FLOAT8 = 701,
    PB_OID_UUID = 2950
};

typedef struct pb_array {
    pb_buffer bytes;
    uint32_t element; /* oid of the elements */
    uint32_t count;
} pb_array;

void pb_array_open(pb_array *a, uint32_t element_oid); /* starts again, keeps the memory */
void pb_array_add(pb_array *a, pb_bytes value);        /* absent is NULL */
void pb_array_add_i32(pb_array *a, int32_t value);
void pb_array_add_i64(pb_array *a, int64_t value);
void pb_array_add_bool(pb_array *a, bool value);
pb_bytes pb_array_close(pb_array *a); /* the finished parameter; see bytes.failed */
void pb_array_free(pb_array *a);

#endif

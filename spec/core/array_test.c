#include "../../src/core/array.h"

#include "test.h"

/* Bytes as `SELECT array_send(...)` of PostgreSQL shows them. */
static void integers(void) {
    pb_array a = {0};
    pb_array_open(&a, PB_OID_INT8);
    pb_array_add_i64(&a, 1);
    pb_array_add_i64(&a, -2);
    CHECK_BYTES(pb_array_close(&a), "\0\0\0\1\0\0\0\0\0\0\0\x14\0\0\0\2\0\0\0\1"
                                    "\0\0\0\x8\0\0\0\0\0\0\0\1"
                                    "\0\0\0\x8\xff\xff\xff\xff\xff\xff\xff\xfe");
    pb_array_open(&a, PB_OID_INT4); /* the memory is used again */
    pb_array_add_i32(&a, INT32_MIN);
    CHECK_BYTES(pb_array_close(&a), "\0\0\0\1\0\0\0\0\0\0\0\x17\0\0\0\1\0\0\0\1\0\0\0\4\x80\0\0\0");
    pb_array_free(&a);
}

/* E-03: NUL inside a value, an empty value and NULL are three different things. */
static void bytes_and_null(void) {
    pb_array a = {0};
    pb_array_open(&a, PB_OID_BYTEA);
    pb_array_add(&a, BYTES("a\0b"));
    pb_array_add(&a, BYTES(""));
    pb_array_add(&a, PB_ABSENT);
    CHECK_BYTES(pb_array_close(&a), "\0\0\0\1\0\0\0\1\0\0\0\x11\0\0\0\3\0\0\0\1"
                                    "\0\0\0\3a\0b"
                                    "\0\0\0\0"
                                    "\xff\xff\xff\xff");
    pb_array_free(&a);
}

static void empty(void) {
    pb_array a = {0};
    pb_array_open(&a, PB_OID_BOOL);
    CHECK_BYTES(pb_array_close(&a), "\0\0\0\0\0\0\0\0\0\0\0\x10");
    pb_array_open(&a, PB_OID_BOOL);
    pb_array_add_bool(&a, true);
    pb_array_add_bool(&a, false);
    CHECK_BYTES(pb_array_close(&a),
                "\0\0\0\1\0\0\0\0\0\0\0\x10\0\0\0\2\0\0\0\1\0\0\0\1\1\0\0\0\1\0");
    pb_array_free(&a);
}

int main(void) {
    integers();
    bytes_and_null();
    empty();
    return test_report();
}

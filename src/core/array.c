#include "array.h"

/* Header: dimensions, has-null flag, element oid, then length and lower bound of the dimension. */
enum { HEADER_DIMENSIONS = 0, HEADER_NULLS = 4, HEADER_LENGTH = 12 };

void pb_array_open(pb_array *a, uint32_t element_oid) {
    pb_buffer_clear(&a->bytes);
    a->element = element_oid;
    a->count = 0;
    pb_buffer_add_u32(&a->bytes, 1);
    pb_buffer_add_u32(&a->bytes, 0);
    pb_buffer_add_u32(&a->bytes, element_oid);
    pb_buffer_add_u32(&a->bytes, 0);
    pb_buffer_add_u32(&a->bytes, 1);
}

void pb_array_add(pb_array *a, pb_bytes value) {
    if (value.data) {
        pb_buffer_add_u32(&a->bytes, (uint32_t)value.length);
        pb_buffer_add_bytes(&a->bytes, value);
    } else {
        pb_buffer_add_u32(&a->bytes, UINT32_MAX);
        pb_buffer_put_u32(&a->bytes, HEADER_NULLS, 1);
    }
    a->count++;
}

void pb_array_add_i32(pb_array *a, int32_t value) {
    pb_buffer_add_u32(&a->bytes, 4);
    pb_buffer_add_u32(&a->bytes, (uint32_t)value);
    a->count++;
}

void pb_array_add_i64(pb_array *a, int64_t value) {
    pb_buffer_add_u32(&a->bytes, 8);
    pb_buffer_add_u64(&a->bytes, (uint64_t)value);
    a->count++;
}

void pb_array_add_bool(pb_array *a, bool value) {
    pb_buffer_add_u32(&a->bytes, 1);
    pb_buffer_add_u8(&a->bytes, value);
    a->count++;
}

pb_bytes pb_array_close(pb_array *a) {
    if (a->count == 0) { /* an empty array has no dimension */
        a->bytes.length = HEADER_LENGTH;
        pb_buffer_put_u32(&a->bytes, HEADER_DIMENSIONS, 0);
    } else {
        pb_buffer_put_u32(&a->bytes, HEADER_LENGTH, a->count);
    }
    return pb_buffer_bytes(&a->bytes);
}

void pb_array_free(pb_array *a) {
    pb_buffer_free(&a->bytes);
}

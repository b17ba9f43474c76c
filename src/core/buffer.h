/* Bytes: slices that somebody else owns, and a buffer that grows. */
#ifndef PB_BUFFER_H
#define PB_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A slice. data == NULL means absent (SQL NULL, Kafka null), which is not the empty slice. */
typedef struct pb_bytes {
    const char *data;
    size_t length;
} pb_bytes;

#define PB_ABSENT ((pb_bytes){NULL, 0})

pb_bytes pb_bytes_of(const char *text); /* a C string, or absent for NULL */
bool pb_bytes_equal(pb_bytes a, pb_bytes b);
char *pb_bytes_copy(pb_bytes bytes);    /* malloc'ed, NUL appended; NULL without memory */

/*
 * A growing buffer; {0} is an empty one. A failed allocation is remembered in `failed`
 * and every later addition does nothing, so a writer checks once, at the end.
 * Integers are written big-endian, as PostgreSQL and Kafka want them.
 */
typedef struct pb_buffer {
    char *data;
    size_t length;
    size_t capacity;
    bool failed;
} pb_buffer;

bool pb_buffer_reserve(pb_buffer *b, size_t more); /* room for `more` bytes behind the end */
void pb_buffer_add(pb_buffer *b, const void *data, size_t length);
void pb_buffer_add_text(pb_buffer *b, const char *text);
void pb_buffer_add_bytes(pb_buffer *b, pb_bytes bytes);
void pb_buffer_add_u8(pb_buffer *b, uint8_t value);
void pb_buffer_add_u16(pb_buffer *b, uint16_t value);
void pb_buffer_add_u32(pb_buffer *b, uint32_t value);
void pb_buffer_add_u64(pb_buffer *b, uint64_t value);
void pb_buffer_put_u32(pb_buffer *b, size_t at, uint32_t value); /* overwrites */
void pb_buffer_format(pb_buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void pb_buffer_clear(pb_buffer *b); /* forgets the bytes, keeps the memory */
void pb_buffer_free(pb_buffer *b);
pb_bytes pb_buffer_bytes(const pb_buffer *b);

uint16_t pb_read_u16(const void *at);
uint32_t pb_read_u32(const void *at);
uint64_t pb_read_u64(const void *at);

#endif

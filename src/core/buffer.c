#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pb_bytes pb_bytes_of(const char *text) {
    return (pb_bytes){text, text ? strlen(text) : 0};
}

bool pb_bytes_equal(pb_bytes a, pb_bytes b) {
    if (!a.data || !b.data)
        return !a.data && !b.data;
    return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

char *pb_bytes_copy(pb_bytes bytes) {
    char *copy = malloc(bytes.length + 1);
    if (!copy)
        return NULL;
    if (bytes.length)
        memcpy(copy, bytes.data, bytes.length);
    copy[bytes.length] = '\0';
    return copy;
}

bool pb_buffer_reserve(pb_buffer *b, size_t more) {
    if (b->failed)
        return false;
    if (more <= b->capacity - b->length)
        return true;
    size_t wanted = b->capacity ? b->capacity : 256;
    while (wanted - b->length < more) {
        if (wanted > SIZE_MAX / 2) {
            b->failed = true;
            return false;
        }
        wanted *= 2;
    }
    char *grown = realloc(b->data, wanted);
    if (!grown) {
        b->failed = true;
        return false;
    }
    b->data = grown;
    b->capacity = wanted;
    return true;
}

void pb_buffer_add(pb_buffer *b, const void *data, size_t length) {
    if (length == 0 || !pb_buffer_reserve(b, length))
        return;
    memcpy(b->data + b->length, data, length);
    b->length += length;
}

void pb_buffer_add_text(pb_buffer *b, const char *text) {
    pb_buffer_add(b, text, strlen(text));
}

void pb_buffer_add_bytes(pb_buffer *b, pb_bytes bytes) {
    pb_buffer_add(b, bytes.data, bytes.length);
}

void pb_buffer_add_u8(pb_buffer *b, uint8_t value) {
    pb_buffer_add(b, &value, 1);
}

void pb_buffer_add_u16(pb_buffer *b, uint16_t value) {
    uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    pb_buffer_add(b, bytes, sizeof bytes);
}

static void write_u32(void *at, uint32_t value) {
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                        (uint8_t)value};
    memcpy(at, bytes, sizeof bytes);
}

void pb_buffer_add_u32(pb_buffer *b, uint32_t value) {
    uint8_t bytes[4];
    write_u32(bytes, value);
    pb_buffer_add(b, bytes, sizeof bytes);
}

void pb_buffer_add_u64(pb_buffer *b, uint64_t value) {
    uint8_t bytes[8];
    write_u32(bytes, (uint32_t)(value >> 32));
    write_u32(bytes + 4, (uint32_t)value);
    pb_buffer_add(b, bytes, sizeof bytes);
}

void pb_buffer_put_u32(pb_buffer *b, size_t at, uint32_t value) {
    if (!b->failed && at + 4 <= b->length)
        write_u32(b->data + at, value);
}

void pb_buffer_format(pb_buffer *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !pb_buffer_reserve(b, (size_t)length + 1))
        return;
    va_start(args, format);
    vsnprintf(b->data + b->length, (size_t)length + 1, format, args);
    va_end(args);
    b->length += (size_t)length;
}

void pb_buffer_clear(pb_buffer *b) {
    b->length = 0;
    b->failed = false;
}

void pb_buffer_free(pb_buffer *b) {
    free(b->data);
    *b = (pb_buffer){0};
}

pb_bytes pb_buffer_bytes(const pb_buffer *b) {
    return (pb_bytes){b->data ? b->data : "", b->length};
}

uint16_t pb_read_u16(const void *at) {
    const uint8_t *p = at;
    return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t pb_read_u32(const void *at) {
    const uint8_t *p = at;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint64_t pb_read_u64(const void *at) {
    const uint8_t *p = at;
    return (uint64_t)pb_read_u32(p) << 32 | pb_read_u32(p + 4);
}

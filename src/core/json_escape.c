#include "json_escape.h"

#include <string.h>

/* The four digits behind \u, or -1. */
static int32_t read_hex(const char *at, const char *end) {
    int32_t value = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int c = at[i], lower = c | 0x20;
        if (c >= '0' && c <= '9')
            value = value << 4 | (c - '0');
        else if (lower >= 'a' && lower <= 'f')
            value = value << 4 | (lower - 'a' + 10);
        else
            return -1;
    }
    return value;
}

int32_t pb_json_read_escape(const char **at, const char *end) {
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (*at == end)
        return -1;
    if (**at != 'u') {
        const char *letter = **at ? strchr(letters, **at) : NULL;
        if (!letter)
            return -1;
        *at += 1;
        return meanings[letter - letters];
    }
    int32_t first = read_hex(*at + 1, end);
    if (first < 0 || (first >= 0xdc00 && first <= 0xdfff))
        return -1;
    *at += 5;
    if (first < 0xd800 || first > 0xdbff)
        return first;
    if (end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
        return -1;
    int32_t second = read_hex(*at + 2, end);
    if (second < 0xdc00 || second > 0xdfff)
        return -1;
    *at += 6;
    return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
}

static void add_utf8(pb_buffer *out, uint32_t c) {
    if (c < 0x80) {
        pb_buffer_add_u8(out, (uint8_t)c);
    } else if (c < 0x800) {
        pb_buffer_add_u16(out, (uint16_t)(0xc080 | (c & 0x7c0) << 2 | (c & 0x3f)));
    } else if (c < 0x10000) {
        pb_buffer_add_u8(out, (uint8_t)(0xe0 | c >> 12));
        pb_buffer_add_u16(out, (uint16_t)(0x8080 | (c & 0xfc0) << 2 | (c & 0x3f)));
    } else {
        pb_buffer_add_u16(out, (uint16_t)(0xf080 | (c & 0x1c0000) >> 10 | (c & 0x3f000) >> 12));
        pb_buffer_add_u16(out, (uint16_t)(0x8080 | (c & 0xfc0) << 2 | (c & 0x3f)));
    }
}

void pb_json_unescape(pb_buffer *out, pb_bytes text) {
    const char *at = text.data, *end = text.data + text.length;
    while (at < end) {
        const char *backslash = memchr(at, '\\', (size_t)(end - at));
        pb_buffer_add(out, at, (size_t)((backslash ? backslash : end) - at));
        if (!backslash)
            return;
        at = backslash + 1;
        int32_t c = pb_json_read_escape(&at, end);
        if (c < 0)
            return;
        add_utf8(out, (uint32_t)c);
    }
}

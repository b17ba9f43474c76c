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

/* At most as long as any escape of `c`. */
static char *put_utf8(char *out, uint32_t c) {
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t leads[] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (char)(leads[more] | c >> (6 * more));
    while (more-- > 0)
        *out++ = (char)(0x80 | (c >> (6 * more) & 0x3f));
    return out;
}

size_t pb_json_unescape_to(char *out, pb_bytes text) {
    const char *at = text.data, *end = text.data + text.length;
    char *start = out;
    while (at < end) {
        const char *backslash = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((backslash ? backslash : end) - at);
        memcpy(out, at, plain);
        out += plain;
        if (!backslash)
            break;
        at = backslash + 1;
        int32_t c = pb_json_read_escape(&at, end);
        if (c < 0)
            break;
        out = put_utf8(out, (uint32_t)c);
    }
    return (size_t)(out - start);
}

void pb_json_unescape(pb_buffer *out, pb_bytes text) {
    if (text.length > 0 && pb_buffer_reserve(out, text.length))
        out->length += pb_json_unescape_to(out->data + out->length, text);
}

#include "utf8.h"

#include <string.h>

#define HIGH_BITS 0x8080808080808080u

static bool continues(uint8_t byte) {
    return (byte & 0xc0) == 0x80;
}

/* The second byte's range is what forbids overlong forms, surrogates and too large values. */
static bool second_fits(uint8_t first, uint8_t second) {
    switch (first) {
    case 0xe0:
        return second >= 0xa0 && second <= 0xbf;
    case 0xed:
        return second >= 0x80 && second <= 0x9f;
    case 0xf0:
        return second >= 0x90 && second <= 0xbf;
    case 0xf4:
        return second >= 0x80 && second <= 0x8f;
    default:
        return continues(second);
    }
}

size_t pb_utf8_length(const void *at, size_t left) {
    const uint8_t *p = at;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    size_t length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (left < length || !second_fits(p[0], p[1]))
        return 0;
    for (size_t i = 2; i < length; i++)
        if (!continues(p[i]))
            return 0;
    return length;
}

bool pb_utf8_valid(pb_bytes text) {
    size_t at = 0;
    while (at < text.length) {
        uint64_t eight; /* plain ASCII is the usual case: eight bytes a step */
        if (text.length - at >= sizeof eight) {
            memcpy(&eight, text.data + at, sizeof eight);
            if (!(eight & HIGH_BITS)) {
                at += sizeof eight;
                continue;
            }
        }
        size_t length = pb_utf8_length(text.data + at, text.length - at);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

uint32_t pb_utf8_next(pb_bytes *rest) {
    static const uint8_t first_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    const uint8_t *p = (const uint8_t *)rest->data;
    size_t length = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    uint32_t character = p[0] & first_bits[length];
    for (size_t i = 1; i < length; i++)
        character = character << 6 | (p[i] & 0x3f);
    rest->data += length;
    rest->length -= length;
    return character;
}

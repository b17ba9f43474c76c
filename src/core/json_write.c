/* The writing half of json.h. */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

#define EXACT_LIMIT 9007199254740992.0 /* 2^53: below it doubles hold every integer */
#define DECIMAL_LIMIT 1e15             /* fifteen digits: n / 10^k is one number only */
#define DECIMALS 6                     /* decimals that the fast way tries */
#define NUMBER_TEXT 40

/* What a byte becomes: 0 itself, 'u' a \u00XX escape, else the letter behind a backslash. */
static const char escapes[256] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b', 't', 'n', 'u', 'f', 'r', 'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u',
    ['"'] = '"', ['\\'] = '\\',
};

static void add_escape(pb_buffer *out, uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    char text[6] = {'\\', escapes[byte], '0', '0', digits[byte >> 4], digits[byte & 15]};
    pb_buffer_add(out, text, escapes[byte] == 'u' ? sizeof text : 2);
}

void pb_json_write_string(pb_buffer *out, pb_bytes text) {
    const char *at = text.data, *end = text.data + text.length;
    pb_buffer_add_u8(out, '"');
    while (at < end) {
        const char *plain = at;
        while (at < end && !escapes[(uint8_t)*at])
            at++;
        pb_buffer_add(out, plain, (size_t)(at - plain));
        if (at < end)
            add_escape(out, (uint8_t)*at++);
    }
    pb_buffer_add_u8(out, '"');
}

size_t pb_json_string_bytes(pb_bytes text) {
    size_t bytes = 2 + text.length;
    for (size_t i = 0; i < text.length; i++)
        if (escapes[(uint8_t)text.data[i]])
            bytes += escapes[(uint8_t)text.data[i]] == 'u' ? 5 : 1;
    return bytes;
}

/* Digits of `value` that end before `end`; returns where they begin. */
static char *put_digits(char *end, uint64_t value) {
    do {
        *--end = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return end;
}

void pb_json_write_integer(pb_buffer *out, int64_t value) {
    char text[NUMBER_TEXT], *end = text + sizeof text;
    uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;
    char *at = put_digits(end, size);
    if (value < 0)
        *--at = '-';
    pb_buffer_add(out, at, (size_t)(end - at));
}

/*
 * Numbers that people write, such as 19.99: the fewest decimals k for which an integer n divided
 * by 10^k, both exact, gives this very number. Then a reader gets it back from `n / 10^k`.
 */
static bool write_decimal(pb_buffer *out, double size, bool negative) {
    double power = 1;
    for (int k = 1; k <= DECIMALS; k++) {
        power *= 10;
        double n = nearbyint(size * power);
        if (n >= DECIMAL_LIMIT)
            return false;
        if (n / power != size)
            continue;
        char text[NUMBER_TEXT], *end = text + sizeof text;
        uint64_t whole = (uint64_t)n / (uint64_t)power, part = (uint64_t)n % (uint64_t)power;
        char *at = put_digits(end, part);
        while (end - at < k)
            *--at = '0';
        *--at = '.';
        at = put_digits(at, whole);
        if (negative)
            *--at = '-';
        pb_buffer_add(out, at, (size_t)(end - at));
        return true;
    }
    return false;
}

/* Any other number. The program's locale may write a comma: this is done in the C locale. */
static void write_shortest(pb_buffer *out, double value) {
    char text[NUMBER_TEXT];
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* static in glibc: no allocation */
    if (plain == (locale_t)0) {
        out->failed = true;
        return;
    }
    locale_t theirs = uselocale(plain);
    int digits = fabs(value) < DBL_MIN ? 1 : 15; /* every other number keeps fifteen digits */
    for (; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    uselocale(theirs);
    freelocale(plain);
    pb_buffer_add_text(out, text);
}

bool pb_json_write_number(pb_buffer *out, double value) {
    if (!isfinite(value))
        return false;
    if (value >= -EXACT_LIMIT && value <= EXACT_LIMIT && value == trunc(value))
        pb_json_write_integer(out, (int64_t)value);
    else if (!write_decimal(out, fabs(value), value < 0))
        write_shortest(out, value);
    return true;
}

/* Numbers in JSON text, read exactly. */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

#include "json.h"

#define EXACT_LIMIT (UINT64_C(1) << 53) /* up to it doubles hold every integer */
#define SAFE_DIGITS 19                  /* so many digits never overflow 64 bits */
#define EXPONENT_LIMIT 100000           /* beyond it nothing changes any more */
#define EXACT_POWERS 22                 /* 10^22 is the last one that a double holds */

/* A number's digits without its point: digits * 10^scale. */
typedef struct decimal {
    uint64_t digits;
    int count; /* of digits */
    int scale;
    bool negative, integral;
} decimal;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static const char *scan_digits(const char *at, decimal *d) {
    for (; is_digit(*at); at++) {
        if (d->count < SAFE_DIGITS)
            d->digits = d->digits * 10 + (uint64_t)(*at - '0');
        if (d->count <= SAFE_DIGITS)
            d->count++; /* one more says that there are more */
    }
    return at;
}

static const char *scan_exponent(const char *at, decimal *d) {
    int exponent = 0;
    bool negative = *at == '-';
    if (*at == '-' || *at == '+')
        at++;
    for (; is_digit(*at); at++)
        if (exponent < EXPONENT_LIMIT)
            exponent = exponent * 10 + (*at - '0');
    d->scale += negative ? -exponent : exponent;
    return at;
}

static const char *scan_decimal(const char *at, decimal *d) {
    *d = (decimal){.negative = *at == '-', .integral = true};
    at = scan_digits(at + d->negative, d);
    if (*at == '.') {
        const char *point = at;
        d->integral = false;
        at = scan_digits(at + 1, d);
        d->scale = d->count <= SAFE_DIGITS ? -(int)(at - point - 1) : 0;
    }
    if (*at == 'e' || *at == 'E') {
        d->integral = false;
        at = scan_exponent(at + 1, d);
    }
    return at;
}

/* Both exact, so that their product or quotient is the nearest double: nearly every number. */
static bool read_exactly(const decimal *d, double *number) {
    static const double powers[EXACT_POWERS + 1] = {
        1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
    };
    if (FLT_EVAL_METHOD != 0 || d->count > SAFE_DIGITS || d->digits > EXACT_LIMIT ||
        d->scale < -EXACT_POWERS || d->scale > EXACT_POWERS)
        return false;
    double digits = (double)d->digits;
    double size = d->scale < 0 ? digits / powers[-d->scale] : digits * powers[d->scale];
    *number = d->negative ? -size : size;
    return true;
}

/* Any other number. The program's locale may want a comma: this is done in the C locale. */
static bool read_slowly(const char *text, double *number) {
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* static in glibc: no allocation */
    if (plain == (locale_t)0)
        return false;
    locale_t theirs = uselocale(plain);
    *number = strtod(text, NULL);
    uselocale(theirs);
    freelocale(plain);
    return isfinite(*number);
}

pb_json_number pb_json_read_number(const char **at, int64_t *integer, double *number) {
    decimal d;
    const char *start = *at;
    *at = scan_decimal(start, &d);
    if (!d.integral)
        return read_exactly(&d, number) || read_slowly(start, number) ? PB_JSON_FLOAT
                                                                     : PB_JSON_BEYOND;
    if (d.count > SAFE_DIGITS || d.digits > (uint64_t)INT64_MAX + d.negative)
        return PB_JSON_BEYOND;
    *integer = (int64_t)(d.negative ? -d.digits : d.digits);
    return PB_JSON_INTEGER;
}

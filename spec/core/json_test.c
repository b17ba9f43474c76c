#include "../../src/core/json.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

#include "../../src/core/utf8.h"
#include "test.h"

static bool valid(pb_bytes text) {
    pb_error err;
    return pb_json_check(text, PB_JSON_DEPTH, &err) == 0;
}

static void accepts(void) {
    CHECK(valid(BYTES("null")) && valid(BYTES("true")) && valid(BYTES("false")));
    CHECK(valid(BYTES("\"\"")) && valid(BYTES("{}")) && valid(BYTES("[]")));
    CHECK(valid(BYTES(" \t\r\n[ 1 , { \"a\" : [ ] , \"\" : { } } , \"x\" ] \n")));
    CHECK(valid(BYTES("0")) && valid(BYTES("-0")) && valid(BYTES("-0.5e-07")) &&
          valid(BYTES("12345678901234567890123")) && valid(BYTES("1E+9")));
    CHECK(valid(BYTES("\"\\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u0000 \\uD83D\\uDE00\"")));
    CHECK(valid(BYTES("\"gr\xc3\xbc\xc3\x9f" "e \xf0\x9f\x98\x80 \x7f\"")));
    CHECK(valid(BYTES("{\"a\":1,\"a\":2}"))); /* the names of a user's object are the user's */
}

/* E-07: what other parsers let through. */
static void refuses(void) {
    static const pb_bytes wrong[] = {
        BYTES(""),           BYTES(" "),           BYTES("nul"),       BYTES("True"),
        BYTES("NaN"),        BYTES("Infinity"),    BYTES("-Infinity"), BYTES("0x10"),
        BYTES("01"),         BYTES("+1"),          BYTES(".5"),        BYTES("1."),
        BYTES("1e"),         BYTES("1e+"),         BYTES("-"),         BYTES("--1"),
        BYTES("1 2"),        BYTES("[1,]"),        BYTES("[,1]"),      BYTES("[1"),
        BYTES("["),          BYTES("]"),           BYTES("[1}"),       BYTES("{\"a\":1]"),
        BYTES("{\"a\"}"),    BYTES("{\"a\":}"),    BYTES("{\"a\":1,}"), BYTES("{a:1}"),
        BYTES("{1:1}"),      BYTES("{\"a\" 1}"),   BYTES("{,}"),       BYTES("{"),
        BYTES("{\"a\":1"),   BYTES("{\"a\":1,"),   BYTES("\"abc"),     BYTES("\"abc\\"),
        BYTES("\"\\x\""),    BYTES("\"\\u12\""),   BYTES("\"\\u12g4\""), BYTES("'a'"),
        BYTES("\"a\nb\""),   BYTES("\"a\0b\""),    BYTES("null\0"),    BYTES("\xef\xbb\xbf{}"),
        BYTES("\"\\uD800\""), BYTES("\"\\uDC00\""), BYTES("\"\\uD83D\\u0041\""),
        BYTES("\"\\uD83Dxxxxxx\""), BYTES("\"\xff\""), BYTES("\"\xc0\x80\""),
        BYTES("\"\xed\xa0\x80\""), BYTES("\"12345678\xe2\x82\""), BYTES("\"\\\0\""),
        BYTES("// c\n1"),    BYTES("[1 2]"),       BYTES("{\"a\":1 \"b\":2}"),
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char what[64];
        snprintf(what, sizeof what, "refused: %.40s", wrong[i].data);
        test_result(!valid(wrong[i]), __FILE__, __LINE__, what);
    }
    CHECK(!valid(PB_ABSENT));
}

#define CHECK_TEXT(text) pb_json_check(BYTES(text), PB_JSON_DEPTH, &err)

static void names_the_place(void) {
    pb_error err;
    CHECK_FAILS(CHECK_TEXT("[1,x]"), err, PB_CONFIG, "byte 4 is not a JSON value");
    CHECK_FAILS(CHECK_TEXT("[1"), err, PB_CONFIG, "ends at byte 2");
    CHECK_FAILS(CHECK_TEXT("{} {}"), err, PB_CONFIG, "follows the value at byte 4");
    CHECK_FAILS(CHECK_TEXT("[\"ab\xff\"]"), err, PB_CONFIG, "invalid UTF-8 at byte 5");
}

/* E-06 */
static void depth_is_bounded(void) {
    pb_error err;
    size_t huge = 1000000;
    char *text = malloc(huge);
    if (!CHECK(text != NULL))
        return;
    memset(text, '[', huge);
    memset(text + PB_JSON_DEPTH, ']', PB_JSON_DEPTH);
    CHECK(valid((pb_bytes){text, 2 * PB_JSON_DEPTH}));
    memset(text, '[', huge);
    memset(text + PB_JSON_DEPTH + 1, ']', PB_JSON_DEPTH + 1);
    CHECK_FAILS(pb_json_check((pb_bytes){text, 2 * PB_JSON_DEPTH + 2}, 1000, &err), err, PB_CONFIG,
                "inside one another at byte 129");
    memset(text, '[', huge);
    CHECK(!valid((pb_bytes){text, huge}));
    CHECK(pb_json_check(BYTES("[[1]]"), 2, &err) == 0);
    CHECK(pb_json_check(BYTES("[[[1]]]"), 2, &err) == -1);
    CHECK(pb_json_check(BYTES("1"), 0, &err) == 0);
    CHECK(pb_json_check(BYTES("[]"), 0, &err) == -1);
    free(text);
}

/* Exact heap copies, so that the address sanitizer sees one byte too far. */
static void never_reads_behind_the_end(void) {
    static const pb_bytes text =
        BYTES("{\"eventId\":\"\\u0041\\uD83D\\uDE00\",\"n\":"
              "[-1.5e+3,true,false,null,\"\xe2\x82\xac 12345678 \"]}");
    pb_buffer scratch = {0};
    pb_bytes id, type, payload;
    pb_error err;
    for (size_t length = 0; length <= text.length; length++) {
        char *copy = malloc(length ? length : 1);
        if (!CHECK(copy != NULL))
            break;
        memcpy(copy, text.data, length);
        pb_bytes part = {copy, length};
        int result = pb_json_envelope(part, &scratch, &id, &type, &payload, &err);
        CHECK(valid(part) == (length == text.length));
        CHECK((result == 0) == (length == text.length));
        free(copy);
    }
    pb_buffer_free(&scratch);
}

static void every_byte_in_a_string(void) {
    int wrong = 0;
    for (int at = 0; at < 20; at++) /* at every offset of the eight-byte steps */
        for (int c = 0; c < 256; c++) {
            char text[22];
            memset(text, 'a', sizeof text);
            text[0] = text[21] = '"';
            text[1 + at] = (char)c;
            bool expected = c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; /* `\a` is no escape */
            wrong += valid((pb_bytes){text, sizeof text}) != expected;
        }
    CHECK_INT(wrong, 0);
}

#define ENVELOPE(text) pb_json_envelope(BYTES(text), &scratch, &id, &type, &payload, &err)

static void takes_envelopes_apart(void) {
    pb_buffer scratch = {0};
    pb_bytes id, type, payload;
    pb_error err;
    CHECK(ENVELOPE("{\"eventId\":\"i\",\"eventType\":\"T\",\"payload\":{\"a\":[1, 2]}}") == 0);
    CHECK_BYTES(id, "i");
    CHECK_BYTES(type, "T");
    CHECK_BYTES(payload, "{\"a\":[1, 2]}");
    CHECK_INT(scratch.length, 0);
    CHECK(ENVELOPE(" { \"payload\" : \"x\\n\" , \"v\":[{}], "
                   "\"eventType\" : \"T\" ,\"eventId\":\"\" } ") == 0);
    CHECK_BYTES(id, "");
    CHECK_BYTES(payload, "\"x\\n\"");
    CHECK(ENVELOPE("{}") == 0);
    CHECK_ABSENT(id);
    CHECK_ABSENT(type);
    CHECK_ABSENT(payload);
    CHECK(ENVELOPE("{\"payload\":null}") == 0);
    CHECK_BYTES(payload, "null");
    pb_buffer_free(&scratch);
}

static void unescapes_what_it_must(void) {
    pb_buffer scratch = {0};
    pb_bytes id, type, payload;
    pb_error err;
    CHECK(ENVELOPE("{\"event\\u0049d\":\"a\\\"\\u0000b\","
                   "\"eventType\":\"\\u00c4\\u20ac\\uD83D\\uDE00\\/\\t!\"}") == 0);
    CHECK_BYTES(id, "a\"\0b");
    CHECK_BYTES(type, "\xc3\x84\xe2\x82\xac\xf0\x9f\x98\x80/\t!");
    CHECK(ENVELOPE("{\"eventId\":\"plain\",\"eventType\":\"\\u0041\"}") == 0);
    CHECK_BYTES(id, "plain");
    CHECK_BYTES(type, "A");
    pb_buffer_free(&scratch);
}

static void refuses_odd_envelopes(void) {
    pb_buffer scratch = {0};
    pb_bytes id, type, payload;
    pb_error err;
    CHECK_FAILS(ENVELOPE("[]"), err, PB_CONFIG, "not a JSON object");
    CHECK_FAILS(ENVELOPE(""), err, PB_CONFIG, "not a JSON object");
    CHECK_FAILS(ENVELOPE("{\"eventId\":1}"), err, PB_CONFIG, "`eventId` is not a string");
    CHECK_FAILS(ENVELOPE("{\"eventType\":null}"), err, PB_CONFIG, "`eventType` is not a string");
    CHECK_FAILS(ENVELOPE("{\"eventId\":\"a\",\"eventId\":\"b\"}"), err, PB_CONFIG,
                "a second `eventId`");
    CHECK_FAILS(ENVELOPE("{\"payload\":1,\"pay\\u006coad\":2}"), err, PB_CONFIG,
                "a second `payload`");
    CHECK_FAILS(ENVELOPE("{\"payload\":{\"a\":tru}}"), err, PB_CONFIG,
                "byte 17 is not a JSON value");
    CHECK_FAILS(ENVELOPE("{\"payload\":1} x"), err, PB_CONFIG, "follows the value");
    CHECK_FAILS(ENVELOPE("{\"other\":\"\xff\"}"), err, PB_CONFIG, "invalid UTF-8");
    CHECK_FAILS(ENVELOPE("{\"payload\":1,}"), err, PB_CONFIG, "quote of a member's name");
    CHECK_FAILS(ENVELOPE("{\"payload\":1"), err, PB_CONFIG, "ends at byte");
    pb_buffer_free(&scratch);
}

/* What may be published may be read: the envelope around a payload costs it no depth. */
static void deepest_payload_fits_in_an_envelope(void) {
    pb_buffer text = {0}, scratch = {0};
    pb_bytes id, type, payload;
    pb_error err;
    pb_buffer_add_text(&text, "{\"payload\":");
    for (int i = 0; i < PB_JSON_DEPTH; i++)
        pb_buffer_add_u8(&text, '[');
    for (int i = 0; i < PB_JSON_DEPTH; i++)
        pb_buffer_add_u8(&text, ']');
    pb_buffer_add_u8(&text, '}');
    CHECK(pb_json_envelope(pb_buffer_bytes(&text), &scratch, &id, &type, &payload, &err) == 0);
    CHECK_INT(payload.length, 2 * PB_JSON_DEPTH);
    pb_buffer_free(&text);
    pb_buffer_free(&scratch);
}

static void writes_strings(void) {
    pb_buffer b = {0};
    pb_json_write_string(&b, BYTES("a\"b\\c/\b\f\n\r\t\0\x1f\x7f\xc3\xb6"));
    CHECK_BYTES(pb_buffer_bytes(&b),
                "\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xc3\xb6\"");
    CHECK_INT(pb_json_string_bytes(BYTES("a\"b\\c/\b\f\n\r\t\0\x1f\x7f\xc3\xb6")), b.length);
    CHECK(valid(pb_buffer_bytes(&b)));
    pb_buffer_clear(&b);
    pb_json_write_string(&b, BYTES(""));
    CHECK_BYTES(pb_buffer_bytes(&b), "\"\"");
    pb_buffer_free(&b);
}

static void is_written(double value, const char *expected, int line) {
    pb_buffer b = {0};
    CHECK(pb_json_write_number(&b, value));
    test_bytes(pb_buffer_bytes(&b), pb_bytes_of(expected), __FILE__, line, "number");
    pb_buffer_free(&b);
}

#define IS_WRITTEN(value, text) is_written(value, text, __LINE__)

static void writes_numbers(void) {
    pb_buffer b = {0};
    IS_WRITTEN(0, "0");
    IS_WRITTEN(-0.0, "0");
    IS_WRITTEN(3.0, "3");
    IS_WRITTEN(9007199254740992.0, "9007199254740992");
    IS_WRITTEN(-9007199254740991.0, "-9007199254740991");
    IS_WRITTEN(0.1, "0.1");
    IS_WRITTEN(-19.99, "-19.99");
    IS_WRITTEN(0.1 + 0.2, "0.30000000000000004");
    IS_WRITTEN(1234567.000001, "1234567.000001");
    IS_WRITTEN(1.0 / 3, "0.3333333333333333");
    IS_WRITTEN(1e300, "1e+300");
    IS_WRITTEN(DBL_MIN, "2.2250738585072014e-308");
    IS_WRITTEN(5e-324, "5e-324");
    IS_WRITTEN(DBL_MAX, "1.7976931348623157e+308");
    CHECK(!pb_json_write_number(&b, NAN));
    CHECK(!pb_json_write_number(&b, INFINITY));
    CHECK(!pb_json_write_number(&b, -INFINITY));
    CHECK_INT(b.length, 0);
    pb_json_write_integer(&b, INT64_MIN);
    CHECK_BYTES(pb_buffer_bytes(&b), "-9223372036854775808");
    pb_buffer_clear(&b);
    pb_json_write_integer(&b, INT64_MAX);
    CHECK_BYTES(pb_buffer_bytes(&b), "9223372036854775807");
    pb_buffer_free(&b);
}

static uint64_t next_random(void) {
    static uint64_t state = 42;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return z ^ z >> 31;
}

/* Bit patterns at random, and decimals as people write them. */
static void numbers_read_back(void) {
    pb_buffer b = {0};
    int wrong = 0;
    for (int i = 0; i < 40000; i++) {
        uint64_t bits = next_random();
        double value;
        memcpy(&value, &bits, sizeof value);
        if (i % 2)
            value = (double)(int64_t)(bits >> (bits % 50)) / 1000;
        if (!isfinite(value))
            continue;
        pb_buffer_clear(&b);
        wrong += !pb_json_write_number(&b, value) || !valid(pb_buffer_bytes(&b));
        pb_buffer_add_u8(&b, '\0');
        wrong += strtod(b.data, NULL) != value;
    }
    CHECK_INT(wrong, 0);
    pb_buffer_free(&b);
}

static bool reads_integer(const char *text, int64_t expected) {
    const char *at = text;
    int64_t integer = 0;
    double number;
    return pb_json_read_number(&at, &integer, &number) == PB_JSON_INTEGER && integer == expected &&
           *at == '\0';
}

static bool reads_float(const char *text, double expected) {
    const char *at = text;
    int64_t integer;
    double number = 0;
    return pb_json_read_number(&at, &integer, &number) == PB_JSON_FLOAT &&
           memcmp(&number, &expected, sizeof number) == 0 && *at == '\0';
}

static bool reads_beyond(const char *text) {
    const char *at = text;
    int64_t integer;
    double number;
    return pb_json_read_number(&at, &integer, &number) == PB_JSON_BEYOND && *at == '\0';
}

#define IS_INTEGER(text, value) CHECK(reads_integer(text, value))
#define IS_FLOAT(text, value) CHECK(reads_float(text, value))

static void reads_numbers(void) {
    IS_INTEGER("0", 0);
    IS_INTEGER("-0", 0);
    IS_INTEGER("9007199254740993", INT64_C(9007199254740993));
    IS_INTEGER("9223372036854775807", INT64_MAX);
    IS_INTEGER("-9223372036854775808", INT64_MIN);
    CHECK(reads_beyond("9223372036854775808") && reads_beyond("-9223372036854775809"));
    CHECK(reads_beyond("18446744073709551616") && reads_beyond("123456789012345678901234567890"));
    CHECK(reads_beyond("1e309") && reads_beyond("-1e99999999999999999999"));
    IS_FLOAT("1.0", 1.0);
    IS_FLOAT("-0.0", -0.0);
    IS_FLOAT("1E+2", 100.0);
    IS_FLOAT("19.99", 19.99);
    IS_FLOAT("9007199254740993.0", 9007199254740992.0);
    IS_FLOAT("1e23", 1e23);
    IS_FLOAT("0.1000000000000000055511151231257827", 0.1);
    IS_FLOAT("0.0000000000000000000000000000001", 1e-31);
    IS_FLOAT("100000000000000000000000000e-26", 1.0);
    IS_FLOAT("0e99999999999999999999", 0.0);
    IS_FLOAT("1e-99999999999999999999", 0.0);
    IS_FLOAT("4.9406564584124654e-324", DBL_TRUE_MIN);
    IS_FLOAT("1.7976931348623157e308", DBL_MAX);
    IS_FLOAT("9007199254740991e22", 9007199254740991e22);
}

/* Texts that nobody writes shortest, against the library's own reading. */
static void numbers_read_as_strtod_reads(void) {
    int wrong = 0;
    for (int i = 0; i < 200000; i++) {
        char text[64];
        snprintf(text, sizeof text, "%u.%0*ue%d", (unsigned)(next_random() % 100000),
                 1 + (int)(next_random() % 12), (unsigned)(next_random() % 1000000000),
                 (int)(next_random() % 80) - 40);
        wrong += !reads_float(text, strtod(text, NULL));
    }
    CHECK_INT(wrong, 0);
}

/* Where no locale with a comma is installed, this proves nothing and harms nothing. */
static void ignores_the_locale(void) {
    static const char *const with_comma[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8"};
    for (size_t i = 0; i < sizeof with_comma / sizeof *with_comma; i++)
        if (setlocale(LC_ALL, with_comma[i]))
            break;
    IS_WRITTEN(1.5, "1.5");
    IS_WRITTEN(1.0 / 3, "0.3333333333333333");
    IS_FLOAT("1.5", 1.5);
    IS_FLOAT("0.333333333333333314829616256247", 1.0 / 3);
    setlocale(LC_ALL, "C");
}

/* Texts at random from JSON's own letters: nothing crashes, and what passes passes again. */
static void random_texts(void) {
    static const char letters[] = "{}[]\",:\\u0123456789abcdeftrulnsn.-+E \n\xc3\xbc\xff";
    pb_buffer scratch = {0};
    pb_bytes id, type, payload;
    pb_error err;
    int accepted = 0;
    for (int i = 0; i < 200000; i++) {
        char text[24];
        size_t length = next_random() % sizeof text;
        for (size_t k = 0; k < length; k++)
            text[k] = letters[next_random() % (sizeof letters - 1)];
        accepted += valid((pb_bytes){text, length});
        pb_json_envelope((pb_bytes){text, length}, &scratch, &id, &type, &payload, &err);
    }
    CHECK(accepted > 0);
    pb_buffer_free(&scratch);
}

int main(void) {
    accepts();
    refuses();
    names_the_place();
    depth_is_bounded();
    never_reads_behind_the_end();
    every_byte_in_a_string();
    takes_envelopes_apart();
    unescapes_what_it_must();
    refuses_odd_envelopes();
    deepest_payload_fits_in_an_envelope();
    writes_strings();
    writes_numbers();
    numbers_read_back();
    reads_numbers();
    numbers_read_as_strtod_reads();
    ignores_the_locale();
    random_texts();
    return test_report();
}

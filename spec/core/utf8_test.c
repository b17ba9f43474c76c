#include "../../src/core/utf8.h"

#include "test.h"

static void accepts(void) {
    CHECK(pb_utf8_valid(PB_ABSENT));
    CHECK(pb_utf8_valid(BYTES("")));
    CHECK(pb_utf8_valid(BYTES("plain text longer than eight bytes\0with NUL")));
    CHECK(pb_utf8_valid(BYTES("\xc2\x80 \xdf\xbf \xe0\xa0\x80")));
    CHECK(pb_utf8_valid(BYTES("\xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf")));
    CHECK(pb_utf8_valid(BYTES("\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf")));
}

/* E-04 */
static void refuses(void) {
    CHECK(!pb_utf8_valid(BYTES("\x80")));                /* a continuation alone */
    CHECK(!pb_utf8_valid(BYTES("\xc0\x80")));            /* overlong NUL */
    CHECK(!pb_utf8_valid(BYTES("\xc1\xbf")));            /* overlong */
    CHECK(!pb_utf8_valid(BYTES("\xe0\x9f\xbf")));        /* overlong */
    CHECK(!pb_utf8_valid(BYTES("\xf0\x8f\xbf\xbf")));    /* overlong */
    CHECK(!pb_utf8_valid(BYTES("\xed\xa0\x80")));        /* a surrogate */
    CHECK(!pb_utf8_valid(BYTES("\xf4\x90\x80\x80")));    /* above U+10FFFF */
    CHECK(!pb_utf8_valid(BYTES("\xf5\x80\x80\x80")));
    CHECK(!pb_utf8_valid(BYTES("\xff\xfe")));
    CHECK(!pb_utf8_valid(BYTES("12345678\xc3")));        /* cut off */
    CHECK(!pb_utf8_valid(BYTES("1234567\xe2\x82")));
    CHECK(!pb_utf8_valid(BYTES("\xf0\x9f\x98")));
    CHECK(!pb_utf8_valid(BYTES("\xe2\x82 ")));
}

/* All characters there and back; every pair of bytes against a plain definition. */
static void every_pair(void) {
    int valid = 0;
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            char text[2] = {(char)a, (char)b};
            valid += pb_utf8_valid((pb_bytes){text, 2});
        }
    CHECK_INT(valid, 128 * 128 + 30 * 64);
}

static void reads_characters(void) {
    pb_bytes rest = BYTES("a\xc3\xb6\xe2\x82\xac\xf0\x9f\x98\x80");
    CHECK_INT(pb_utf8_next(&rest), 'a');
    CHECK_INT(pb_utf8_next(&rest), 0xf6);
    CHECK_INT(pb_utf8_next(&rest), 0x20ac);
    CHECK_INT(pb_utf8_next(&rest), 0x1f600);
    CHECK_INT(rest.length, 0);
}

int main(void) {
    accepts();
    refuses();
    every_pair();
    reads_characters();
    return test_report();
}

#include "test.h"

#include <stdlib.h>

static void grows_and_keeps_bytes(void) {
    pb_buffer b = {0};
    CHECK_BYTES(pb_buffer_bytes(&b), "");
    for (int i = 0; i < 1000; i++)
        pb_buffer_add(&b, "ab\0d", 4);
    CHECK_INT(b.length, 4000);
    CHECK(!b.failed);
    CHECK(memcmp(b.data + 3996, "ab\0d", 4) == 0);
    pb_buffer_clear(&b);
    CHECK_INT(b.length, 0);
    CHECK(b.capacity >= 4000);
    pb_buffer_free(&b);
    CHECK(b.data == NULL);
}

static void integers_are_big_endian(void) {
    pb_buffer b = {0};
    pb_buffer_add_u8(&b, 1);
    pb_buffer_add_u16(&b, 0x0203);
    pb_buffer_add_u32(&b, 0x04050607);
    pb_buffer_add_u64(&b, 0x08090a0b0c0d0e0fu);
    CHECK_BYTES(pb_buffer_bytes(&b), "\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf");
    CHECK_INT(pb_read_u16(b.data + 1), 0x0203);
    CHECK_INT(pb_read_u32(b.data + 3), 0x04050607);
    CHECK(pb_read_u64(b.data + 7) == 0x08090a0b0c0d0e0fu);
    CHECK(pb_read_u32("\xff\xff\xff\xff") == UINT32_MAX);
    pb_buffer_put_u32(&b, 3, 0xfffefdfc);
    CHECK(pb_read_u32(b.data + 3) == 0xfffefdfc);
    pb_buffer_put_u32(&b, 12, 7); /* would end behind the last byte: nothing */
    CHECK_INT(b.length, 15);
    pb_buffer_free(&b);
}

/* E-21: sizes that no memory has are refused once and for all, not wrapped around. */
static void absurd_sizes_fail_for_good(void) {
    pb_buffer b = {0};
    pb_buffer_add_text(&b, "kept");
    CHECK(!pb_buffer_reserve(&b, SIZE_MAX - 8));
    CHECK(b.failed);
    pb_buffer_add_text(&b, "not added");
    CHECK_BYTES(pb_buffer_bytes(&b), "kept");
    pb_buffer_clear(&b);
    pb_buffer_add_text(&b, "again");
    CHECK_BYTES(pb_buffer_bytes(&b), "again");
    pb_buffer_free(&b);
}

static void formats(void) {
    pb_buffer b = {0};
    char name[600];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    pb_buffer_format(&b, "%s %d", name, 42);
    CHECK_INT(b.length, 602);
    CHECK(memcmp(b.data + 599, " 42", 3) == 0);
    pb_buffer_free(&b);
}

static void slices(void) {
    CHECK_ABSENT(pb_bytes_of(NULL));
    CHECK_BYTES(pb_bytes_of("abc"), "abc");
    CHECK(pb_bytes_equal(PB_ABSENT, PB_ABSENT));
    CHECK(!pb_bytes_equal(PB_ABSENT, BYTES("")));
    CHECK(pb_bytes_equal(BYTES("a\0b"), BYTES("a\0b")));
    CHECK(!pb_bytes_equal(BYTES("a\0b"), BYTES("a\0c")));
    char *copy = pb_bytes_copy(BYTES("a\0b"));
    CHECK(copy && memcmp(copy, "a\0b", 4) == 0);
    free(copy);
}

int main(void) {
    grows_and_keeps_bytes();
    integers_are_big_endian();
    absurd_sizes_fail_for_good();
    formats();
    slices();
    return test_report();
}

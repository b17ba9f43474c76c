/* What a record says as an event, and under which uuid the inbox holds it. */
#include "record.h"

#include <librdkafka/rdkafka.h>

#include "event.h"
#include "inbox.h"
#include "test.h"

#define ID "01a207cd-be06-7000-8000-000000000001"

static pb_buffer scratch;

static rd_kafka_headers_t *headers_of(const char *id, const char *type) {
    rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
    if (id)
        rd_kafka_header_add(headers, PB_HEADER_EVENT_ID, -1, id, -1);
    if (type)
        rd_kafka_header_add(headers, PB_HEADER_EVENT_TYPE, -1, type, -1);
    return headers;
}

static int read_with(pb_codec codec, const char *value, const char *id, const char *type,
                     pb_fields *fields, pb_error *err) {
    static rd_kafka_headers_t *headers; /* the fields are slices of it until the next call */
    if (headers)
        rd_kafka_headers_destroy(headers);
    headers = headers_of(id, type);
    return pb_record_read(codec, pb_bytes_of(value), headers, &scratch, fields, err);
}

static void test_envelope(void) {
    pb_fields f;
    pb_error err;
    const char *value = "{\"eventId\":\"" ID "\",\"eventType\":\"T\",\"payload\":{\"a\":1}}";
    CHECK_INT(read_with(PB_CODEC_POSTBOX, value, NULL, NULL, &f, &err), 0);
    CHECK_BYTES(f.id, ID);
    CHECK_BYTES(f.type, "T");
    CHECK_BYTES(f.payload, "{\"a\":1}");
    CHECK_INT(read_with(PB_CODEC_POSTBOX, value, ID, "T", &f, &err), 0);
    CHECK_BYTES(f.payload, "{\"a\":1}");
    CHECK_INT(read_with(PB_CODEC_POSTBOX,
                        " {\"payload\":null,\"eventType\":\"\\u00e9\",\"eventId\":\"x\"}", NULL,
                        NULL, &f, &err), 0);
    CHECK_BYTES(f.id, "x");
    CHECK_BYTES(f.type, "\xc3\xa9");
    CHECK_BYTES(f.payload, "null");
}

static void test_headers(void) {
    pb_fields f;
    pb_error err;
    CHECK_INT(read_with(PB_CODEC_POSTBOX, "[1]", ID, "T", &f, &err), 0);
    CHECK_BYTES(f.id, ID);
    CHECK_BYTES(f.type, "T");
    CHECK_BYTES(f.payload, "[1]");
    /* A payload that looks like the envelope of another event. */
    const char *other = "{\"eventId\":\"o\",\"eventType\":\"O\",\"payload\":1}";
    CHECK_INT(read_with(PB_CODEC_POSTBOX, other, ID, "T", &f, &err), 0);
    CHECK_BYTES(f.id, ID);
    CHECK_BYTES(f.type, "T");
    CHECK(pb_bytes_equal(f.payload, pb_bytes_of(other)));
    CHECK_INT(read_with(PB_CODEC_POSTBOX, NULL, ID, "T", &f, &err), 0);
    CHECK_ABSENT(f.payload);
    CHECK_BYTES(f.type, "T");
}

static void test_without_id(void) {
    pb_fields f;
    pb_error err;
    CHECK_INT(read_with(PB_CODEC_POSTBOX, "{\"a\":1}", NULL, NULL, &f, &err), 0);
    CHECK_ABSENT(f.id);
    CHECK_ABSENT(f.type);
    CHECK_INT(read_with(PB_CODEC_POSTBOX, "{\"eventId\":\"\",\"eventType\":\"T\",\"payload\":1}",
                        NULL, NULL, &f,
                        &err), 0);
    CHECK_ABSENT(f.id);
    CHECK_INT(read_with(PB_CODEC_POSTBOX, "{\"eventId\":7,\"eventType\":\"T\",\"payload\":1}", NULL,
                        NULL, &f,
                        &err), 0);
    CHECK_ABSENT(f.id);
    CHECK_INT(read_with(PB_CODEC_BYTES, "1", "", NULL, &f, &err), 0);
    CHECK_ABSENT(f.id); /* an empty one would make all such records the same event */
    CHECK_INT(pb_record_read(PB_CODEC_POSTBOX, pb_bytes_of("1"), NULL, &scratch, &f, &err), 0);
    CHECK_ABSENT(f.id);
}

static void test_unreadable(void) {
    static const char *const values[] = {"", "{", "nope", "{\"eventId\":\"x\",\"eventType\":\"T\"",
                                         "1 2",
                                         "\"\xff\"", "{\"a\":NaN}"};
    pb_fields f;
    pb_error err;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        CHECK_INT(read_with(PB_CODEC_POSTBOX, values[i], ID, "T", &f, &err), -1);
        CHECK_INT(read_with(PB_CODEC_JSON, values[i], ID, "T", &f, &err), -1);
        CHECK_INT(read_with(PB_CODEC_BYTES, values[i], ID, "T", &f, &err), 0);
        CHECK(pb_bytes_equal(f.payload, pb_bytes_of(values[i])));
    }
    rd_kafka_headers_t *twice = headers_of(ID, "T");
    rd_kafka_header_add(twice, PB_HEADER_EVENT_ID, -1, "other", -1);
    CHECK_INT(pb_record_read(PB_CODEC_POSTBOX, pb_bytes_of("1"), twice, &scratch, &f, &err), -1);
    rd_kafka_headers_destroy(twice);
}

static void key_of(const char *id, int64_t seen_ms, uint8_t key[PB_INBOX_KEY]) {
    pb_inbox_key(pb_bytes_of(id), seen_ms, key);
}

static void test_inbox_keys(void) {
    const int64_t now = INT64_C(0x01a207cdbe06); /* the time inside ID */
    uint8_t key[16], same[16], id[16];
    CHECK(pb_id_parse(pb_bytes_of(ID), id));
    key_of(ID, now, key);
    CHECK(memcmp(key, id, 16) == 0);
    key_of(ID, now - 86400000, key); /* tomorrow's is used as it is */
    CHECK(memcmp(key, id, 16) == 0);
    key_of(ID, now - 2 * 86400000, key); /* one from beyond tomorrow is not */
    CHECK_INT(key[0], 0xff);
    key_of("01A207CD-BE06-7000-8000-000000000001", now - 2 * 86400000, same);
    CHECK(memcmp(key, same, 16) == 0);
    key_of("01a207cd-be06-4000-8000-000000000001", now, key); /* not version 7 */
    CHECK_INT(key[0], 0xff);
    key_of("00000000-0001-7000-8000-000000000001", now, key); /* 1970 */
    CHECK_INT(key[0], 0xff);
    key_of("order.created/0/5", now, key);
    key_of("order.created/0/6", now, same);
    CHECK(key[0] == 0xff && same[0] == 0xff && memcmp(key, same, 16) != 0);
    key_of("00000000-0000-0000-0000-000000000001", now, key);
    key_of("01000000-0000-0000-0000-000000000001", now, same);
    CHECK(memcmp(key, same, 16) != 0);
}

int main(void) {
    test_envelope();
    test_headers();
    test_without_id();
    test_unreadable();
    test_inbox_keys();
    pb_fields f;
    pb_error err;
    read_with(PB_CODEC_BYTES, NULL, NULL, NULL, &f, &err);
    pb_buffer_free(&scratch);
    return test_report();
}

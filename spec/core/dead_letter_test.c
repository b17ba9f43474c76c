/* The headers of a dead letter, byte by byte. */
#include "dead_letter.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>

#include "test.h"

static const pb_place place = {"order.created", 2, INT64_C(0x0102030405060708), 1700000000125,
                               "CreateTime"};

static pb_reason reason_of(const char *message, const char *trace) {
    return (pb_reason){.code = "handler",
                       .class_name = "postbox.HandlerError",
                       .message = pb_bytes_of(message),
                       .trace = pb_bytes_of(trace),
                       .group = "shipping",
                       .attempts = 4};
}

/* The one header of that name. */
static pb_bytes header(const rd_kafka_headers_t *headers, const char *name) {
    const void *value;
    size_t size;
    if (rd_kafka_header_get(headers, 0, name, &value, &size))
        return PB_ABSENT;
    CHECK(rd_kafka_header_get(headers, 1, name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_header_get(headers, 0, name, &value, &size);
    return (pb_bytes){value, size};
}

static void test_formats(void) {
    pb_reason reason = reason_of("no tea", "at line 1");
    rd_kafka_headers_t *h = pb_dead_letter_headers(NULL, &place, &reason, 1700000001007,
                                                   PB_DETAIL_FULL);
    CHECK_BYTES(header(h, "kafka_dlt-original-topic"), "order.created");
    CHECK_BYTES(header(h, "kafka_dlt-original-partition"), "\0\0\0\2");
    CHECK_BYTES(header(h, "kafka_dlt-original-offset"), "\1\2\3\4\5\6\7\10");
    CHECK_BYTES(header(h, "kafka_dlt-original-timestamp"), "\0\0\1\x8b\xcf\xe5\x68\x7d");
    CHECK_BYTES(header(h, "kafka_dlt-original-timestamp-type"), "CreateTime");
    CHECK_BYTES(header(h, "kafka_dlt-original-consumer-group"), "shipping");
    CHECK_BYTES(header(h, "kafka_dlt-exception-fqcn"), "postbox.HandlerError");
    CHECK_ABSENT(header(h, "kafka_dlt-exception-cause-fqcn"));
    CHECK_BYTES(header(h, "kafka_dlt-exception-message"), "no tea");
    CHECK_BYTES(header(h, "kafka_dlt-exception-stacktrace"), "at line 1");
    CHECK_BYTES(header(h, "postbox-attempts"), "4");
    CHECK_BYTES(header(h, "postbox-failed-at"), "2023-11-14T22:13:21.007Z");
    CHECK_BYTES(header(h, "postbox-reason"), "handler");
    rd_kafka_headers_destroy(h);
}

static void test_original_headers(void) {
    rd_kafka_headers_t *original = rd_kafka_headers_new(8);
    rd_kafka_header_add(original, "a", -1, "1", 1);
    rd_kafka_header_add(original, "kafka_dlt-original-offset", -1, "old", 3);
    rd_kafka_header_add(original, "a", -1, "\0\xff", 2);
    rd_kafka_header_add(original, "postbox-attempts", -1, "9", 1);
    rd_kafka_header_add(original, "postbox-event-id", -1, "x", 1);
    rd_kafka_header_add(original, "empty", -1, "", 0);
    rd_kafka_header_add(original, "null", -1, NULL, 0);
    pb_reason reason = reason_of("m", NULL);
    rd_kafka_headers_t *h = pb_dead_letter_headers(original, &place, &reason, 0, PB_DETAIL_FULL);
    static const struct { const char *name; pb_bytes value; } wanted[] = {
        {"a", {"1", 1}}, {"a", {"\0\xff", 2}}, {"postbox-event-id", {"x", 1}}, {"empty", {"", 0}},
        {"null", {NULL, 0}}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const char *name;
        const void *value;
        size_t size;
        CHECK_INT(rd_kafka_header_get_all(h, i, &name, &value, &size), 0);
        CHECK(strcmp(name, wanted[i].name) == 0);
        CHECK(pb_bytes_equal((pb_bytes){value, size}, wanted[i].value));
    }
    CHECK_BYTES(header(h, "kafka_dlt-original-offset"), "\1\2\3\4\5\6\7\10");
    CHECK_BYTES(header(h, "postbox-attempts"), "4");
    CHECK_ABSENT(header(h, "kafka_dlt-exception-stacktrace"));
    /* A second death on top of the first is not larger. */
    rd_kafka_headers_t *again = pb_dead_letter_headers(h, &place, &reason, 0, PB_DETAIL_FULL);
    CHECK_INT(rd_kafka_header_cnt(again), rd_kafka_header_cnt(h));
    rd_kafka_headers_destroy(again);
    rd_kafka_headers_destroy(h);
    rd_kafka_headers_destroy(original);
}

static void test_limits(void) {
    char *long_text = malloc(20001);
    for (int i = 0; i < 20000; i += 2)
        memcpy(long_text + i, "\xc3\xa9", 2);
    long_text[0] = 'x'; /* so that the limit falls inside a character */
    long_text[1] = 'y';
    long_text[2] = 'z';
    memmove(long_text + 3, long_text + 4, 19996);
    long_text[19999] = '\0';
    pb_reason reason = reason_of(long_text, long_text);
    rd_kafka_headers_t *full = pb_dead_letter_headers(NULL, &place, &reason, 0, PB_DETAIL_FULL);
    pb_bytes message = header(full, "kafka_dlt-exception-message");
    CHECK_INT(message.length, PB_DEAD_LETTER_MESSAGE - 1);
    CHECK_INT((uint8_t)message.data[message.length - 1], 0xa9);
    CHECK_INT(header(full, "kafka_dlt-exception-stacktrace").length, PB_DEAD_LETTER_TRACE - 1);
    rd_kafka_headers_destroy(full);
    rd_kafka_headers_t *brief = pb_dead_letter_headers(NULL, &place, &reason, 0, PB_DETAIL_SHORT);
    CHECK_ABSENT(header(brief, "kafka_dlt-exception-stacktrace"));
    CHECK(header(brief, "kafka_dlt-exception-message").data != NULL);
    rd_kafka_headers_destroy(brief);
    rd_kafka_headers_t *bare = pb_dead_letter_headers(NULL, &place, &reason, 0, PB_DETAIL_NONE);
    CHECK_ABSENT(header(bare, "kafka_dlt-exception-message"));
    CHECK_BYTES(header(bare, "kafka_dlt-original-topic"), "order.created");
    rd_kafka_headers_destroy(bare);
    free(long_text);
}

static void test_names(void) {
    char *name = pb_dead_letter_topic("order.created");
    CHECK_BYTES(pb_bytes_of(name), "order.created-dlt");
    free(name);
}

int main(void) {
    test_formats();
    test_original_headers();
    test_limits();
    test_names();
    return test_report();
}

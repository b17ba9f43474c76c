#include "../../src/core/event.h"

#include "../../src/core/json.h"
#include "test.h"

#define ID_TEXT "01890a5d-ac96-774b-bcce-b302099a8057"

static char long_text[PB_HEADER_BYTES_LIMIT + 1];

static void types(void) {
    pb_error err;
    CHECK(pb_check_type(BYTES("ORDER_CREATED"), &err) == 0);
    CHECK(pb_check_type(BYTES("shop.order/created:v2"), &err) == 0);
    CHECK(pb_check_type(BYTES("BESTELLUNG_GE\xc3\x84NDERT"), &err) == 0);
    CHECK(pb_check_type((pb_bytes){long_text, PB_TYPE_LIMIT}, &err) == 0);
    CHECK_FAILS(pb_check_type((pb_bytes){long_text, PB_TYPE_LIMIT + 1}, &err), err, PB_CONFIG,
                "201 bytes");
    CHECK_FAILS(pb_check_type(PB_ABSENT, &err), err, PB_CONFIG, "empty");
    CHECK_FAILS(pb_check_type(BYTES(""), &err), err, PB_CONFIG, "empty");
    CHECK_FAILS(pb_check_type(BYTES("A\0B"), &err), err, PB_CONFIG, "U+0000 at byte 2"); /* E-02 */
    CHECK_FAILS(pb_check_type(BYTES("A B"), &err), err, PB_CONFIG, "U+0020");
    CHECK_FAILS(pb_check_type(BYTES("A\n"), &err), err, PB_CONFIG, "U+000A");
    CHECK_FAILS(pb_check_type(BYTES("A\x7f"), &err), err, PB_CONFIG, "U+007F");
    CHECK_FAILS(pb_check_type(BYTES("\xc3\x84\xc2\x85"), &err), err, PB_CONFIG, "U+0085 at byte 3");
    CHECK_FAILS(pb_check_type(BYTES("A\xe2\x80\xa8"), &err), err, PB_CONFIG, "U+2028");
    CHECK_FAILS(pb_check_type(BYTES("\xff"), &err), err, PB_CONFIG, "UTF-8"); /* E-04 */
}

static void topics(void) {
    pb_error err;
    CHECK(pb_check_topic(BYTES("order.created-dlt_2"), &err) == 0);
    CHECK(pb_check_topic(BYTES("..."), &err) == 0);
    CHECK(pb_check_topic((pb_bytes){long_text, PB_TOPIC_LIMIT}, &err) == 0);
    CHECK_FAILS(pb_check_topic((pb_bytes){long_text, PB_TOPIC_LIMIT + 1}, &err), err, PB_CONFIG,
                "250 bytes");
    CHECK_FAILS(pb_check_topic(BYTES(""), &err), err, PB_CONFIG, "empty");
    CHECK_FAILS(pb_check_topic(BYTES("."), &err), err, PB_CONFIG, "neither");
    CHECK_FAILS(pb_check_topic(BYTES(".."), &err), err, PB_CONFIG, "neither");
    CHECK_FAILS(pb_check_topic(BYTES("a b"), &err), err, PB_CONFIG, "byte 2");
    CHECK_FAILS(pb_check_topic(BYTES("order\0x"), &err), err, PB_CONFIG, "byte 6"); /* E-02 */
    CHECK_FAILS(pb_check_topic(BYTES("gr\xc3\xbc\xc3\x9f" "e"), &err), err, PB_CONFIG, "byte 3");
}

/* E-08 */
static void header_names(void) {
    pb_error err;
    CHECK(pb_check_header(BYTES("traceparent"), BYTES("\0\xff"), &err) == 0);
    CHECK(pb_check_header(BYTES("postbox"), PB_ABSENT, &err) == 0);
    CHECK(pb_check_header(BYTES("x-postbox-event-id"), BYTES(""), &err) == 0);
    CHECK_FAILS(pb_check_header(BYTES("postbox-event-id"), BYTES("x"), &err), err, PB_CONFIG,
                "`postbox-`");
    CHECK_FAILS(pb_check_header(BYTES("PostBox-anything"), BYTES("x"), &err), err, PB_CONFIG,
                "reserved");
    CHECK_FAILS(pb_check_header(BYTES("Kafka_DLT-original-topic"), BYTES("x"), &err), err,
                PB_CONFIG, "`kafka_dlt-`");
    CHECK_FAILS(pb_check_header(BYTES(""), BYTES("x"), &err), err, PB_CONFIG, "empty");
    CHECK_FAILS(pb_check_header(BYTES("a\0b"), BYTES("x"), &err), err, PB_CONFIG, "control");
    CHECK_FAILS(pb_check_header(BYTES("a\xff"), BYTES("x"), &err), err, PB_CONFIG, "UTF-8");
    CHECK_FAILS(pb_check_header(BYTES("a"), (pb_bytes){long_text, sizeof long_text}, &err), err,
                PB_CONFIG, "16384 bytes");
}

static void stored_headers(void) {
    pb_buffer b = {0};
    pb_bytes name, value;
    pb_headers_add(&b, BYTES("a"), BYTES("\0\xff"));
    pb_headers_add(&b, BYTES("bc"), PB_ABSENT);
    pb_headers_add(&b, BYTES("a"), BYTES(""));
    CHECK_BYTES(pb_buffer_bytes(&b),
                "\0\1a\0\0\0\2\0\xff\0\2bc\xff\xff\xff\xff\0\1a\0\0\0\0");
    pb_bytes rest = pb_buffer_bytes(&b);
    CHECK_INT(pb_headers_next(&rest, &name, &value), 1);
    CHECK_BYTES(name, "a");
    CHECK_BYTES(value, "\0\xff");
    CHECK_INT(pb_headers_next(&rest, &name, &value), 1);
    CHECK_BYTES(name, "bc");
    CHECK_ABSENT(value);
    CHECK_INT(pb_headers_next(&rest, &name, &value), 1);
    CHECK_BYTES(value, "");
    CHECK_INT(pb_headers_next(&rest, &name, &value), 0);
    pb_buffer_free(&b);
}

/* E-09, E-21: bytes that come from a table that anybody may write to. */
static void damaged_headers(void) {
    pb_bytes whole = BYTES("\0\1a\0\0\0\2xy"), name, value;
    for (size_t length = 1; length < whole.length; length++) {
        pb_bytes rest = {whole.data, length};
        CHECK_INT(pb_headers_next(&rest, &name, &value), -1);
    }
    pb_bytes huge = BYTES("\0\1a\xff\xff\xff\xfe" "x"), long_name = BYTES("\xff\xff" "a");
    CHECK_INT(pb_headers_next(&huge, &name, &value), -1);
    CHECK_INT(pb_headers_next(&long_name, &name, &value), -1);
}

static void header_limits(void) {
    pb_error err;
    pb_buffer b = {0};
    size_t count, bytes;
    for (int i = 0; i < PB_HEADER_LIMIT; i++)
        pb_headers_add(&b, BYTES("abc"), BYTES("1"));
    CHECK(pb_headers_measure(pb_buffer_bytes(&b), &count, &bytes) == 0);
    CHECK_INT(count, PB_HEADER_LIMIT);
    CHECK_INT(bytes, 4 * PB_HEADER_LIMIT);
    CHECK(pb_check_headers(pb_buffer_bytes(&b), &err) == 0);
    pb_headers_add(&b, BYTES("abc"), PB_ABSENT);
    CHECK_FAILS(pb_check_headers(pb_buffer_bytes(&b), &err), err, PB_CONFIG, "65 of them");
    pb_buffer_clear(&b);
    pb_headers_add(&b, BYTES("a"), (pb_bytes){long_text, PB_HEADER_BYTES_LIMIT - 1});
    CHECK(pb_check_headers(pb_buffer_bytes(&b), &err) == 0);
    pb_headers_add(&b, BYTES("b"), PB_ABSENT);
    CHECK_FAILS(pb_check_headers(pb_buffer_bytes(&b), &err), err, PB_TOO_LARGE, "16385 bytes");
    CHECK_FAILS(pb_check_headers(BYTES("no"), &err), err, PB_CONFIG, "not headers");
    pb_buffer_free(&b);
}

static void envelope(void) {
    pb_buffer b = {0}, scratch = {0};
    pb_bytes id_text, type, payload;
    uint8_t id[PB_ID_SIZE];
    pb_error err;
    pb_id_parse(BYTES(ID_TEXT), id);
    pb_envelope_write(&b, id, BYTES("A\"\\"), BYTES("[1]"));
    CHECK_BYTES(pb_buffer_bytes(&b),
                "{\"eventId\":\"" ID_TEXT "\",\"eventType\":\"A\\\"\\\\\",\"payload\":[1]}");
    CHECK(pb_json_envelope(pb_buffer_bytes(&b), &scratch, &id_text, &type, &payload, &err) == 0);
    CHECK_BYTES(id_text, ID_TEXT);
    CHECK_BYTES(type, "A\"\\");
    CHECK_BYTES(payload, "[1]");
    pb_buffer_free(&b);
    pb_buffer_free(&scratch);
}

static void record_bytes(void) {
    pb_buffer value = {0}, headers = {0};
    pb_event event = {.envelope = PB_ENVELOPE_JSON,
                      .type = BYTES("A\"B"),
                      .key = BYTES("key"),
                      .payload = BYTES("{}"),
                      .headers = BYTES("")};
    pb_envelope_write(&value, event.id, event.type, event.payload);
    size_t json = pb_event_record_bytes(&event);
    event.envelope = PB_ENVELOPE_HEADERS;
    CHECK_INT(json - pb_event_record_bytes(&event), value.length - event.payload.length);
    size_t plain = pb_event_record_bytes(&event);
    size_t names = strlen("postbox-event-id" "postbox-event-type" "postbox-outbox-id");
    CHECK(plain > 3 + 2 + 61 + 36 + 3 + names);
    pb_headers_add(&headers, BYTES("name"), BYTES("value"));
    event.headers = pb_buffer_bytes(&headers);
    CHECK_INT(pb_event_record_bytes(&event) - plain, 4 + 5 + 10);
    event.payload = PB_ABSENT;
    event.headers = BYTES("");
    CHECK_INT(plain - pb_event_record_bytes(&event), 2);
    pb_buffer_free(&value);
    pb_buffer_free(&headers);
}

int main(void) {
    memset(long_text, 'x', sizeof long_text);
    types();
    topics();
    header_names();
    stored_headers();
    damaged_headers();
    header_limits();
    envelope();
    record_bytes();
    return test_report();
}

#include "event.h"

#include <string.h>
#include <strings.h>

#include "json.h"
#include "utf8.h"

#define NULL_VALUE UINT32_MAX /* stored length of a header value that is null */

/* Around the record: the header of its batch, 61 bytes, and the most that its varints take. */
#define RECORD_OVERHEAD 90
#define HEADER_OVERHEAD 10 /* two varints of five bytes */
#define NUMBER_TEXT 19     /* longest outbox id */

static const char *const reserved_prefixes[] = {"postbox-", "kafka_dlt-"};

static const char *const own_headers[] = {PB_HEADER_EVENT_ID, PB_HEADER_EVENT_TYPE,
                                          PB_HEADER_OUTBOX_ID};

static const char open_text[] = "{\"eventId\":\"", type_text[] = "\",\"eventType\":",
                  payload_text[] = ",\"payload\":";

#define LENGTH_OF(literal) (sizeof literal - 1)

static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

static bool is_space(uint32_t c) {
    return c == ' ' || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200b) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000 || c == 0xfeff;
}

int pb_check_type(pb_bytes type, pb_error *err) {
    if (!type.data || type.length == 0)
        return pb_fail(err, PB_CONFIG, "event type: empty; a type is a name such as ORDER_CREATED");
    if (type.length > PB_TYPE_LIMIT)
        return pb_fail(err, PB_CONFIG, "event type: %zu bytes, the limit is %d", type.length,
                       PB_TYPE_LIMIT);
    if (!pb_utf8_valid(type))
        return pb_fail(err, PB_CONFIG, "event type: not valid UTF-8");
    for (pb_bytes rest = type; rest.length > 0;) {
        size_t at = type.length - rest.length + 1;
        uint32_t c = pb_utf8_next(&rest);
        if (is_control(c) || is_space(c))
            return pb_fail(err, PB_CONFIG,
                           "event type: U+%04X at byte %zu: white space and control characters "
                           "are not allowed",
                           c, at);
    }
    return 0;
}

static bool is_topic_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '.' || c == '_' || c == '-';
}

int pb_check_topic(pb_bytes topic, pb_error *err) {
    if (!topic.data || topic.length == 0)
        return pb_fail(err, PB_CONFIG, "topic: the name is empty");
    if (topic.length > PB_TOPIC_LIMIT)
        return pb_fail(err, PB_CONFIG, "topic: the name has %zu bytes, Kafka's limit is %d",
                       topic.length, PB_TOPIC_LIMIT);
    if (pb_bytes_equal(topic, pb_bytes_of(".")) || pb_bytes_equal(topic, pb_bytes_of("..")))
        return pb_fail(err, PB_CONFIG, "topic: Kafka allows neither `.` nor `..` as a name");
    for (size_t i = 0; i < topic.length; i++)
        if (!is_topic_character(topic.data[i]))
            return pb_fail(err, PB_CONFIG,
                           "topic: byte %zu of the name is not one of Kafka's a-z A-Z 0-9 . _ - "
                           "(the option `topics` gives a type another topic)",
                           i + 1);
    return 0;
}

static const char *reserved_prefix_of(pb_bytes name) {
    for (size_t i = 0; i < sizeof reserved_prefixes / sizeof *reserved_prefixes; i++) {
        size_t length = strlen(reserved_prefixes[i]);
        if (name.length >= length && strncasecmp(name.data, reserved_prefixes[i], length) == 0)
            return reserved_prefixes[i];
    }
    return NULL;
}

int pb_check_header(pb_bytes name, pb_bytes value, pb_error *err) {
    if (!name.data || name.length == 0)
        return pb_fail(err, PB_CONFIG, "header: the name is empty");
    if (name.length > PB_HEADER_BYTES_LIMIT || value.length > PB_HEADER_BYTES_LIMIT)
        return pb_fail(err, PB_CONFIG, "header: more than %d bytes", PB_HEADER_BYTES_LIMIT);
    if (!pb_utf8_valid(name))
        return pb_fail(err, PB_CONFIG, "header: the name is not valid UTF-8");
    for (pb_bytes rest = name; rest.length > 0;)
        if (is_control(pb_utf8_next(&rest)))
            return pb_fail(err, PB_CONFIG, "header: a control character in the name");
    const char *prefix = reserved_prefix_of(name);
    if (prefix)
        return pb_fail(err, PB_CONFIG, "header: names that begin with `%s` are reserved", prefix);
    return 0;
}

void pb_headers_add(pb_buffer *stored, pb_bytes name, pb_bytes value) {
    pb_buffer_add_u16(stored, (uint16_t)name.length);
    pb_buffer_add_bytes(stored, name);
    pb_buffer_add_u32(stored, value.data ? (uint32_t)value.length : NULL_VALUE);
    pb_buffer_add_bytes(stored, value);
}

static bool take(pb_bytes *rest, size_t length, const char **taken) {
    if (rest->length < length)
        return false;
    *taken = rest->data;
    rest->data += length;
    rest->length -= length;
    return true;
}

int pb_headers_next(pb_bytes *rest, pb_bytes *name, pb_bytes *value) {
    const char *at;
    if (rest->length == 0)
        return 0;
    if (!take(rest, 2, &at))
        return -1;
    name->length = pb_read_u16(at);
    if (!take(rest, name->length, &name->data) || !take(rest, 4, &at))
        return -1;
    uint32_t length = pb_read_u32(at);
    if (length == NULL_VALUE) {
        *value = PB_ABSENT;
        return 1;
    }
    if (length > INT32_MAX || !take(rest, length, &value->data))
        return -1;
    value->length = length;
    return 1;
}

int pb_headers_measure(pb_bytes stored, size_t *count, size_t *bytes) {
    pb_bytes name, value;
    int got;
    *count = *bytes = 0;
    while ((got = pb_headers_next(&stored, &name, &value)) > 0) {
        *count += 1;
        *bytes += name.length + value.length;
    }
    return got;
}

int pb_check_headers(pb_bytes stored, pb_error *err) {
    size_t count, bytes;
    if (pb_headers_measure(stored, &count, &bytes) != 0)
        return pb_fail(err, PB_CONFIG, "headers: the stored bytes are not headers");
    if (count > PB_HEADER_LIMIT)
        return pb_fail(err, PB_CONFIG, "headers: %zu of them, the limit of one event is %d", count,
                       PB_HEADER_LIMIT);
    if (bytes > PB_HEADER_BYTES_LIMIT)
        return pb_fail(err, PB_TOO_LARGE, "headers: %zu bytes together, the limit of one event is %d",
                       bytes, PB_HEADER_BYTES_LIMIT);
    return 0;
}

void pb_envelope_write(pb_buffer *out, const uint8_t id[PB_ID_SIZE], pb_bytes type,
                       pb_bytes payload) {
    char text[PB_ID_TEXT + 1];
    pb_id_text(id, text);
    pb_buffer_reserve(out, LENGTH_OF(open_text) + PB_ID_TEXT + LENGTH_OF(type_text) +
                               LENGTH_OF(payload_text) + 2 * PB_TYPE_LIMIT + payload.length + 3);
    pb_buffer_add(out, open_text, LENGTH_OF(open_text));
    pb_buffer_add(out, text, PB_ID_TEXT);
    pb_buffer_add(out, type_text, LENGTH_OF(type_text));
    pb_json_write_string(out, type);
    pb_buffer_add(out, payload_text, LENGTH_OF(payload_text));
    pb_buffer_add_bytes(out, payload);
    pb_buffer_add_u8(out, '}');
}

static size_t value_bytes(const pb_event *event) {
    if (!event->payload.data || event->envelope == PB_ENVELOPE_HEADERS)
        return event->payload.length;
    return LENGTH_OF(open_text) + PB_ID_TEXT + LENGTH_OF(type_text) +
           pb_json_string_bytes(event->type) + LENGTH_OF(payload_text) + event->payload.length + 1;
}

size_t pb_event_record_bytes(const pb_event *event) {
    size_t own_count = sizeof own_headers / sizeof *own_headers, count, bytes;
    size_t total = RECORD_OVERHEAD + event->key.length + value_bytes(event);
    for (size_t i = 0; i < own_count; i++)
        total += strlen(own_headers[i]);
    total += PB_ID_TEXT + event->type.length + NUMBER_TEXT;
    pb_headers_measure(event->headers, &count, &bytes);
    return total + bytes + (own_count + count) * HEADER_OVERHEAD;
}

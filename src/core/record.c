#include "record.h"

#include <librdkafka/rdkafka.h>

#include "event.h"
#include "json.h"

int pb_record_header(const rd_kafka_headers_t *headers, const char *name, pb_bytes *value) {
    const void *data;
    size_t size;
    *value = PB_ABSENT;
    if (!headers || rd_kafka_header_get(headers, 0, name, &data, &size))
        return 0;
    *value = (pb_bytes){data, size};
    /* Readers that take the first and readers that take the last would see different events. */
    if (rd_kafka_header_get(headers, 1, name, &data, &size) == RD_KAFKA_RESP_ERR_NO_ERROR)
        return -1;
    return 1;
}

static int read_headers(const rd_kafka_headers_t *headers, pb_fields *fields, pb_error *err) {
    if (pb_record_header(headers, PB_HEADER_EVENT_ID, &fields->id) < 0)
        return pb_fail(err, PB_CONFIG, "the record has several headers %s", PB_HEADER_EVENT_ID);
    if (pb_record_header(headers, PB_HEADER_EVENT_TYPE, &fields->type) < 0)
        return pb_fail(err, PB_CONFIG, "the record has several headers %s", PB_HEADER_EVENT_TYPE);
    if (fields->id.length == 0) /* an empty one would make all such records the same event */
        fields->id = PB_ABSENT;
    return 0;
}

/* Only an object can be an envelope: most other values are told apart by their first character. */
static bool may_be_envelope(pb_bytes value) {
    for (size_t i = 0; i < value.length; i++) {
        char c = value.data[i];
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return c == '{';
    }
    return false;
}

/* 1 the value is an envelope, 0 it is JSON of another kind, -1 it is no JSON. */
static int read_envelope(pb_bytes value, pb_buffer *scratch, pb_fields *fields, pb_error *err) {
    pb_bytes id, type, payload;
    pb_error not_an_envelope;
    if (!may_be_envelope(value))
        return pb_json_check(value, PB_JSON_DEPTH, err);
    if (pb_json_envelope(value, scratch, &id, &type, &payload, &not_an_envelope) != 0)
        return pb_json_check(value, PB_JSON_DEPTH, err); /* or the members are something else */
    if (id.length == 0 || !type.data || !payload.data)
        return 0;
    /* A payload that looks like an envelope, beside headers that name another event. */
    if (fields->id.data && !pb_bytes_equal(fields->id, id))
        return 0;
    *fields = (pb_fields){id, type, payload};
    return 1;
}

int pb_record_read(pb_codec codec, pb_bytes value, const rd_kafka_headers_t *headers,
                   pb_buffer *scratch, pb_fields *fields, pb_error *err) {
    *fields = (pb_fields){PB_ABSENT, PB_ABSENT, value};
    pb_buffer_clear(scratch);
    if (codec == PB_CODEC_CUSTOM)
        return 0;
    if (read_headers(headers, fields, err) != 0)
        return -1;
    if (!value.data || codec == PB_CODEC_BYTES)
        return 0;
    int read = codec == PB_CODEC_JSON ? pb_json_check(value, PB_JSON_DEPTH, err)
                                      : read_envelope(value, scratch, fields, err);
    if (scratch->failed)
        return pb_fail_memory(err, "an event");
    return read < 0 ? -1 : 0;
}

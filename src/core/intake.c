#include "intake.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "event.h"
#include "inbox.h"

#define FIRST_CAPACITY 64
#define CLOCK_SKEW_MS 86400000 /* a timestamp further ahead is not believed */

pb_record *pb_intake_add(pb_intake *intake) {
    if (intake->count == intake->capacity) {
        size_t capacity = intake->capacity ? intake->capacity * 2 : FIRST_CAPACITY;
        pb_record *grown = realloc(intake->records, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        intake->records = grown;
        intake->capacity = capacity;
    }
    pb_record *record = &intake->records[intake->count++];
    memset(record, 0, sizeof *record);
    return record;
}

void pb_record_destroy(pb_record *record) {
    if (record->message)
        rd_kafka_message_destroy(record->message);
    record->message = NULL;
    pb_buffer_free(&record->scratch);
}

void pb_intake_free(pb_intake *intake) {
    for (size_t i = 0; i < intake->count; i++)
        pb_record_destroy(&intake->records[i]);
    free(intake->records);
    *intake = (pb_intake){0};
}

const char *pb_record_topic(const pb_record *record) {
    return rd_kafka_topic_name(record->message->rkt);
}

int32_t pb_record_partition(const pb_record *record) {
    return record->message->partition;
}

int64_t pb_record_offset(const pb_record *record) {
    return record->message->offset;
}

int64_t pb_record_timestamp(const pb_record *record) {
    rd_kafka_timestamp_type_t type;
    int64_t timestamp = rd_kafka_message_timestamp(record->message, &type);
    return type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : timestamp;
}

const char *pb_record_timestamp_type(const pb_record *record) {
    rd_kafka_timestamp_type_t type;
    rd_kafka_message_timestamp(record->message, &type);
    switch (type) {
    case RD_KAFKA_TIMESTAMP_CREATE_TIME: return "CreateTime";
    case RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME: return "LogAppendTime";
    default: return "NoTimestampType";
    }
}

pb_bytes pb_record_key(const pb_record *record) {
    return (pb_bytes){record->message->key, record->message->key_len};
}

pb_bytes pb_record_value(const pb_record *record) {
    return (pb_bytes){record->message->payload, record->message->len};
}

const rd_kafka_headers_t *pb_record_headers(const pb_record *record) {
    rd_kafka_headers_t *headers;
    return rd_kafka_message_headers(record->message, &headers) ? NULL : headers;
}

bool pb_record_header_at(const pb_record *record, size_t i, const char **name, pb_bytes *value) {
    const rd_kafka_headers_t *headers = pb_record_headers(record);
    const void *data;
    size_t size;
    if (!headers || rd_kafka_header_get_all(headers, i, name, &data, &size))
        return false;
    *value = (pb_bytes){data, size};
    return true;
}

/* Records without an id of their own: the place is the id. A copy sent again is another event. */
static int set_place_as_id(pb_record *record, pb_error *err) {
    pb_buffer_clear(&record->scratch);
    pb_buffer_format(&record->scratch, "%s/%" PRId32 "/%" PRId64, pb_record_topic(record),
                     pb_record_partition(record), pb_record_offset(record));
    if (record->scratch.failed)
        return pb_fail_memory(err, "the id of a record");
    record->fields.id = pb_buffer_bytes(&record->scratch);
    return 0;
}

static void set_inbox_key(pb_record *record) {
    int64_t now = pb_wall_ms();
    int64_t seen = pb_record_timestamp(record);
    if (seen < 0 || seen > now + CLOCK_SKEW_MS)
        seen = now;
    pb_inbox_key(record->fields.id, seen, record->key);
}

int pb_record_decode(pb_record *record, pb_codec codec, pb_error *err) {
    pb_error no_memory;
    int read = pb_record_read(codec, pb_record_value(record), pb_record_headers(record),
                              &record->scratch, &record->fields, err);
    if (read != 0)
        record->fields = (pb_fields){PB_ABSENT, PB_ABSENT, pb_record_value(record)};
    if (!record->fields.id.data && set_place_as_id(record, &no_memory) != 0) {
        *err = no_memory;
        read = -1;
    }
    set_inbox_key(record);
    return read;
}

int pb_record_set_id(pb_record *record, pb_bytes id, pb_error *err) {
    if (!id.data || id.length == 0) {
        if (set_place_as_id(record, err) != 0)
            return -1;
    } else {
        pb_buffer_clear(&record->scratch);
        pb_buffer_add_bytes(&record->scratch, id);
        if (record->scratch.failed)
            return pb_fail_memory(err, "the id of a record");
        record->fields.id = pb_buffer_bytes(&record->scratch);
    }
    set_inbox_key(record);
    return 0;
}

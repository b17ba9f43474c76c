/* The headers of a dead letter. Names and formats of kafka_dlt-* are Spring Kafka's. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dead_letter.h"

#define SPRING_PREFIX "kafka_dlt-"
#define NUMBER_TEXT 24
#define TIME_TEXT 40

/* Ours; an earlier death's are replaced, so that a letter never grows by dying again. */
static const char *const own[] = {"postbox-attempts", "postbox-failed-at", "postbox-reason"};

static bool is_of_a_death(const char *name) {
    if (strncmp(name, SPRING_PREFIX, sizeof SPRING_PREFIX - 1) == 0)
        return true;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(name, own[i]) == 0)
            return true;
    return false;
}

static bool add(rd_kafka_headers_t *headers, const char *name, const void *value, size_t size) {
    return rd_kafka_header_add(headers, name, -1, value,
                               (ssize_t)size) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool add_text(rd_kafka_headers_t *headers, const char *name, const char *text) {
    return !text || add(headers, name, text, strlen(text));
}

static bool add_number(rd_kafka_headers_t *headers, const char *name, int64_t number, size_t size) {
    uint8_t bytes[8]; /* big-endian, as Java writes its ints and longs */
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)((uint64_t)number >> (8 * (size - 1 - i)));
    return add(headers, name, bytes, size);
}

/* At most `limit` bytes, not cut inside a character of UTF-8. */
static pb_bytes cut(pb_bytes text, size_t limit) {
    if (text.length <= limit)
        return text;
    while (limit > 0 && ((uint8_t)text.data[limit] & 0xc0) == 0x80)
        limit--;
    return (pb_bytes){text.data, limit};
}

static bool copy_original(rd_kafka_headers_t *to, const rd_kafka_headers_t *from) {
    const char *name;
    const void *value;
    size_t size;
    for (size_t i = 0; from && !rd_kafka_header_get_all(from, i, &name, &value, &size); i++)
        if (!is_of_a_death(name) && !add(to, name, value, size))
            return false;
    return true;
}

static bool add_diagnosis(rd_kafka_headers_t *to, const pb_reason *reason, pb_detail detail) {
    pb_bytes message = cut(reason->message, PB_DEAD_LETTER_MESSAGE);
    pb_bytes trace = cut(reason->trace, PB_DEAD_LETTER_TRACE);
    if (detail == PB_DETAIL_NONE)
        return true;
    if (!add_text(to, "kafka_dlt-exception-fqcn", reason->class_name) ||
        !add_text(to, "kafka_dlt-exception-cause-fqcn", reason->cause_class) ||
        (message.data && !add(to, "kafka_dlt-exception-message", message.data, message.length)))
        return false;
    return detail == PB_DETAIL_SHORT || !trace.data ||
           add(to, "kafka_dlt-exception-stacktrace", trace.data, trace.length);
}

static bool add_place(rd_kafka_headers_t *to, const pb_place *place, const char *group) {
    return add_text(to, "kafka_dlt-original-topic", place->topic) &&
           add_number(to, "kafka_dlt-original-partition", place->partition, 4) &&
           add_number(to, "kafka_dlt-original-offset", place->offset, 8) &&
           add_number(to, "kafka_dlt-original-timestamp", place->timestamp, 8) &&
           add_text(to, "kafka_dlt-original-timestamp-type", place->timestamp_type) &&
           add_text(to, "kafka_dlt-original-consumer-group", group);
}

static bool add_own(rd_kafka_headers_t *to, const pb_reason *reason, int64_t now_ms) {
    char attempts[NUMBER_TEXT], at[TIME_TEXT];
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    if (!gmtime_r(&seconds, &utc))
        memset(&utc, 0, sizeof utc);
    size_t length = strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(at + length, sizeof at - length, ".%03dZ", (int)(now_ms % 1000));
    snprintf(attempts, sizeof attempts, "%d", reason->attempts);
    return add_text(to, own[0], attempts) && add_text(to, own[1], at) &&
           add_text(to, own[2], reason->code);
}

rd_kafka_headers_t *pb_dead_letter_headers(const rd_kafka_headers_t *original,
                                           const pb_place *place, const pb_reason *reason,
                                           int64_t now_ms, pb_detail detail) {
    rd_kafka_headers_t *headers = rd_kafka_headers_new(16);
    if (!headers)
        return NULL;
    if (copy_original(headers, original) && add_diagnosis(headers, reason, detail) &&
        add_place(headers, place, reason->group) && add_own(headers, reason, now_ms))
        return headers;
    rd_kafka_headers_destroy(headers);
    return NULL;
}

char *pb_dead_letter_topic(const char *topic) {
    char *name;
    return asprintf(&name, "%s%s", topic, PB_DEAD_LETTER_SUFFIX) < 0 ? NULL : name;
}

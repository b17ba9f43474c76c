#include "reference.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define METADATA_MS 10000
#define NEW_TOPIC_SECONDS 20.0 /* a topic that was just made may have no leader for a moment */

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static double seconds_of(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double now(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

double own_cpu(void) {
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

void sleep_until(double time) {
    struct timespec t = {(time_t)time, (long)((time - (double)(time_t)time) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        continue;
}

rd_kafka_t *open_kafka(rd_kafka_type_t type, const char *bootstrap, const property *properties,
                       int events) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, why, sizeof why) != 0)
        fail("%s", why);
    for (; properties->name; properties++)
        if (rd_kafka_conf_set(conf, properties->name, properties->value, why, sizeof why) != 0)
            fail("%s", why);
    rd_kafka_conf_set_events(conf, events);
    rd_kafka_t *kafka = rd_kafka_new(type, conf, why, sizeof why);
    if (!kafka)
        fail("librdkafka: %s", why);
    return kafka;
}

static int count_partitions(rd_kafka_t *kafka, const char *topic) {
    const rd_kafka_metadata_t *metadata;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(kafka, topic, NULL);
    rd_kafka_resp_err_t code = rd_kafka_metadata(kafka, 0, handle, &metadata, METADATA_MS);
    if (code)
        fail("topic %s: %s", topic, rd_kafka_err2str(code));
    int count = metadata->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(handle);
    return count;
}

static void ends_of(rd_kafka_t *kafka, const char *topic, int partition, int64_t *low,
                    int64_t *high) {
    double deadline = now() + NEW_TOPIC_SECONDS;
    rd_kafka_resp_err_t code;
    while ((code = rd_kafka_query_watermark_offsets(kafka, topic, partition, low, high,
                                                    METADATA_MS))) {
        if (now() > deadline)
            fail("topic %s, partition %d: %s", topic, partition, rd_kafka_err2str(code));
        sleep_until(now() + 0.05);
    }
}

rd_kafka_t *open_reader(const char *bootstrap, const char *topic, const property *properties,
                        bool from_end, int64_t *ends, int *partitions) {
    rd_kafka_t *kafka = open_kafka(RD_KAFKA_CONSUMER, bootstrap, properties, 0);
    rd_kafka_poll_set_consumer(kafka);
    int count = count_partitions(kafka, topic);
    if (count < 1 || count > *partitions)
        fail("topic %s has %d partitions", topic, count);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);
    for (int i = 0; i < count; i++) {
        int64_t low, high;
        ends_of(kafka, topic, i, &low, &high);
        ends[i] = high;
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = from_end ? high : low;
    }
    if (rd_kafka_assign(kafka, list))
        fail("topic %s cannot be assigned", topic);
    rd_kafka_topic_partition_list_destroy(list);
    *partitions = count;
    return kafka;
}

PGconn *open_database(const char *conninfo) {
    PGconn *pg = PQconnectdb(conninfo);
    if (PQstatus(pg) != CONNECTION_OK)
        fail("PostgreSQL: %s", PQerrorMessage(pg));
    return pg;
}

PGresult *expect(PGconn *pg, PGresult *result, ExecStatusType status) {
    if (PQresultStatus(result) != status)
        fail("PostgreSQL: %s", PQerrorMessage(pg));
    return result;
}

void prepare(PGconn *pg, const char *name, const char *sql, int count, const Oid *types) {
    PQclear(expect(pg, PQprepare(pg, name, sql, count, types), PGRES_COMMAND_OK));
}

static void write_id(char *out, const unsigned char id[16]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = digits[id[i] >> 4];
        *out++ = digits[id[i] & 15];
    }
}

static char *append(char *out, const char *text, size_t length) {
    memcpy(out, text, length);
    return out + length;
}

size_t write_envelope(char *out, const unsigned char id[16], const char *payload, size_t length) {
    static const char first[] = "{\"eventId\":\"";
    static const char second[] = "\",\"eventType\":\"" EVENT_TYPE "\",\"payload\":";
    char *place = append(out, first, sizeof first - 1);
    write_id(place, id);
    place = append(place + ID_TEXT, second, sizeof second - 1);
    place = append(place, payload, length);
    *place++ = '}';
    return (size_t)(place - out);
}

rd_kafka_headers_t *event_headers(const unsigned char id[16], int64_t outbox_id) {
    char id_text[ID_TEXT], number[24];
    write_id(id_text, id);
    int digits = snprintf(number, sizeof number, "%lld", (long long)outbox_id);
    rd_kafka_headers_t *headers = rd_kafka_headers_new(3);
    rd_kafka_header_add(headers, "postbox-event-id", -1, id_text, ID_TEXT);
    rd_kafka_header_add(headers, "postbox-event-type", -1, EVENT_TYPE, sizeof EVENT_TYPE - 1);
    rd_kafka_header_add(headers, "postbox-outbox-id", -1, number, digits);
    return headers;
}

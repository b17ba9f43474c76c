/* Rows of the outbox, as the relay reads them, and the Kafka records made of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay_internal.h"

#define LARGE "8192" /* bytes: larger fields are read apart, within a limit of their own */
#define IF_SMALL(field) "CASE WHEN octet_length(o." field ") <= " LARGE " THEN o." field " END"
#define SPREAD_SHIFT 6 /* 64 rows without a key follow each other in one partition */
#define SIZE(field) "coalesce(octet_length(o." field "), 0)::bigint"
#define HEAD "SELECT o.outbox_id, o.event_id, o.event_type, o.topic, o.partition, o.envelope,"
/* The clock is only looked at for rows that have the column. */
#define DIRECT_LEFT                                                                        \
    " CASE WHEN o.direct_until IS NOT NULL"                                                \
    " THEN extract(epoch FROM o.direct_until - clock_timestamp())::float8 END AS direct_left"
#define FIELDS                                                                             \
    HEAD " " IF_SMALL("partition_key") ", " IF_SMALL("payload") ", " IF_SMALL("headers")   \
    ", CASE WHEN octet_length(o.payload) > " LARGE " OR octet_length(o.headers) > " LARGE  \
    " OR octet_length(o.partition_key) > " LARGE " THEN " SIZE("payload") " + "            \
    SIZE("headers") " + " SIZE("partition_key") " END," DIRECT_LEFT

enum { ID, EVENT_ID, TYPE, TOPIC, PARTITION, ENVELOPE, KEY, PAYLOAD, HEADERS, LARGE_BYTES, LEFT };

const char pb_row_main_sql[] =
    FIELDS " FROM postbox.outbox o WHERE o.outbox_id > $1::bigint AND o.outbox_id <= $2::bigint"
           " ORDER BY o.outbox_id LIMIT $3::bigint";
/*
 * Never filtered: a row that were left out would look like a gap that nobody can fill. Range by
 * range, which LATERAL with a LIMIT enforces: the planner would read the whole table in order, and
 * compare each row with each range.
 */
const char pb_row_gap_sql[] =
    FIELDS " FROM unnest($1::bigint[], $2::bigint[]) AS g(low, high) CROSS JOIN LATERAL"
           " (SELECT * FROM postbox.outbox WHERE outbox_id BETWEEN g.low AND g.high"
           " ORDER BY outbox_id LIMIT $3::bigint) o ORDER BY o.outbox_id LIMIT $3::bigint";
const char pb_row_large_sql[] =
    HEAD " o.partition_key, o.payload, o.headers, NULL::bigint," DIRECT_LEFT
         " FROM unnest($1::bigint[]) AS g(id) JOIN postbox.outbox o ON o.outbox_id = g.id"
         " ORDER BY o.outbox_id";

pb_page *pb_page_new(PGresult *result) {
    pb_page *page = malloc(sizeof *page);
    if (!page) {
        PQclear(result);
        return NULL;
    }
    *page = (pb_page){result, 1};
    return page;
}

void pb_page_release(pb_page *page) {
    if (!page || --page->references > 0)
        return;
    PQclear(page->result);
    free(page);
}

static pb_bytes field(const PGresult *result, int row, int column) {
    if (PQgetisnull(result, row, column))
        return PB_ABSENT;
    return (pb_bytes){PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column)};
}

int64_t pb_row_id(const pb_page *page, int row) {
    return (int64_t)pb_read_u64(PQgetvalue(page->result, row, ID));
}

int64_t pb_row_large(const pb_page *page, int row) {
    if (PQgetisnull(page->result, row, LARGE_BYTES))
        return 0;
    return (int64_t)pb_read_u64(PQgetvalue(page->result, row, LARGE_BYTES));
}

static double read_double(const char *at) {
    uint64_t bits = pb_read_u64(at);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void pb_row_read(const pb_page *page, int row, pb_row *out) {
    const PGresult *r = page->result;
    out->id = pb_row_id(page, row);
    out->event_id = (const uint8_t *)PQgetvalue(r, row, EVENT_ID);
    out->type = field(r, row, TYPE);
    out->topic = field(r, row, TOPIC);
    out->partition = PQgetisnull(r, row, PARTITION)
                         ? PB_NO_PARTITION
                         : (int32_t)pb_read_u32(PQgetvalue(r, row, PARTITION));
    out->envelope = *PQgetvalue(r, row, ENVELOPE);
    out->key = field(r, row, KEY);
    out->payload = field(r, row, PAYLOAD);
    out->headers = field(r, row, HEADERS);
    out->large = pb_row_large(page, row);
    out->direct_left = PQgetisnull(r, row, LEFT) ? 0 : read_double(PQgetvalue(r, row, LEFT));
}

/* Rows without a key are spread in small groups, the same way each time they are read. */
int32_t pb_row_partition(const pb_row *row, int partitions) {
    if (row->partition != PB_NO_PARTITION)
        return row->partition;
    return row->key.data ? pb_kafka_partition_of(row->key, partitions)
                         : (int32_t)((row->id >> SPREAD_SHIFT) % partitions);
}

uint32_t pb_row_bytes(const pb_row *row) {
    return (uint32_t)(row->key.length + row->payload.length + row->headers.length +
                      row->type.length + row->topic.length + 64);
}

pb_bytes pb_row_value(const pb_row *row, pb_buffer *scratch) {
    if (row->envelope != PB_ENVELOPE_JSON || !row->payload.data)
        return row->payload;
    pb_buffer_clear(scratch);
    pb_envelope_write(scratch, row->event_id, row->type, row->payload);
    return pb_buffer_bytes(scratch);
}

static bool add(rd_kafka_headers_t *headers, const char *name, size_t name_length,
                const char *value, size_t length) {
    return rd_kafka_header_add(headers, name, (ssize_t)name_length, value, (ssize_t)length) ==
           RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Decimal text; returns its start within `text`. */
static char *decimal(int64_t number, char text[24], size_t *length) {
    char *at = text + 24;
    uint64_t rest = (uint64_t)number;
    do
        *--at = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    *length = (size_t)(text + 24 - at);
    return at;
}

#define NAME(text) text, sizeof(text) - 1

rd_kafka_headers_t *pb_row_headers(const pb_row *row) {
    char id[PB_ID_TEXT + 1], number[24];
    size_t digits;
    pb_bytes rest = row->headers, name, value;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
    bool fine = headers != NULL;
    while (fine && pb_headers_next(&rest, &name, &value) == 1)
        fine = add(headers, name.data, name.length, value.data, value.length);
    pb_id_text(row->event_id, id);
    const char *outbox_id = decimal(row->id, number, &digits);
    fine = fine && add(headers, NAME("postbox-event-id"), id, PB_ID_TEXT) &&
           add(headers, NAME("postbox-event-type"), row->type.data, row->type.length) &&
           add(headers, NAME("postbox-outbox-id"), outbox_id, digits);
    if (!fine && headers) {
        rd_kafka_headers_destroy(headers);
        headers = NULL;
    }
    return headers;
}

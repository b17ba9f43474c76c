/*
 * confirm = "readback": a row is deleted when its record was consumed from its topic, and both say
 * the same: the row is looked up by the record's outbox id, and event id, topic, key and value are
 * compared byte by byte. So a record that somebody else wrote clears nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "relay_internal.h"

#define MOST_RECORDS 2000 /* of one look-up */
#define LOOK_EVERY 1.0    /* seconds between looks for what was not seen in time */
#define LONGEST_PATIENCE 600.0

static bool header(const rd_kafka_headers_t *headers, const char *name, pb_bytes *value) {
    const void *data;
    size_t length;
    if (rd_kafka_header_get_last(headers, name, &data, &length) || !data)
        return false;
    *value = (pb_bytes){data, length};
    return true;
}

/* The row that a record says it is; 0 where it says nothing. */
static int64_t claimed_id(const rd_kafka_message_t *message, uint8_t event_id[PB_ID_SIZE]) {
    rd_kafka_headers_t *headers;
    pb_bytes value;
    int64_t id = 0;
    if (rd_kafka_message_headers(message, &headers) ||
        !header(headers, "postbox-event-id", &value) || !pb_id_parse(value, event_id) ||
        !header(headers, "postbox-outbox-id", &value) || value.length == 0 || value.length > 18)
        return 0;
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return 0;
        id = id * 10 + (value.data[i] - '0');
    }
    return id;
}

typedef struct seen {
    rd_kafka_message_t *message;
    int64_t id;
    uint8_t event_id[PB_ID_SIZE];
} seen;

static int by_id(const void *a, const void *b) {
    const seen *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool equal(pb_bytes row, const void *data, size_t length) {
    return pb_bytes_equal(row, (pb_bytes){data, data ? length : 0});
}

static bool matches(pb_active *a, const seen *s, const pb_row *row) {
    const rd_kafka_message_t *m = s->message;
    pb_bytes value = pb_row_value(row, &a->scratch);
    return s->id == row->id && memcmp(s->event_id, row->event_id, PB_ID_SIZE) == 0 &&
           pb_bytes_equal(row->topic, pb_bytes_of(rd_kafka_topic_name(m->rkt))) &&
           equal(row->key, m->key, m->key_len) && equal(value, m->payload, m->len);
}

static int clear(pb_active *a, int64_t id, pb_error *err) {
    pb_removal *r = &a->removal;
    pb_awaiting_remove(a->awaiting, id);
    a->relay->patience = 0;
    if (r->acked.count == 0)
        r->since = pb_now();
    return pb_ids_add(&r->acked, id) ? pb_fail_memory(err, "the list of published events") : 0;
}

/* Rows come in ascending order; a record may be there twice. */
static int compare(pb_active *a, const seen *list, size_t count, PGresult *result, pb_error *err) {
    pb_page page = {result, 1};
    int rows = PQntuples(result), failed = 0;
    size_t at = 0;
    for (int i = 0; i < rows && !failed; i++) {
        pb_row row;
        bool same = false;
        pb_row_read(&page, i, &row);
        while (at < count && list[at].id < row.id)
            at++;
        for (size_t k = at; k < count && list[k].id == row.id && !same; k++)
            same = matches(a, &list[k], &row);
        if (same)
            failed = clear(a, row.id, err);
    }
    return failed;
}

/* Each id once, or the look-up would answer twice. */
static int look_up(pb_active *a, const seen *list, size_t count, PGresult **result, pb_error *err) {
    pb_array ids = {0};
    PGresult *planner = NULL;
    double deadline = pb_pg_deadline(a->remover);
    pb_array_open(&ids, PB_OID_INT8);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || list[i].id != list[i - 1].id)
            pb_array_add_i64(&ids, list[i].id);
    pb_param param = pb_param_array(&ids);
    int failed = ids.bytes.failed ? pb_fail_memory(err, "the events to look up") : 0;
    failed = failed ||
             pb_pg_send(a->remover, pb_relay_planner_sql, NULL, 0, PB_BINARY_RESULT, err) ||
             pb_pg_send(a->remover, a->sql_large, &param, 1, PB_BINARY_RESULT, err) ||
             pb_pg_sync(a->remover, deadline, err) ||
             pb_pg_receive(a->remover, deadline, &planner, err) ||
             pb_pg_receive(a->remover, deadline, result, err) ||
             pb_pg_check(*result, "relay: looking up what was read back", err) ||
             pb_pg_finish(a->remover, deadline, err);
    PQclear(planner);
    pb_array_free(&ids);
    return failed ? -1 : 0;
}

static size_t take(pb_active *a, seen *list) {
    size_t count = 0, bytes = 0;
    rd_kafka_message_t *message;
    /* Bounded by bytes too: the rows that are looked up are as large. */
    while (count < MOST_RECORDS && bytes < PB_WINDOW_BYTES / 2 &&
           (message = pb_readback_next(a->readback)) != NULL) {
        seen *s = &list[count];
        s->message = message;
        s->id = claimed_id(message, s->event_id);
        bytes += message->len;
        if (s->id > 0)
            count++;
        else
            rd_kafka_message_destroy(message);
    }
    return count;
}

/* What was not seen in time is sent again, in order, with all that follows: by a new beginning. */
static int give_up_waiting(pb_active *a, double now, pb_error *err) {
    pb_relay *relay = a->relay;
    if (now < a->looked_at + LOOK_EVERY)
        return 0;
    a->looked_at = now;
    if (relay->patience == 0)
        relay->patience = relay->options.readback_timeout;
    size_t late = pb_awaiting_older(a->awaiting, now - relay->patience);
    if (late == 0)
        return 0;
    pb_relay_counts(relay)->repeats += (int64_t)late;
    pb_fail(err, PB_TIMEOUT,
            "relay: %zu events were not read back within %g s: they are sent again", late, relay->patience);
    if (relay->patience < LONGEST_PATIENCE)
        relay->patience *= 2; /* until one is seen again */
    return -1;
}

int pb_readback_step(pb_active *a, double now, pb_error *err) {
    pb_removal *r = &a->removal;
    PGresult *result = NULL;
    if (!a->readback || r->busy)
        return 0;
    pb_readback_commit(a->readback, r->done, now);
    seen *list = a->seen;
    size_t count = take(a, list);
    int failed = 0;
    if (count > 0) {
        qsort(list, count, sizeof *list, by_id);
        failed = look_up(a, list, count, &result, err) || compare(a, list, count, result, err);
        PQclear(result);
        a->again = true;
    }
    for (size_t i = 0; i < count; i++)
        rd_kafka_message_destroy(list[i].message);
    if (failed)
        return -1;
    pb_readback_mark(a->readback, r->started + (r->acked.count > 0 ? 1 : 0), now);
    return give_up_waiting(a, now, err);
}

int pb_readback_open(pb_active *a, pb_error *err) {
    if (!a->settings.readback)
        return 0;
    a->awaiting = pb_awaiting_new();
    a->seen = malloc(MOST_RECORDS * sizeof(seen));
    if (!a->awaiting || !a->seen)
        return pb_fail_memory(err, "the read-back");
    a->readback = pb_readback_new(a->config, a->settings.outbox, a->relay->wake_fd, err);
    return a->readback ? 0 : -1;
}

void pb_readback_close(pb_active *a) {
    pb_readback_free(a->readback);
    pb_awaiting_free(a->awaiting);
    free(a->seen);
}

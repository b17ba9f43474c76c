/* Direct delivery: sending the events of a batch, and deleting the rows of those that are stored. */
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "direct_internal.h"
#include "relay_internal.h"

#define MOST_IN_FLIGHT 20000
#define ENOUGH_TO_REMOVE 500
#define LONGEST_WAIT 0.005 /* seconds that acknowledged rows wait for company */
#define PAUSE 1.0          /* after a failure: what comes meanwhile is the relay's */
#define COUNT_LASTS 60.0   /* seconds until a topic's partitions are counted again */

struct pb_destination {
    pb_destination *next;
    char *name;
    rd_kafka_topic_t *handle;
    int partitions;
    double counted_at;
};

typedef struct sent {
    int64_t id;
    uint8_t event_id[PB_ID_SIZE];
} sent;

static void forget_destinations(pb_sender *s) {
    for (pb_destination *d = s->destinations, *next; d; d = next) {
        next = d->next;
        if (d->handle)
            rd_kafka_topic_destroy(d->handle);
        free(d->name);
        free(d);
    }
    s->destinations = NULL;
}

/* A producer at its end takes what is in flight with it: those rows are the relay's. */
static void give_up_producer(pb_sender *s, pb_direct_stats *done) {
    done->left += (int64_t)s->in_flight;
    s->in_flight = 0;
    forget_destinations(s);
    pb_producer_free(s->producer); /* the reports are lost with it: a small leak each, once */
    s->producer = NULL;
    s->again_at = pb_now() + PAUSE;
}

static bool is_ready(pb_sender *s) {
    pb_error err;
    pb_producer_options options = {.record_bytes = s->max_record_bytes,
                                   .wake_fd = s->wake_fd};
    if (s->producer || pb_now() < s->again_at)
        return s->producer != NULL;
    s->producer = pb_producer_new(s->config, &options, &err);
    if (!s->producer) {
        pb_log_write(s->config->log, PB_WARNING, "direct delivery: %s", err.message);
        s->again_at = pb_now() + PAUSE;
    }
    return s->producer != NULL;
}

static pb_destination *add(pb_sender *s, pb_bytes topic) {
    pb_destination *d = calloc(1, sizeof *d);
    if (!d || !(d->name = pb_bytes_copy(topic)) ||
        !(d->handle = rd_kafka_topic_new(s->producer->rk, d->name, NULL))) {
        if (d)
            free(d->name);
        free(d);
        return NULL;
    }
    d->next = s->destinations;
    s->destinations = d;
    return d;
}

/* Its partitions are counted by this thread, which may wait for that; others never do. */
static pb_destination *find(pb_sender *s, pb_bytes topic) {
    pb_error err;
    double now = pb_now();
    pb_destination *d = s->destinations;
    while (d && !pb_bytes_equal(pb_bytes_of(d->name), topic))
        d = d->next;
    if (!d && !(d = add(s, topic)))
        return NULL;
    if (d->counted_at > 0 && now < d->counted_at + (d->partitions > 0 ? COUNT_LASTS : PAUSE))
        return d->partitions > 0 ? d : NULL;
    int count = pb_kafka_partitions(s->producer->rk, d->name, 1.0, &err);
    d->counted_at = pb_now();
    if (count > 0)
        d->partitions = count;
    return d->partitions > 0 ? d : NULL;
}

static pb_row row_of(const pb_event *event, int64_t id) {
    return (pb_row){.id = id,
                    .event_id = event->id,
                    .type = event->type,
                    .topic = event->topic,
                    .key = event->key,
                    .payload = event->payload,
                    .headers = event->headers,
                    .envelope = (char)event->envelope,
                    .partition = event->partition};
}

bool pb_sender_send(pb_sender *s, const pb_batch *batch, int i) {
    pb_event event;
    pb_batch_get(batch, i, &event);
    pb_destination *d = is_ready(s) && s->in_flight < MOST_IN_FLIGHT ? find(s, event.topic) : NULL;
    pb_row row = row_of(&event, pb_batch_row(batch, i));
    sent *opaque = d ? malloc(sizeof *opaque) : NULL;
    if (!opaque)
        return false;
    opaque->id = row.id;
    memcpy(opaque->event_id, event.id, PB_ID_SIZE);
    pb_outgoing record = {.topic = d->handle,
                          .partition = pb_row_partition(&row, d->partitions),
                          .key = row.key,
                          .value = pb_row_value(&row, &s->scratch),
                          .headers = pb_row_headers(&row),
                          .opaque = opaque};
    if (record.headers && !s->scratch.failed && pb_producer_send(s->producer, &record) == 0) {
        s->in_flight++;
        return true;
    }
    if (record.headers)
        rd_kafka_headers_destroy(record.headers);
    free(opaque);
    return false;
}

static void stored(pb_sender *s, const sent *row) {
    if (s->readback)
        return;
    if (s->ids.count == 0) {
        pb_array_open(&s->ids, PB_OID_INT8);
        pb_array_open(&s->event_ids, PB_OID_UUID);
        s->since = pb_now();
    }
    pb_array_add_i64(&s->ids, row->id);
    pb_array_add(&s->event_ids, (pb_bytes){(const char *)row->event_id, PB_ID_SIZE});
}

/* False: the producer is at its end. */
static bool take_event(pb_sender *s, rd_kafka_event_t *event, pb_direct_stats *done) {
    const rd_kafka_message_t *message;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
        return rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR__FATAL;
    while ((message = rd_kafka_event_message_next(event)) != NULL) {
        s->in_flight--;
        if (message->err) {
            done->left++;
        } else {
            done->published++;
            stored(s, message->_private);
        }
        free(message->_private);
    }
    return true;
}

static const char delete_sql[] =
    "DELETE FROM postbox.outbox o USING unnest($1::bigint[], $2::uuid[]) AS r(id, event_id)"
    " WHERE o.outbox_id = r.id AND o.event_id = r.event_id";

static int run_delete(pb_sender *s, int64_t *removed, pb_error *err) {
    PGresult *planner = NULL, *result = NULL;
    char *sql = pb_config_sql(s->config, delete_sql);
    pb_param params[] = {pb_param_array(&s->ids), pb_param_array(&s->event_ids)};
    double deadline = pb_pg_deadline(s->pg);
    int failed = !sql || s->ids.bytes.failed || s->event_ids.bytes.failed
                     ? pb_fail_memory(err, "the rows to remove")
                     : 0;
    failed = failed || pb_pg_send(s->pg, pb_relay_planner_sql, NULL, 0, PB_BINARY_RESULT, err) ||
             pb_pg_send(s->pg, sql, params, 2, PB_BINARY_RESULT, err) ||
             pb_pg_sync(s->pg, deadline, err) ||
             pb_pg_receive(s->pg, deadline, &planner, err) ||
             pb_pg_receive(s->pg, deadline, &result, err) ||
             pb_pg_check(result, "direct delivery: removing published events", err) ||
             pb_pg_finish(s->pg, deadline, err);
    if (!failed)
        *removed = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(planner);
    PQclear(result);
    free(sql);
    return failed ? -1 : 0;
}

/* What cannot be deleted is sent once more by the relay. */
static void remove_rows(pb_sender *s, pb_direct_stats *done) {
    pb_error err;
    int64_t removed = 0;
    int failed = 0;
    if (s->ids.count == 0 ||
        (s->ids.count < ENOUGH_TO_REMOVE && pb_now() < s->since + LONGEST_WAIT))
        return;
    if (!s->pg)
        s->pg = pb_pg_open(s->config, "postbox direct", &err);
    failed = !s->pg || run_delete(s, &removed, &err);
    if (failed) {
        pb_log_write(s->config->log, PB_WARNING, "%s", err.message);
        pb_pg_close(s->pg);
        s->pg = NULL;
    }
    done->removed += removed;
    s->ids.count = 0;
}

void pb_sender_serve(pb_sender *s, pb_direct_stats *done) {
    rd_kafka_event_t *event;
    bool fine = true;
    while (fine && s->producer && (event = rd_kafka_queue_poll(s->producer->queue, 0)) != NULL) {
        fine = take_event(s, event, done);
        rd_kafka_event_destroy(event);
    }
    remove_rows(s, done);
    if (!fine)
        give_up_producer(s, done);
}

bool pb_sender_is_idle(const pb_sender *s) {
    return s->in_flight == 0 && s->ids.count == 0;
}

void pb_sender_close(pb_sender *s) {
    forget_destinations(s);
    pb_producer_free(s->producer);
    pb_pg_close(s->pg);
    pb_array_free(&s->ids);
    pb_array_free(&s->event_ids);
    pb_buffer_free(&s->scratch);
}

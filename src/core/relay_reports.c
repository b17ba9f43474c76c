/* Delivery reports: what Kafka stored leaves the window and may be deleted; errors end the period. */
#include <stdlib.h>

#include "clock.h"
#include "relay_internal.h"

static int add_chunk(pb_active *a) {
    pb_slot **grown = realloc(a->chunks, (a->chunk_count + 1) * sizeof *grown);
    if (!grown)
        return -1;
    a->chunks = grown;
    pb_slot *chunk = calloc(PB_SLOT_CHUNK, sizeof *chunk);
    if (!chunk)
        return -1;
    a->chunks[a->chunk_count++] = chunk;
    for (int i = 0; i < PB_SLOT_CHUNK; i++)
        pb_slot_give_back(a, &chunk[i]);
    return 0;
}

pb_slot *pb_slot_take(pb_active *a) {
    if (!a->free_slots && add_chunk(a) != 0)
        return NULL;
    pb_slot *slot = a->free_slots;
    a->free_slots = slot->next;
    return slot;
}

void pb_slot_give_back(pb_active *a, pb_slot *slot) {
    slot->id = PB_NEVER; /* free ones do not count for the low-water id */
    slot->next = a->free_slots;
    a->free_slots = slot;
}

static void leave_window(pb_active *a, pb_slot *slot) {
    pb_lane *lane = slot->lane;
    lane->in_flight--;
    lane->sends -= slot->ends_send;
    lane->progress = a->now;
    a->in_flight--;
    a->bytes -= slot->bytes;
    a->flush = true;
}

static int stored(pb_active *a, pb_slot *slot, pb_error *err) {
    pb_removal *removal = &a->removal;
    pb_relay_counts(a->relay)->published++;
    if (a->awaiting) {
        pb_awaiting_reported(a->awaiting, slot->id, a->now);
        return 0;
    }
    if (removal->acked.count == 0)
        removal->since = a->now;
    if (pb_ids_add(&removal->acked, slot->id) != 0)
        return pb_fail_memory(err, "the list of acknowledged events");
    return 0;
}

void pb_break_off(pb_active *a, rd_kafka_resp_err_t code, const char *what) {
    if (a->broken)
        return;
    a->broken = true;
    a->broken_at = pb_now();
    pb_kafka_fail(&a->why, code, what);
}

static int refused(pb_active *a, const rd_kafka_message_t *message, pb_slot *slot, pb_error *err) {
    pb_verdict verdict = pb_producer_verdict(message->err);
    if (a->awaiting)
        pb_awaiting_remove(a->awaiting, slot->id);
    if (verdict == PB_VERDICT_TOPIC)
        pb_ban_topic(a->relay, slot->lane->topic->name, pb_now());
    if (verdict == PB_VERDICT_RECORD && pb_ids_add(a->suspects, slot->id) != 0)
        return pb_fail_memory(err, "a refused record");
    pb_break_off(a, message->err, "relay: Kafka refused a record");
    return 0;
}

static int take_report(pb_active *a, const rd_kafka_message_t *message, pb_error *err) {
    pb_slot *slot = message->_private;
    int failed = 0, fate = message->err ? 2 : 1;
    leave_window(a, slot);
    if (slot->suspect && message->err && a->awaiting)
        pb_awaiting_remove(a->awaiting, slot->id);
    if (slot->suspect)
        fate = pb_suspect_reported(a, slot, message->err);
    if (fate == 1)
        failed = stored(a, slot, err);
    else if (fate == 2)
        failed = refused(a, message, slot, err);
    else if (fate < 0)
        failed = pb_fail_memory(err, "a refused record");
    pb_slot_give_back(a, slot);
    return failed;
}

static void take_error(pb_active *a, rd_kafka_t *rk, rd_kafka_resp_err_t code) {
    char text[PB_ERROR_TEXT];
    pb_error err;
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        pb_break_off(a, rd_kafka_fatal_error(rk, text, sizeof text), "relay: the producer is at its end");
        return;
    }
    pb_kafka_fail(&err, code, "relay: Kafka"); /* librdkafka tries again by itself */
    pb_relay_show_error(a->relay, &err); /* and logs it */
}

static int take_event(pb_active *a, rd_kafka_t *rk, rd_kafka_event_t *event, pb_error *err) {
    const rd_kafka_message_t *message;
    int failed = 0;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
        while (!failed && (message = rd_kafka_event_message_next(event)) != NULL)
            failed = take_report(a, message, err);
    else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
        take_error(a, rk, rd_kafka_event_error(event));
    rd_kafka_event_destroy(event);
    return failed;
}

static int serve(pb_active *a, pb_producer *producer, pb_error *err) {
    rd_kafka_event_t *event;
    int failed = 0;
    while (producer && !failed && (event = rd_kafka_queue_poll(producer->queue, 0)) != NULL)
        failed = take_event(a, producer->rk, event, err);
    return failed;
}

int pb_reports_serve(pb_active *a, pb_error *err) {
    int failed = 0;
    for (pb_manner manner = 0; !failed && manner < PB_MANNERS; manner++)
        failed = serve(a, a->producers[manner], err);
    return failed;
}

#include "batch.h"

#include <stdlib.h>
#include <string.h>

/* A slice by its place, since the buffer moves while it grows. */
typedef struct slice {
    size_t at, length;
    bool present;
} slice;

struct pb_batch_entry {
    pb_event event; /* its slices are not used: see below */
    slice type, topic, key, payload, headers;
    int64_t outbox_id;
};

static slice keep(pb_batch *batch, pb_bytes bytes) {
    slice s = {batch->bytes.length, bytes.length, bytes.data != NULL};
    pb_buffer_add_bytes(&batch->bytes, bytes);
    return s;
}

static pb_bytes bytes_of(const pb_batch *batch, slice s) {
    if (!s.present)
        return PB_ABSENT;
    return (pb_bytes){s.length ? batch->bytes.data + s.at : "", s.length};
}

static bool grow(pb_batch *batch) {
    if (batch->count < batch->capacity)
        return true;
    int capacity = batch->capacity ? batch->capacity * 2 : 8;
    pb_batch_entry *entries = realloc(batch->entries, (size_t)capacity * sizeof *entries);
    if (!entries)
        return false;
    batch->entries = entries;
    batch->capacity = capacity;
    return true;
}

int pb_batch_add(pb_batch *batch, const pb_event *event, pb_error *err) {
    size_t before = batch->bytes.length;
    size_t more = event->type.length + event->topic.length + event->key.length +
                  event->payload.length + event->headers.length;
    if (batch->count == PB_BATCH_EVENTS)
        return pb_fail(err, PB_FULL, "a transaction can publish %d events, and has published them",
                       PB_BATCH_EVENTS);
    if (more > PB_BATCH_BYTES - before)
        return pb_fail(err, PB_TOO_LARGE, "the events of one transaction can have %u bytes in all",
                       PB_BATCH_BYTES);
    if (!grow(batch))
        return pb_fail_memory(err, "an event");
    pb_batch_entry *entry = &batch->entries[batch->count];
    entry->event = *event;
    entry->outbox_id = 0;
    entry->type = keep(batch, event->type);
    entry->topic = keep(batch, event->topic);
    entry->key = keep(batch, event->key);
    entry->payload = keep(batch, event->payload);
    entry->headers = keep(batch, event->headers);
    if (batch->bytes.failed) {
        batch->bytes.failed = false;
        batch->bytes.length = before;
        return pb_fail_memory(err, "an event");
    }
    batch->count++;
    return 0;
}

void pb_batch_get(const pb_batch *batch, int i, pb_event *event) {
    const pb_batch_entry *entry = &batch->entries[i];
    *event = entry->event;
    event->type = bytes_of(batch, entry->type);
    event->topic = bytes_of(batch, entry->topic);
    event->key = bytes_of(batch, entry->key);
    event->payload = bytes_of(batch, entry->payload);
    event->headers = bytes_of(batch, entry->headers);
}

void pb_batch_cut(pb_batch *batch, int count) {
    if (count >= batch->count)
        return;
    batch->bytes.length = batch->entries[count].type.at;
    batch->count = count;
}

void pb_batch_set_row(pb_batch *batch, int i, int64_t outbox_id) {
    batch->entries[i].outbox_id = outbox_id;
}

int64_t pb_batch_row(const pb_batch *batch, int i) {
    return batch->entries[i].outbox_id;
}

void pb_batch_free(pb_batch *batch) {
    pb_buffer_free(&batch->bytes);
    free(batch->entries);
    *batch = (pb_batch){0};
}

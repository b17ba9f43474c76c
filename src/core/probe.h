/*
 * Looks at Kafka from outside, as a person with kcat would: creates topics, puts records in, reads
 * what is there. For postbox.testing; the product's own producers and consumers know nothing of it.
 */
#ifndef PB_PROBE_H
#define PB_PROBE_H

#include <stdint.h>

#include "buffer.h"
#include "error.h"

typedef struct pb_probe pb_probe;
typedef struct pb_records pb_records;

typedef struct pb_seen {
    int32_t partition;
    int64_t offset;
    int64_t timestamp; /* milliseconds since 1970 */
    pb_bytes key, value;
} pb_seen;

pb_probe *pb_probe_new(const char *bootstrap, pb_error *err);
void pb_probe_free(pb_probe *probe);

int pb_probe_create_topic(pb_probe *probe, const char *topic, int partitions, double timeout,
                          pb_error *err);

/* Queues a record; partition -1: by the key, as Java does. `headers` are names and values in turn. */
int pb_probe_send(pb_probe *probe, const char *topic, const pb_seen *record, const pb_bytes *headers,
                  size_t header_count, pb_error *err);
/* Waits until Kafka has stored all of them. */
int pb_probe_flush(pb_probe *probe, double timeout, pb_error *err);

/* All records from each partition's beginning to its end of this moment, by partition and offset. */
pb_records *pb_probe_read(pb_probe *probe, const char *topic, double timeout, pb_error *err);
size_t pb_records_count(const pb_records *records);
pb_seen pb_records_get(const pb_records *records, size_t index); /* valid as long as `records` */
bool pb_records_header(const pb_records *records, size_t index, size_t header, const char **name,
                       pb_bytes *value);
void pb_records_free(pb_records *records);

#endif

/*
 * What the reference programs share. They do a piece of postbox's work by librdkafka and libpq
 * alone and use nothing of postbox, so that a fault of its own cannot hide in them.
 * Results are printed as "name value" lines; a failure is a sentence and status 1.
 */
#ifndef BENCH_REFERENCE_H
#define BENCH_REFERENCE_H

#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEYS 10000
#define PAYLOAD_BYTES 256
#define EVENT_TYPE "ORDER_CREATED"
#define VALUE_BYTES 1024 /* room for an envelope */
#define ID_TEXT 36

typedef struct property {
    const char *name, *value;
} property;

void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Seconds of CLOCK_MONOTONIC, which all processes of a machine share. */
double now(void);
void sleep_until(double time);

/* CPU seconds of this process, all threads. */
double own_cpu(void);

/* The list of properties ends with a NULL name. */
rd_kafka_t *open_kafka(rd_kafka_type_t type, const char *bootstrap, const property *properties,
                       int events);

/* A consumer assigned to all partitions of a topic, from where first says for each. */
rd_kafka_t *open_reader(const char *bootstrap, const char *topic, const property *properties,
                        bool from_end, int64_t *ends, int *partitions);

PGconn *open_database(const char *conninfo);
PGresult *expect(PGconn *pg, PGresult *result, ExecStatusType status);
void prepare(PGconn *pg, const char *name, const char *sql, int count, const Oid *types);

/* {"eventId":…,"eventType":…,"payload":…}; returns its length. */
size_t write_envelope(char *out, const unsigned char id[16], const char *payload, size_t length);

/* The three headers of an event of postbox. */
rd_kafka_headers_t *event_headers(const unsigned char id[16], int64_t outbox_id);

#endif

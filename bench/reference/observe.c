/*
 * Reads what arrives in a topic from now on, and tells how long after it was due:
 *   observe BOOTSTRAP TOPIC COUNT FROM
 * Payloads have the fields n (0 … COUNT - 1) and due (CLOCK_MONOTONIC). What was due before FROM
 * warms up and is not counted in the percentiles. Prints "ready" when it listens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

#define PARTITIONS 64
#define IDLE 10.0   /* seconds without a record after which the rest counts as missing */
#define FIRST 60.0  /* seconds to wait for the first */

typedef struct sample {
    int64_t count, seen, repeated, measured;
    unsigned char *known;
    double *latencies;
} sample;

static double number_behind(const char *value, size_t length, const char *name) {
    char text[32] = "";
    const char *place = memmem(value, length, name, strlen(name));
    if (!place)
        fail("a record has no %s", name);
    place += strlen(name);
    size_t rest = (size_t)(value + length - place);
    memcpy(text, place, rest < sizeof text - 1 ? rest : sizeof text - 1);
    return strtod(text, NULL);
}

static void take(sample *s, const rd_kafka_message_t *message, double arrived, double from) {
    const char *value = message->payload;
    int64_t n = (int64_t)number_behind(value, message->len, "\"n\":");
    double due = number_behind(value, message->len, "\"due\":");
    if (n < 0 || n >= s->count)
        fail("a record has a foreign number: %lld", (long long)n);
    if (s->known[n]) {
        s->repeated++;
        return;
    }
    s->known[n] = 1;
    s->seen++;
    if (due >= from)
        s->latencies[s->measured++] = arrived - due;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const sample *s, double share) {
    return s->measured ? s->latencies[(int64_t)(share * (double)(s->measured - 1))] * 1000 : 0;
}

static void read_until_complete(sample *s, rd_kafka_t *kafka, double from) {
    double deadline = now() + FIRST;
    while (s->seen < s->count && now() < deadline) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka, 100);
        if (!message)
            continue;
        if (!message->err) {
            take(s, message, now(), from);
            deadline = now() + IDLE;
        }
        rd_kafka_message_destroy(message);
    }
}

int main(int count, char **arguments) {
    static const property properties[] = {{"group.id", "postbox-bench-observe"},
                                          {"enable.auto.commit", "false"},
                                          {"fetch.wait.max.ms", "100"},
                                          {"socket.nagle.disable", "true"},
                                          {NULL, NULL}};
    sample s = {0};
    int64_t ends[PARTITIONS];
    int partitions = PARTITIONS;
    if (count != 5)
        fail("usage: observe BOOTSTRAP TOPIC COUNT FROM");
    s.count = atoll(arguments[3]);
    s.known = calloc((size_t)s.count + 1, 1);
    s.latencies = calloc((size_t)s.count + 1, sizeof *s.latencies);
    if (!s.known || !s.latencies)
        fail("out of memory");
    rd_kafka_t *kafka =
        open_reader(arguments[1], arguments[2], properties, true, ends, &partitions);
    printf("ready\n");
    fflush(stdout);
    read_until_complete(&s, kafka, atof(arguments[4]));
    qsort(s.latencies, (size_t)s.measured, sizeof *s.latencies, ascending);
    printf("missing %lld\nrepeated %lld\np50 %.4f\np95 %.4f\np99 %.4f\nmax %.4f\n",
           (long long)(s.count - s.seen), (long long)s.repeated, percentile(&s, 0.50),
           percentile(&s, 0.95), percentile(&s, 0.99), percentile(&s, 1));
    fflush(stdout);
    _Exit(0);
}

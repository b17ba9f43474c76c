/* The partitions of a consumer: what waits in them, and when they go on. */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "consumer_internal.h"

#define PAUSE_SECONDS 0.2   /* shorter holds are not worth the fetched records that a pause drops */
#define WAITING_LIMIT 1000  /* more records than this in a held partition pause it in any case */

pb_partition *pb_partition_find(pb_consumer *consumer, const char *topic, int32_t number) {
    for (pb_partition *p = consumer->partitions; p; p = p->next)
        if (p->number == number && strcmp(p->topic, topic) == 0)
            return p;
    pb_partition *p = calloc(1, sizeof *p);
    if (!p || !(p->topic = strdup(topic))) {
        free(p);
        return NULL;
    }
    p->number = number;
    p->finished = p->committed = PB_NO_OFFSET;
    p->next = consumer->partitions;
    consumer->partitions = p;
    return p;
}

static void forget_waiting(pb_partition *p) {
    for (size_t i = p->waiting_first; i < p->waiting.count; i++)
        pb_record_destroy(&p->waiting.records[i]);
    p->waiting.count = p->waiting_first = 0;
}

void pb_partition_assign(pb_partition *p) {
    p->assigned = true;
    p->started = p->paused = false;
    p->assignment++;
    p->held_until = 0;
    p->finished = p->committed = PB_NO_OFFSET; /* where to begin is the group's to say */
}

void pb_partition_revoke(pb_partition *p) {
    p->assigned = p->paused = false;
    forget_waiting(p);
    p->finished = p->committed = PB_NO_OFFSET;
}

void pb_partition_free(pb_partition *p) {
    forget_waiting(p);
    free(p->waiting.records);
    free(p->topic);
    free(p);
}

size_t pb_partition_waiting(const pb_partition *p) {
    return p->waiting.count - p->waiting_first;
}

static void set_paused(pb_consumer *consumer, pb_partition *p, bool paused) {
    if (p->paused == paused || !p->assigned)
        return;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    if (!list)
        return; /* it is tried again with the next record or take */
    rd_kafka_topic_partition_list_add(list, p->topic, p->number);
    rd_kafka_resp_err_t failed = paused ? rd_kafka_pause_partitions(consumer->rk, list)
                                        : rd_kafka_resume_partitions(consumer->rk, list);
    if (!failed && !list->elems[0].err)
        p->paused = paused;
    rd_kafka_topic_partition_list_destroy(list);
}

static void hold(pb_consumer *consumer, pb_partition *p, double seconds) {
    p->held_until = pb_now() + seconds;
    if (seconds > PAUSE_SECONDS || pb_partition_waiting(p) > WAITING_LIMIT)
        set_paused(consumer, p, true);
}

void pb_consumer_hold(pb_consumer *consumer, const pb_record *record, double seconds) {
    if (pb_record_is_ours(record))
        hold(consumer, record->partition, seconds);
}

void pb_consumer_hold_all(pb_consumer *consumer, double seconds) {
    double until = pb_now() + seconds;
    for (pb_partition *p = consumer->partitions; p; p = p->next)
        if (p->assigned && p->held_until < until)
            hold(consumer, p, seconds);
}

int pb_partition_keep(pb_partition *p, pb_record *record, pb_error *err) {
    pb_record *kept = pb_intake_add(&p->waiting);
    if (!kept) {
        pb_record_destroy(record);
        return pb_fail_memory(err, "records that wait");
    }
    *kept = *record;
    memset(record, 0, sizeof *record);
    return 0;
}

/* Puts `count` records before those that wait. */
static int keep_first(pb_partition *p, pb_record *records, size_t count, pb_error *err) {
    size_t waiting = pb_partition_waiting(p), needed = count + waiting;
    if (needed > p->waiting.capacity) {
        pb_record *grown = realloc(p->waiting.records, needed * sizeof *grown);
        if (!grown)
            return pb_fail_memory(err, "records that wait");
        p->waiting.records = grown;
        p->waiting.capacity = needed;
    }
    memmove(p->waiting.records + count, p->waiting.records + p->waiting_first,
            waiting * sizeof *records);
    memcpy(p->waiting.records, records, count * sizeof *records);
    p->waiting_first = 0;
    p->waiting.count = needed;
    return 0;
}

/*
 * One partition's records of an intake, in order, to its waiting ones; finished ones in front go.
 */
static int settle_partition(pb_partition *p, pb_record *records, size_t count, pb_error *err) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        bool ours = pb_record_is_ours(&records[i]);
        if (ours && records[i].state == PB_RECORD_DONE && kept == 0)
            p->finished = pb_record_offset(&records[i]) + 1;
        /* Finished behind an unfinished one: the inbox has it, but the offset must not pass. */
        if (!ours || (records[i].state == PB_RECORD_DONE && kept == 0)) {
            pb_record_destroy(&records[i]);
            continue;
        }
        records[i].state = PB_RECORD_OPEN;
        records[kept++] = records[i];
    }
    return kept == 0 ? 0 : keep_first(p, records, kept, err);
}

/* Whole runs of one partition are the rule, as a fetch brings them. */
static int settle_mixed(pb_intake *intake, pb_record *scratch, pb_error *err) {
    for (size_t i = 0; i < intake->count; i++) {
        pb_partition *p = intake->records[i].partition;
        size_t n = 0;
        for (size_t j = i; p && j < intake->count; j++) {
            if (intake->records[j].partition != p)
                continue;
            scratch[n++] = intake->records[j];
            memset(&intake->records[j], 0, sizeof *scratch);
        }
        if (n > 0 && settle_partition(p, scratch, n, err) != 0)
            return -1;
    }
    return 0;
}

int pb_consumer_settle(pb_consumer *consumer, pb_intake *intake, pb_error *err) {
    bool simple = true;
    (void)consumer;
    for (size_t i = 0; i < intake->count && simple; i++)
        simple = intake->records[i].state == PB_RECORD_DONE;
    if (simple) {
        for (size_t i = 0; i < intake->count; i++) {
            pb_record *record = &intake->records[i];
            if (pb_record_is_ours(record))
                record->partition->finished = pb_record_offset(record) + 1;
            pb_record_destroy(record);
        }
        intake->count = 0;
        return 0;
    }
    pb_record *scratch = malloc(intake->count * sizeof *scratch);
    int failed = scratch ? settle_mixed(intake, scratch, err) : pb_fail_memory(err, "a batch");
    free(scratch);
    intake->count = 0;
    return failed;
}

static int take_from(pb_partition *p, size_t most, pb_intake *intake, pb_error *err) {
    while (pb_partition_waiting(p) > 0 && intake->count < most) {
        pb_record *to = pb_intake_add(intake);
        if (!to)
            return pb_fail_memory(err, "a batch");
        *to = p->waiting.records[p->waiting_first++];
    }
    if (pb_partition_waiting(p) == 0)
        p->waiting.count = p->waiting_first = 0;
    return 0;
}

int pb_partitions_take(pb_consumer *consumer, size_t most, pb_intake *intake, pb_error *err) {
    double now = 0;
    for (pb_partition *p = consumer->partitions; p; p = p->next) {
        if (!p->assigned || (!p->paused && p->held_until == 0 && pb_partition_waiting(p) == 0))
            continue;
        if (now == 0)
            now = pb_now();
        if (p->held_until > now)
            continue;
        p->held_until = 0;
        if (take_from(p, most, intake, err) != 0)
            return -1;
        if (pb_partition_waiting(p) == 0)
            set_paused(consumer, p, false);
    }
    return 0;
}

double pb_partitions_next(const pb_consumer *consumer, double most) {
    double now = pb_now();
    for (const pb_partition *p = consumer->partitions; p; p = p->next)
        if (p->assigned && p->held_until > 0 && p->held_until - now < most)
            most = p->held_until - now;
    return most < 0 ? 0 : most;
}

bool pb_record_is_ours(const pb_record *record) {
    return record->partition && record->partition->assigned &&
           record->partition->assignment == record->assignment;
}

size_t pb_consumer_waiting(const pb_consumer *consumer) {
    size_t waiting = 0;
    for (const pb_partition *p = consumer->partitions; p; p = p->next)
        waiting += pb_partition_waiting(p);
    return waiting;
}

void pb_consumer_partitions(const pb_consumer *consumer,
                            void (*each)(void *arg, const char *topic,
                                         int32_t partition), void *arg) {
    for (const pb_partition *p = consumer->partitions; p; p = p->next)
        if (p->assigned && p->started)
            each(arg, p->topic, p->number);
}

bool pb_record_is_start(const pb_intake *intake, size_t i) {
    const pb_record *record = &intake->records[i];
    if (!pb_record_is_ours(record) || record->partition->started)
        return false;
    for (size_t before = 0; before < i; before++)
        if (intake->records[before].partition == record->partition)
            return false;
    return true;
}

void pb_intake_started(pb_intake *intake) {
    for (size_t i = 0; i < intake->count; i++)
        if (pb_record_is_ours(&intake->records[i]))
            intake->records[i].partition->started = true;
}

#include "consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin.h"
#include "clock.h"
#include "consumer_internal.h"

#define COOPERATIVE_SINCE 0x020a0000 /* older clients lose or repeat an assignment with it */
#define WARN_EVERY 10.0              /* seconds between two lines about the same kind of trouble */
#define SERVE_STEP_MS 20             /* that the closing waits at a time */

/* Small queues for a process that does other things too; the larger ones cost up to 256 MiB. */
static const char *const small_queues[][2] = {
    {"queued.min.messages", "10000"},
    {"queued.max.messages.kbytes", "16384"},
};
static const char *const large_queues[][2] = {
    {"queued.min.messages", "1000000"},
    {"queued.max.messages.kbytes", "262144"},
};
static const char *const defaults[][2] = {
    {"auto.offset.reset", "earliest"},
    {"fetch.wait.max.ms", "50"},
    {"topic.metadata.refresh.interval.ms", "5000"}, /* a topic made later is seen so soon */
    {"session.timeout.ms", "10000"}, /* the partitions of a member that died rest so long */
    /* A partition whose queue is full is asked again after a second in older clients, for ever. */
    {"fetch.queue.backoff.ms", "10"},
};

static int set_defaults(rd_kafka_conf_t *conf, const pb_config *config, bool throughput,
                        pb_error *err) {
    const char *const(*queues)[2] = throughput ? large_queues : small_queues;
    int failed = 0;
    for (size_t i = 0; !failed && i < sizeof defaults / sizeof *defaults; i++)
        failed = pb_kafka_default(conf, config, defaults[i][0], defaults[i][1], err);
    for (size_t i = 0; !failed && i < sizeof small_queues / sizeof *small_queues; i++)
        failed = pb_kafka_default(conf, config, queues[i][0], queues[i][1], err);
    if (!failed && rd_kafka_version() < COOPERATIVE_SINCE)
        failed = pb_kafka_default(conf, config, "partition.assignment.strategy", "range,roundrobin",
                                  err);
    return failed;
}

static rd_kafka_t *make_handle(pb_config *config, const pb_consumer_options *options,
                               pb_error *err) {
    rd_kafka_conf_t *conf = pb_kafka_conf(config, err);
    if (!conf)
        return NULL;
    /* Not to be chosen: an offset that moves by itself passes records that are not finished. */
    if (pb_kafka_set(conf, "group.id", options->group, err) != 0 ||
        pb_kafka_set(conf, "enable.auto.commit", "false", err) != 0 ||
        pb_kafka_set(conf, "enable.auto.offset.store", "false", err) != 0 ||
        set_defaults(conf, config, options->throughput, err) != 0) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    pb_consumer_set_callbacks(conf);
    rd_kafka_t *rk = pb_kafka_new(RD_KAFKA_CONSUMER, conf, err);
    if (rk)
        rd_kafka_poll_set_consumer(rk);
    return rk;
}

static int copy_options(pb_consumer *consumer, const pb_consumer_options *options, pb_error *err) {
    consumer->codec = options->codec;
    consumer->default_route = options->default_route;
    consumer->types = calloc(options->type_count + 1, sizeof *consumer->types);
    if (!consumer->types)
        return pb_fail_memory(err, "a consumer");
    for (size_t i = 0; i < options->type_count; i++) {
        consumer->types[i] = strdup(options->types[i]);
        if (!consumer->types[i])
            return pb_fail_memory(err, "a consumer");
        consumer->type_count = i + 1;
    }
    return 0;
}

static int subscribe(pb_consumer *consumer, const pb_consumer_options *options, pb_error *err) {
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)options->topic_count);
    if (!list)
        return pb_fail_memory(err, "a subscription");
    for (size_t i = 0; i < options->topic_count; i++)
        rd_kafka_topic_partition_list_add(list, options->topics[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(consumer->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code ? pb_kafka_fail(err, code, "kafka: subscribing") : 0;
}

static void free_consumer(pb_consumer *consumer) {
    for (pb_partition *p = consumer->partitions, *next; p; p = next) {
        next = p->next;
        pb_partition_free(p);
    }
    for (size_t i = 0; i < consumer->type_count; i++)
        free(consumer->types[i]);
    free(consumer->types);
    pb_config_release(consumer->config);
    free(consumer);
}

pb_consumer *pb_consumer_open(pb_config *config, const pb_consumer_options *options,
                              pb_error *err) {
    pb_consumer *consumer = calloc(1, sizeof *consumer);
    if (!consumer) {
        pb_fail_memory(err, "a consumer");
        return NULL;
    }
    consumer->config = pb_config_share(config);
    consumer->process = (int)getpid();
    if (copy_options(consumer, options, err) == 0)
        consumer->rk = make_handle(config, options, err);
    if (!consumer->rk) {
        free_consumer(consumer);
        return NULL;
    }
    if (subscribe(consumer, options, err) != 0) {
        pb_consumer_close(consumer, pb_now());
        return NULL;
    }
    return consumer;
}

/* Leaves the group in the background; the queue carries the last revocation. */
static void leave(pb_consumer *consumer, double deadline) {
    rd_kafka_queue_t *queue = rd_kafka_queue_new(consumer->rk);
    if (!queue)
        return;
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(consumer->rk, queue);
    if (error)
        rd_kafka_error_destroy(error);
    while (!error && !rd_kafka_consumer_closed(consumer->rk) && pb_now() < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, SERVE_STEP_MS);
        pb_consumer_serve_event(consumer, event);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
}

void pb_consumer_close(pb_consumer *consumer, double deadline) {
    pb_error ignored;
    if (!consumer)
        return;
    if (consumer->process != (int)getpid()) {
        free_consumer(consumer); /* a fork: the handle's threads are not here */
        return;
    }
    pb_consumer_serve_as(consumer);
    consumer->closing = true;
    if (consumer->revoked)
        pb_consumer_give_up(consumer, deadline);
    else
        pb_consumer_commit(consumer, deadline, &ignored);
    for (pb_partition *p = consumer->partitions; p; p = p->next)
        pb_partition_revoke(p); /* no record may outlive the handle */
    leave(consumer, deadline);
    pb_consumer_serve_as(NULL);
    rd_kafka_destroy_flags(consumer->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    if (consumer->revoked)
        rd_kafka_topic_partition_list_destroy(consumer->revoked);
    free_consumer(consumer);
}

int pb_consumer_topic(pb_consumer *consumer, const char *topic, double timeout, pb_error *err) {
    return pb_kafka_partitions(consumer->rk, topic, timeout, err);
}

int pb_consumer_create_topic(pb_consumer *consumer, const char *topic, int partitions,
                             int replication, double timeout, pb_error *err) {
    return pb_admin_create_topic(consumer->rk, topic, partitions, replication, timeout, err);
}

/* ---- polling ---------------------------------------------------------------------------- */

static int route_of(const pb_consumer *consumer, pb_bytes type) {
    for (size_t i = 0; type.data && i < consumer->type_count; i++)
        if (type.length == strlen(consumer->types[i]) &&
            memcmp(type.data, consumer->types[i], type.length) == 0)
            return (int)i;
    return consumer->default_route;
}

static pb_partition *find_partition(pb_consumer *consumer, const rd_kafka_message_t *message) {
    if (consumer->last_found && consumer->last_topic == message->rkt &&
        consumer->last_found->number == message->partition)
        return consumer->last_found;
    consumer->last_found =
        pb_partition_find(consumer, rd_kafka_topic_name(message->rkt), message->partition);
    consumer->last_topic = message->rkt;
    return consumer->last_found;
}

static void fill(pb_consumer *consumer, pb_record *record, rd_kafka_message_t *message,
                 pb_partition *partition) {
    pb_error unreadable;
    record->message = message;
    record->partition = partition;
    record->assignment = partition->assignment;
    if (pb_record_decode(record, consumer->codec, &unreadable) != 0)
        record->route = PB_ROUTE_UNREADABLE;
    else if (consumer->codec == PB_CODEC_CUSTOM)
        record->route = PB_ROUTE_NONE;
    else
        record->route = route_of(consumer, record->fields.type);
}

/* An error that came instead of a record. -1: the consumer is of no use any more. */
static int note_error(pb_consumer *consumer, const rd_kafka_message_t *message, pb_error *err) {
    char text[256];
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        return 0;
    if (message->err == RD_KAFKA_RESP_ERR__FATAL) {
        rd_kafka_fatal_error(consumer->rk, text, sizeof text);
        return pb_fail(err, PB_CONNECTION, "kafka: the consumer cannot go on: %s", text);
    }
    if (pb_now() < consumer->warned_at + WARN_EVERY)
        return 0;
    consumer->warned_at = pb_now();
    pb_log_write(consumer->config->log, PB_WARNING, "consumer: %s",
                 rd_kafka_message_errstr(message));
    return 0;
}

static size_t size_of(const rd_kafka_message_t *message) {
    return message->len + message->key_len;
}

/* One record, into the intake, or to the others of its partition that wait. 1: it came. */
static int take_message(pb_consumer *consumer, rd_kafka_message_t *message, size_t most,
                        pb_intake *intake, pb_error *err) {
    pb_partition *partition = find_partition(consumer, message);
    if (!partition) {
        rd_kafka_message_destroy(message);
        return pb_fail_memory(err, "a partition");
    }
    if (!partition->assigned) {
        rd_kafka_message_destroy(message);
        return 0;
    }
    if (partition->held_until > 0 || pb_partition_waiting(partition) > 0 || intake->count >= most) {
        pb_record record = {0};
        fill(consumer, &record, message, partition);
        return pb_partition_keep(partition, &record, err);
    }
    pb_record *record = pb_intake_add(intake);
    if (!record) {
        rd_kafka_message_destroy(message);
        return pb_fail_memory(err, "a batch");
    }
    fill(consumer, record, message, partition);
    return 1;
}

/* Waits for the first record alone; takes what has been fetched already. */
static int fetch(pb_consumer *consumer, double timeout, size_t most, pb_intake *intake,
                 pb_error *err) {
    size_t bytes = 0, kept = 0;
    int wait_ms = intake->count > 0 ? 0 : (int)(timeout * 1000);
    do { /* at least once: the group is served by it even while enough records wait here */
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->rk, wait_ms);
        if (!message)
            return consumer->failed ? pb_fail_memory(err, "a partition") : 0;
        if (message->err) {
            int failed = note_error(consumer, message, err);
            rd_kafka_message_destroy(message);
            if (failed)
                return -1;
            wait_ms = 0; /* trouble may come in a stream: the caller has other things to look at */
            continue;
        }
        bytes += size_of(message);
        int taken = take_message(consumer, message, most, intake, err);
        if (taken < 0)
            return -1;
        if (taken == 0)
            kept++;
        wait_ms = 0;
        if (consumer->revoked)
            return 0;
    } while (intake->count < most && bytes < PB_INTAKE_BYTES && kept < PB_INTAKE_LIMIT);
    return 0;
}

pb_polled pb_consumer_poll(pb_consumer *consumer, double timeout, size_t most, pb_intake *intake,
                           pb_error *err) {
    if (consumer->revoked)
        return PB_POLLED_REVOKED;
    if (most > PB_INTAKE_LIMIT)
        most = PB_INTAKE_LIMIT;
    if (pb_partitions_take(consumer, most, intake, err) != 0)
        return PB_POLLED_FAILED;
    pb_consumer_serve_as(consumer);
    int failed = fetch(consumer, pb_partitions_next(consumer, timeout), most, intake, err);
    pb_consumer_serve_as(NULL);
    if (failed)
        return PB_POLLED_FAILED;
    return consumer->revoked ? PB_POLLED_REVOKED : PB_POLLED;
}

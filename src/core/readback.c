#include "readback.h"

#include <stdio.h>
#include <stdlib.h>

#define COMMIT_EVERY 0.5 /* seconds */

struct pb_readback {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    rd_kafka_topic_partition_list_t *next;   /* where each partition goes on */
    rd_kafka_topic_partition_list_t *marked; /* to be committed */
    int64_t after;
    double committed_at;
};

static rd_kafka_conf_t *settings(const pb_config *config, const char *outbox, pb_error *err) {
    char group[80];
    rd_kafka_conf_t *conf = pb_kafka_conf(config, err);
    snprintf(group, sizeof group, "postbox-readback-%s", outbox);
    if (!conf)
        return NULL;
    if (pb_kafka_set(conf, "group.id", group, err) == 0 &&
        pb_kafka_set(conf, "enable.auto.commit", "false", err) == 0 &&
        pb_kafka_set(conf, "enable.auto.offset.store", "false", err) == 0 &&
        pb_kafka_set(conf, "auto.offset.reset", "earliest", err) == 0 &&
        pb_kafka_set(conf, "enable.partition.eof", "false", err) == 0 &&
        pb_kafka_default(conf, config, "fetch.wait.max.ms", "10", err) == 0 &&
        pb_kafka_default(conf, config, "fetch.queue.backoff.ms", "10", err) == 0 &&
        pb_kafka_default(conf, config, "queued.min.messages", "50000", err) == 0 &&
        pb_kafka_default(conf, config, "queued.max.messages.kbytes", "8192", err) == 0)
        return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

pb_readback *pb_readback_new(const pb_config *config, const char *outbox, int wake_fd,
                             pb_error *err) {
    static const uint64_t one = 1;
    pb_readback *r = calloc(1, sizeof *r);
    if (!r) {
        pb_fail_memory(err, "the read-back");
        return NULL;
    }
    rd_kafka_conf_t *conf = settings(config, outbox, err);
    r->rk = conf ? pb_kafka_new(RD_KAFKA_CONSUMER, conf, err) : NULL;
    if (!r->rk) {
        free(r);
        return NULL;
    }
    rd_kafka_poll_set_consumer(r->rk);
    r->queue = rd_kafka_queue_get_consumer(r->rk);
    r->next = rd_kafka_topic_partition_list_new(16);
    rd_kafka_queue_io_event_enable(r->queue, wake_fd, &one, sizeof one);
    return r;
}

void pb_readback_free(pb_readback *r) {
    if (!r)
        return;
    rd_kafka_queue_io_event_enable(r->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(r->queue);
    rd_kafka_topic_partition_list_destroy(r->next);
    if (r->marked)
        rd_kafka_topic_partition_list_destroy(r->marked);
    rd_kafka_destroy_flags(r->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    free(r);
}

/* Assigned by hand: no group protocol, so a relay that takes over reads at once. */
int pb_readback_add(pb_readback *r, const char *topic, int partitions, pb_error *err) {
    bool more = false;
    for (int p = 0; p < partitions; p++) {
        if (rd_kafka_topic_partition_list_find(r->next, topic, p))
            continue;
        rd_kafka_topic_partition_list_add(r->next, topic, p)->offset = RD_KAFKA_OFFSET_STORED;
        more = true;
    }
    rd_kafka_resp_err_t code = more ? rd_kafka_assign(r->rk, r->next) : RD_KAFKA_RESP_ERR_NO_ERROR;
    return code ? pb_kafka_fail(err, code, "relay: reading back") : 0;
}

rd_kafka_message_t *pb_readback_next(pb_readback *r) {
    rd_kafka_message_t *message;
    while ((message = rd_kafka_consumer_poll(r->rk, 0)) != NULL) {
        if (!message->err) {
            rd_kafka_topic_partition_t *p = rd_kafka_topic_partition_list_find(
                r->next, rd_kafka_topic_name(message->rkt), message->partition);
            if (p)
                p->offset = message->offset + 1;
            return message;
        }
        rd_kafka_message_destroy(message); /* it tries again by itself */
    }
    return NULL;
}

void pb_readback_mark(pb_readback *r, int64_t after, double now) {
    if (r->marked || now < r->committed_at + COMMIT_EVERY)
        return;
    r->marked = rd_kafka_topic_partition_list_new(r->next->cnt);
    for (int i = 0; i < r->next->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &r->next->elems[i];
        if (p->offset >= 0)
            rd_kafka_topic_partition_list_add(r->marked, p->topic, p->partition)->offset =
                p->offset;
    }
    r->after = after;
}

void pb_readback_commit(pb_readback *r, int64_t done, double now) {
    if (!r->marked || done < r->after)
        return;
    if (r->marked->cnt > 0)
        rd_kafka_commit(r->rk, r->marked, 1);
    rd_kafka_topic_partition_list_destroy(r->marked);
    r->marked = NULL;
    r->committed_at = now;
}

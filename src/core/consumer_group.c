/* What the group decides: assignment, revocation, offsets. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "consumer_internal.h"

#define WARN_EVERY 10.0 /* seconds between two lines about the same kind of trouble */

/*
 * Callbacks run inside a poll of their own consumer's thread only; the opaque that they are given
 * belongs to the log.
 */
static _Thread_local pb_consumer *serving;

void pb_consumer_serve_as(pb_consumer *consumer) {
    serving = consumer;
}

static bool is_cooperative(rd_kafka_t *rk) {
    const char *protocol = rd_kafka_rebalance_protocol(rk);
    return protocol && strcmp(protocol, "COOPERATIVE") == 0;
}

static void report(pb_consumer *consumer, rd_kafka_error_t *error, const char *what) {
    if (!error)
        return;
    pb_log_write(consumer->config->log, PB_WARNING, "consumer: %s: %s", what,
                 rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
}

static void take_on(pb_consumer *consumer, rd_kafka_topic_partition_list_t *list) {
    consumer->joined = true;
    for (int i = 0; i < list->cnt; i++) {
        pb_partition *p = pb_partition_find(consumer, list->elems[i].topic,
                                            list->elems[i].partition);
        if (!p) { /* unread it is not lost: the offset stays where it is */
            consumer->failed = true;
            return;
        }
        pb_partition_assign(p);
    }
    if (is_cooperative(consumer->rk)) {
        report(consumer, rd_kafka_incremental_assign(consumer->rk, list), "taking partitions");
    } else {
        rd_kafka_resp_err_t failed = rd_kafka_assign(consumer->rk, list);
        if (failed)
            pb_log_write(consumer->config->log, PB_WARNING, "consumer: taking partitions: %s",
                         rd_kafka_err2str(failed));
    }
}

/*
 * The caller has records in hand: it is told by the end of this poll, and lets go when they are
 * done.
 */
static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *list, void *opaque) {
    pb_consumer *consumer = serving;
    (void)opaque;
    if (!consumer) {
        rd_kafka_assign(rk, NULL);
        return;
    }
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        take_on(consumer, list);
        return;
    }
    consumer->lost = rd_kafka_assignment_lost(rk);
    if (consumer->revoked)
        rd_kafka_topic_partition_list_destroy(consumer->revoked);
    consumer->revoked = rd_kafka_topic_partition_list_copy(list);
    if (consumer->closing || !consumer->revoked)
        pb_consumer_let_go(consumer);
    else
        rd_kafka_yield(rk);
}

void pb_consumer_serve_event(pb_consumer *consumer, rd_kafka_event_t *event) {
    if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
        on_rebalance(consumer->rk, rd_kafka_event_error(event),
                     rd_kafka_event_topic_partition_list(event), NULL);
}

void pb_consumer_let_go(pb_consumer *consumer) {
    rd_kafka_topic_partition_list_t *list = consumer->revoked;
    bool cooperative = is_cooperative(consumer->rk);
    consumer->revoked = NULL;
    for (pb_partition *p = consumer->partitions; p; p = p->next) {
        bool goes = !cooperative || !list ||
                    rd_kafka_topic_partition_list_find(list, p->topic, p->number);
        if (p->assigned && goes)
            pb_partition_revoke(p);
    }
    if (cooperative && list)
        report(consumer, rd_kafka_incremental_unassign(consumer->rk, list), "giving partitions up");
    else
        rd_kafka_assign(consumer->rk, NULL);
    if (list)
        rd_kafka_topic_partition_list_destroy(list);
    consumer->lost = false;
}

bool pb_consumer_lost(const pb_consumer *consumer) {
    return consumer->revoked && consumer->lost;
}

void pb_consumer_give_up(pb_consumer *consumer, double deadline) {
    pb_error ignored; /* what was not committed is read again, and the inbox has it */
    if (!consumer->revoked)
        return;
    if (!consumer->lost)
        pb_consumer_commit(consumer, deadline, &ignored);
    pb_consumer_let_go(consumer);
}

bool pb_consumer_joined(const pb_consumer *consumer) {
    return consumer->joined;
}

/* A member that is being moved is told so by its commits; it commits again after the move. */
static bool is_expected(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR__NO_OFFSET ||
           code == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS ||
           code == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
           code == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID || code == RD_KAFKA_RESP_ERR__DESTROY;
}

static void commit_again(pb_consumer *consumer) {
    for (pb_partition *p = consumer->partitions; p; p = p->next)
        p->committed = PB_NO_OFFSET;
}

static void on_commit(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                      rd_kafka_topic_partition_list_t *list, void *opaque) {
    (void)rk;
    (void)list;
    (void)opaque;
    if (!serving || code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    commit_again(serving);
    if (!is_expected(code) && pb_now() >= serving->warned_at + WARN_EVERY) {
        serving->warned_at = pb_now();
        pb_log_write(serving->config->log, PB_WARNING, "consumer: committing offsets: %s",
                     rd_kafka_err2str(code));
    }
}

void pb_consumer_set_callbacks(rd_kafka_conf_t *conf) {
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_offset_commit_cb(conf, on_commit);
}

static rd_kafka_topic_partition_list_t *offsets_that_moved(pb_consumer *consumer) {
    rd_kafka_topic_partition_list_t *list = NULL;
    for (pb_partition *p = consumer->partitions; p; p = p->next) {
        if (!p->assigned || p->finished == PB_NO_OFFSET || p->finished == p->committed)
            continue;
        if (!list && !(list = rd_kafka_topic_partition_list_new(4)))
            return NULL;
        rd_kafka_topic_partition_list_add(list, p->topic, p->number)->offset = p->finished;
        p->committed = p->finished;
    }
    return list;
}

/* rd_kafka_commit() would wait as long as it likes. */
static int commit_and_wait(pb_consumer *consumer, rd_kafka_topic_partition_list_t *list,
                           double deadline, pb_error *err) {
    rd_kafka_queue_t *queue = rd_kafka_queue_new(consumer->rk);
    if (!queue)
        return pb_fail_memory(err, "committing offsets");
    rd_kafka_resp_err_t code = rd_kafka_commit_queue(consumer->rk, list, queue, NULL, NULL);
    if (!code) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, pb_remaining_ms(deadline));
        code = event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    if (code)
        commit_again(consumer);
    return is_expected(code) ? 0 : pb_kafka_fail(err, code, "kafka: committing offsets");
}

int pb_consumer_commit(pb_consumer *consumer, double deadline, pb_error *err) {
    bool wait = deadline > 0;
    double now = pb_now();
    if (!wait && now < consumer->commit_at)
        return 0;
    rd_kafka_topic_partition_list_t *list = offsets_that_moved(consumer);
    if (!list)
        return 0;
    int failed = 0;
    consumer->commit_at = now + PB_COMMIT_EVERY;
    if (wait)
        failed = commit_and_wait(consumer, list, deadline, err);
    else if (rd_kafka_commit(consumer->rk, list, 1) != RD_KAFKA_RESP_ERR_NO_ERROR)
        commit_again(consumer);
    rd_kafka_topic_partition_list_destroy(list);
    return failed;
}

#include "admin.h"

#include <stdio.h>

#include "clock.h"
#include "kafka.h"

#define SEEN_STEP 0.02  /* seconds between two looks for a new topic */
#define SEEN_LEAST 0.1  /* seconds that the last look may take */
#define REQUEST_GRACE 1 /* seconds that librdkafka may need to say that the time is over */

static rd_kafka_event_t *request(rd_kafka_t *rk, rd_kafka_NewTopic_t *topic, double timeout) {
    char text[256];
    rd_kafka_event_t *answer = NULL;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    if (queue && options) {
        int ms = (int)(timeout * 1000);
        rd_kafka_AdminOptions_set_request_timeout(options, ms, text, sizeof text);
        rd_kafka_AdminOptions_set_operation_timeout(options, ms, text, sizeof text);
        rd_kafka_CreateTopics(rk, &topic, 1, options, queue);
        answer = rd_kafka_queue_poll(queue, ms + REQUEST_GRACE * 1000);
    }
    if (options)
        rd_kafka_AdminOptions_destroy(options);
    if (queue)
        rd_kafka_queue_destroy(queue);
    return answer;
}

static int refused(const char *topic, rd_kafka_resp_err_t code, const char *text, pb_error *err) {
    char what[300];
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        return 0;
    if (code == RD_KAFKA_RESP_ERR__TIMED_OUT || code == RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT ||
        code == RD_KAFKA_RESP_ERR__TRANSPORT) {
        snprintf(what, sizeof what, "kafka: creating the topic %s", topic);
        return pb_kafka_fail(err, code, what);
    }
    return pb_fail(err, PB_CONFIG, "kafka: the topic %s could not be created: %s (%s)", topic,
                   text ? text : rd_kafka_err2str(code), rd_kafka_err2name(code));
}

static int read_answer(rd_kafka_event_t *answer, const char *topic, pb_error *err) {
    size_t count = 0;
    if (!answer)
        return refused(topic, RD_KAFKA_RESP_ERR__TIMED_OUT, NULL, err);
    if (rd_kafka_event_error(answer))
        return refused(topic, rd_kafka_event_error(answer), rd_kafka_event_error_string(answer),
                       err);
    const rd_kafka_topic_result_t **results = rd_kafka_CreateTopics_result_topics(
        rd_kafka_event_CreateTopics_result(answer), &count);
    if (count == 0)
        return pb_fail(err, PB_CONNECTION, "kafka: no answer for the topic %s", topic);
    return refused(topic, rd_kafka_topic_result_error(results[0]),
                   rd_kafka_topic_result_error_string(results[0]), err);
}

/* The broker answers before every node knows the topic. */
static int wait_until_seen(rd_kafka_t *rk, const char *topic, double deadline, pb_error *err) {
    for (;;) {
        double left = pb_remaining_ms(deadline) / 1000.0;
        if (pb_kafka_partitions(rk, topic, left > SEEN_LEAST ? left : SEEN_LEAST, err) > 0)
            return 0;
        if (left <= 0)
            return -1;
        pb_sleep(SEEN_STEP);
    }
}

int pb_admin_create_topic(rd_kafka_t *rk, const char *topic, int partitions, int replication,
                          double timeout, pb_error *err) {
    char text[256];
    double deadline = pb_now() + timeout;
    rd_kafka_NewTopic_t *wanted =
        rd_kafka_NewTopic_new(topic, partitions, replication, text, sizeof text);
    if (!wanted)
        return pb_fail(err, PB_CONFIG, "kafka: the topic %s cannot be described: %s", topic, text);
    rd_kafka_event_t *answer = request(rk, wanted, timeout);
    int failed = read_answer(answer, topic, err);
    if (answer)
        rd_kafka_event_destroy(answer);
    rd_kafka_NewTopic_destroy(wanted);
    return failed ? -1 : wait_until_seen(rk, topic, deadline, err);
}

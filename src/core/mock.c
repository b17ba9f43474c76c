#include "mock.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kafka.h"

#define FAILURES_LIMIT 1000 /* errors that wait for one kind of request */

struct pb_mock {
    rd_kafka_t *rk; /* carries the cluster's thread; no client of it */
    rd_kafka_mock_cluster_t *cluster;
    int brokers;
};

/* Requests of the Kafka protocol that tests make fail. */
static const struct {
    const char *name;
    int16_t key;
} requests[] = {{"Produce", 0},         {"Fetch", 1},        {"ListOffsets", 2}, {"Metadata", 3},
                {"OffsetCommit", 8},    {"OffsetFetch", 9},  {"FindCoordinator", 10},
                {"JoinGroup", 11},      {"Heartbeat", 12},   {"SyncGroup", 14},
                {"InitProducerId", 22}};

static rd_kafka_t *new_handle(pb_error *err) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, NULL); /* it reports each connection that we break on purpose */
    return pb_kafka_new(RD_KAFKA_PRODUCER, conf, err);
}

pb_mock *pb_mock_new(int brokers, pb_error *err) {
    pb_mock *mock = calloc(1, sizeof *mock);
    if (!mock) {
        pb_fail_memory(err, "a mock broker");
        return NULL;
    }
    mock->brokers = brokers;
    mock->rk = new_handle(err);
    if (mock->rk)
        mock->cluster = rd_kafka_mock_cluster_new(mock->rk, brokers);
    if (mock->rk && !mock->cluster)
        pb_fail(err, PB_CONFIG, "mock broker: librdkafka made no cluster of %d", brokers);
    if (!mock->cluster) {
        pb_mock_free(mock);
        return NULL;
    }
    return mock;
}

void pb_mock_free(pb_mock *mock) {
    if (!mock)
        return;
    if (mock->cluster)
        rd_kafka_mock_cluster_destroy(mock->cluster);
    if (mock->rk)
        rd_kafka_destroy(mock->rk);
    free(mock);
}

const char *pb_mock_bootstrap(const pb_mock *mock) {
    return rd_kafka_mock_cluster_bootstraps(mock->cluster);
}

static int check(rd_kafka_resp_err_t code, const char *what, pb_error *err) {
    if (!code)
        return 0;
    return pb_fail(err, PB_CONFIG, "mock broker: %s: %s", what, rd_kafka_err2str(code));
}

static int find_error(const char *name, rd_kafka_resp_err_t *code, pb_error *err) {
    const struct rd_kafka_err_desc *known;
    size_t count;
    rd_kafka_get_err_descs(&known, &count);
    for (size_t i = 0; i < count; i++) {
        if (known[i].name && strcasecmp(known[i].name, name) == 0) {
            *code = known[i].code;
            return 0;
        }
    }
    return pb_fail(err, PB_CONFIG, "mock broker: librdkafka knows no error %s", name);
}

int pb_mock_create_topic(pb_mock *mock, const char *topic, int partitions, pb_error *err) {
    return check(rd_kafka_mock_topic_create(mock->cluster, topic, partitions, mock->brokers), topic, err);
}

int pb_mock_fail_topic(pb_mock *mock, const char *topic, const char *error, pb_error *err) {
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (error && find_error(error, &code, err) != 0)
        return -1;
    rd_kafka_mock_topic_set_error(mock->cluster, topic, code);
    return 0;
}

int pb_mock_fail_requests(pb_mock *mock, const char *request, const char *error, int count,
                          pb_error *err) {
    rd_kafka_resp_err_t codes[FAILURES_LIMIT];
    size_t i = 0, known = sizeof requests / sizeof *requests;
    while (i < known && strcmp(requests[i].name, request) != 0)
        i++;
    if (i == known)
        return pb_fail(err, PB_CONFIG, "mock broker: no request is called %s", request);
    if (count < 1 || count > FAILURES_LIMIT)
        return pb_fail(err, PB_CONFIG, "mock broker: 1 to %d requests can fail", FAILURES_LIMIT);
    if (find_error(error, &codes[0], err) != 0)
        return -1;
    for (int n = 1; n < count; n++)
        codes[n] = codes[0];
    rd_kafka_mock_push_request_errors_array(mock->cluster, requests[i].key, (size_t)count, codes);
    return 0;
}

int pb_mock_set_leader(pb_mock *mock, const char *topic, int32_t partition, int broker, pb_error *err) {
    return check(rd_kafka_mock_partition_set_leader(mock->cluster, topic, partition,
                                                    broker > 0 ? broker : -1), topic, err);
}

int pb_mock_set_down(pb_mock *mock, int broker, bool down, pb_error *err) {
    int failed = 0, last = broker ? broker : mock->brokers;
    for (int32_t id = broker ? broker : 1; !failed && id <= last; id++)
        failed = check(down ? rd_kafka_mock_broker_set_down(mock->cluster, id)
                            : rd_kafka_mock_broker_set_up(mock->cluster, id),
                       "broker", err);
    return failed;
}

int pb_mock_set_round_trip(pb_mock *mock, double seconds, pb_error *err) {
    int failed = 0;
    for (int32_t id = 1; !failed && id <= mock->brokers; id++)
        failed = check(rd_kafka_mock_broker_set_rtt(mock->cluster, id, (int)(seconds * 1000)),
                       "broker", err);
    return failed;
}

/*
 * librdkafka's mock cluster: a broker inside this process, on loopback, for tests and the demo.
 * Other processes can use it as long as this one lives. It keeps at most 5 MiB a partition.
 */
#ifndef PB_MOCK_H
#define PB_MOCK_H

#include <stdint.h>

#include "error.h"

typedef struct pb_mock pb_mock;

pb_mock *pb_mock_new(int brokers, pb_error *err);
void pb_mock_free(pb_mock *mock);
const char *pb_mock_bootstrap(const pb_mock *mock);

int pb_mock_create_topic(pb_mock *mock, const char *topic, int partitions, pb_error *err);
/* Every request for the topic is answered with this error ("TOPIC_AUTHORIZATION_FAILED"), or with
 * none again (NULL). */
int pb_mock_fail_topic(pb_mock *mock, const char *topic, const char *error, pb_error *err);
/* Answers the next `count` requests of one kind ("Produce", "Fetch" ...) with this error. */
int pb_mock_fail_requests(pb_mock *mock, const char *request, const char *error, int count,
                          pb_error *err);
/* Moves a partition to another broker (1 ...); 0: no leader. */
int pb_mock_set_leader(pb_mock *mock, const char *topic, int32_t partition, int broker, pb_error *err);
/* Breaks and refuses connections, or allows them again. broker 0: all. */
int pb_mock_set_down(pb_mock *mock, int broker, bool down, pb_error *err);
/* Every answer takes this long. */
int pb_mock_set_round_trip(pb_mock *mock, double seconds, pb_error *err);

#endif

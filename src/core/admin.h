/* Administration of topics, which needs a broker that offers it (the mock cluster does not). */
#ifndef PB_ADMIN_H
#define PB_ADMIN_H

#include <librdkafka/rdkafka.h>

#include "error.h"

/*
 * Creates a topic and waits until its partitions can be seen; a topic that exists already stays
 * as it is. replication -1: the broker's default. 0, or -1 and `err` (config: the broker refused,
 * connection, timeout).
 */
int pb_admin_create_topic(rd_kafka_t *rk, const char *topic, int partitions, int replication,
                          double timeout, pb_error *err);

#endif

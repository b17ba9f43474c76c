/* What producers and consumers share: configuration, TLS, logging, metadata. */
#ifndef PB_KAFKA_H
#define PB_KAFKA_H

#include <librdkafka/rdkafka.h>

#include "buffer.h"
#include "config.h"
#include "error.h"
#include "partition.h"

/*
 * A librdkafka configuration with the user's properties, TLS away from loopback and its log lines
 * going to config->log. Properties that load code or print secrets are refused. NULL and `err`.
 */
rd_kafka_conf_t *pb_kafka_conf(const pb_config *config, pb_error *err);

/* Sets one property; a wrong one is a `config` error that names it, never its value. */
int pb_kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value, pb_error *err);
/* Sets it only where the user did not, and only where this librdkafka knows the property. */
int pb_kafka_default(rd_kafka_conf_t *conf, const pb_config *config, const char *name,
                     const char *value, pb_error *err);

/* Makes the handle; takes `conf` in both outcomes. */
rd_kafka_t *pb_kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, pb_error *err);

/* Partitions of a topic by a metadata request (never by producing). -1 and `err`: topic_unknown,
 * connection, timeout. */
int pb_kafka_partitions(rd_kafka_t *rk, const char *topic, double timeout, pb_error *err);

/* Fills `err` from a librdkafka error: connection, timeout, topic_unknown, too_large, full, ... */
int pb_kafka_fail(pb_error *err, rd_kafka_resp_err_t code, const char *what);

#endif

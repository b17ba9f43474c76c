/*
 * What a box was told: where the database and Kafka are, and its limits.
 * Immutable and counted, because threads outlive the call that started them.
 */
#ifndef PB_CONFIG_H
#define PB_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "log.h"

typedef struct pb_property {
    char *name;
    char *value;
} pb_property;

typedef struct pb_config {
    char *database;          /* conninfo or URI, as libpq reads it */
    char *schema;            /* where postbox's tables live; checked to be an identifier */
    pb_property *kafka;      /* librdkafka's properties by their own names */
    size_t kafka_count;
    bool insecure;           /* TLS may be off, or not verified, away from loopback */
    bool prepare;            /* named prepared statements; off behind an old PgBouncer */
    double connect_timeout;  /* seconds */
    double statement_timeout;/* seconds, of one statement, kept by the server */
    double lock_timeout;     /* seconds that the flush waits for key locks */
    pb_log *log;
    int references;          /* changed under the lock of config.c */
} pb_config;

/* Takes ownership of nothing: copies all. NULL and `err` when out of memory or not valid. */
pb_config *pb_config_new(const pb_config *values, pb_error *err);
pb_config *pb_config_share(pb_config *config);
void pb_config_release(pb_config *config);

/*
 * SQL of the core names the schema `postbox.`; this puts the configured one, quoted, in its
 * place. malloc'ed; NULL when out of memory.
 */
char *pb_config_sql(const pb_config *config, const char *sql);

#endif

#include "config.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

#define SCHEMA_NAME_LIMIT 63 /* PostgreSQL's longest identifier */

static pthread_mutex_t count_lock = PTHREAD_MUTEX_INITIALIZER;

/* Not by <ctype.h>, which would ask the application's locale. */
static bool is_identifier(const char *name) {
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
    size_t length = strlen(name);
    return length <= SCHEMA_NAME_LIMIT && strspn(name, LETTERS) > 0 &&
           strspn(name, LETTERS "0123456789") == length;
#undef LETTERS
}

static void free_config(pb_config *config) {
    for (size_t i = 0; i < config->kafka_count; i++) {
        free(config->kafka[i].name);
        free(config->kafka[i].value);
    }
    free(config->kafka);
    free(config->database);
    free(config->schema);
    pb_log_release(config->log);
    free(config);
}

static bool copy_kafka(pb_config *config, const pb_config *values) {
    config->kafka = calloc(values->kafka_count + 1, sizeof *config->kafka);
    if (!config->kafka)
        return false;
    for (size_t i = 0; i < values->kafka_count; i++) {
        config->kafka[i].name = strdup(values->kafka[i].name);
        config->kafka[i].value = strdup(values->kafka[i].value);
        config->kafka_count = i + 1;
        if (!config->kafka[i].name || !config->kafka[i].value)
            return false;
    }
    return true;
}

pb_config *pb_config_new(const pb_config *values, pb_error *err) {
    if (!is_identifier(values->schema)) {
        pb_fail(err, PB_CONFIG,
                "schema must be a plain name (letters, digits and _, at most %d, no digit first)",
                SCHEMA_NAME_LIMIT);
        return NULL;
    }
    pb_config *config = malloc(sizeof *config);
    if (!config) {
        pb_fail_memory(err, "a configuration");
        return NULL;
    }
    *config = *values;
    config->kafka_count = 0;
    config->references = 1;
    config->log = pb_log_share(values->log);
    config->database = strdup(values->database);
    config->schema = strdup(values->schema);
    if (!copy_kafka(config, values) || !config->database || !config->schema) {
        free_config(config);
        pb_fail_memory(err, "a configuration");
        return NULL;
    }
    return config;
}

pb_config *pb_config_share(pb_config *config) {
    pthread_mutex_lock(&count_lock);
    config->references++;
    pthread_mutex_unlock(&count_lock);
    return config;
}

void pb_config_release(pb_config *config) {
    if (!config)
        return;
    pthread_mutex_lock(&count_lock);
    int left = --config->references;
    pthread_mutex_unlock(&count_lock);
    if (left == 0)
        free_config(config);
}

char *pb_config_sql(const pb_config *config, const char *sql) {
    static const char name[] = "postbox.";
    pb_buffer out = {0};
    const char *rest = sql, *found;
    while ((found = strstr(rest, name)) != NULL) {
        pb_buffer_add(&out, rest, (size_t)(found - rest));
        pb_buffer_format(&out, "\"%s\".", config->schema); /* is_identifier: no quote in it */
        rest = found + sizeof name - 1;
    }
    pb_buffer_add(&out, rest, strlen(rest) + 1);
    if (out.failed) {
        pb_buffer_free(&out);
        return NULL;
    }
    return out.data;
}

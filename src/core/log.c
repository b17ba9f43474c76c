#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pb_log {
    pthread_mutex_t lock;
    int references;
    bool queued;
    pb_log_record *records; /* ring of PB_LOG_LIMIT, made with the first record */
    int first, count;
    long dropped;
};

static const char *const level_names[] = {"debug", "info", "warning", "error"};

const char *pb_level_name(pb_level level) {
    return level_names[level];
}

pb_log *pb_log_new(bool queued) {
    pb_log *log = calloc(1, sizeof *log);
    if (!log)
        return NULL;
    if (pthread_mutex_init(&log->lock, NULL) != 0) {
        free(log);
        return NULL;
    }
    log->references = 1;
    log->queued = queued;
    return log;
}

pb_log *pb_log_share(pb_log *log) {
    pthread_mutex_lock(&log->lock);
    log->references++;
    pthread_mutex_unlock(&log->lock);
    return log;
}

void pb_log_release(pb_log *log) {
    if (!log)
        return;
    pthread_mutex_lock(&log->lock);
    int left = --log->references;
    pthread_mutex_unlock(&log->lock);
    if (left > 0)
        return;
    pthread_mutex_destroy(&log->lock);
    free(log->records);
    free(log);
}

static void print(const pb_log_record *record) {
    char line[PB_LOG_TEXT + 32];
    int length = snprintf(line, sizeof line, "postbox: %s: %s\n", level_names[record->level],
                          record->text);
    if (length > (int)sizeof line - 1)
        length = (int)sizeof line - 1;
    /* One write keeps lines of several threads apart; a closed stderr is nobody's problem. */
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return;
}

static void enqueue(pb_log *log, const pb_log_record *record) {
    if (!log->records)
        log->records = malloc(PB_LOG_LIMIT * sizeof *log->records);
    if (!log->records || log->count == PB_LOG_LIMIT) {
        log->dropped++;
        return;
    }
    log->records[(log->first + log->count++) % PB_LOG_LIMIT] = *record;
}

void pb_log_write(pb_log *log, pb_level level, const char *format, ...) {
    pb_log_record record = {.level = level};
    va_list args;
    va_start(args, format);
    vsnprintf(record.text, sizeof record.text, format, args);
    va_end(args);
    pthread_mutex_lock(&log->lock);
    if (log->queued)
        enqueue(log, &record);
    else if (level >= PB_WARNING)
        print(&record);
    pthread_mutex_unlock(&log->lock);
}

bool pb_log_take(pb_log *log, pb_log_record *record) {
    bool found = true;
    pthread_mutex_lock(&log->lock);
    if (log->count > 0) {
        *record = log->records[log->first];
        log->first = (log->first + 1) % PB_LOG_LIMIT;
        log->count--;
    } else if (log->dropped > 0) {
        record->level = PB_WARNING;
        snprintf(record->text, sizeof record->text,
                 "%ld log records were dropped: more than %d waited to be read", log->dropped,
                 PB_LOG_LIMIT);
        log->dropped = 0;
    } else {
        found = false;
    }
    pthread_mutex_unlock(&log->lock);
    return found;
}

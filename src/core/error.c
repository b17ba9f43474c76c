#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[] = {
    "ok",       "config",  "connection", "timeout", "unknown", "aborted",     "conflict",
    "handler",  "full",    "closed",     "busy",    "cannot_wait", "topic_unknown", "too_large",
};

const char *pb_code_name(pb_code code) {
    return code_names[code];
}

static bool is_retriable(pb_code code) {
    return code == PB_CONNECTION || code == PB_TIMEOUT || code == PB_FULL || code == PB_BUSY;
}

int pb_fail(pb_error *err, pb_code code, const char *format, ...) {
    va_list args;
    memset(err, 0, sizeof *err);
    err->code = code;
    err->retriable = is_retriable(code);
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return -1;
}

int pb_fail_memory(pb_error *err, const char *what) {
    return pb_fail(err, PB_FULL, "out of memory: cannot allocate %s", what);
}

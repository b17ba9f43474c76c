/* Errors of the core: a code from a closed list, and a text for people. */
#ifndef PB_ERROR_H
#define PB_ERROR_H

#include <stdbool.h>

#define PB_ERROR_TEXT 768 /* longest message, bytes with the final NUL */

/* The closed list that Lua sees as err.code; the names are in pb_code_name(). */
typedef enum pb_code {
    PB_OK,
    PB_CONFIG,        /* an option or an argument is wrong */
    PB_CONNECTION,    /* PostgreSQL or Kafka cannot be reached, or the connection broke */
    PB_TIMEOUT,       /* a deadline passed; the work did not take effect */
    PB_UNKNOWN,       /* the connection broke inside COMMIT: ask box:outcome(xid) */
    PB_ABORTED,       /* the server refused a statement or rolled the transaction back */
    PB_CONFLICT,      /* a given event id waits already with other content */
    PB_HANDLER,       /* a handler failed */
    PB_FULL,          /* a bounded queue is full */
    PB_CLOSED,        /* the object is closed */
    PB_BUSY,          /* two threads of execution use one connection at once */
    PB_CANNOT_WAIT,   /* the caller is in a place that cannot wait */
    PB_TOPIC_UNKNOWN, /* a topic does not exist, or its partition count is not known */
    PB_TOO_LARGE      /* a record is over max_record_bytes */
} pb_code;

typedef struct pb_error {
    pb_code code;
    bool retriable;   /* the same call may work later as it is */
    char sqlstate[6]; /* PostgreSQL's code, "" where there is none */
    char xid[24];     /* the transaction id with PB_UNKNOWN, "" otherwise */
    char message[PB_ERROR_TEXT];
} pb_error;

/* Fills `err` and returns -1, so that a function can `return pb_fail(...)`. */
int pb_fail(pb_error *err, pb_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a failed allocation of `what`. */
int pb_fail_memory(pb_error *err, const char *what);

const char *pb_code_name(pb_code code);

#endif

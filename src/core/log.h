/*
 * Log records of threads that may not call Lua. With a reader (a Lua `log` function) they wait in
 * a bounded queue until the next call into the box takes them; without one they go to stderr.
 */
#ifndef PB_LOG_H
#define PB_LOG_H

#include <stdbool.h>

#define PB_LOG_LIMIT 1000 /* records that wait; more are counted and dropped */
#define PB_LOG_TEXT 1024  /* longest record */

typedef enum pb_level { PB_DEBUG, PB_INFO, PB_WARNING, PB_ERROR_LEVEL } pb_level;

typedef struct pb_log_record {
    pb_level level;
    char text[PB_LOG_TEXT];
} pb_log_record;

typedef struct pb_log pb_log;

pb_log *pb_log_new(bool queued); /* queued: somebody calls pb_log_take; NULL without memory */
pb_log *pb_log_share(pb_log *log);
void pb_log_release(pb_log *log);
void pb_log_write(pb_log *log, pb_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool pb_log_take(pb_log *log, pb_log_record *record); /* oldest first; false when empty */
const char *pb_level_name(pb_level level);

#endif

/* Where in a payload the encoder is, for its errors: `payload.items[3].price`. */
#ifndef PB_PATH_H
#define PB_PATH_H

#include "../core/buffer.h"
#include "../core/error.h"
#include "../core/json.h"

/* A step down: a name, or a position where the name is absent. */
typedef struct pb_step {
    pb_bytes name;
    int position;
} pb_step;

/* {0} is the payload itself. Written on the hot path, made into text only for an error. */
typedef struct pb_path {
    int depth;
    pb_step steps[PB_JSON_DEPTH];
} pb_path;

static inline void pb_path_enter(pb_path *path) {
    path->steps[path->depth++] = (pb_step){PB_ABSENT, 0};
}

static inline void pb_path_leave(pb_path *path) {
    path->depth--;
}

static inline void pb_path_name(pb_path *path, pb_bytes name) {
    path->steps[path->depth - 1].name = name;
}

static inline void pb_path_position(pb_path *path, int position) {
    path->steps[path->depth - 1].position = position;
}

/* -1 and `err` with the path in front of `why`. */
int pb_path_fail(const pb_path *path, pb_error *err, pb_code code, const char *why);

#endif

/* JSON text (RFC 8259): checked, taken apart as an envelope, written, its numbers read. */
#ifndef PB_JSON_H
#define PB_JSON_H

#include "buffer.h"
#include "error.h"

#define PB_JSON_DEPTH 128 /* arrays and objects inside one another */

/*
 * One JSON value, white space around it allowed, valid UTF-8, at most `max_depth` deep (never
 * above PB_JSON_DEPTH). An escaped surrogate without its partner is refused: no UTF-8 text could
 * hold it. -1 and a `config` error that names the byte. One pass, no recursion, no allocation.
 */
int pb_json_check(pb_bytes text, int max_depth, pb_error *err);

/*
 * Takes {"eventId":…,"eventType":…,"payload":…} apart and checks all of it in the same pass.
 * Members come in any order; others are checked and passed over; a second one of the three is an
 * error, and so is an id or type that is not a string. A member that is missing is absent.
 * `payload` is the slice of JSON text as it stands, up to PB_JSON_DEPTH deep. `id` and `type` are
 * slices of `value` as well, or of `scratch` where they had escapes; `scratch` is cleared first
 * and stays the caller's.
 */
int pb_json_envelope(pb_bytes value, pb_buffer *scratch, pb_bytes *id, pb_bytes *type,
                     pb_bytes *payload, pb_error *err);

/* A string in quotes; escapes only what JSON demands. `text` is valid UTF-8. */
void pb_json_write_string(pb_buffer *out, pb_bytes text);
size_t pb_json_string_bytes(pb_bytes text); /* how many bytes the call above writes */

void pb_json_write_integer(pb_buffer *out, int64_t value);

/*
 * The shortest text that reads back as the same number; one with an integral value up to 2^53 has
 * neither fraction nor exponent (3.0 and 3 are both `3`, and -0 is `0`). false, and nothing
 * written, for NaN and the infinities.
 */
bool pb_json_write_number(pb_buffer *out, double value);

typedef enum pb_json_number {
    PB_JSON_INTEGER, /* neither fraction nor exponent, and 64 bits hold it */
    PB_JSON_FLOAT,
    PB_JSON_BEYOND /* an integer that 64 bits cannot hold, or what would become infinity */
} pb_json_number;

/*
 * Reads the number that begins at `*at` inside checked JSON text that a NUL ends, and moves behind
 * it. Fills the one that it names; the nearest double, whatever the program's locale is.
 */
pb_json_number pb_json_read_number(const char **at, int64_t *integer, double *number);

#endif

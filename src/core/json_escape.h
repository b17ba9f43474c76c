/* Escapes in the strings of JSON text. */
#ifndef PB_JSON_ESCAPE_H
#define PB_JSON_ESCAPE_H

#include "buffer.h"

/*
 * The character of the escape whose letter is at `*at`; moves behind it. A surrogate needs its
 * partner. -1 when it is no valid escape.
 */
int32_t pb_json_read_escape(const char **at, const char *end);

/*
 * What a checked string means; `text` is what stands between its quotes. It never grows: `out`
 * has room for as many bytes. Returns how many it became.
 */
size_t pb_json_unescape_to(char *out, pb_bytes text);
void pb_json_unescape(pb_buffer *out, pb_bytes text); /* the same, added to a buffer */

#endif

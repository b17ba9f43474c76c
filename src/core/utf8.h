/* UTF-8 as RFC 3629 has it: no overlong form, no surrogate, nothing above U+10FFFF. */
#ifndef PB_UTF8_H
#define PB_UTF8_H

#include "buffer.h"

bool pb_utf8_valid(pb_bytes text); /* absent is valid */

/* Bytes of the character at `at`, 1 to 4; 0 when it is not a valid one. `left` is at least 1. */
size_t pb_utf8_length(const void *at, size_t left);

/* Takes the next character off `rest`, which is valid UTF-8 and not empty. */
uint32_t pb_utf8_next(pb_bytes *rest);

#endif

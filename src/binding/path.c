#include "path.h"

#include <ctype.h>

#include "../core/utf8.h"

#define NAME_SHOWN 40  /* bytes of one name in a message */
#define PATH_SHOWN 300 /* bytes of a path; of a longer one the middle is left out */

static bool is_plain_name(pb_bytes name) {
    if (name.length == 0 || name.length > NAME_SHOWN || isdigit((unsigned char)name.data[0]))
        return false;
    for (size_t i = 0; i < name.length; i++)
        if (!isalnum((unsigned char)name.data[i]) && name.data[i] != '_')
            return false;
    return true;
}

/* Names come from data: what could trouble a terminal is shown as `?`. */
static void add_harmless(pb_buffer *out, pb_bytes name) {
    bool valid = pb_utf8_valid(name);
    pb_bytes rest = name;
    while (rest.length > 0 && name.length - rest.length < NAME_SHOWN) {
        pb_bytes from = rest;
        uint32_t c = valid ? pb_utf8_next(&rest) : (uint8_t)*rest.data;
        if (!valid)
            rest = (pb_bytes){rest.data + 1, rest.length - 1};
        if (c < 0x20 || (c >= 0x7f && (c < 0xa0 || !valid)))
            pb_buffer_add_u8(out, '?');
        else
            pb_buffer_add(out, from.data, from.length - rest.length);
    }
    if (rest.length > 0)
        pb_buffer_add_text(out, "…");
}

static void add_step(pb_buffer *out, const pb_step *step) {
    if (!step->name.data) {
        if (step->position > 0)
            pb_buffer_format(out, "[%d]", step->position);
    } else if (is_plain_name(step->name)) {
        pb_buffer_add_u8(out, '.');
        pb_buffer_add_bytes(out, step->name);
    } else {
        pb_buffer_add_text(out, "[\"");
        add_harmless(out, step->name);
        pb_buffer_add_text(out, "\"]");
    }
}

/* Moves back to the first byte of a character. */
static size_t cut(pb_bytes text, size_t at) {
    while (at > 0 && ((uint8_t)text.data[at] & 0xc0) == 0x80)
        at--;
    return at;
}

int pb_path_fail(const pb_path *path, pb_error *err, pb_code code, const char *why) {
    pb_buffer out = {0};
    pb_buffer_add_text(&out, "payload");
    for (int i = 0; i < path->depth; i++)
        add_step(&out, &path->steps[i]);
    pb_bytes text = pb_buffer_bytes(&out);
    if (text.length <= PATH_SHOWN) {
        pb_fail(err, code, "%.*s: %s", (int)text.length, text.data, why);
    } else {
        size_t head = cut(text, PATH_SHOWN / 2), tail = cut(text, text.length - PATH_SHOWN / 2);
        pb_fail(err, code, "%.*s…%.*s: %s", (int)head, text.data,
                (int)(text.length - tail), text.data + tail, why);
    }
    pb_buffer_free(&out);
    return -1;
}

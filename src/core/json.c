#include "json.h"

#include <string.h>

#include "json_escape.h"
#include "utf8.h"

#define END (-1) /* what peek() sees behind the last byte */

/* Eight bytes at a time: which of them have the high bit set, after a test that sets it. */
#define ONES 0x0101010101010101u
#define HIGH_BITS 0x8080808080808080u
#define HAS_ZERO(word) (((word)-ONES) & ~(word) & HIGH_BITS)

typedef struct scanner {
    const char *begin, *at, *end;
    pb_error *err;
} scanner;

/* A string as it stands between its quotes. */
typedef struct raw_string {
    pb_bytes text;
    bool escaped;
} raw_string;

static int refuse(scanner *s, const char *what) {
    return pb_fail(s->err, PB_CONFIG, "JSON: %s at byte %zu", what, (size_t)(s->at - s->begin) + 1);
}

static int refuse_here(scanner *s, const char *wanted) {
    if (s->at == s->end)
        return pb_fail(s->err, PB_CONFIG, "JSON: the text ends at byte %zu where %s must follow",
                       (size_t)(s->end - s->begin), wanted);
    return pb_fail(s->err, PB_CONFIG, "JSON: byte %zu is not %s", (size_t)(s->at - s->begin) + 1,
                   wanted);
}

static int peek(const scanner *s) {
    return s->at < s->end ? (uint8_t)*s->at : END;
}

static void skip_space(scanner *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

static bool accept(scanner *s, int wanted) {
    if (peek(s) != wanted)
        return false;
    s->at++;
    return true;
}

/* Any byte of the eight that is not plain ASCII text: control, quote, backslash, high bit. */
static bool has_special(uint64_t word) {
    uint64_t control = (word - ONES * 0x20) & ~word;
    return ((control | word) & HIGH_BITS) | HAS_ZERO(word ^ ONES * '"') |
           HAS_ZERO(word ^ ONES * '\\');
}

static const char *skip_plain(const char *at, const char *end) {
    uint64_t word;
    while (end - at >= (ptrdiff_t)sizeof word) {
        memcpy(&word, at, sizeof word);
        if (has_special(word))
            break;
        at += sizeof word;
    }
    while (at < end && (uint8_t)*at >= 0x20 && (uint8_t)*at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return at;
}

/* What stopped skip_plain inside a string, the closing quote apart. */
static int scan_special(scanner *s, bool *escaped) {
    int c = peek(s);
    if (c == END)
        return refuse(s, "a string without its closing quote ends");
    if (c < 0x20)
        return refuse(s, "a control character inside a string");
    if (c == '\\') {
        const char *at = s->at + 1;
        if (pb_json_read_escape(&at, s->end) < 0)
            return refuse(s, "an escape that is not valid");
        *escaped = true;
        s->at = at;
        return 0;
    }
    size_t length = pb_utf8_length(s->at, (size_t)(s->end - s->at));
    if (length == 0)
        return refuse(s, "invalid UTF-8");
    s->at += length;
    return 0;
}

/* The opening quote is taken. */
static int scan_string(scanner *s, raw_string *string) {
    *string = (raw_string){.text.data = s->at};
    for (;;) {
        s->at = skip_plain(s->at, s->end);
        if (s->at < s->end && *s->at == '"')
            break;
        if (scan_special(s, &string->escaped))
            return -1;
    }
    string->text.length = (size_t)(s->at - string->text.data);
    s->at++;
    return 0;
}

static bool skip_digits(scanner *s) {
    const char *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    return s->at > start;
}

static int scan_number(scanner *s) {
    accept(s, '-');
    if (!accept(s, '0') && !skip_digits(s))
        return refuse_here(s, "a digit");
    if (accept(s, '.') && !skip_digits(s))
        return refuse_here(s, "a digit");
    if (accept(s, 'e') || accept(s, 'E')) {
        if (!accept(s, '+'))
            accept(s, '-');
        if (!skip_digits(s))
            return refuse_here(s, "a digit");
    }
    return 0;
}

static int scan_word(scanner *s, const char *word) {
    for (const char *start = s->at; *word; word++)
        if (!accept(s, *word)) {
            s->at = start;
            return refuse_here(s, "a JSON value");
        }
    return 0;
}

static int scan_scalar(scanner *s) {
    raw_string ignored;
    int c = peek(s);
    switch (c) {
    case '"':
        s->at++;
        return scan_string(s, &ignored);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        if (c == '-' || (c >= '0' && c <= '9'))
            return scan_number(s);
        return refuse_here(s, "a JSON value");
    }
}

/* A member's name and the colon behind it. */
static int scan_name(scanner *s, raw_string *name) {
    skip_space(s);
    if (!accept(s, '"'))
        return refuse_here(s, "the quote of a member's name");
    if (scan_string(s, name))
        return -1;
    skip_space(s);
    return accept(s, ':') ? 0 : refuse_here(s, "the colon behind a member's name");
}

static int closing_of(char opening) {
    return opening == '{' ? '}' : ']';
}

/*
 * Behind a value: closes what ends here. 1 when another value follows in the innermost array or
 * object, 0 when everything is closed.
 */
static int scan_behind(scanner *s, const char *open, int *depth) {
    raw_string name;
    while (*depth > 0) {
        char opening = open[*depth - 1];
        skip_space(s);
        if (accept(s, ','))
            return opening == '{' && scan_name(s, &name) ? -1 : 1;
        if (!accept(s, closing_of(opening)))
            return refuse_here(s, opening == '{' ? "a comma or }" : "a comma or ]");
        --*depth;
    }
    return 0;
}

/* One value with all that is in it. Its open arrays and objects are kept in a list of this call. */
static int scan_value(scanner *s, int max_depth) {
    char open[PB_JSON_DEPTH];
    raw_string name;
    int depth = 0, more = 1;
    while (more > 0) {
        skip_space(s);
        int c = peek(s);
        if (c == '{' || c == '[') {
            if (depth >= max_depth)
                return refuse(s, "too many arrays and objects inside one another");
            open[depth++] = (char)c;
            s->at++;
            skip_space(s);
            if (peek(s) != closing_of((char)c)) {
                if (c == '{' && scan_name(s, &name))
                    return -1;
                continue;
            }
        } else if (scan_scalar(s)) {
            return -1;
        }
        more = scan_behind(s, open, &depth);
    }
    return more;
}

static int scan_end(scanner *s) {
    skip_space(s);
    return s->at == s->end ? 0 : refuse(s, "something follows the value");
}

static scanner scanner_of(pb_bytes text, pb_error *err) {
    const char *begin = text.data ? text.data : "";
    return (scanner){begin, begin, begin + text.length, err};
}

int pb_json_check(pb_bytes text, int max_depth, pb_error *err) {
    scanner s = scanner_of(text, err);
    if (scan_value(&s, max_depth < PB_JSON_DEPTH ? max_depth : PB_JSON_DEPTH))
        return -1;
    return scan_end(&s);
}

static pb_bytes bytes_from(const pb_buffer *b, size_t start) {
    pb_bytes all = pb_buffer_bytes(b);
    return (pb_bytes){all.data + start, all.length - start};
}

enum { MEMBER_ID, MEMBER_TYPE, MEMBER_PAYLOAD, MEMBER_OTHER };

static const char *const member_names[] = {"eventId", "eventType", "payload"};

/* Escaped names count by their meaning, so that none passes by unseen. */
static int member_of(const raw_string *name, pb_buffer *scratch) {
    pb_bytes text = name->text;
    size_t start = scratch->length;
    int member = 0;
    if (name->escaped) {
        pb_json_unescape(scratch, name->text);
        text = bytes_from(scratch, start);
        scratch->length = start;
    }
    while (member < MEMBER_OTHER && !(strlen(member_names[member]) == text.length &&
                                      memcmp(member_names[member], text.data, text.length) == 0))
        member++;
    return member;
}

/* The envelope's three values as they stand in the text. */
typedef struct parts {
    raw_string strings[2]; /* id and type */
    pb_bytes payload;
    bool seen[MEMBER_OTHER];
} parts;

static int scan_member(scanner *s, parts *found, pb_buffer *scratch) {
    raw_string name;
    if (scan_name(s, &name))
        return -1;
    int member = member_of(&name, scratch);
    skip_space(s);
    if (member == MEMBER_OTHER)
        return scan_value(s, PB_JSON_DEPTH);
    if (found->seen[member])
        return pb_fail(s->err, PB_CONFIG, "envelope: a second `%s` at byte %zu",
                       member_names[member], (size_t)(s->at - s->begin) + 1);
    found->seen[member] = true;
    if (member == MEMBER_PAYLOAD) {
        found->payload.data = s->at;
        int result = scan_value(s, PB_JSON_DEPTH); /* the envelope around it does not count */
        found->payload.length = (size_t)(s->at - found->payload.data);
        return result;
    }
    if (!accept(s, '"'))
        return pb_fail(s->err, PB_CONFIG, "envelope: `%s` is not a string", member_names[member]);
    return scan_string(s, &found->strings[member]);
}

static int scan_envelope(scanner *s, parts *found, pb_buffer *scratch) {
    skip_space(s);
    if (!accept(s, '{'))
        return pb_fail(s->err, PB_CONFIG, "envelope: the value is not a JSON object");
    skip_space(s);
    if (!accept(s, '}')) {
        do {
            if (scan_member(s, found, scratch))
                return -1;
            skip_space(s);
        } while (accept(s, ','));
        if (!accept(s, '}'))
            return refuse_here(s, "a comma or }");
    }
    return scan_end(s);
}

int pb_json_envelope(pb_bytes value, pb_buffer *scratch, pb_bytes *id, pb_bytes *type,
                     pb_bytes *payload, pb_error *err) {
    scanner s = scanner_of(value, err);
    parts found = {0};
    pb_bytes *results[] = {id, type};
    pb_buffer_clear(scratch);
    if (scan_envelope(&s, &found, scratch))
        return -1;
    /* Room for both first: what a slice points at must not move. A text never grows. */
    for (int i = 0; i < 2; i++)
        if (found.strings[i].escaped)
            pb_buffer_reserve(scratch, found.strings[0].text.length + found.strings[1].text.length);
    for (int i = 0; i < 2; i++) {
        *results[i] = found.strings[i].text;
        if (!found.strings[i].escaped)
            continue;
        size_t start = scratch->length;
        pb_json_unescape(scratch, found.strings[i].text);
        *results[i] = bytes_from(scratch, start);
    }
    *payload = found.payload;
    return scratch->failed ? pb_fail_memory(err, "the text of an envelope") : 0;
}

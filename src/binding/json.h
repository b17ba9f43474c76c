/* Lua values as JSON text and back, and what `publish` takes as a payload. */
#ifndef PB_BINDING_JSON_H
#define PB_BINDING_JSON_H

#include <lua.h>

#include "../core/buffer.h"
#include "../core/error.h"

#define PB_JSON_TEXT_LIMIT ((size_t)64 << 20) /* bytes of JSON text that one value may become */

typedef enum pb_payload_kind {
    PB_PAYLOAD_JSON,     /* JSON text, for either envelope */
    PB_PAYLOAD_BYTES,    /* postbox.bytes: the record's value itself, envelope in headers */
    PB_PAYLOAD_TOMBSTONE /* postbox.tombstone: a null value, envelope in headers */
} pb_payload_kind;

/*
 * Adds the JSON text of the value at `index` to `out`, which stays the caller's in any outcome.
 * -1 and a `config` error that says where, such as `payload.items[3].price`. Raises nothing except
 * Lua's own out of memory, runs no Lua code, and reads tables raw: no metamethod is called.
 */
int pb_json_encode(lua_State *L, int index, pb_buffer *out, pb_error *err);

/* The same for the payload of an event: what kind it is, and its bytes added to `out`. */
int pb_read_payload(lua_State *L, int index, pb_buffer *out, pb_payload_kind *kind, pb_error *err);

/*
 * Pushes the value of the JSON text at `index`, which is a string: objects and arrays are tables,
 * an empty array is marked as one, null is a lightuserdata NULL. Integers are exact or, where this
 * Lua cannot hold them, strings of their digits. Of members of one name the last counts. -1 and a
 * `config` error, and nothing pushed, where it is no JSON. Raises only Lua's own out of memory.
 */
int pb_json_decode(lua_State *L, int index, pb_error *err);

/* Whether the value at `index` is postbox.bytes; the slice lives as long as that value. */
bool pb_test_bytes(lua_State *L, int index, pb_bytes *value);

void pb_open_json(lua_State *L);

#endif

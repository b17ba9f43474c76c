/*
 * Values that Lua code marked: postbox.raw, postbox.bytes, postbox.tombstone, postbox.array, and
 * cjson's array marks where it has them. A mark is a metatable, or a lightuserdata.
 */
#ifndef PB_MARKS_H
#define PB_MARKS_H

#include <lua.h>

typedef enum pb_mark {
    PB_MARK_NONE,
    PB_MARK_RAW,        /* { json_text } */
    PB_MARK_BYTES,      /* { bytes } */
    PB_MARK_TOMBSTONE,
    PB_MARK_ARRAY,      /* an array, also when empty */
    PB_MARK_EMPTY_ARRAY /* an array when empty; as a lightuserdata: the empty array itself */
} pb_mark;

/* The mark of the table or lightuserdata at `index`. Needs 3 slots of the Lua stack. */
pb_mark pb_mark_of(lua_State *L, int index);

void pb_mark_array(lua_State *L); /* the table on top, as postbox.array does */

/* Adds `marks` (name -> metatable) and `mark` to the module table on top. */
void pb_open_marks(lua_State *L);

#endif

/* userdata "postbox.intake": the records that a consumer has in hand at once. */
#ifndef PB_BINDING_RECORD_H
#define PB_BINDING_RECORD_H

#include "../core/intake.h"
#include "compat.h"

/* Shared by the Lua object and the consumer, which must be able to empty it before it closes. */
typedef struct pb_held_intake {
    pb_intake intake;
    int references;
    lua_Integer serial; /* changes when the records go: events that outlive them are told apart */
} pb_held_intake;

pb_held_intake *pb_check_intake(lua_State *L, int index);
/* The record of the number at `index`; raises where there is none. */
pb_record *pb_check_record(lua_State *L, int index, pb_held_intake *held);
/* with one reference, the Lua object's; NULL: no memory */
pb_held_intake *pb_push_intake(lua_State *L);
void pb_intake_emptied(pb_held_intake *held);
void pb_release_intake(pb_held_intake *held);
void pb_open_record(lua_State *L);

#endif

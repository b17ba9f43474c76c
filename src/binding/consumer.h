/* userdata "postbox.consumer": its object (consumer.c), and its calls that wait (consumer_calls.c). */
#ifndef PB_BINDING_CONSUMER_H
#define PB_BINDING_CONSUMER_H

#include "../core/consumer.h"
#include "../core/dead_letter.h"
#include "../core/inbox.h"
#include "job.h"
#include "record.h"

#define PB_CONSUMER_CLASS "postbox.consumer"
#define PB_CONSUMER_INTAKES 4 /* at most, of one consumer */
#define PB_CONSUMER_CLOSE 2.0 /* seconds, for one that nobody closed */

typedef struct pb_lua_consumer {
    pb_use use;
    pb_consumer *native; /* NULL once closed */
    pb_inbox *inbox;
    pb_dead_letters *letters;
    pb_codec codec;
    char *group;
    int pid;
    pb_held_intake *intakes[PB_CONSUMER_INTAKES];
} pb_lua_consumer;

/* Raises where it is closed or was made before a fork. */
pb_lua_consumer *pb_check_consumer(lua_State *L, int index);
/* Records that live on would stop the client's end for ever. On Lua's thread, which shares them. */
void pb_consumer_drop_intakes(pb_lua_consumer *c);
void pb_consumer_drop(pb_lua_consumer *c, double seconds);
void pb_set_consumer_calls(lua_State *L); /* into the class */

#endif

/* userdata "postbox.batch", made by core.batch(): the events of one transaction. */
#ifndef PB_BINDING_BATCH_H
#define PB_BINDING_BATCH_H

#include "../core/batch.h"
#include "compat.h"

pb_batch *pb_check_batch(lua_State *L, int index);
pb_batch *pb_opt_batch(lua_State *L, int index); /* NULL for nil and none */

#endif

/* userdata "postbox.batch", made by core.batch(): the events of one transaction. */
#ifndef PB_BINDING_BATCH_H
#define PB_BINDING_BATCH_H

#include "../core/batch.h"
#include "compat.h"
#include "job.h"

pb_batch *pb_check_batch(lua_State *L, int index);
/* NULL for nil and none; else the call uses it. -1 and call->err: busy */
int pb_opt_batch(lua_State *L, int index, pb_call *call, pb_batch **batch);

#endif

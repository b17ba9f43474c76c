/* userdata "postbox.connection", made by core.connect(config [, application_name]). */
#ifndef PB_BINDING_CONNECTION_H
#define PB_BINDING_CONNECTION_H

#include "../core/session.h"
#include "compat.h"
#include "job.h"

/*
 * The session of the connection at `index`, which the call uses. -1 and call->err: busy. Raises
 * where the connection is closed or was made before a fork.
 */
int pb_use_session(lua_State *L, int index, pb_call *call, pb_session **session);

#endif

/* userdata "postbox.connection", made by core.connect(config [, application_name]). */
#ifndef PB_BINDING_CONNECTION_H
#define PB_BINDING_CONNECTION_H

#include "../core/session.h"
#include "compat.h"

/* Raises where the connection is closed or was made before a fork. */
pb_session *pb_check_session(lua_State *L, int index);
pb_pg *pb_check_connection(lua_State *L, int index);

#endif

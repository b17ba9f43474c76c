/* userdata "postbox.config", made by core.config{...}. */
#ifndef PB_BINDING_CONFIG_H
#define PB_BINDING_CONFIG_H

#include "../core/config.h"
#include "compat.h"

pb_config *pb_check_config(lua_State *L, int index);

#endif

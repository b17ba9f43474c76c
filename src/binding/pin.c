/*
 * Keeps the module in memory when its Lua state ends: threads of librdkafka may still run in it.
 * The Makefile links it so (-z nodelete); a build by LuaRocks cannot, so the module says it itself.
 */
#include <dlfcn.h>

#include "core.h"

void pb_open_pin(lua_State *L) {
    Dl_info module;
    (void)L;
    /* The handle is kept on purpose: closing it is what must never happen. */
    if (dladdr((void *)pb_open_pin, &module) && module.dli_fname)
        (void)dlopen(module.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

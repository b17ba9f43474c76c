# Which Lua: LUA=5.4, 5.1 or jit, otherwise the first whose headers are found.

pkg_of = $(if $(filter jit,$(1)),luajit,lua$(1))

LUA ?= $(or $(firstword $(foreach l,5.4 5.1 jit,\
	$(if $(shell $(PKG_CONFIG) --exists $(call pkg_of,$(l)) 2>/dev/null && echo yes),$(l)))),5.4)

ifeq ($(filter $(LUA),5.4 5.1 jit),)
$(error LUA=$(LUA) is not known: say LUA=5.4, LUA=5.1 or LUA=jit)
endif

lua_package := $(call pkg_of,$(LUA))
lua_program := $(lua_package)
lua_version := $(if $(filter jit,$(LUA)),5.1,$(LUA))
lua_flags := $(shell $(PKG_CONFIG) --cflags $(lua_package) 2>/dev/null)

# eval "$(make env)": lets this Lua find postbox in the source tree.
env:
	@echo "export LUA_PATH='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;'"
	@echo "export LUA_CPATH='$(abspath $(BUILD))/$(LUA)/?.so;;'"

.PHONY: env

# postbox
#
#   make                     builds the C module for the Lua that is found
#   make LUA=5.1             ... for that one: 5.4, 5.1 or jit
#   make install PREFIX=/usr/local
#   make demo                shows what postbox does, on servers of its own
#   make test                everything: all Luas, embedded broker and Apache Kafka
#   make spec SPECS=spec/testing_spec.lua [LUA=5.1] [BROKER=kafka]
#   make check bench rockspec clean help

PREFIX ?= /usr/local
BUILD ?= build
CC ?= cc
CFLAGS ?= -O2 -g
PKG_CONFIG ?= pkg-config
INSTALL ?= install

.DEFAULT_GOAL := all

include mk/lua.mk

warnings := -Wall -Wextra $(if $(WERROR),-Werror)
flags := -std=c11 -D_GNU_SOURCE $(warnings) -fPIC -fvisibility=hidden -pthread
libraries_flags := $(shell $(PKG_CONFIG) --cflags libpq rdkafka 2>/dev/null)
libraries := $(shell $(PKG_CONFIG) --libs libpq rdkafka 2>/dev/null || echo -lpq -lrdkafka) -pthread -lm -ldl

core_sources := $(wildcard src/core/*.c)
binding_sources := $(wildcard src/binding/*.c)
core_objects := $(core_sources:src/core/%.c=$(BUILD)/core/%.o)
binding_objects := $(binding_sources:src/binding/%.c=$(BUILD)/$(LUA)/binding/%.o)
module := $(BUILD)/$(LUA)/postbox/core.so

all: $(module)

# The core knows no Lua: its objects are the same for every Lua, and for the tests in C.
$(BUILD)/core/%.o: src/core/%.c
	@mkdir -p $(@D)
	$(CC) $(flags) $(CFLAGS) $(libraries_flags) -MMD -MP -c $< -o $@

$(BUILD)/$(LUA)/binding/%.o: src/binding/%.c
	@mkdir -p $(@D)
	$(CC) $(flags) $(CFLAGS) $(lua_flags) $(libraries_flags) -MMD -MP -c $< -o $@

# Not linked with liblua: the interpreter that loads the module has it. Never unloaded, because
# threads of librdkafka may outlive the Lua state. Moved into place, because a running process may
# have the old one mapped.
$(module): $(core_objects) $(binding_objects) src/binding/exports.map
	@mkdir -p $(@D)
	$(CC) -shared $(CFLAGS) $(LDFLAGS) -Wl,-z,nodelete,--version-script=src/binding/exports.map -o $@.new \
		$(core_objects) $(binding_objects) $(libraries)
	mv $@.new $@

include mk/install.mk
include mk/test.mk

clean:
	rm -rf $(BUILD)

help:
	@sed -n '/^#   make/s/^#  //p' Makefile

-include $(wildcard $(BUILD)/core/*.d $(BUILD)/*/binding/*.d $(BUILD)/asan/*.d $(BUILD)/*/spec/*.d)

.PHONY: all clean help
.DELETE_ON_ERROR:

# make install PREFIX=…: Lua and SQL files to share/lua/X.Y, the C module to lib/lua/X.Y, programs
# to bin. SQL files are data, and stay beside the Lua modules that read them: the same place in
# the source tree, under PREFIX and in a rock (there they are "modules" that nobody requires).

share_folder = $(DESTDIR)$(PREFIX)/share/lua/$(lua_version)
lib_folder = $(DESTDIR)$(PREFIX)/lib/lua/$(lua_version)
bin_folder = $(DESTDIR)$(PREFIX)/bin

shared_files := $(shell find lua -name '*.lua' -o -name '*.sql')
programs := $(wildcard bin/*)

install: $(module)
	@for file in $(shared_files:lua/%=%); do \
		$(INSTALL) -D -m 644 "lua/$$file" "$(share_folder)/$$file" || exit 1; \
	done
	$(INSTALL) -D -m 755 $(module) $(lib_folder)/postbox/core.so
	@for program in $(programs); do \
		$(INSTALL) -D -m 755 "$$program" "$(bin_folder)/$${program##*/}" && \
		sed -i '1s|^#!.*|#!/usr/bin/env $(lua_program)|' "$(bin_folder)/$${program##*/}" || exit 1; \
	done
	@echo "postbox is installed for $(lua_program) under $(DESTDIR)$(PREFIX)"

# The rockspec lists every file, because LuaRocks does not look for them.
rockspec:
	@mkdir -p $(BUILD)
	$(lua_program) scripts/rockspec.lua >$(BUILD)/rockspec.new
	mv $(BUILD)/rockspec.new rockspec/postbox-scm-1.rockspec

.PHONY: install rockspec

# Tests, demo and figures. What they need is installed by scripts/packages (Debian, as root).

SPECS ?=
BROKER ?= mock
run_lua = BUILD='$(BUILD)' LUA_PATH='lua/?.lua;lua/?/init.lua;./?.lua;./?/init.lua;;' \
	LUA_CPATH='$(BUILD)/$(LUA)/?.so;;' $(lua_program)

# Programs of spec/core, one a file, each linked with the whole core: as it is shipped, and with
# the address and undefined behaviour sanitizers.
sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
unit_sources := $(wildcard spec/core/*_test.c)
unit_tests := $(unit_sources:spec/core/%.c=$(BUILD)/core/spec/%)
asan_tests := $(unit_sources:spec/core/%.c=$(BUILD)/asan/spec/%)
asan_objects := $(core_sources:src/core/%.c=$(BUILD)/asan/%.o)

$(BUILD)/asan/%.o: src/core/%.c
	@mkdir -p $(@D)
	$(CC) $(flags) -O1 -g $(sanitizers) $(libraries_flags) -MMD -MP -c $< -o $@

$(BUILD)/core/spec/%: spec/core/%.c $(core_objects)
	@mkdir -p $(@D)
	$(CC) $(flags) $(CFLAGS) -Isrc/core $(libraries_flags) -MMD -MP -MF $@.d -o $@ $< $(core_objects) $(libraries)

$(BUILD)/asan/spec/%: spec/core/%.c $(asan_objects)
	@mkdir -p $(@D)
	$(CC) $(flags) -O1 -g $(sanitizers) -Isrc/core $(libraries_flags) -MMD -MP -MF $@.d -o $@ $< $(asan_objects) $(libraries)

.SECONDARY: $(asan_objects)

units: $(unit_tests) $(asan_tests)

test:
	scripts/packages test
	+@for lua in 5.4 5.1 jit; do $(MAKE) --no-print-directory LUA=$$lua WERROR=1 all || exit 1; done
	+@$(MAKE) --no-print-directory WERROR=1 units
	@$(run_lua) spec/support/run.lua

# Some spec files on one Lua and one broker, while one works on them.
spec: $(module)
	@$(run_lua) spec/support/run.lua --lua $(LUA) --broker $(BROKER) $(SPECS)

check:
	luacheck -q .

demo:
	@scripts/packages demo
	+@$(MAKE) --no-print-directory all
	@$(run_lua) examples/demo.lua

# The references of the figures: programs in C that use nothing of postbox.
references := produce copy check pace observe transact consume
reference_programs := $(references:%=$(BUILD)/bench/%)

$(BUILD)/bench/%: bench/reference/%.c bench/reference/reference.c bench/reference/send.c \
		$(wildcard bench/reference/*.h)
	@mkdir -p $(@D)
	$(CC) $(flags) $(CFLAGS) $(libraries_flags) -o $@ $(filter %.c,$^) $(libraries)

# PostgreSQL for a Lua program that uses nothing of postbox.
plain := $(BUILD)/$(LUA)/bench/plain.so

$(plain): bench/reference/plain.c
	@mkdir -p $(@D)
	$(CC) -shared $(flags) $(CFLAGS) $(lua_flags) $(libraries_flags) -o $@ $< $(libraries)

plain: $(plain)
	@:

references: $(reference_programs)
	@:

# About 6 minutes; BENCH=drain, latency, transaction or consume runs one of them.
bench:
	@scripts/packages test
	+@for lua in 5.4 jit; do $(MAKE) --no-print-directory LUA=$$lua all plain || exit 1; done
	+@$(MAKE) --no-print-directory references
	@BENCH='$(BENCH)' $(run_lua) bench/run.lua

# The reference of the Lua API, to build/doc (Debian: lua-ldoc).
doc:
	ldoc -q .

.PHONY: units test spec check demo plain references bench doc

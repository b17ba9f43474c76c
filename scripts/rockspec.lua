-- Prints rockspec/postbox-scm-1.rockspec with every file of the source tree in it (make rockspec).

local function find(command)
  local list, pipe = {}, assert(io.popen(command .. " | LC_ALL=C sort"))
  for line in pipe:lines() do
    list[#list + 1] = line
  end
  pipe:close()
  return list
end

local function each(files, line_of)
  local lines = {}
  for i, file in ipairs(files) do
    lines[i] = line_of(file)
  end
  return table.concat(lines, "\n")
end

local function module_of(file)
  return (file:gsub("^lua/", ""):gsub("%.%w+$", ""):gsub("/init$", ""):gsub("/", "."))
end

local template = [[
rockspec_format = "3.0"
package = "postbox"
version = "scm-1"
source = {
  url = "git+file://.", -- `luarocks make` in a checkout; a release names its tag here
}
description = {
  summary = "Transactional messaging between PostgreSQL and Kafka",
  detailed = "Transactional outbox, relay, consumers with an inbox, and dead letters.",
  license = "MIT",
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.1, < 5.5", "argparse >= 0.7" }
external_dependencies = {
  -- No header is named here, because libpq-fe.h is in include/postgresql on Debian and in include
  -- elsewhere; both are searched below.
  PGSQL = { library = "pq" },
  RDKAFKA = { header = "librdkafka/rdkafka.h", library = "rdkafka" },
}
build = {
  type = "builtin",
  modules = {
    ["postbox.core"] = {
      sources = {
%s
      },
      defines = { "_GNU_SOURCE" },
      incdirs = { "$(PGSQL_INCDIR)", "$(PGSQL_INCDIR)/postgresql", "$(RDKAFKA_INCDIR)" },
      -- LuaRocks has no field for options of the linker, but says -Wl,-rpath,<each of these>, where
      -- a comma begins the next option: nothing is to be exported but luaopen_postbox_core.
      libdirs = { "$(PGSQL_LIBDIR)", "$(RDKAFKA_LIBDIR),--version-script=src/binding/exports.map" },
      libraries = { "pq", "rdkafka", "pthread", "m", "dl" },
    },
%s
  },
  install = {
    -- SQL files are data of the Lua modules beside them.
    lua = {
%s
    },
    bin = {
%s
    },
  },
  copy_directories = {},
}
test = { type = "busted" }
]]

io.write((template:format(
  each(find "ls src/core/*.c src/binding/*.c", function(file)
    return ("        %q,"):format(file)
  end),
  each(find "find lua -name '*.lua'", function(file)
    return ("    [%q] = %q,"):format(module_of(file), file)
  end),
  each(find "find lua -name '*.sql'", function(file)
    return ("      [%q] = %q,"):format(module_of(file), file)
  end),
  each(find "find bin -type f", function(file)
    return ("      %q,"):format(file)
  end)
)))

local process = require "postbox.testing.process"

local LUA = rawget(_G, "jit") and "jit" or _VERSION:match("5%.%d")
local VERSION = _VERSION:match("5%.%d")
local PROGRAM = os.getenv("POSTBOX_TEST_LUA") or (LUA == "jit" and "luajit" or "lua" .. LUA)
local BUILD_SECONDS = 240

local function run(command, env)
  local status, output = process.run({ "sh", "-c", command }, BUILD_SECONDS, { env = env })
  assert(status == 0, ("%s: status %s\n%s"):format(command, tostring(status), output))
  return output
end

-- Only what is below `tree`, seen from another folder.
local function run_installed(tree, program)
  return run(("cd / && exec %s -e %s"):format(PROGRAM, process.quote(program)), {
    LUA_PATH = ("%s/share/lua/%s/?.lua;%s/share/lua/%s/?/init.lua;;"):format(tree, VERSION, tree, VERSION),
    LUA_CPATH = ("%s/lib/lua/%s/?.so;;"):format(tree, VERSION),
  })
end

local function exported(file)
  return run("nm -D --defined-only " .. process.quote(file)):gsub("%x+ (%a) ", "%1 ")
end

describe("the C module", function()
  local file = ("build/%s/postbox/core.so"):format(LUA)

  it("exports its luaopen function and nothing else", function()
    assert.equal("T luaopen_postbox_core\n", (exported(file)))
  end)

  it("is never unloaded and brings no Lua of its own", function()
    local dynamic = run("readelf -d " .. file)
    assert.truthy(dynamic:find("NODELETE", 1, true))
    assert.is_nil(dynamic:find("liblua", 1, true))
  end)
end)

describe("make install", function()
  it("puts everything under PREFIX, usable from another folder", function()
    local prefix = run("mktemp -d"):gsub("%s+$", "")
    run(("make --no-print-directory install LUA=%s PREFIX=%s"):format(LUA, prefix))
    assert.equal("table\n", run_installed(prefix, 'print(type(require "postbox"))'))
    for _, file in ipairs { "init.lua", "testing/broker.lua", "sql/001_outbox.sql" } do
      run(("test -f %s/share/lua/%s/postbox/%s"):format(prefix, VERSION, file))
    end
    local expected = run "cd lua && find . -name '*.lua' -o -name '*.sql' | sort"
    assert.equal(expected, run(("cd %s/share/lua/%s && find . -type f | sort"):format(prefix, VERSION)))
    for program in run("ls bin"):gmatch("%S+") do
      assert.truthy(run(("head -n 1 %s/bin/%s"):format(prefix, program)):find(PROGRAM .. "\n", 1, true))
    end
    run("rm -rf " .. prefix)
  end)
end)

describe("the rockspec", function()
  it("lists every file (make rockspec writes it)", function()
    local file = assert(io.open("rockspec/postbox-scm-1.rockspec"))
    local text = file:read("*a")
    file:close()
    assert.equal(run(PROGRAM .. " scripts/rockspec.lua"), text)
  end)

  it("builds and installs a rock in a clean tree", function()
    if LUA == "jit" then
      return -- to LuaRocks it is a Lua 5.1, which has its own turn
    end
    local folder = run("mktemp -d"):gsub("%s+$", "")
    run(("mkdir %s/source && cp -R src lua bin rockspec LICENSE %s/source"):format(folder, folder))
    run(("find %s -name '*.o' -delete"):format(folder))
    local config = assert(io.open(folder .. "/config.lua", "w"))
    config:write 'rocks_provided = { argparse = "0.7.1-1" }\n'
    config:close()
    run(("cd %s/source && luarocks --lua-version=%s --tree=%s/tree make rockspec/postbox-scm-1.rockspec"):format(
      folder, VERSION, folder), { LUAROCKS_CONFIG = folder .. "/config.lua", HOME = folder })
    assert.equal("table\n", run_installed(folder .. "/tree", 'print(type(require "postbox"))'))
    assert.equal("T luaopen_postbox_core\n",
      (exported(("%s/tree/lib/lua/%s/postbox/core.so"):format(folder, VERSION))))
    run(("test -f %s/tree/share/lua/%s/postbox/sql/001_outbox.sql"):format(folder, VERSION))
    run("rm -rf " .. folder)
  end)
end)

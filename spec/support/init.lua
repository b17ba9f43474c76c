-- What specs share: a database, a broker, patience, and other processes.
--
-- POSTBOX_TEST_BROKER=mock|kafka chooses the broker. POSTBOX_TEST_DATABASE and POSTBOX_TEST_KAFKA
-- name servers that run already (spec/support/run.lua starts them once for all spec files);
-- without them they are started here, for this process.

local client = require "postbox.testing.client"
local core = require "postbox.core"
local process = require "postbox.testing.process"
local testing = require "postbox.testing"

local support = {}

local BROKER = os.getenv("POSTBOX_TEST_BROKER") or "mock"
local POLL_SECONDS = 0.02

local own = {} -- servers of this process
local count = 0
local run_id -- tells this process from others that use the same servers

local function unique(separator)
  if not run_id then
    local file = assert(io.open("/proc/self/stat", "r"))
    run_id = ("%s%x"):format(file:read("*n"), os.time() % 0x1000000)
    file:close()
  end
  count = count + 1
  return run_id .. separator .. count
end

--- The connection string of a fresh, empty database.
function support.database()
  local conninfo = os.getenv("POSTBOX_TEST_DATABASE")
  if not conninfo then
    return support.postgres():create_database()
  end
  local name = "test_" .. unique("_")
  local status, output = process.run({ "psql", "-qX", "-d", conninfo, "-c", "CREATE DATABASE " .. name })
  assert(status == 0, output)
  return (conninfo:gsub("dbname=%S+", "dbname=" .. name))
end

--- A PostgreSQL of this process alone, for specs that stop it (see postbox.testing).
function support.postgres()
  own.postgres = own.postgres or testing.postgres()
  return own.postgres
end

local function start_broker()
  local bootstrap = os.getenv("POSTBOX_TEST_KAFKA")
  if BROKER == "mock" then
    return testing.broker()
  elseif bootstrap then
    return client.new(bootstrap)
  end
  return require("spec.support.kafka").start()
end

--- The broker of this run, with the methods of postbox.testing's client, and
-- `topic(name, partitions)`: creates a topic whose name begins so and is used by nobody else.
function support.broker()
  if not own.broker then
    own.broker = start_broker()
    own.broker.is_mock = BROKER == "mock"
    function own.broker:topic(name, partitions)
      return self:create(name .. "-" .. unique("-"), partitions)
    end
  end
  return own.broker
end

--- A name that nobody else uses, for consumer groups and the like.
function support.unique(name)
  return name .. "-" .. unique("-")
end

--- Seconds of a clock that only goes forward; and a pause.
support.clock, support.sleep = core.now, core.sleep

--- Calls fn again and again until it returns a true value, and returns that. It may raise: the
-- last error is told when the time is over.
function support.eventually(seconds, fn)
  local deadline = core.now() + seconds
  while true do
    local ok, value = pcall(fn)
    if ok and value then
      return value
    end
    if core.now() >= deadline then
      error(("not within %g s: %s"):format(seconds, tostring(ok and "no true value" or value)), 2)
    end
    core.sleep(POLL_SECONDS)
  end
end

local function interpreter()
  local lowest = 0
  while arg and arg[lowest - 1] do
    lowest = lowest - 1
  end
  return os.getenv("POSTBOX_TEST_LUA") or arg[lowest]
end

--- Starts another Lua of the same version with the same modules.
-- @tparam string source a file name ending in .lua, or a program's text
-- @tparam[opt] table env variables
-- @treturn process with `pid() kill(signal) wait(seconds) output()`
function support.run_lua(source, env)
  local line = { interpreter() }
  if not source:find("%.lua$") then
    line[2] = "-e"
  end
  line[#line + 1] = source
  local variables = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
  for name, value in pairs(env or {}) do
    variables[name] = value
  end
  return process.start(line, { env = variables, capture = true })
end

return support

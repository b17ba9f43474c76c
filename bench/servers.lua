-- The servers of a run: a PostgreSQL of its own that is as durable as in production, and one node
-- of Apache Kafka; and the programs that work against them.

local core = require "postbox.core"
local kafka = require "spec.support.kafka"
local machine = require "bench.machine"
local postbox = require "postbox"
local process = require "postbox.testing.process"
local testing = require "postbox.testing"

local servers = {}
local methods = {}

local BUILD = os.getenv("BUILD") or "build"
local PROGRAMS = { ["5.4"] = "lua5.4", jit = "luajit" }
local LUA_PATH = "lua/?.lua;lua/?/init.lua;./?.lua;./?/init.lua;;"
local PATIENCE = 120 -- seconds for one program

-- Beside the defaults of postbox.testing.
local SETTINGS = {
  fsync = "on", synchronous_commit = "on", full_page_writes = "on", shared_buffers = "1GB",
  max_wal_size = "8GB", min_wal_size = "1GB", checkpoint_timeout = "15min", wal_level = "replica",
  maintenance_work_mem = "256MB", max_connections = "200", restart_after_crash = "on",
}

function servers.start()
  local self = setmetatable({ topics = 0 }, { __index = methods })
  self.postgres = testing.postgres { settings = SETTINGS }
  self.kafka = kafka.start()
  self.database = self.postgres:create_database("bench")
  self.box = postbox.new { database = self.database, kafka = self.kafka.bootstrap, statement_timeout = 300 }
  assert(self.box:migrate())
  return self
end

--- A topic of 4 partitions that nobody has used.
function methods:topic(name)
  self.topics = self.topics + 1
  return self.kafka:create(("bench.%s.%d"):format(name, self.topics), 4)
end

function methods:query(sql, ...)
  return (assert(self.box:query(sql, ...)))
end

--- What one statement answers: a number.
function methods:number(sql, ...)
  return tonumber(self:query(sql, ...)[1].n)
end

--- Dead rows and unwritten pages of what came before are not the next one's to pay for.
function methods:settle()
  self:query("VACUUM ANALYZE postbox.outbox")
  self:query("CHECKPOINT")
  self:write_out()
end

--- What the broker has stored goes to the disk now, not while the next figure is measured.
function methods.write_out()
  process.run({ "sync" }, PATIENCE)
end

local function failed(name, status, output)
  error(("%s failed (%s): %s"):format(name, status and "status " .. status or "time is over", output), 0)
end

-- "name value" lines as a table.
local function read_results(output)
  local results = {}
  for name, value in output:gmatch("([%w_]+) (%S+)\n") do
    results[name] = tonumber(value) or value
  end
  return results
end

local started = {}
local started_methods = {}

function started.new(name, handle)
  return setmetatable({ name = name, process = handle }, { __index = started_methods })
end

--- Waits for its end, and for a good one.
-- @treturn table its "name value" lines
-- @treturn string all that it printed
function started_methods:finish(seconds)
  local status = self.process:wait(seconds or PATIENCE)
  local output = self.process:output()
  self.process:kill_all("KILL")
  self.process:close()
  if status ~= 0 then
    failed(self.name, status, output)
  end
  return read_results(output), output
end

--- Waits until it has printed a line that begins so.
function started_methods:wait_for(text)
  local deadline = core.now() + PATIENCE
  while not ("\n" .. self.process:output()):find("\n" .. text, 1, true) do
    if self.process:wait(0) or core.now() > deadline then
      failed(self.name, self.process:wait(0), self.process:output())
    end
    core.sleep(0.005)
  end
  return read_results(self.process:output())
end

--- A reference program in C.
function methods.reference(name, ...)
  local line = { ("%s/bench/%s"):format(BUILD, name) }
  for _, argument in ipairs { ... } do
    line[#line + 1] = tostring(argument)
  end
  return started.new("the reference " .. name, process.start(line, { capture = true }))
end

--- A program of bench/work in a process of its own.
-- @tparam string name
-- @tparam table parameters seen by it as BENCH_<NAME>
-- @tparam[opt] string lua 5.4 or jit
function methods:work(name, parameters, lua)
  lua = lua or "5.4"
  local env = { LUA_PATH = LUA_PATH, LUA_CPATH = ("%s/%s/?.so;;"):format(BUILD, lua),
    POSTBOX_DATABASE = self.database, POSTBOX_KAFKA = self.kafka.bootstrap }
  for parameter, value in pairs(parameters) do
    env["BENCH_" .. parameter:upper()] = tostring(value)
  end
  local line = { PROGRAMS[lua], ("bench/work/%s.lua"):format(name) }
  return started.new(("%s on %s"):format(name, PROGRAMS[lua]), process.start(line, { env = env, capture = true }))
end

--- CPU seconds so far: of the machine, of PostgreSQL, of Kafka.
function methods:cpu()
  return { machine = machine.cpu(), postgres = machine.cpu_of_tree(self.postgres:pid()),
    kafka = machine.cpu_of_tree(self.kafka.process:pid()) }
end

--- The broker's code is compiled while it runs: before that every figure is too low.
function methods:warm_up(count)
  local topic = self:topic("warm")
  for _ = 1, 20 do
    self.reference("produce", self.kafka.bootstrap, topic, count):finish()
  end
  self.reference("check", self.kafka.bootstrap, topic, 1, count):finish()
end

local function output_of(...)
  local _, output = process.run({ ... }, 10)
  return (output:match("^[^\n]*"):gsub("%s+$", ""))
end

function methods:describe()
  local version = self:query("SHOW server_version")[1].server_version
  local list = {}
  for name, value in pairs(SETTINGS) do
    list[#list + 1] = name .. "=" .. value
  end
  table.sort(list)
  return {
    machine.describe(),
    ("PostgreSQL %s (%s)"):format(version, table.concat(list, " ")),
    ("Apache Kafka %s, one node; librdkafka %s; %s; %s; %s UTC"):format(
      os.getenv("POSTBOX_KAFKA_VERSION") or "4.1.1", output_of("pkg-config", "--modversion", "rdkafka"),
      output_of("lua5.4", "-v"):match("^Lua %S+"), output_of("luajit", "-v"):match("^LuaJIT %S+"),
      os.date("!%Y-%m-%d %H:%M")),
  }
end

function methods:stop()
  self.box:close(5)
  self.kafka:stop()
  self.postgres:stop()
end

return servers

-- Runs the tests and counts them; the last line is `N passed, N failed, N skipped`.
--
--   run.lua                                    everything (make test)
--   run.lua [--lua 5.4] [--broker mock] [--units] [--check] [spec files]
--
-- One throw-away PostgreSQL and one Apache Kafka serve all spec files of a run. A spec file that
-- says `support.broker` (or has tests tagged #kafka) runs on both brokers, another one once. Tests
-- tagged #mock or #kafka run on that broker alone. CI=true makes a real-broker run that cannot
-- start a failure.

local jobs = require "spec.support.jobs"
local testing = require "postbox.testing"

-- Spec files spend most of their time waiting, so more of them run at once than there are cores.
local WIDTH = tonumber(os.getenv("POSTBOX_TEST_JOBS")) or 4
local LIMIT = tonumber(os.getenv("POSTBOX_TEST_LIMIT")) or 300 -- seconds, of one spec file
local BUILD = os.getenv("BUILD") or "build"
local PROGRAMS = { ["5.4"] = "lua5.4", ["5.1"] = "lua5.1", jit = "luajit" }
local LUA_PATH = "lua/?.lua;lua/?/init.lua;./?.lua;./?/init.lua;;"

local function lines_of(command)
  local list, pipe = {}, assert(io.popen(command))
  for line in pipe:lines() do
    list[#list + 1] = line
  end
  pipe:close()
  return list
end

local function read_options()
  local options = { luas = {}, brokers = {}, files = {} }
  local i = 1
  while arg[i] do
    local name, value = arg[i], arg[i + 1]
    i = i + 1
    if name == "--lua" or name == "--broker" then
      table.insert(name == "--lua" and options.luas or options.brokers, value)
      i = i + 1
    elseif name == "--units" or name == "--check" then
      options[name:sub(3)] = true
    else
      table.insert(options.files, name)
    end
  end
  options.partial = arg[1] ~= nil
  if not options.luas[1] and not options.units and not options.check then
    options.luas = { "5.4", "5.1", "jit" }
  end
  if not options.brokers[1] then
    options.brokers = { "mock", "kafka" }
  end
  if not options.files[1] then
    options.files = lines_of("find spec -name '*_spec.lua' | sort")
  end
  return options
end

local function uses_broker(path)
  local file = assert(io.open(path, "r"))
  local text = file:read("*a")
  file:close()
  return text:find("support.broker", 1, true) ~= nil or text:find("#kafka", 1, true) ~= nil
end

local function unit_jobs(env)
  local list = {}
  local function add(name, command)
    list[#list + 1] = { name = name, command = command, env = env, limit = LIMIT }
  end
  for _, source in ipairs(lines_of("ls spec/core/*_test.c 2>/dev/null")) do
    local name = source:match("([^/]+)%.c$")
    local plain = ("%s/core/spec/%s"):format(BUILD, name)
    add("C " .. name, { plain })
    add("C " .. name .. " (sanitizers)", { ("%s/asan/spec/%s"):format(BUILD, name) })
    add("C " .. name .. " (valgrind)", { "valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full",
      "--errors-for-leak-kinds=definite", plain })
  end
  return list
end

local function spec_job(lua, broker, file, env)
  local other = broker == "mock" and "kafka" or "mock"
  local program = PROGRAMS[lua] or error("no Lua is called " .. lua, 0)
  local all = { LUA_PATH = LUA_PATH, LUA_CPATH = ("%s/%s/?.so;;"):format(BUILD, lua),
    POSTBOX_TEST_BROKER = broker, POSTBOX_TEST_LUA = program }
  for name, value in pairs(env) do
    all[name] = value
  end
  return {
    name = ("%-3s %-5s %s"):format(lua, broker, file:gsub("^%./", "")),
    command = { program, "spec/support/busted.lua", "--output=spec/support/report.lua",
      "--exclude-tags=" .. other, file },
    env = all,
    limit = LIMIT,
  }
end

-- Files that need no broker run with the first one alone.
local function spec_jobs(options, broker, env)
  local list = {}
  for _, lua in ipairs(options.luas) do
    for _, file in ipairs(options.files) do
      if broker == options.brokers[1] or uses_broker(file) then
        list[#list + 1] = spec_job(lua, broker, file, env)
      end
    end
  end
  return list
end

local function start_kafka()
  local ok, broker = pcall(function()
    return require("spec.support.kafka").start()
  end)
  if not ok then
    print("Apache Kafka could not be started: " .. tostring(broker))
    return nil
  end
  return broker
end

local function run_on_kafka(options, env)
  local broker = start_kafka()
  if broker then
    env.POSTBOX_TEST_KAFKA = broker.bootstrap
  end
  local list = spec_jobs(options, "kafka", env)
  if broker then
    jobs.run(list, WIDTH)
    broker:stop()
  elseif os.getenv("CI") == "true" then
    jobs.count("all specs on Apache Kafka, which did not start", 0, #list, 0)
  else
    jobs.count("all specs on Apache Kafka, which did not start", 0, 0, #list)
  end
end

-- A server that died and came back would hide what killed it.
local function check_log(postgres)
  local log = postgres:log()
  local dead = log:match("[^\n]*PANIC[^\n]*") or log:match("[^\n]*was terminated by signal[^\n]*")
  if dead then
    print(dead)
  end
  jobs.count("PostgreSQL's log has no crash", dead and 0 or 1, dead and 1 or 0, 0)
end

local function main()
  local options = read_options()
  if options.check or not options.partial then
    jobs.run({ { name = "luacheck", command = { "luacheck", "-q", "." }, limit = LIMIT } }, 1)
  end
  local postgres = testing.postgres()
  local env = { POSTBOX_TEST_DATABASE = postgres.database, PATH = postgres.programs .. ":" .. os.getenv("PATH") }
  if options.units or not options.partial then
    jobs.run(unit_jobs(env), WIDTH)
  end
  for _, broker in ipairs(options.brokers) do
    if broker == "kafka" then
      run_on_kafka(options, env)
    else
      jobs.run(spec_jobs(options, broker, env), WIDTH)
    end
  end
  check_log(postgres)
  postgres:stop()
  local totals = jobs.totals
  print(("%d passed, %d failed, %d skipped"):format(totals.passed, totals.failed, totals.skipped))
  return totals.failed == 0 and totals.passed > 0
end

local ok, passed = xpcall(main, debug.traceback)
if not ok then
  print(passed)
  print(("%d passed, %d failed, %d skipped"):format(jobs.totals.passed, jobs.totals.failed + 1, jobs.totals.skipped))
end
os.exit(ok and passed and 0 or 1)

-- make bench: postbox's figures on a real Apache Kafka and a PostgreSQL that is set up as in
-- production, each beside a reference that is measured in the same run.
--
--   make bench                         everything, 7 to 8 minutes
--   make bench BENCH=drain             one of drain, latency, transaction, consume
--   make bench BENCH_SHORT=1           a tenth of the work, to see whether it runs
--
-- A figure that misses its goal is marked. What is wrong (an event that is missing, or out of
-- order) fails the run.

local figures = require "bench.figures"
local servers = require "bench.servers"

local NAMES = { "drain", "latency", "transaction", "consume" }

local function selected()
  local wanted = os.getenv("BENCH")
  if not wanted or wanted == "" then
    return NAMES
  end
  for _, name in ipairs(NAMES) do
    if name == wanted then
      return { name }
    end
  end
  error(("there is no bench called %s: %s"):format(wanted, table.concat(NAMES, ", ")), 0)
end

local function main()
  local names = selected()
  local run = { short = os.getenv("BENCH_SHORT") == "1" and true or false, table = figures.new() }
  run.rounds = tonumber(os.getenv("BENCH_ROUNDS")) or run.short and 1 or 3
  run.servers = servers.start()
  local ok, message = xpcall(function()
    figures.say("warming up the broker")
    run.servers:warm_up(run.short and 200000 or 1000000)
    for _, name in ipairs(names) do
      require("bench." .. name)(run)
    end
  end, function(raised)
    return type(raised) == "string" and not raised:find("^[%w_/.]+%.lua:%d+:") and raised
      or debug.traceback(tostring(raised))
  end)
  local facts = run.servers:describe()
  run.servers:stop()
  run.table:print(facts)
  if not ok then
    error(message, 0)
  end
end

local ok, message = pcall(main)
if not ok then
  io.stderr:write("bench: ", tostring(message), "\n")
end
os.exit(ok and 0 or 1)

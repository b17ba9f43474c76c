-- How fast a consumer with a handler that does nothing takes a million events of our relay, each
-- noted in the inbox; beside the same work in C (take records, store their ids, commit).

local figures = require "bench.figures"

local BATCH = 1000
local LUAS = { { "5.4", "Lua 5.4" }, { "jit", "LuaJIT" } }

-- The events that the drain has left on Kafka, or some of its own.
local function topic_with_events(run)
  if not run.drained then
    figures.say("consume needs a topic with events")
    local quiet = { servers = run.servers, short = run.short, rounds = 1, table = figures.new() }
    require("bench.drain")(quiet)
    run.drained = quiet.drained
  end
  run.servers.kafka:create(run.drained.topic .. "-dlt", 4) -- a consumer asks for it
  return run.drained.topic, run.drained.count
end

local function check(run, group, count)
  local stored = run.servers:number("SELECT count(*) AS n FROM postbox.inbox WHERE consumer_group = $1", group)
  if stored ~= count then
    error(("consume: the inbox of %s has %d events instead of %d"):format(group, stored, count), 0)
  end
  run.servers:query("TRUNCATE postbox.inbox")
  run.servers:query("CHECKPOINT")
end

local function plain(run, topic, group, count)
  local servers = run.servers
  local result = servers.reference("consume", servers.kafka.bootstrap, topic, servers.database, group, count,
    BATCH):finish()
  check(run, group, count)
  return count / result.seconds, result.cpu * 1e6 / count
end

local function ours(run, lua, topic, group, count)
  local result = run.servers:work("consumer", { topic = topic, group = group, count = count, batch = BATCH }, lua)
    :finish()
  check(run, group, count)
  return count / result.seconds, result.cpu * 1e6 / count, result.memory
end

return function(run)
  local topic, count = topic_with_events(run)
  local rates, cpus, memory = { C = {}, ["5.4"] = {}, jit = {} }, { C = {}, ["5.4"] = {}, jit = {} }, {}
  for i = 1, run.rounds do
    figures.say("inbox of %d events, round %d of %d", count, i, run.rounds)
    rates.C[i], cpus.C[i] = plain(run, topic, "bench-c-" .. i, count)
    for _, lua in ipairs(LUAS) do
      local tag = lua[1]
      rates[tag][i], cpus[tag][i], memory[i] = ours(run, tag, topic, ("bench-%s-%d"):format(tag, i), count)
    end
  end
  for _, lua in ipairs(LUAS) do
    run.table:add { name = "inbox, no-op handler, events a second, " .. lua[2], unit = "/s", samples = rates[lua[1]],
      share = 0.5, reference = "C: consume, unnest, commit", reference_samples = rates.C }
    run.table:add { name = "... CPU seconds a million of the consumer", unit = " s", samples = cpus[lua[1]],
      reference = "C: consume, unnest, commit", reference_samples = cpus.C }
  end
  run.table:add { name = "... most resident memory of the consumer", unit = " MiB", samples = memory }
end

-- How long after it was due an event is in a consumer's hands, at a fixed rate: some programs
-- publish at their times, whatever became of the events before (a late commit counts).
-- Reference: a plain producer and the same consumer, through the same broker, at the same rate.

local core = require "postbox.core"
local figures = require "bench.figures"

local GET_READY = 1.2 -- seconds until all programs have connected
local WARM_UP = 1     -- seconds that are not counted

local function observe(run, topic, count, start)
  local observer = run.servers.reference("observe", run.servers.kafka.bootstrap, topic, count, start + WARM_UP)
  observer:wait_for("ready")
  return observer
end

local function finish(observer, name)
  local result = observer:finish()
  if result.missing ~= 0 or result.repeated ~= 0 then
    error(("latency: %s: %d events are missing, %d came more than once"):format(name, result.missing,
      result.repeated), 0)
  end
  return result
end

local function reference(run, rate, count)
  local topic = run.servers:topic("pace")
  local start = core.now() + GET_READY
  local observer = observe(run, topic, count, start)
  local pace = run.servers.reference("pace", run.servers.kafka.bootstrap, topic, rate, count, start)
  pace:finish()
  return finish(observer, "the plain producer")
end

local function postbox(run, rate, count, number)
  local servers = run.servers
  local topic = servers:topic("latency")
  local relay = servers:work("relay", {})
  relay:wait_for("active")
  local start = core.now() + GET_READY
  local observer = observe(run, topic, count, start)
  local writers, late, commit = {}, 0, 0
  for i = 1, number do
    writers[i] = servers:work("writer", { number = i - 1, writers = number, rate = rate, count = count,
      start = start, topic = topic })
  end
  for i = 1, number do
    local result = writers[i]:finish()
    late, commit = late + result.late, commit + result.commit / number
  end
  local result = finish(observer, "postbox")
  result.late, result.commit = late / count * 100, commit
  relay.process:kill("TERM")
  relay:finish()
  if servers:number("SELECT count(*) AS n FROM postbox.outbox") ~= 0 then
    error("latency: the outbox is not empty after all events came", 0)
  end
  return result
end

local function measure(run, rate, writers, seconds, goals)
  local ours, theirs = {}, {}
  for _, name in ipairs { "p50", "p95", "p99", "late", "commit" } do
    ours[name], theirs[name] = {}, {}
  end
  local count = rate * (seconds + WARM_UP)
  for i = 1, run.rounds do
    figures.say("latency at %d events a second from %d writers, round %d of %d", rate, writers, i, run.rounds)
    local plain, result = reference(run, rate, count), postbox(run, rate, count, writers)
    for name, list in pairs(ours) do
      table.insert(list, result[name])
      table.insert(theirs[name], plain[name])
    end
  end
  for _, name in ipairs { "p50", "p95", "p99" } do
    run.table:add { name = ("latency at %d/s, due to consumed, %s"):format(rate, name), unit = " ms",
      samples = ours[name], most = goals[name], reference = "C: producer to consumer",
      reference_samples = theirs[name] }
  end
  run.table:add { name = ("... of which publish_manual, mean, at %d/s"):format(rate), unit = " ms",
    samples = ours.commit }
  run.table:add { name = ("... writers more than 5 ms late, at %d/s"):format(rate), unit = " %", samples = ours.late }
end

return function(run)
  local seconds = run.short and 2 or 4
  measure(run, 1000, 8, seconds, { p50 = 3, p99 = 12 })
  measure(run, 5000, 16, seconds, {})
  run.servers:settle()
end

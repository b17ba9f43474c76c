-- How fast the relay empties an outbox of a million events, and what that costs.
-- References: a producer alone that writes such records to the same broker, and a program in C that
-- reads the same rows and produces them, but removes nothing.

local figures = require "bench.figures"

local FILL = [[
  INSERT INTO postbox.outbox (event_id, event_type, topic, partition_key, payload, headers)
  SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING
           substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
           FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid,
         'ORDER_CREATED', $1, convert_to('k' || i % 10000, 'UTF8'),
         convert_to(rpad('{"orderId":' || i || ',"note":"', 254, 'x') || '"}', 'UTF8'), ''
    FROM generate_series(1, $2::integer) AS i]]

-- Rows with ids in time order (UUIDv7) and 256 bytes of payload. Returns the first outbox id.
local function fill(run, topic, count)
  run.servers:query(FILL, topic, count)
  run.servers:settle()
  return run.servers:number("SELECT min(outbox_id) AS n FROM postbox.outbox")
end

local function check(run, topic, first, count)
  local seen = run.servers.reference("check", run.servers.kafka.bootstrap, topic, first, count):finish()
  local left = run.servers:number("SELECT count(*) AS n FROM postbox.outbox")
  for _, name in ipairs { "missing", "repeated", "foreign", "disordered" } do
    if seen[name] ~= 0 then
      error(("drain: %d of %d events are %s on Kafka"):format(seen[name], count, name), 0)
    end
  end
  if left ~= 0 then
    error(("drain: %d events are left in the outbox"):format(left), 0)
  end
end

local function drain(run, count)
  local before = run.servers:cpu()
  local relay = run.servers:work("drain", { count = count })
  local result = relay:wait_for("done")
  local after = run.servers:cpu()
  relay:finish()
  for name, value in pairs(after) do
    result[name] = value - before[name]
  end
  return result
end

local function new_samples()
  return setmetatable({}, { __index = function(self, name)
    self[name] = {}
    return self[name]
  end })
end

local function round(run, samples, count)
  local servers, million = run.servers, count / 1e6
  local function add(name, value)
    table.insert(samples[name], value)
  end
  local bootstrap = servers.kafka.bootstrap
  local topic, copies, alone = servers:topic("drain"), servers:topic("copy"), servers:topic("produce")
  local first = fill(run, topic, count)
  local plain = servers.reference("produce", bootstrap, alone, count):finish()
  servers:write_out()
  local before = servers:cpu()
  local copy = servers.reference("copy", bootstrap, copies, servers.database, count):finish()
  local after = servers:cpu()
  servers:write_out()
  local result = drain(run, count)
  check(run, topic, first, count)
  add("produce", count / plain.seconds)
  add("copy", count / copy.seconds)
  add("copy_cpu", copy.cpu / million)
  add("copy_machine", (after.machine - before.machine) / million)
  add("rate", count / (result.done - result.first))
  add("whole", count / (result.done - result.start))
  add("memory", result.memory)
  add("cpu", result.cpu / million)
  for _, name in ipairs { "machine", "postgres", "kafka" } do
    add(name, result[name] / million)
  end
  add("others", (result.machine - result.cpu - result.postgres - result.kafka) / million)
  run.drained = { topic = topic, count = count }
end

return function(run)
  local count = run.short and 200000 or 1000000
  local samples = new_samples()
  figures.say("drain of %d rows, a round that is not counted", count)
  round(run, new_samples(), count) -- it warms the broker up for small requests too
  for i = 1, run.rounds do
    figures.say("drain of %d rows, round %d of %d", count, i, run.rounds)
    round(run, samples, count)
  end
  run.servers:settle()
  local s, copy = samples, "C: reads and produces, removes nothing"
  run.table:add { name = "drain, events a second", unit = "/s", samples = s.rate, least = 300000,
    reference = "C: producer alone", reference_samples = s.produce }
  run.table:add { name = "the same", unit = "/s", samples = s.rate, reference = copy, reference_samples = s.copy }
  run.table:add { name = "the same, from start() on", unit = "/s", samples = s.whole }
  run.table:add { name = "drain, most resident memory of the relay", unit = " MiB", samples = s.memory, most = 48 }
  run.table:add { name = "drain, CPU seconds a million: relay process", unit = " s", samples = s.cpu,
    reference = copy, reference_samples = s.copy_cpu }
  run.table:add { name = "drain, CPU seconds a million: whole machine", unit = " s", samples = s.machine,
    reference = copy, reference_samples = s.copy_machine }
  run.table:add { name = "... of which PostgreSQL", unit = " s", samples = s.postgres }
  run.table:add { name = "... of which Kafka", unit = " s", samples = s.kafka }
  run.table:add { name = "... of which programs that are not part of this run", unit = " s", samples = s.others }
end

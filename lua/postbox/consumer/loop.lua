--- The loop of a consumer: poll, work, settle; until it is stopped, idle, or of no use any more.
-- @module postbox.consumer.loop
local attempts = require "postbox.consumer.attempts"
local codec = require "postbox.consumer.codec"
local core = require "postbox.core"
local database = require "postbox.consumer.database"
local dead = require "postbox.consumer.dead"
local host = require "postbox.host"
local retention = require "postbox.consumer.retention"
local work = require "postbox.consumer.work"

local loop = {}

local POLL_SECONDS = 0.1    -- how long a stop or a signal may go unnoticed
local REVOKE_SECONDS = 5    -- to commit offsets before partitions are given up
local CLOSE_SECONDS = 5
local FIRST_BATCH = 16      -- grows while handlers are quick
local BATCH_SECONDS = 1     -- what one transaction should take at most

local function open_native(consumer)
  local o = consumer.options
  return core.consumer(consumer.box.config, {
    group = o.group, topics = o.topics, types = consumer.types, default = consumer.default_route,
    codec = consumer.codec, throughput = o.profile == "throughput",
  })
end

local function new_run(consumer, native)
  local o = consumer.options
  local intake = native:intake()
  return work.new {
    box = consumer.box, options = o, native = native, intake = intake,
    handlers = consumer.functions,
    codec_number = consumer.codec_number, custom_codec = consumer.custom_codec,
    route_of = function(event_type) return consumer.routes[event_type] or consumer.default_route end,
    event_class = codec.events_of(intake, consumer.decode),
    database = database.new(consumer.box),
    attempts = attempts.new(consumer.box, o.group, o.batch),
    retention = retention.new(consumer.box, o.retention),
  }
end

-- The group takes partitions away: what is finished is committed, then they go.
local function give_up(run)
  local lost = run.native:lost()
  local connection = run.database:get()
  if connection then
    run.attempts:note_ends(run.native, connection)
  end
  run.native:settle(run.intake)
  run.native:give_up(REVOKE_SECONDS)
  run.attempts.suspects, run.attempts.known, run.condemned = {}, {}, {}
  run.box:log(lost and "warning" or "info", ("consumer %s: partitions were %s"):format(run.options.group,
    lost and "lost: the group did not hear from it in time" or "given to other members"))
end

-- As many as one transaction takes in BATCH_SECONDS, so that a stop or a rebalance never waits long.
local function adapt(most, count, seconds, limit)
  if count < most and seconds < BATCH_SECONDS then
    return most
  end
  local fitting = seconds > 0 and count * BATCH_SECONDS / seconds or limit
  return math.max(1, math.floor(math.min(limit, most * 2, fitting)))
end

-- Waits so that not more than max_rate events a second begin, on average.
local function throttle(run, count)
  local rate = run.options.max_rate
  if not rate then
    return
  end
  local now = core.now()
  run.next_at = math.max(run.next_at or now, now - 1) + count / rate
  if run.next_at > now then
    run.native:hold_all(run.next_at - now)
  end
end

local function batch_limit(o)
  if not o.max_rate then
    return o.batch
  end
  return math.max(1, math.min(o.batch, math.floor(o.max_rate / 10)))
end

local function handle(run, count)
  local before = core.now()
  local result = run:records()
  local settled, message, err = run.native:settle(run.intake)
  if not settled then
    return nil, message, err
  end
  if result == "fatal" then
    return nil, run.failure.message, run.failure
  end
  run.most = adapt(run.most, count, core.now() - before, batch_limit(run.options))
  if result == "done" then
    throttle(run, count)
  end
  return true
end

local function is_idle(run, seconds)
  if not seconds then
    return false
  end
  local native = run.native
  if not native:joined() or (native:waiting() > 0 and not run.stuck) then
    run.idle_since = nil
    return false
  end
  run.idle_since = run.idle_since or core.now()
  return core.now() - run.idle_since >= seconds
end

-- One turn. true to go on, "end", or nil, message, err.
local function turn(run, given)
  local polled, message, err = run.native:poll(run.intake, POLL_SECONDS, run.most)
  if not polled then
    return nil, message, err
  end
  if polled == "revoked" then
    give_up(run)
    return true
  end
  if polled == 0 then
    run.native:commit()
    run.retention:look(run.database)
    return is_idle(run, given.until_idle) and "end" or true
  end
  run.idle_since = nil
  local handled
  handled, message, err = handle(run, polled)
  run.native:commit()
  return handled, message, err
end

local function run_turns(consumer, run, given, signals)
  run.most = math.min(FIRST_BATCH, batch_limit(run.options))
  while not consumer.stopping do
    local going, message, err = turn(run, given)
    if not going then
      return nil, message, err
    end
    if going == "end" then
      return true
    end
    if signals and signals:wait(0) then
      return true
    end
    consumer.box:log()
  end
  return true
end

local function finish(run)
  run.native:settle(run.intake)
  local connection = run.database.connection and run.database:get()
  if connection then
    run.attempts:note_ends(run.native, connection)
  end
  run.database:drop()
  run.native:close(CLOSE_SECONDS)
end

local function prepare(consumer, native, run)
  local connection, message, err = run.database:get()
  if not connection then
    return nil, message, err
  end
  run.retention:look(run.database)
  return dead.prepare(consumer.box, native, consumer.options.topics)
end

--- Consumes until stop(), a signal, or idleness.
-- @return true, or nil, message, err
function loop.run(consumer, given)
  local signals, message, err = host.adapter.signals()
  if not signals then
    return nil, message, err
  end
  local native
  native, message, err = open_native(consumer)
  if not native then
    signals:restore()
    return nil, message, err
  end
  local run = new_run(consumer, native)
  consumer.running = run
  local ok, done
  ok, done, message, err = pcall(function()
    local ready, why, failure = prepare(consumer, native, run)
    if not ready then
      return nil, why, failure
    end
    return run_turns(consumer, run, given, signals)
  end)
  signals:restore()
  consumer.running = nil
  finish(run)
  if not ok then
    error(done, 0)
  end
  return done, message, err
end

return loop

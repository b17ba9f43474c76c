--- The relay: publishes what the outbox holds.
--
-- Any number of relays may be started, in any processes; one of them works, the others stand by
-- and take over when it is gone.
--
-- @module postbox.relay
local core = require "postbox.core"
local host = require "postbox.host"
local options = require "postbox.options"

local relay = {}
relay.__index = relay

local LOOK = 0.5   -- seconds between looks of run at what has been logged
local EMPTY = 0.1  -- and at the outbox, with until_empty

local rules = {
  lease = { types = { "number" }, default = 10, min = 1, max = 3600 },
  readback_timeout = { types = { "number" }, default = 30, min = 0.1, max = 86400 },
  sweep = { types = { "number" }, default = 60, min = 0.1, max = 86400 },
  stop_timeout = { types = { "number" }, default = 10, min = 0.1, max = 3600 },
}

--- Makes a relay; it connects when it is started. Called by box:relay.
-- @tparam table box
-- @tparam[opt] table given lease (seconds until a standby takes over from a relay that is gone,
-- 10), readback_timeout (with confirm "readback": seconds until an unseen event is sent again,
-- 30), sweep (seconds between looks for rows that the reading missed: an alarm, 60),
-- stop_timeout (seconds that run takes to end after a signal, 10)
-- @treturn table relay; or nil, message, err
function relay.new(box, given)
  local o = options.check("box:relay", given, rules)
  local native, message, err = core.relay(box.config, { lease = o.lease,
    readback_timeout = o.readback_timeout, sweep = o.sweep, create_topics = box.options.create_topics })
  if not native then
    return nil, message, err
  end
  local self = setmetatable({ box = box, native = native, options = o }, relay)
  box.relays[#box.relays + 1] = self
  return self
end

-- A schema that is missing or of another version, or settings that differ from what the box asks
-- for: that does not mend itself. A database that is away does, so the relay starts and waits.
local function check(box)
  local connection, message, err = box:acquire()
  if connection then
    box:give_back(connection)
  elseif err.code == "config" then
    return nil, message, err
  end
  return true
end

--- Starts it as a thread of this process. Where the database or Kafka is away it waits for them.
-- @treturn boolean true; or nil, message, err: config where the schema is missing or does not fit
function relay:start()
  local fits, message, err = host.adapter.may_start()
  if fits then
    fits, message, err = check(self.box)
  end
  if not fits then
    return nil, message, err
  end
  return self.native:start()
end

-- Has nothing waited in the outbox for so many seconds?
local function is_empty(self, seconds)
  local rows = self.box:query_outside(self.box:in_schema "SELECT EXISTS (SELECT FROM postbox.outbox) AS waiting")
  if not rows or rows[1].waiting then
    self.empty_since = nil
    return false
  end
  self.empty_since = self.empty_since or core.now()
  return core.now() - self.empty_since >= seconds
end

local function wait_for_end(self, signals, until_empty)
  self.empty_since = nil
  while not signals:wait(until_empty and EMPTY or LOOK) do
    self.box:log()
    if until_empty and is_empty(self, until_empty) then
      return
    end
  end
end

--- Runs it in the foreground until SIGTERM or SIGINT; a second one ends the process at once.
-- @tparam[opt] table given until_empty: seconds without anything in the outbox after which it ends
-- @treturn boolean true; or nil, message, err where it did not end within stop_timeout
function relay:run(given)
  local o = options.check("relay:run", given, { until_empty = { types = { "number" }, max = 86400 } })
  local signals, message, err = host.adapter.signals()
  if not signals then
    return nil, message, err
  end
  local done
  done, message, err = self:start()
  if done then
    wait_for_end(self, signals, o.until_empty)
    done, message, err = self:stop()
  end
  signals:restore()
  return done, message, err
end

--- Stops it: it reads no more, waits for Kafka's reports, removes what was published and gives
-- its lease back, so that a standby goes on at once. May be started again.
-- @tparam[opt] number seconds for all of it (default: stop_timeout)
-- @treturn boolean true; or nil, message, err where it takes longer (it ends by itself)
function relay:stop(seconds)
  return self.native:stop(seconds or self.options.stop_timeout)
end

--- What it is doing.
-- @treturn table running active epoch position pending in_flight published removed parked released
-- repeats late gaps takeovers paused_topics stalled_partitions alarms oldest
-- (seconds since the oldest waiting row was written) last_error
function relay:stats()
  return self.native:stats()
end

return relay

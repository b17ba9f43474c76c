--- The relay: publishes what the outbox holds.
--
-- Any number of relays may be started, in any processes; one of them works, the others stand by
-- and take over when it is gone.
--
-- @module postbox.relay
local core = require "postbox.core"
local errors = require "postbox.errors"

local relay = {}
relay.__index = relay

local STOP_SECONDS = 10 -- how long run takes to end after a signal, unless stop_timeout says so
local LOOK = 0.5 -- seconds between looks of run at what has been logged

local options_known = {
  lease = "number", readback_timeout = "number", stop_timeout = "number",
}

local function check(given)
  for name, value in pairs(given) do
    if not options_known[name] then
      errors.raise("config", ("relay: there is no option %s"):format(tostring(name)))
    end
    if type(value) ~= options_known[name] or not (value > 0 and value < 86400) then
      errors.raise("config", ("relay: %s must be a number of seconds, more than 0"):format(name))
    end
  end
  if given.lease and given.lease < 1 then
    errors.raise("config", "relay: lease must be at least 1 second")
  end
end

--- Makes a relay; it connects when it is started. Called by box:relay.
-- @tparam table box
-- @tparam[opt] table options lease (seconds until a standby takes over from a relay that is gone,
-- 10), readback_timeout (with confirm "readback": seconds until an unseen event is sent again,
-- 30), stop_timeout (seconds that run takes to end after a signal, 10)
-- @treturn table relay; or nil, message, err
function relay.new(box, options)
  options = options or {}
  if type(options) ~= "table" then
    errors.raise("config", "relay: its options must be a table")
  end
  check(options)
  local native, message, err = core.relay(box.config, options)
  if not native then
    return nil, message, err
  end
  local self = setmetatable({ box = box, native = native, options = options }, relay)
  box.relays[#box.relays + 1] = self
  return self
end

--- Starts it as a thread of this process.
-- @treturn boolean true; or nil, message, err
function relay:start()
  return self.native:start()
end

--- Runs it in the foreground until SIGTERM or SIGINT; a second one ends the process at once.
-- @treturn boolean true; or nil, message, err where it did not end in time
function relay:run()
  local signals, message, err = core.catch_signals()
  if not signals then
    return nil, message, err
  end
  local started, why, failure = self:start()
  if not started then
    signals:restore()
    return nil, why, failure
  end
  while not signals:wait(LOOK) do
    self.box:log()
  end
  local stopped, late, problem = self:stop(self.options.stop_timeout or STOP_SECONDS)
  signals:restore()
  if not stopped then
    return nil, late, problem
  end
  return true
end

--- Stops it: it reads no more, waits for Kafka's reports, removes what was published and gives
-- its lease back, so that a standby goes on at once. May be started again.
-- @tparam[opt=10] number seconds for all of it
-- @treturn boolean true; or nil, message, err where it takes longer (it ends by itself)
function relay:stop(seconds)
  return self.native:stop(seconds or STOP_SECONDS)
end

--- What it is doing.
-- @treturn table running active epoch position pending in_flight published removed parked released
-- repeats late gaps takeovers paused_topics stalled_partitions alarms last_error
function relay:stats()
  return self.native:stats()
end

return relay

--- The inbox's days: made ahead, and dropped when their last insert is older than the retention.
-- @module postbox.consumer.retention
local core = require "postbox.core"

local retention = {}
retention.__index = retention

local LOOK_EVERY = 3600   -- seconds
local LOCK = "SET lock_timeout = '1s'"

--- @param box
-- @tparam number|nil seconds retention; nil: nothing is dropped by this consumer
function retention.new(box, seconds)
  return setmetatable({ box = box, seconds = seconds, due = 0 }, retention)
end

local how_to_detach = { attached = " CONCURRENTLY", detaching = " FINALIZE" } -- nothing where it is done

-- Detached without stopping anybody, then dropped. One that is in use is tried again next time, from
-- where this time ends.
local function drop_day(self, connection, name, state)
  local day, how = self.box:in_schema("postbox." .. name), how_to_detach[state]
  local detached, message = true, nil
  if how then
    detached, message = connection:query(self.box:in_schema "ALTER TABLE postbox.inbox DETACH PARTITION " .. day .. how)
  end
  if detached then
    detached, message = connection:query("DROP TABLE " .. day)
  end
  if not detached then
    self.box:log("warning", ("inbox: the day %s is not dropped: %s"):format(name, message))
  end
end

local function drop_old(self, connection)
  local interval = ("%d seconds"):format(self.seconds)
  local expired = self.box:in_schema "SELECT partition_name, state FROM postbox.inbox_expired($1::text::interval)"
  local rows, message = connection:query(expired, interval)
  if not rows then
    self.box:log("warning", "inbox: old days are not found: " .. message)
    return
  end
  connection:query(LOCK)
  for _, row in ipairs(rows) do
    drop_day(self, connection, row.partition_name, row.state)
  end
  connection:query "RESET lock_timeout"
  connection:query(self.box:in_schema "SELECT postbox.inbox_purge_untimed($1::text::interval)", interval)
end

--- Looks now and then: makes the days ahead, drops the old ones.
function retention:look(database)
  if core.now() < self.due then
    return
  end
  local connection = database:get()
  if not connection then
    return
  end
  self.due = core.now() + LOOK_EVERY
  local made, message = connection:query(self.box:in_schema "SELECT postbox.inbox_make_ahead()")
  if not made then
    self.box:log("warning", "inbox: the days ahead are not made: " .. message)
  end
  if self.seconds then
    drop_old(self, connection)
  end
end

return retention

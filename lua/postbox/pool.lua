--- The connections of a box: opened when they are needed, kept while they are whole.
-- @module postbox.pool
local core = require "postbox.core"
local errors = require "postbox.errors"
local migrate = require "postbox.migrate"

local pool = {}

local function idle_connection(box)
  local connection = table.remove(box.idle)
  while connection and not connection:alive() do
    connection:close()
    connection = table.remove(box.idle)
  end
  return connection
end

-- Connections that are out. One whose coroutine was never finished is nobody's, and not counted
-- any more once it is collected.
local function count_out(box)
  local count = 0
  for _ in pairs(box.out) do
    count = count + 1
  end
  return count
end

-- Once for each box: is the schema there, and do the settings agree with what was asked for?
local function load_settings(box, connection)
  if box.settings then
    return true
  end
  local settings, message, err = migrate.check(box, connection)
  if not settings then
    return nil, message, err
  end
  box.settings = settings
  return true
end

--- A connection of the pool, for a while. nil, message, err: connection, timeout, full, config.
function pool.acquire(box)
  if box.closed then
    errors.raise("closed", "the box is closed")
  end
  box:log()
  local connection = idle_connection(box)
  if not connection and count_out(box) >= box.options.pool_size then
    return errors.fail(errors.new("full", ("all %d connections of the pool are in use: raise pool_size, or end "
      .. "transactions sooner"):format(box.options.pool_size), { retriable = true }))
  end
  local message, err
  if not connection then
    connection, message, err = core.connect(box.config)
    if not connection then
      return nil, message, err
    end
  end
  local loaded
  loaded, message, err = load_settings(box, connection)
  if not loaded then
    connection:close()
    return nil, message, err
  end
  box.out[connection] = true
  return connection
end

--- Gives a connection back; an open transaction on it is rolled back, a broken one is closed.
function pool.give_back(box, connection)
  box.out[connection] = nil
  local status = connection:status()
  if status == "open" or status == "failed" then
    connection:rollback()
    status = connection:status()
  end
  if status ~= "idle" or box.closed then
    connection:close()
  else
    box.idle[#box.idle + 1] = connection
  end
end

return pool

--- The connections of a box: opened when they are needed, kept while they are whole.
-- @module postbox.pool
local core = require "postbox.core"
local errors = require "postbox.errors"
local host = require "postbox.host"
local migrate = require "postbox.migrate"

local pool = {}

local LOOK_SECONDS = 1 -- between looks for transactions of requests that are gone

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

-- A request that ended inside its transaction runs no code for it: its connection is closed when
-- the transaction's lease is over, and the server rolls back.
local function watch(box)
  box.watched = true
  while next(box.out) and not host.adapter.exiting() do
    host.adapter.sleep(LOOK_SECONDS)
    for connection, kind in pairs(box.out) do
      if kind == "connection" and connection:lapse() then
        box.out[connection] = nil
        box:log("warning", "a transaction was rolled back, because nothing was done in it for longer than "
          .. "transaction_lease")
      end
    end
  end
  box.watched = false
end

-- A place of the pool, held while the connection is made; whoever dies meanwhile gives it back.
local function open(box)
  local place = {}
  box.out[place] = "place"
  local connection, message, err = core.connect(box.config)
  box.out[place] = nil
  return connection, message, err
end

local function find(box)
  local connection = idle_connection(box)
  if connection then
    return connection
  elseif count_out(box) < box.options.pool_size then
    return open(box)
  end
  return errors.fail(errors.new("full", ("all %d connections of the pool are in use: raise pool_size, or end "
    .. "transactions sooner"):format(box.options.pool_size), { retriable = true }))
end

--- A connection of the pool, for a while. nil, message, err: connection, timeout, full, config,
-- cannot_wait.
function pool.acquire(box)
  if box.closed then
    errors.raise("closed", "the box is closed")
  end
  local may, message, err = host.check()
  if not may then
    return nil, message, err
  end
  box:log()
  local connection
  connection, message, err = find(box)
  if not connection then
    return nil, message, err
  end
  box.out[connection] = "connection"
  local loaded
  loaded, message, err = load_settings(box, connection)
  if not loaded then
    box.out[connection] = nil
    connection:close()
    return nil, message, err
  end
  if box.options.transaction_lease and not box.watched then
    host.adapter.spawn(function() watch(box) end)
  end
  return connection
end

--- Gives a connection back; an open transaction on it is rolled back, a broken one is closed.
function pool.give_back(box, connection)
  local status = connection:status()
  if status == "open" or status == "failed" then
    connection:rollback()
    status = connection:status()
  end
  box.out[connection] = nil -- its place is free only now
  if status ~= "idle" or box.closed then
    connection:close()
  else
    box.idle[#box.idle + 1] = connection
  end
end

return pool

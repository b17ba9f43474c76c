--- Publishing from where nothing may wait, such as nginx's log phase: events are kept in memory and
-- stored a moment later by a light thread. What is kept is lost with the process.
-- @module postbox.later
local core = require "postbox.core"
local errors = require "postbox.errors"
local host = require "postbox.host"
local publish = require "postbox.publish"

local later = {}

local LIMIT = 1000        -- events that wait to be stored
local START_AGAIN = 1    -- seconds until a light thread that has not begun is started again
local PAUSES = { 0.1, 0.2, 0.5, 1, 2, 5 } -- seconds between tries while the database is away

local function keep(box, batch, events)
  for i = 1, #events do
    local event = events[i]
    local ok, id = pcall(publish.add, box, batch, nil, event[1], event[2], event[3], event[4])
    if not ok then
      box:log("error", "publish_later: an event is dropped: " .. errors.text(id))
    elseif not (event[4] and event[4].id) then -- another try stores the same event
      local given = { id = id }
      for name, value in pairs(event[4] or {}) do
        given[name] = value
      end
      event[4] = given
    end
  end
end

-- One try. True, or nil, message, err.
local function store(box, events)
  local connection, message, err = box:acquire()
  if not connection then
    return nil, message, err
  end
  local batch = core.batch()
  keep(box, batch, events)
  local done
  done, message, err = connection:begin {}
  if done then
    done, message, err = connection:commit(batch, box:direct_seconds(), true)
  end
  box:give_back(connection)
  if done then
    box:published(batch)
  end
  return done, message, err
end

local function may_try_again(err)
  return err.retriable or err.code == "unknown" or err.code == "connection"
end

-- Stores what has been queued up to now; events that nobody can store are dropped, and said.
local function flush(box, queue)
  local events, try = queue.events, 0
  queue.events = {}
  while true do
    local done, message, err = store(box, events)
    if done then
      break
    end
    try = try + 1
    if not may_try_again(err) or host.adapter.can_wait() ~= "yield" then
      box:log("error", ("publish_later: %d events are dropped: %s"):format(#events, message))
      break
    end
    host.adapter.sleep(PAUSES[math.min(try, #PAUSES)])
  end
  queue.count = queue.count - #events
end

local function flush_all(box, queue)
  if queue.begun then
    return
  end
  queue.begun = true
  local ok, err = pcall(function()
    while #queue.events > 0 do
      flush(box, queue)
    end
  end)
  queue.begun, queue.asked = false, nil
  if not ok then
    queue.count = #queue.events
    error(err, 0)
  end
end

-- Once; again where the host has dropped it, as nginx may drop a timer.
local function start(box, queue)
  if queue.begun or queue.asked and core.now() - queue.asked < START_AGAIN then
    return true
  end
  local started, message, err = host.adapter.spawn(function() flush_all(box, queue) end)
  if started then
    queue.asked = core.now()
  end
  return started, message, err
end

--- Queues an event; see box:publish_later.
function later.publish(box, event_type, key, payload, given)
  host.need_loop("publish_later", "use publish_manual")
  local queue = box.later or { events = {}, count = 0 }
  box.later = queue
  if queue.count >= LIMIT then
    return errors.fail(errors.new("full", ("publish_later: %d events wait to be stored already"):format(LIMIT),
      { retriable = true }))
  end
  if box.settings and not box.options.partitioner then -- which may have to ask for partition counts
    publish.add(box, core.batch(), nil, event_type, key, payload, given) -- what is wrong with it is told now
  end
  queue.events[#queue.events + 1] = { event_type, key, payload, given }
  queue.count = queue.count + 1
  local started, message, err = start(box, queue)
  if not started then
    table.remove(queue.events)
    queue.count = queue.count - 1
    return nil, message, err
  end
  return "queued"
end

--- Stores what waits, at the end of the process.
function later.finish(box)
  if box.later and #box.later.events > 0 then
    flush(box, box.later)
  end
end

return later

--- cqueues: what ends in the engine's threads makes a descriptor readable, which a coroutine of the
-- controller polls while somebody waits. For Lua 5.2 and later, and LuaJIT: the coroutines of plain
-- 5.1 cannot wait inside pcall.
-- @module postbox.host.cqueues
local condition = require "cqueues.condition"
local core = require "postbox.core"
local cqueues = require "cqueues"
local errors = require "postbox.errors"

local engine = core.engine

local adapter = { now = core.now, sleep = cqueues.sleep }

local readers = setmetatable({}, { __mode = "k" }) -- by controller: its coroutine that reads wake-ups
local waiting = 0 -- jobs that are waited for

local function read_wakeups(controller, pollable)
  while waiting > 0 do
    cqueues.poll(pollable)
    engine.clear()
    adapter.host.dispatch()
  end
  readers[controller] = nil
end

-- The reader lives only while it is needed, so that a controller without other work comes to its end.
local function ensure_reader(controller)
  if readers[controller] then
    return true
  end
  local number, message, err = engine.fd()
  if not number then
    return nil, message, err
  end
  readers[controller] = true
  controller:wrap(read_wakeups, controller, { pollfd = number, events = "r" })
  return true
end

--- Outside a controller there is no loop that a call could hold up: it waits as in plain Lua.
function adapter.can_wait()
  local controller, is_direct = cqueues.running()
  if not controller then
    return "block"
  elseif not is_direct then
    return nil, "postbox cannot wait in a coroutine that is not the controller's own: use controller:wrap"
  elseif not engine.can_yield() then
    return nil, "postbox cannot wait inside a call from C, such as the comparison of table.sort or a callback of gsub: "
      .. "make the call outside of it"
  end
  local attached, message = engine.attach()
  return attached and "yield" or nil, message
end

function adapter.wait(job)
  local waiter = { condition = condition.new() }
  adapter.host.expect(job, waiter)
  waiting = waiting + 1
  local ready, message = ensure_reader((cqueues.running()))
  if not ready then
    waiting = waiting - 1
    return nil, message
  end
  while not waiter.done do
    waiter.condition:wait()
  end
  return true
end

function adapter.wake(waiter)
  waiting = waiting - 1
  waiter.done = true
  waiter.condition:signal()
end

function adapter.log(level, message)
  if level ~= "info" and level ~= "debug" then
    io.stderr:write("postbox: ", level, ": ", message, "\n")
  end
end

--- Runs fn in a coroutine of the controller that the caller runs in.
function adapter.spawn(fn)
  local controller = cqueues.running()
  if not controller then
    return errors.fail(errors.new("cannot_wait", "nothing runs in the background outside a cqueues controller"))
  end
  controller:wrap(function()
    local ok, err = pcall(fn)
    if not ok then
      adapter.log("error", "a background task failed: " .. errors.text(err))
    end
  end)
  return true
end

return adapter

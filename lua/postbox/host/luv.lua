--- luv: what ends in the engine's threads makes a descriptor readable, which the loop polls while
-- somebody waits. Calls that wait are made in coroutines, which are resumed from the loop. For Lua
-- 5.2 and later, and LuaJIT: the coroutines of plain 5.1 cannot wait inside pcall.
-- @module postbox.host.luv
local core = require "postbox.core"
local errors = require "postbox.errors"
local luv = require "luv"

local engine = core.engine

local adapter = { now = core.now }

local poll    -- the handle of the descriptor, once it is needed
local waiting = 0 -- jobs that are waited for

local function running()
  local thread, is_main = coroutine.running()
  return not is_main and thread or nil
end

function adapter.log(level, message)
  if level ~= "info" and level ~= "debug" then
    io.stderr:write("postbox: ", level, ": ", message, "\n")
  end
end

-- Nobody else is there to hear of an error in a coroutine that the loop resumes.
local function resume(thread)
  local ok, err = coroutine.resume(thread)
  if not ok then
    adapter.log("error", "a coroutine failed: " .. debug.traceback(thread, errors.text(err)))
  end
end

local function on_readable()
  engine.clear()
  adapter.host.dispatch()
  if waiting == 0 then
    poll:stop() -- so that a loop without other work comes to its end
  end
end

--- Outside the loop there is nothing that a call could hold up: it waits as in plain Lua.
function adapter.can_wait()
  if not running() then
    if luv.loop_mode() == nil then
      return "block"
    end
    return nil, "postbox cannot wait in a callback of the loop: make the call in a coroutine "
      .. "(coroutine.wrap(function() … end)())"
  elseif not engine.can_yield() then
    return nil, "postbox cannot wait inside a call from C, such as the comparison of table.sort or a callback of gsub: "
      .. "make the call outside of it"
  end
  local attached, message = engine.attach()
  return attached and "yield" or nil, message
end

local function start_poll()
  local message
  if not poll then
    local number
    number, message = engine.fd()
    poll = number and luv.new_poll(number)
  end
  if not poll then
    return nil, message
  end
  return poll:start("r", on_readable)
end

function adapter.wait(job)
  local waiter = { thread = running() }
  local started, message = start_poll()
  if not started then
    return nil, message
  end
  adapter.host.expect(job, waiter)
  waiting = waiting + 1
  while not waiter.done do
    coroutine.yield()
  end
  return true
end

function adapter.wake(waiter)
  waiting = waiting - 1
  waiter.done = true
  resume(waiter.thread)
end

--- Runs fn in a coroutine of its own, soon.
function adapter.spawn(fn)
  local timer = luv.new_timer()
  timer:start(0, 0, function()
    timer:close()
    resume(coroutine.create(fn))
  end)
  return true
end

function adapter.sleep(seconds)
  local thread, timer, over = running(), luv.new_timer(), false
  timer:start(math.ceil(seconds * 1000), 0, function()
    timer:close()
    over = true
    resume(thread)
  end)
  while not over do
    coroutine.yield()
  end
end

return adapter

--- What runs the Lua code: plain Lua, where a call that waits blocks its caller, or an event loop,
-- where it gives the wait to a thread of the engine and lets the loop go on.
--
-- Under OpenResty the adapter is chosen by itself; an application on cqueues or luv names it in
-- `postbox.new { host = "cqueues" }`, and any other loop brings a table of its own with the
-- functions of postbox.host.plain. There is one host in a Lua state.
-- @module postbox.host
local core = require "postbox.core"
local errors = require "postbox.errors"
local plain = require "postbox.host.plain"

local host = { adapter = plain }

local known = { openresty = true, cqueues = true, luv = true }
local needed = { "can_wait", "wait", "wake", "spawn", "sleep", "log" }
local waiters = {} -- by job: what the adapter has to wake when the job has ended

-- Takes out the jobs that have ended; those of coroutines that are gone are nobody's.
local function dispatch()
  local job = core.take_job()
  while job do
    local waiter = waiters[job]
    waiters[job] = nil
    if waiter then
      host.adapter.wake(waiter)
    end
    job = core.take_job()
  end
end

--- Called by adapters: remembers who waits for a job; takes out the jobs that have ended.
function host.expect(job, waiter)
  waiters[job] = waiter
end

host.dispatch = dispatch

local function finish(job, message, err)
  if not job then
    return nil, message, err
  end
  local ended, why = host.adapter.wait(job)
  if not ended then
    waiters[job] = nil
    return errors.fail(errors.new("timeout", "the wait for an answer was ended: " .. tostring(why)))
  end
  return job:finish()
end

-- The form of an operation for event loops: nothing is submitted where the caller cannot wait.
local function hosted(here, submit)
  return function(...)
    local way, why = host.adapter.can_wait()
    if way == "yield" then
      return finish(submit(...))
    elseif way == "block" then
      return here(...)
    end
    return errors.fail(errors.new("cannot_wait", why))
  end
end

local function complete(adapter)
  for _, name in ipairs(needed) do
    if type(adapter[name]) ~= "function" then
      errors.raise("config", ("postbox.new: host: its table lacks the function %s"):format(name))
    end
  end
  return setmetatable(adapter, { __index = plain })
end

local function load_adapter(asked)
  if type(asked) == "table" then
    return asked
  elseif _VERSION == "Lua 5.1" and not rawget(_G, "jit") then
    errors.raise("config", "postbox.new: host: event loops need Lua 5.2 or later, or LuaJIT: the coroutines of plain "
      .. "Lua 5.1 cannot wait inside pcall")
  elseif not known[asked] then
    errors.raise("config", "postbox.new: host must be \"openresty\", \"cqueues\", \"luv\" or a table of functions")
  end
  return require("postbox.host." .. asked)
end

local function install(adapter)
  host.adapter = complete(adapter)
  adapter.host = host
  for _, operation in ipairs(core.waiting) do
    operation.table[operation.name] = hosted(operation.table[operation.name], operation.submit)
  end
end

--- Chooses the host, once: the one that was asked for, else OpenResty where it runs us.
-- Raises config where another one was chosen before.
function host.use(asked)
  local ngx = rawget(_G, "ngx")
  asked = asked or (type(ngx) == "table" and ngx.config and "openresty")
  if not asked then
    return host.adapter
  end
  local adapter = load_adapter(asked)
  if host.adapter == plain then
    install(adapter)
  elseif host.adapter ~= adapter then
    errors.raise("config", "postbox.new: another host was chosen in this Lua state already")
  end
  return host.adapter
end

--- May the caller wait here? true; or nil, message, err with code cannot_wait.
function host.check()
  local way, why = host.adapter.can_wait()
  if way then
    return true
  end
  return errors.fail(errors.new("cannot_wait", why))
end

--- Raises where there is no event loop to do something in the background.
function host.need_loop(what, instead)
  if host.adapter == plain then
    errors.raise("config", ("%s needs an event loop, such as OpenResty's: %s"):format(what, instead))
  end
end

return host

--- OpenResty, and nginx with its Lua module. What ends in the engine's threads is told by a byte on
-- a unix socket, which a light thread of each worker reads; it wakes each waiter by a semaphore.
-- @module postbox.host.openresty
local core = require "postbox.core"
local errors = require "postbox.errors"
local semaphore = require "ngx.semaphore"

local ngx = ngx -- luacheck: globals ngx
local engine = core.engine

-- A request may end anywhere, and runs no code for what it leaves open.
local openresty = { now = core.now, ends_requests = true }

local FOREVER = 86400         -- seconds; each job ends within its own deadline
local LOOK = 1                -- between looks of a wait whether the reader lives
local START_AGAIN = 0.5       -- seconds until a reader that has not begun is started again
local READ_MS = 2000000000    -- the reader is woken, and never has to look: a time-out would be logged
local CONNECT_MS = 1000
local SPARE_SEMAPHORES = 1000 -- kept for the next waits
local RESTART_PAUSE = 0.1     -- before a reader that failed begins anew

local yielding = { rewrite = true, server_rewrite = true, access = true, content = true, timer = true,
  ssl_cert = true, ssl_session_fetch = true, ssl_client_hello = true }
local KEY = "postbox.places" -- in ngx.ctx
local NOWHERE = {}           -- init_by_lua has no request

local spare = {}
local reading = false  -- the reader of this worker lives
local asked_at         -- when its timer was set; nginx may drop that (lua_max_running_timers, worker_connections)
local prepared = false -- this worker has the engine

function openresty.log(level, message)
  local levels = { debug = ngx.DEBUG, info = ngx.INFO, warning = ngx.WARN, error = ngx.ERR }
  ngx.log(levels[level] or ngx.ERR, "postbox: ", message)
end

function openresty.exiting()
  return ngx.worker.exiting()
end

openresty.sleep = ngx.sleep

-- Reads wake-ups until the worker ends and nothing is in flight. True, or nil and why it broke.
local function read_wakeups()
  local socket = ngx.socket.tcp()
  socket:settimeouts(CONNECT_MS, CONNECT_MS, READ_MS)
  local path, message = engine.listen()
  if not path then
    return nil, message
  end
  local connected, why = socket:connect("unix:" .. path)
  local accepted
  accepted, message = engine.accept() -- removes the socket's name, whatever became of the connection
  if not connected or not accepted then
    return nil, why or message
  end
  repeat
    openresty.host.dispatch()
    local data, failure = nil, nil
    if not (ngx.worker.exiting() and engine.pending() == 0) then
      data, failure = socket:receiveany(64)
    end
    if failure and failure ~= "timeout" then
      socket:close()
      return nil, failure
    end
  until not data and not failure
  socket:close() -- before the worker's Lua state ends
  return true
end

local function reader()
  if reading then
    return
  end
  reading = true
  repeat
    local ok, done, why = pcall(read_wakeups)
    if not ok or not done then
      openresty.log("error", "the reader of wake-ups failed and begins anew: " .. tostring(ok and why or done))
      ngx.sleep(RESTART_PAUSE)
    end
  until ok and done
  reading, asked_at = false, nil
end

-- Fires when the worker is told to end: the reader waits in the socket and would not notice.
local function sentinel(premature)
  if premature then
    return engine.poke()
  end
  ngx.timer.at(FOREVER, sentinel)
end

local function prepare()
  if prepared then
    return true
  end
  engine.unpin()
  local attached, message = engine.attach()
  if not attached then
    return nil, message
  end
  local armed, why = ngx.timer.at(FOREVER, sentinel)
  if not armed and not ngx.worker.exiting() then
    return nil, why
  end
  prepared = true
  return true
end

local function ready()
  if reading then
    return "yield"
  end
  if asked_at and core.now() - asked_at < START_AGAIN then
    return "yield"
  end
  local done, why = prepare()
  if done then
    done, why = ngx.timer.at(0, reader)
  end
  if not done then
    return nil, "postbox cannot wait in this worker: " .. tostring(why)
  end
  asked_at = core.now()
  return "yield"
end

--- "yield"; "block" while the worker ends; or nil and why. Asked before anything is submitted: a wait
-- that cannot yield would crash the worker.
function openresty.can_wait()
  local phase = ngx.get_phase()
  if phase == "exit_worker" then
    return "block"
  elseif not yielding[phase] then
    return nil, ("postbox cannot wait in the phase %s of nginx: call it in rewrite, access, content or a timer%s")
      :format(phase, phase == "log" and ", or use box:publish_later" or "")
  elseif not engine.can_yield() then
    return nil, "postbox cannot wait inside a call from C, such as the comparison of table.sort, a callback of gsub, "
      .. "__tostring, or a file that require is loading: make the call outside of it"
  end
  return ready()
end

--- Waits until the engine has done the job.
function openresty.wait(job)
  local waiter = table.remove(spare) or semaphore.new()
  openresty.host.expect(job, waiter)
  local woken, why
  repeat
    woken, why = waiter:wait(LOOK)
    if not woken and not reading then
      ready() -- its timer was dropped, perhaps
    end
  until woken or why ~= "timeout"
  if woken and #spare < SPARE_SEMAPHORES then
    spare[#spare + 1] = waiter
  end
  return woken, why
end

function openresty.wake(waiter)
  waiter:post(1)
end

--- Runs fn on a light thread of its own, soon.
function openresty.spawn(fn)
  local started, why = ngx.timer.at(0, function()
    local ok, err = pcall(fn)
    if not ok then
      openresty.log("error", "a background task failed: " .. errors.text(err))
    end
  end)
  if not started then
    return errors.fail(errors.new("full", "nginx starts no timer: " .. tostring(why)))
  end
  return true
end

-- By coroutine; in the request's own table, because nginx uses coroutines again in other requests.
local function places()
  if ngx.get_phase() == "init" then
    return NOWHERE
  end
  local context = ngx.ctx
  local list = context[KEY]
  if not list then
    list = setmetatable({}, { __mode = "k" })
    context[KEY] = list
  end
  return list
end

function openresty.here()
  local list = places()
  local thread = coroutine.running() or NOWHERE
  local place = list[thread]
  if not place then
    place = {}
    list[thread] = place
  end
  return place
end

--- The request, or the run of a timer: what is left of its transactions when it ends is nobody's.
function openresty.owner()
  return places()
end

--- Signals are nginx's: a loop ends with its worker.
function openresty.signals()
  local function wait(_, seconds)
    if seconds > 0 then
      ngx.sleep(seconds)
    end
    return ngx.worker.exiting()
  end
  return { wait = wait, restore = function() end }
end

--- Threads that init_by_lua starts would stay behind in nginx's master process.
function openresty.may_start()
  if ngx.get_phase() ~= "init" then
    return true
  end
  return errors.fail(errors.new("cannot_wait", "postbox starts nothing in the phase init of nginx, which is the "
    .. "master's: use init_worker_by_lua"))
end

return openresty

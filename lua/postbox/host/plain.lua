--- Plain Lua: calls wait on the caller's thread. Its functions are what an adapter may leave out.
-- @module postbox.host.plain
local core = require "postbox.core"

local plain = { sleep = core.sleep, now = core.now }

local MAIN = {} -- stands for the main coroutine, which Lua 5.1 does not name

--- How the caller may wait: "yield", "block", or nil and why not.
function plain.can_wait()
  return "block"
end

--- What a transaction is known to: its coroutine.
function plain.here()
  return coroutine.running() or MAIN
end

--- Whom a transaction belongs to, where that ends without a word (a request); nil: nobody.
function plain.owner()
  return nil
end

--- Does the process end? Loops look, and stop.
function plain.exiting()
  return false
end

--- An object whose :wait(seconds) says that a foreground loop is to end, until :restore().
function plain.signals()
  return core.catch_signals()
end

--- May threads and loops be started here? true, or nil, message, err.
function plain.may_start()
  return true
end

return plain

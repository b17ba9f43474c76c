-- The relay as a process of its own: publishes what the services have committed. Start as many as
-- you like, on as many machines: one works, the others stand by and take over.
--
--   lua examples/shop/relay.lua   until SIGTERM
--
-- `postbox relay` does the same without a program.
local postbox = require "postbox"

local box = postbox.new {
  log = function(level, message)
    io.stderr:write("relay: ", level, ": ", message, "\n")
  end,
}

io.stdout:setvbuf "line"
print "relay: publishing"
assert(assert(box:relay()):run())
assert(box:close())

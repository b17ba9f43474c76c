-- A relay in a process of its own, until SIGTERM. Prints "active" once it is.
local core = require "postbox.core"
local postbox = require "postbox"

local box = postbox.new {}
local relay = assert(box:relay())
local signals = assert(core.catch_signals())
assert(relay:start())
while not relay:stats().active and not signals:wait(0.005) do
  core.sleep(0)
end
print("active 1")
io.stdout:flush()
while not signals:wait(0.5) do
  box:log()
end
assert(relay:stop(10))
assert(box:close(5))

-- A relay in a process of its own that empties an outbox of BENCH_COUNT events.
local core = require "postbox.core"
local machine = require "bench.machine"
local postbox = require "postbox"

local LOOK = 0.002

local count = tonumber(os.getenv("BENCH_COUNT"))
local box = postbox.new {}
local relay = assert(box:relay())
local cpu, start, first = os.clock(), core.now(), nil
assert(relay:start())

local stats = relay:stats()
while stats.removed < count do
  core.sleep(LOOK)
  stats = relay:stats()
  first = first or stats.position > 0 and stats.in_flight > 0 and core.now()
  if core.now() - start > 100 then
    error(("only %d of %d events were removed: %s"):format(stats.removed, count, tostring(stats.last_error)))
  end
end
local now = core.now()
print(("start %.6f\nfirst %.6f\ncpu %.6f\nmemory %.3f"):format(start, first or start, os.clock() - cpu,
  machine.peak_memory()))
print(("done %.6f"):format(now))
io.stdout:flush()
assert(relay:stop(10))
assert(box:close(5))

-- A consumer whose handler does nothing, in a process of its own, until BENCH_COUNT events came.
local core = require "postbox.core"
local machine = require "bench.machine"
local postbox = require "postbox"

local count = tonumber(os.getenv("BENCH_COUNT"))
local seen, start, cpu, seconds, used = 0, nil, nil, nil, nil
local box = postbox.new {}
local consumer

local function handle()
  seen = seen + 1
  if seen == 1 then
    start, cpu = core.now(), os.clock()
  elseif seen == count then
    seconds, used = core.now() - start, os.clock() - cpu
    consumer:stop()
  end
end

consumer = box:consumer {
  group = os.getenv("BENCH_GROUP"), topics = { os.getenv("BENCH_TOPIC") },
  handlers = { ORDER_CREATED = handle }, profile = "throughput",
  batch = tonumber(os.getenv("BENCH_BATCH")),
}
assert(consumer:run { until_idle = 20 })
assert(seconds, ("only %d of %d events came"):format(seen, count))
print(("seconds %.6f\ncpu %.6f\nmemory %.3f"):format(seconds, used, machine.peak_memory()))
assert(box:close(5))

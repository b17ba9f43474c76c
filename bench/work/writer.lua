-- One of BENCH_WRITERS programs that together publish BENCH_RATE events a second from BENCH_START
-- on, at their times: event n is due at start + n / rate.
local core = require "postbox.core"
local postbox = require "postbox"

local LATE = 0.005
local KEYS = 10000
local NOTE = ("x"):rep(256)

local function parameter(name)
  return assert(tonumber(os.getenv("BENCH_" .. name)), name)
end

local writers, rate, count, start = parameter "WRITERS", parameter "RATE", parameter "COUNT", parameter "START"
local box = postbox.new { topics = { ORDER_CREATED = os.getenv("BENCH_TOPIC") } }
assert(box:query("SELECT 1")) -- connects, and learns the outbox's settings
assert(core.now() < start, "the start was over before the writer was ready")

local late, sum, written = 0, 0, 0
for n = parameter "NUMBER", count - 1, writers do
  local due = start + n / rate
  local now = core.now()
  if now < due then
    core.sleep(due - now)
    now = core.now()
  end
  if now - due > LATE then
    late = late + 1
  end
  local head = ('{"n":%d,"due":%.6f,"note":"'):format(n, due)
  local payload = postbox.raw(head .. NOTE:sub(1, 254 - #head) .. '"}')
  assert(box:publish_manual("ORDER_CREATED", "k" .. n * 7919 % KEYS, payload))
  sum, written = sum + core.now() - now, written + 1
end
print(("late %d\ncommit %.4f"):format(late, sum / written * 1000))
assert(box:close(5))

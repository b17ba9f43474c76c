--- How long to wait before an event is tried again.
-- @module postbox.consumer.retry
local core = require "postbox.core"
local options = require "postbox.options"

local retry = {}

local rules = {
  delay = { types = { "number" }, default = 1, max = 86400 },
  retries = { types = { "number" }, default = 3, max = 1000000 },
  backoff = { types = { "string" }, default = "fixed", one_of = { "fixed", "exponential" } },
  factor = { types = { "number" }, default = 2, min = 1, max = 1000 },
  max_delay = { types = { "number" }, default = 60, max = 86400 },
  jitter = { types = { "number" }, max = 1 },
}

--- Checks the option `retry` and fills its defaults in.
function retry.check(given)
  local o = options.check("retry", given, rules)
  o.retries = math.floor(o.retries)
  -- Failures that grow apart are what a backoff is for; a fixed delay is taken at its word.
  o.jitter = o.jitter or (o.backoff == "exponential" and 0.2 or 0)
  return o
end

-- Not math.random, which begins alike in all processes on some Luas.
local function random()
  return core.now() * 1e6 % 1000 / 1000
end

--- Seconds before the next try.
-- @tparam table o checked options
-- @tparam number failed how often the event has failed, 1 at least
function retry.delay(o, failed)
  local delay = o.delay
  if o.backoff == "exponential" then
    delay = math.min(o.max_delay, delay * o.factor ^ (failed - 1))
  end
  return delay * (1 + o.jitter * (2 * random() - 1))
end

--- A backoff for trouble that is nobody's attempt: 0.1 s doubling to 5 s.
function retry.trouble(times)
  return math.min(5, 0.1 * 2 ^ math.min(times - 1, 10)) * (0.8 + 0.4 * random())
end

return retry

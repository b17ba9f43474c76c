--- Kafka inside this process: librdkafka's mock cluster.
-- @module postbox.testing.broker

local client = require "postbox.testing.client"
local core = require "postbox.core"

local broker = {}

local methods = setmetatable({}, { __index = client.methods })
local class = { __index = methods, __name = "postbox.testing.broker" }

--- Starts it.
-- @tparam[opt] table options `topics` (name -> number of partitions), `brokers` (1)
function broker.start(options)
  options = options or {}
  local mock = assert(core.mock(options.brokers or 1))
  local self = setmetatable({ mock = mock, bootstrap = mock:bootstrap(), is_mock = true }, class)
  for topic, partitions in pairs(options.topics or {}) do
    self:create(topic, partitions)
  end
  return self
end

--- Creates a topic with this number of partitions (1).
function methods:create(topic, partitions)
  assert(self.mock:create_topic(topic, partitions or 1))
  return topic
end

--- Breaks all connections and refuses new ones. With a number: only this broker (1 ...).
function methods:down(number)
  assert(self.mock:set_down(number or 0, true))
end

--- Ends `down`.
function methods:up(number)
  assert(self.mock:set_down(number or 0, false))
end

--- Answers every request for a topic with an error, such as "TOPIC_AUTHORIZATION_FAILED"; without
-- one it works again.
function methods:fail_topic(topic, name)
  assert(self.mock:fail_topic(topic, name))
end

--- Answers the next requests of a kind with an error.
-- @usage broker:fail_requests("Produce", "NOT_LEADER_FOR_PARTITION", 3)
function methods:fail_requests(request, name, count)
  assert(self.mock:fail_requests(request, name, count or 1))
end

--- Moves a partition to another broker; without a number it has no leader.
function methods:leader(topic, partition, number)
  assert(self.mock:set_leader(topic, partition, number or 0))
end

--- Every answer takes this many seconds from now on.
function methods:slow(seconds)
  assert(self.mock:set_round_trip(seconds))
end

--- Ends it. What it stored is gone.
function methods:stop()
  self:close_probe()
  self.mock:close()
end

return broker

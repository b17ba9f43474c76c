--- Consumers: each event takes effect once in the database of its handlers, whatever is delivered
-- again. What a handler writes through its transaction and the inbox row commit together; then the
-- offset moves.
--
--     assert(box:consumer {
--       group = "shipping", topics = { "order.created" },
--       handlers = {
--         ORDER_CREATED = function(event, tx)
--           tx:query("INSERT INTO shipments (order_id) VALUES ($1)", event.payload.orderId)
--         end,
--       },
--     }:run())
--
-- @classmod postbox.consumer
local codec = require "postbox.consumer.codec"
local errors = require "postbox.errors"
local host = require "postbox.host"
local loop = require "postbox.consumer.loop"
local options = require "postbox.options"
local retry = require "postbox.consumer.retry"

local consumer = {}
consumer.__index = consumer
consumer.__name = "postbox.consumer"

local RESTART_SECONDS = 1 -- before a consumer in the background begins again

local rules = {
  group = { types = { "string" } },
  topics = { types = { "table" } },
  handlers = { types = { "table" }, default = {} },
  default = { types = { "function" } },
  unknown = { types = { "string" }, default = "ignore", one_of = { "ignore", "reject" } },
  codec = { types = { "string", "function" } },
  retry = { types = { "table" }, default = {} },
  batch = { types = { "number" }, default = 500, min = 1, max = 10000 },
  max_rate = { types = { "number" }, min = 0.001, max = 1e9 },
  retention = { types = { "number" }, min = 60, max = 1e9 },
  profile = { types = { "string" }, default = "small", one_of = { "small", "throughput" } },
}

local function check_topics(topics)
  for _, topic in ipairs(topics) do
    if type(topic) ~= "string" or topic == "" or topic:sub(1, 1) == "^" then
      errors.raise("config", "consumer: topics is a list of topic names (no patterns)")
    end
  end
  if #topics == 0 then
    errors.raise("config", "consumer: topics is a list of at least one topic name")
  end
end

-- Handlers by number, as the core knows them; the default handler is the last.
local function number_handlers(self)
  for event_type, handler in pairs(self.options.handlers) do
    if type(event_type) ~= "string" or type(handler) ~= "function" then
      errors.raise("config", "consumer: handlers is a table of functions by event type")
    end
    self.types[#self.types + 1] = event_type
  end
  table.sort(self.types)
  for i, event_type in ipairs(self.types) do
    self.functions[i] = self.options.handlers[event_type]
    self.routes[event_type] = i
  end
  self.default_route = self.options.unknown
  if self.options.default then
    self.functions[#self.functions + 1] = self.options.default
    self.default_route = #self.functions
  end
  if #self.functions == 0 then
    errors.raise("config", "consumer: give handlers = { TYPE = function(event, tx) … end } or default = function")
  end
end

--- Makes a consumer; `run` starts it.
-- @param box the box
-- @tparam table given
-- group: the consumer group, which is also the inbox's;
-- topics: list of names; each needs a dead letter topic, `<topic>-dlt`, with as many partitions;
-- handlers: functions(event, tx) by event type; default: function for all other types;
-- unknown ("ignore" or "reject" to the dead letters): types without either;
-- codec ("postbox": our envelope or headers; "json"; "bytes"; or function(record) -> { id, type,
-- key, payload }, or nil, reason): how a record becomes an event. A record without an id is known
-- by its topic, partition and offset: a copy of it that is sent again is another event;
-- retry: { delay = 1, retries = 3, backoff = "fixed" | "exponential", factor = 2, max_delay = 60,
-- jitter = 0 … 1 }: deliveries after the first, and the seconds between them;
-- batch (500): events of one transaction at most; 1 for handlers with effects outside the database;
-- max_rate: events per second at most;
-- retention: seconds that the inbox remembers, at least as long as anything may be sent again or
-- redriven; without it days are not dropped;
-- profile ("small" or "throughput"): memory for fetched records, 16 MiB or up to 256 MiB.
function consumer.new(box, given)
  local o = options.check("box:consumer", given, rules)
  if type(o.group) ~= "string" or o.group == "" or #o.group > 249 or o.group:find("\0", 1, true) then
    errors.raise("config", "consumer: group is the name of the consumer group")
  end
  if type(o.topics) ~= "table" then
    errors.raise("config", "consumer: topics is a list of topic names")
  end
  check_topics(o.topics)
  o.retry = retry.check(o.retry)
  o.batch = math.floor(o.batch)
  local self = setmetatable({ box = box, options = o, types = {}, functions = {}, routes = {} }, consumer)
  number_handlers(self)
  self.codec, self.codec_number, self.decode, self.custom_codec = codec.check(o.codec)
  return self
end

--- Consumes in the foreground: until stop(), SIGTERM or SIGINT.
--
-- Handlers get (event, tx). event: id, type, key, payload (decoded when it is first used; nil for a
-- tombstone), headers (a table by name), topic, partition, offset, timestamp (seconds), attempt.
-- It is valid inside the handler; what was read of it stays. An error in a handler, or a failed
-- statement whose error it swallowed, undoes its writes; the event is tried again as `retry` says
-- and then goes to the dead letter topic.
-- @tparam[opt] table given until_idle: seconds without any event after which it returns
-- @treturn boolean true; or nil, message, err: config, topic_unknown, connection or timeout at
-- the start; handler where a handler ended its transaction by itself
function consumer:run(given)
  given = options.check("consumer:run", given, { until_idle = { types = { "number" }, max = 1e9 } })
  if self.running then
    errors.raise("busy", "the consumer is running already")
  end
  self.stopping = false
  return loop.run(self, given)
end

--- Consumes in the background of an event loop, such as OpenResty's (from init_worker_by_lua), until
-- stop() or the worker's end. What ends it otherwise is logged, and it begins again.
-- @treturn boolean true; or nil, message, err: cannot_wait, full
function consumer:start()
  host.need_loop("consumer:start", "use consumer:run")
  if self.running then
    errors.raise("busy", "the consumer is running already")
  end
  local may, message, err = host.adapter.may_start()
  if not may then
    return nil, message, err
  end
  return host.adapter.spawn(function()
    repeat
      local ok, done, why = pcall(self.run, self)
      local over = self.stopping or host.adapter.exiting()
      if not over then
        self.box:log("error", ("consumer %s ended and begins again: %s"):format(self.options.group,
          errors.text(not ok and done or why)))
        host.adapter.sleep(RESTART_SECONDS)
      end
    until over or self.stopping
  end)
end

--- Ends run() after the records in hand. May be called from a handler.
function consumer:stop()
  self.stopping = true
  if self.running then
    self.running.stopping = true
  end
  return true
end

return consumer

--- A look at Kafka from outside: what is in a topic, and records that come from elsewhere.
-- @module postbox.testing.client

local core = require "postbox.core"

local PATIENCE = 15 -- seconds for one operation

local methods = {}
local client = { methods = methods }

--- A client of the brokers at `bootstrap` ("host:port").
function client.new(bootstrap)
  return setmetatable({ bootstrap = bootstrap }, { __index = methods })
end

-- Made on first use, so that an object that only names a broker costs no connection.
function methods:open_probe()
  self.probe = self.probe or assert(core.probe(self.bootstrap))
  return self.probe
end

--- Creates a topic. One that exists already stays as it is.
function methods:create(topic, partitions)
  assert(self:open_probe():create_topic(topic, partitions or 1, PATIENCE))
  return topic
end

--- All records of a topic, from the beginning to the end of this moment.
-- @treturn {table,...} records, by partition and offset: `partition offset key value timestamp`
-- and `headers`, a list of `{ name, value }`; an absent key or value is Kafka's null
function methods:records(topic)
  return (assert(self:open_probe():read(topic, PATIENCE)))
end

local function flat_headers(headers)
  local flat = {}
  for _, header in ipairs(headers or {}) do
    flat[#flat + 1] = header[1]
    flat[#flat + 1] = header[2] or false
  end
  return flat
end

--- Puts a record, or a list of records, into Kafka and waits until all are stored.
-- @tparam table record `topic`, and where given `key value partition timestamp` (seconds) and
-- `headers`, a list of `{ name, value }`
function methods:produce(record)
  local list = record.topic and { record } or record
  local probe = self:open_probe()
  for _, r in ipairs(list) do
    assert(probe:send(r.topic, r.partition or -1, r.key, r.value, (r.timestamp or 0) * 1000,
      flat_headers(r.headers)))
  end
  assert(probe:flush(PATIENCE))
end

function methods:close_probe()
  if self.probe then
    self.probe:close()
    self.probe = nil
  end
end

return client

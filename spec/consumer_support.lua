-- A box with a fresh database, a topic with its dead letter topic, and a table of effects, for the
-- specs of the consumer.

local postbox = require "postbox"
local support = require "spec.support"

local shop = {}
shop.__index = shop

local serial = 0

--- @tparam[opt] table given partitions (4), letters (partitions of the dead letter topic; false:
-- none), box (further options of postbox.new)
function shop.new(given)
  given = given or {}
  local broker = support.broker()
  local self = setmetatable({ broker = broker, lines = {} }, shop)
  self.topic = broker:topic("order.created", given.partitions or 4)
  if given.letters ~= false then
    broker:create(self.topic .. "-dlt", given.letters or given.partitions or 4)
  end
  self.database = given.database or support.database()
  self.group = support.unique "shipping"
  self.options = {
    database = self.database, kafka = given.kafka or broker.bootstrap,
    log = function(level, message) self.lines[#self.lines + 1] = level .. ": " .. message end,
  }
  for name, value in pairs(given.box or {}) do
    self.options[name] = value
  end
  self.box = postbox.new(self.options)
  assert(self.box:migrate())
  assert(self.box:query "CREATE TABLE IF NOT EXISTS effects (n bigserial, id text, type text, place text)")
  return self
end

--- An id of today, unlike all others of this process.
function shop.id()
  serial = serial + 1
  return ("%08x-%04x-7%03x-8000-%012x"):format(math.floor(os.time() / 65.536), os.time() % 65536,
    serial % 4096, serial)
end

--- A record in our envelope; `fields` may replace what is produced.
function shop:record(event_type, payload, fields)
  local id = fields and fields.id or self.id()
  local record = {
    topic = self.topic, partition = 0, key = "k", event_id = id,
    value = ('{"eventId":"%s","eventType":"%s","payload":%s}'):format(id, event_type, payload or "null"),
  }
  for name, value in pairs(fields or {}) do
    record[name] = value
  end
  return record
end

function shop:produce(...)
  self.broker:produce { ... }
end

--- Runs a consumer until it is idle. true, or nil, message, err.
function shop:consume(given, until_idle)
  return self:consumer(given):run { until_idle = until_idle or 0.5 }
end

function shop:consumer(given)
  local o = { group = self.group, topics = { self.topic } }
  for name, value in pairs(given) do
    o[name] = value
  end
  return self.box:consumer(o)
end

--- A handler that writes one effect.
function shop.effect(event, tx)
  tx:query("INSERT INTO effects (id, type, place) VALUES ($1, $2, $3)", event.id, event.type,
    event.partition .. "/" .. event.offset)
end

function shop:effects()
  return assert(self.box:query "SELECT id, type, place FROM effects ORDER BY n")
end

function shop:inbox(state)
  return tonumber(assert(self.box:query("SELECT count(*) AS n FROM postbox.inbox WHERE consumer_group = $1 "
    .. "AND state = $2", self.group, state or "done"))[1].n)
end

function shop:letters()
  return self.broker:records(self.topic .. "-dlt")
end

--- A record's headers by name; names that stand twice are an error.
function shop.headers(record)
  local headers = {}
  for _, header in ipairs(record.headers) do
    assert(headers[header[1]] == nil, "two headers " .. header[1])
    headers[header[1]] = header[2]
  end
  return headers
end

--- Did a line of the log contain this text?
function shop:logged(text)
  for _, line in ipairs(self.lines) do
    if line:find(text, 1, true) then
      return line
    end
  end
  return nil
end

return shop

-- Consuming: which handler gets which event, what an event is, and once per group.

local postbox = require "postbox"
local shop = require "spec.consumer_support"
local support = require "spec.support"

-- On the mock cluster every start of a consumer takes three seconds: the second part runs on Apache
-- Kafka alone.
local s

describe("a consumer (broker)", function()

  before_each(function()
    s = shop.new()
  end)

  after_each(function()
    s.box:close()
  end)

  it("gives each event to the handler of its type, in the order of its partition", function()
    for i = 1, 5 do
      s:produce(s:record("ORDER_CREATED", i), s:record("ORDER_PAID", i))
    end
    local seen = {}
    local function note(event, tx)
      seen[#seen + 1] = event.type .. " " .. event.payload
      shop.effect(event, tx)
    end
    assert(s:consume { handlers = { ORDER_CREATED = note, ORDER_PAID = note } })
    assert.are.equal("ORDER_CREATED 1,ORDER_PAID 1,ORDER_CREATED 2,ORDER_PAID 2,ORDER_CREATED 3,ORDER_PAID 3,"
      .. "ORDER_CREATED 4,ORDER_PAID 4,ORDER_CREATED 5,ORDER_PAID 5", table.concat(seen, ","))
    assert.are.equal(10, #s:effects())
    assert.are.equal(10, s:inbox())
  end)

  it("has the fields of an event, read from the record when they are used", function()
    local id = shop.id()
    s:produce { topic = s.topic, partition = 2, key = "k\0ey", timestamp = 1700000000.25,
      value = '{"eventId":"' .. id .. '","eventType":"T","payload":{"list":[],"text":"é","big":9007199254740991}}',
      headers = { { "a", "1" }, { "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" } } }
    local event
    assert(s:consume { handlers = { T = function(e)
      event = { id = e.id, type = e.type, key = e.key, payload = e.payload, headers = e.headers, topic = e.topic,
        partition = e.partition, offset = e.offset, timestamp = e.timestamp, attempt = e.attempt,
        nothing = e.nothing }
    end } })
    assert.are.equal(id, event.id)
    assert.are.equal("T", event.type)
    assert.are.equal("k\0ey", event.key)
    assert.are.equal("é", event.payload.text)
    assert.are.equal("9007199254740991", ("%.0f"):format(event.payload.big))
    assert.are.equal("1", event.headers.a)
    assert.are.same({ s.topic, 2, 0, 1700000000.25, 1 },
      { event.topic, event.partition, event.offset, event.timestamp, event.attempt })
    assert.is_nil(event.nothing)
  end)

end)

describe("a consumer in detail (broker) #kafka", function()
  before_each(function()
    s = shop.new()
  end)

  after_each(function()
    s.box:close()
  end)

  it("keeps what was read of an event, and says so where nothing was", function()
    s:produce(s:record("T", '"tea"'))
    local kept
    assert(s:consume { handlers = { T = function(event) kept = event; return event.payload end } })
    assert.are.equal("tea", kept.payload)
    assert.has_error(function() return kept.key end)
    local ok, err = pcall(function() return kept.key end)
    assert.is_false(ok)
    assert.are.equal("closed", err.code)
  end)

  it("ignores types without a handler, or gives them to the default handler", function()
    s:produce(s:record("KNOWN"), s:record("OTHER"))
    assert(s:consume { handlers = { KNOWN = shop.effect } })
    assert.are.equal(1, #s:effects())
    s.group = s.group .. "-2"
    assert(s:consume { handlers = { KNOWN = function() end }, default = shop.effect })
    assert.are.equal("OTHER", s:effects()[2].type)
    assert.are.equal(0, #s:letters())
  end)

  it("rejects unknown types where it is told to", function()
    s:produce(s:record("KNOWN"), s:record("OTHER"), s:record("KNOWN"))
    assert(s:consume { handlers = { KNOWN = shop.effect }, unknown = "reject" })
    assert.are.equal(2, #s:effects())
    local letters = s:letters()
    assert.are.equal(1, #letters)
    assert.are.equal("unknown_type", shop.headers(letters[1])["postbox-reason"])
    assert.are.equal("postbox.UnknownTypeError", shop.headers(letters[1])["kafka_dlt-exception-fqcn"])
  end)

  it("C-05: keeps the events of two groups apart", function()
    s:produce(s:record("T"))
    assert(s:consume { handlers = { T = shop.effect } })
    assert(s:consume { handlers = { T = shop.effect } })
    assert.are.equal(1, #s:effects())
    s.group = s.group .. "-other"
    assert(s:consume { handlers = { T = shop.effect } })
    assert.are.equal(2, #s:effects())
  end)

  it("C-03: applies an event once that stands twice in a batch, and on two partitions", function()
    local record = s:record("T")
    local copy = s:record("T", "null", { id = record.event_id, partition = 1 })
    s:produce(record, record, copy, s:record("T"))
    assert(s:consume { handlers = { T = shop.effect } })
    assert.are.equal(2, #s:effects())
    s:produce(copy, record)
    assert(s:consume { handlers = { T = shop.effect } })
    assert.are.equal(2, #s:effects())
  end)

  it("reads events with their id and type in headers, and JSON beside them", function()
    local id = shop.id()
    s:produce { topic = s.topic, value = '{"eventId":"other","eventType":"X","payload":1}',
      headers = { { "postbox-event-id", id }, { "postbox-event-type", "T" } } }
    local payload
    assert(s:consume { handlers = { T = function(event, tx)
      payload = event.payload
      shop.effect(event, tx)
    end } })
    assert.are.equal(id, s:effects()[1].id)
    assert.are.equal("other", payload.eventId)
  end)

  it("C-16: gives tombstones as nil payload, with their headers", function()
    s:produce { topic = s.topic, key = "k", headers = { { "postbox-event-id", shop.id() },
      { "postbox-event-type", "T" }, { "more", "x" } } }
    local seen = {}
    assert(s:consume { handlers = { T = function(event)
      seen[#seen + 1] = { event.payload == nil, event.headers.more, event.key }
    end } })
    assert.are.same({ { true, "x", "k" } }, seen)
  end)

  it("C-07: knows records without an id by their place", function()
    s:produce({ topic = s.topic, partition = 1, value = "1" }, { topic = s.topic, partition = 1, value = "1" })
    local ids = {}
    local handler = { default = function(event, tx)
      ids[#ids + 1] = event.id
      shop.effect(event, tx)
    end }
    assert(s:consume(handler))
    assert.are.same({ s.topic .. "/1/0", s.topic .. "/1/1" }, ids)
    assert.are.equal(2, #s:effects())
  end)

  it("reads plain JSON, raw bytes, and what a function makes of a record", function()
    s:produce({ topic = s.topic, partition = 0, value = '{"eventId":"a","eventType":"b","payload":0}' })
    local seen = {}
    local function note(event) seen[#seen + 1] = event.payload end
    assert(s:consume { codec = "json", default = note })
    s.group = s.group .. "-bytes"
    s:produce({ topic = s.topic, partition = 0, value = "\0\255" })
    assert(s:consume { codec = "bytes", default = note })
    assert.are.equal("a", seen[1].eventId)
    assert.are.equal("\0\255", seen[3])
  end)

  it("takes id, type, key and payload from a codec in Lua, and its refusals to the dead letters", function()
    s:produce({ topic = s.topic, partition = 0, value = "T;1;x" }, { topic = s.topic, partition = 0, value = "T;1;y" },
      { topic = s.topic, partition = 0, value = "nothing" }, { topic = s.topic, partition = 0, value = "T;2;z" })
    local seen = {}
    assert(s:consume {
      codec = function(record)
        local event_type, id, rest = record.value:match "^(%w+);(%d+);(%w+)$"
        if not event_type then
          return nil, "no semicolons"
        end
        return { id = id, type = event_type, key = rest, payload = rest }
      end,
      handlers = { T = function(event, tx)
        seen[#seen + 1] = event.id .. event.payload .. event.key
        shop.effect(event, tx)
      end },
    })
    assert.are.same({ "1xx", "2zz" }, seen)
    local letters = s:letters()
    assert.are.equal(1, #letters)
    assert.are.equal("nothing", letters[1].value)
    assert.are.equal("no semicolons", shop.headers(letters[1])["kafka_dlt-exception-message"])
  end)

  it("lets publish in a handler join its transaction, with the cause and the trace", function()
    local trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    local first = s:record("ORDER_CREATED", "1", { headers = { { "traceparent", trace } } })
    s:produce(first, s:record("ORDER_CREATED", "2"))
    assert(s:consume { retry = { retries = 0 }, handlers = { ORDER_CREATED = function(event)
      s.box:publish("PAYMENT_PAID", "k", { order = event.payload })
      if event.payload == 2 then
        error "no money"
      end
    end } })
    local rows = assert(s.box:query "SELECT event_type, encode(headers, 'escape') AS headers FROM postbox.outbox")
    assert.are.equal(1, #rows)
    assert.is_truthy(rows[1].headers:find(first.event_id, 1, true))
    assert.is_truthy(rows[1].headers:find(trace, 1, true))
  end)

  it("stops from a handler, and goes on where it stopped", function()
    for i = 1, 6 do
      s:produce(s:record("T", i))
    end
    local consumer
    consumer = s:consumer { batch = 1, handlers = { T = function(event, tx)
      shop.effect(event, tx)
      if event.payload == 3 then
        consumer:stop()
      end
    end } }
    assert(consumer:run {})
    assert.are.equal(3, #s:effects())
    assert(consumer:run { until_idle = 1 })
    assert.are.equal(6, #s:effects())
  end)

  it("keeps to max_rate", function()
    for i = 1, 20 do
      s:produce(s:record("T", i))
    end
    local first, last
    assert(s:consume { max_rate = 10, handlers = { T = function()
      last = support.clock()
      first = first or last
    end } })
    assert.is_true(last - first > 1.5, ("20 events at 10 a second took %g s"):format(last - first))
  end)

  it("tells what is wrong with its options", function()
    local function refused(given, text)
      local ok, err = pcall(function() return s.box:consumer(given) end)
      assert.is_false(ok)
      assert.are.equal("config", err.code)
      assert.is_truthy(err.message:find(text, 1, true), err.message)
    end
    local h = { T = function() end }
    refused({ topics = { "t" }, handlers = h }, "group")
    refused({ group = "g", handlers = h }, "topics")
    refused({ group = "g", topics = {}, handlers = h }, "topics")
    refused({ group = "g", topics = { "^t.*" }, handlers = h }, "patterns")
    refused({ group = "g", topics = { "t" } }, "handlers")
    refused({ group = "g", topics = { "t" }, handlers = { T = 1 } }, "functions by event type")
    refused({ group = "g", topics = { "t" }, handlers = h, codec = "xml" }, "codec")
    refused({ group = "g", topics = { "t" }, handlers = h, retry = { retry = 1 } }, "no option retry")
    refused({ group = "g", topics = { "t" }, handlers = h, unknown = "drop" }, "unknown")
  end)

  it("does not let the application move offsets by itself", function()
    local box = postbox.new { database = s.database, kafka = { ["bootstrap.servers"] = s.broker.bootstrap,
      ["enable.auto.commit"] = true } }
    s:produce(s:record("T", "1"))
    s.box, s.old = box, s.box
    assert(s:consume { retry = { retries = 0 }, handlers = { T = shop.effect } })
    s.old:close()
    assert.are.equal(1, #s:effects())
  end)
end)

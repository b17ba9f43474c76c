-- Dead letters: nothing is dropped, nothing is changed, and others can read why.

local process = require "postbox.testing.process"
local shop = require "spec.consumer_support"

local function be(number, size)
  local bytes = {}
  for i = size, 1, -1 do
    bytes[i] = string.char(number % 256)
    number = math.floor(number / 256)
  end
  return table.concat(bytes)
end

local function fail()
  error "no tea"
end

describe("dead letters (broker)", function()
  it("have the record's key, value, headers and partition, and the reason in Spring Kafka's headers", function()
    local s = shop.new()
    s:produce { topic = s.topic, partition = 3, key = "k\0ey", value = " \255junk\0", timestamp = 1700000000.125,
      headers = { { "first", "one" }, { "second", "\0\128\255" }, { "first", "again" }, { "none" } } }
    assert(s:consume { default = shop.effect })
    local letters = s:letters()
    assert.are.equal(1, #letters)
    local letter = letters[1]
    assert.are.same({ 3, "k\0ey", " \255junk\0" }, { letter.partition, letter.key, letter.value })
    local h = letter.headers
    assert.are.same({ { "first", "one" }, { "second", "\0\128\255" }, { "first", "again" } }, { h[1], h[2], h[3] })
    assert.are.equal("none", h[4][1])
    assert.is_nil(h[4][2])
    local names, values = {}, {}
    for i = 5, #h do
      names[#names + 1] = h[i][1]
      values[h[i][1]] = h[i][2]
    end
    assert.are.same({ "kafka_dlt-exception-fqcn", "kafka_dlt-exception-message", "kafka_dlt-original-topic",
      "kafka_dlt-original-partition", "kafka_dlt-original-offset", "kafka_dlt-original-timestamp",
      "kafka_dlt-original-timestamp-type", "kafka_dlt-original-consumer-group", "postbox-attempts",
      "postbox-failed-at", "postbox-reason" }, names)
    assert.are.equal("postbox.CodecError", values["kafka_dlt-exception-fqcn"])
    assert.are.equal(s.topic, values["kafka_dlt-original-topic"])
    assert.are.equal(be(3, 4), values["kafka_dlt-original-partition"])
    assert.are.equal(be(0, 8), values["kafka_dlt-original-offset"])
    assert.are.equal(be(1700000000125, 8), values["kafka_dlt-original-timestamp"])
    assert.are.equal("CreateTime", values["kafka_dlt-original-timestamp-type"])
    assert.are.equal(s.group, values["kafka_dlt-original-consumer-group"])
    assert.are.equal("unreadable", values["postbox-reason"])
    assert.is_truthy(values["postbox-failed-at"]:find "^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$")
    -- Not the record's own timestamp: retention would delete an old one at once.
    assert.is_true(letter.timestamp > 1700000000.125 + 86400)
    s.box:close()
  end)
end)

describe("dead letters of bad records (broker) #kafka", function()
  local s

  before_each(function()
    s = shop.new()
  end)

  after_each(function()
    s.box:close()
  end)

  it("C-15: take what cannot be read at once, and the records behind it go on", function()
    local id = shop.id()
    s:produce(s:record("T", "1"), { topic = s.topic, partition = 0, value = '{"eventId":"x","eventType":"T"' },
      { topic = s.topic, partition = 0, value = '"\255"' }, { topic = s.topic, partition = 0, value = "" },
      { topic = s.topic, partition = 0, value = "1",
        headers = { { "postbox-event-id", id }, { "postbox-event-id", id } } }, s:record("T", "2"))
    assert(s:consume { retry = { delay = 60 }, handlers = { T = shop.effect } })
    assert.are.equal(2, #s:effects())
    assert.are.equal(4, #s:letters())
    assert.are.equal(4, s:inbox "dead")
  end)

  it("C-16: keep null and empty apart", function()
    s:produce({ topic = s.topic, partition = 0, key = "", headers = { { "postbox-event-type", "T" } } },
      { topic = s.topic, partition = 1, value = "", headers = {} })
    assert(s:consume { codec = "bytes", retry = { retries = 0 }, default = fail })
    local letters = s:letters()
    assert.are.equal("", letters[1].key)
    assert.is_nil(letters[1].value)
    assert.is_nil(letters[2].key)
    assert.are.equal("", letters[2].value)
  end)

  it("are skipped when the record is delivered again", function()
    local record = s:record("T", "1")
    s:produce(record)
    local calls = 0
    local handlers = { T = function() calls = calls + 1; error "no" end }
    assert(s:consume { retry = { retries = 0 }, handlers = handlers })
    s:produce(record)
    assert(s:consume { retry = { retries = 0 }, handlers = handlers })
    assert.are.equal(1, calls)
    assert.are.equal(1, #s:letters())
  end)

  it("C-20: replace the headers of an earlier death, so that they never grow", function()
    local record = s:record("T", "1", { headers = { { "mine", "x" } } })
    s:produce(record)
    assert(s:consume { retry = { retries = 0 }, handlers = { T = fail } })
    for round = 1, 3 do
      local letter = s:letters()[round]
      s.broker:produce { topic = s.topic, partition = 0, key = letter.key, headers = letter.headers,
        value = letter.value:gsub('"eventId":"[^"]+"', '"eventId":"' .. shop.id() .. '"') }
      assert(s:consume { retry = { retries = 0 }, handlers = { T = fail } })
    end
    local letters = s:letters()
    assert.are.equal(4, #letters)
    assert.are.equal(#letters[1].headers, #letters[4].headers)
    local headers = shop.headers(letters[4])
    assert.are.equal("x", headers.mine)
    assert.are.equal(be(3, 8), headers["kafka_dlt-original-offset"])
  end)

  it("C-19: bound the reason's text, at a character's edge", function()
    s:produce(s:record("T", "1"))
    assert(s:consume { retry = { retries = 0 }, handlers = { T = function()
      error(("é"):rep(100000), 0)
    end } })
    local headers = shop.headers(s:letters()[1])
    assert.are.equal(("é"):rep(512), headers["kafka_dlt-exception-message"])
    assert.is_true(#headers["kafka_dlt-exception-stacktrace"] <= 4096)
  end)

  it("C-19: leave the diagnosis out before the record would not fit", function()
    local limit = 1048588 -- Kafka's own, of a batch with one record
    local name = os.tmpname()
    local file = assert(io.open(name, "wb"))
    file:write(s:record("T", '"' .. ("x"):rep(limit - 1000) .. '"').value)
    file:close()
    local status, output = process.run { "kcat", "-P", "-b", s.broker.bootstrap, "-t", s.topic, "-p", "0",
      "-X", "message.max.bytes=2000000", name }
    os.remove(name)
    assert(status == 0, output)
    assert(s:consume { retry = { retries = 0 }, handlers = { T = function()
      error(("y"):rep(100000), 0)
    end } })
    local headers = shop.headers(s:letters()[1])
    assert.is_nil(headers["kafka_dlt-exception-stacktrace"])
    assert.are.equal(s.topic, headers["kafka_dlt-original-topic"])
    assert.are.equal("handler", headers["postbox-reason"])
  end)

  it("C-18: are told at the start to have no topic, or one with fewer partitions", function()
    s.box:close()
    s = shop.new { letters = false }
    local ok, message, err = s:consume { handlers = { T = shop.effect } }
    assert.is_nil(ok)
    assert.are.equal("topic_unknown", err.code)
    assert.is_truthy(message:find("--create --topic " .. s.topic .. "-dlt --partitions 4", 1, true), message)
    s.broker:create(s.topic .. "-dlt", 2)
    ok, message, err = s:consume { handlers = { T = shop.effect } }
    assert.is_nil(ok)
    assert.are.equal("config", err.code)
    assert.is_truthy(message:find("--alter", 1, true))
  end)

  it("get their topic made where create_topics is given", function()
    s.box:close()
    s = shop.new { letters = false, partitions = 3, box = { create_topics = { replication = 1 } } }
    s:produce(s:record("T", "1", { partition = 2 }))
    assert(s:consume { retry = { retries = 0 }, handlers = { T = fail } })
    assert.are.equal(2, s:letters()[1].partition)
  end)

  it("have none of their own: a failure in a -dlt topic stops its partition", function()
    s:produce(s:record("T", "1"))
    assert(s:consume { retry = { retries = 0 }, handlers = { T = fail } })
    local calls = 0
    assert(s:consume { topics = { s.topic .. "-dlt" }, group = s.group .. "-redo", retry = { retries = 0 },
      handlers = { T = function() calls = calls + 1; error "again" end } })
    assert.are.equal(1, calls)
    assert.is_truthy(s:logged "waits until the next start")
    assert.are.equal(0, tonumber(s.box:query("SELECT count(*) AS n FROM postbox.inbox WHERE consumer_group = $1",
      s.group .. "-redo")[1].n))
  end)
end)

describe("a dead letter topic that refuses (broker) #mock", function()
  it("C-17: keeps the record: not marked dead, not passed, and written when it takes it again", function()
    local s = shop.new()
    s:produce(s:record("T", "1"), s:record("GOOD", "2"))
    local calls = 0
    local consumer = s:consumer { retry = { retries = 0 }, handlers = {
      T = function() calls = calls + 1; error "no" end,
      GOOD = function(event, tx) shop.effect(event, tx) end,
    } }
    -- Once the letter is refused the handler is not asked again; the log tells when to go on.
    local refused = 0
    s.box.options.log = function(_, message)
      s.lines[#s.lines + 1] = message
      if message:find("is not written", 1, true) then
        refused = refused + 1
        if refused == 1 then
          assert.are.equal(0, s:inbox "dead")
          assert.are.equal(0, #s:effects())
        end
        consumer:stop()
      end
    end
    s.broker:fail_requests("Produce", "TOPIC_AUTHORIZATION_FAILED", 1)
    assert(consumer:run { until_idle = 3 })
    assert.are.equal(1, refused)
    assert.are.equal(0, #s:letters())
    local before = calls
    assert(s:consume { retry = { retries = 0 }, handlers = { T = fail, GOOD = shop.effect } })
    assert.are.equal(1, #s:letters())
    assert.are.equal(1, s:inbox "dead")
    assert.are.equal(1, #s:effects())
    assert.is_true(before <= 2)
    s.box:close()
  end)
end)

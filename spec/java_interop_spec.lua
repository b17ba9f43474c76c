-- What postbox writes is read by services written with Spring Kafka, and the other way round:
-- envelope, headers, partitions, and dead letters byte for byte. Runs on Apache Kafka alone.
local cjson = require "cjson"
local java = require "spec.java"
local postbox = require "postbox"
local support = require "spec.support"

local EXCEPTION = {
  "kafka_dlt-exception-fqcn", "kafka_dlt-exception-cause-fqcn",
  "kafka_dlt-exception-message", "kafka_dlt-exception-stacktrace",
}
local ORIGINAL = {
  "kafka_dlt-original-topic", "kafka_dlt-original-partition", "kafka_dlt-original-offset",
  "kafka_dlt-original-timestamp", "kafka_dlt-original-timestamp-type", "kafka_dlt-original-consumer-group",
}
local GROUP = ORIGINAL[6]
local OPTIONAL = { ["kafka_dlt-exception-cause-fqcn"] = true, ["kafka_dlt-exception-stacktrace"] = true }

local function header(record, name)
  local found
  for _, pair in ipairs(record.headers) do
    if pair[1] == name then
      assert.is_nil(found, name .. " is there twice")
      found = pair[2]
    end
  end
  return found
end

local function names(record, pattern)
  local list = {}
  for _, pair in ipairs(record.headers) do
    if pair[1]:find(pattern) then
      list[#list + 1] = pair[1]
    end
  end
  return list
end

local function by(records, field)
  local index = {}
  for _, record in ipairs(records) do
    index[record[field]] = record
  end
  return index
end

-- The headers that the record had before it failed.
local function brought(record)
  local list = {}
  for _, pair in ipairs(record.headers) do
    if pair[1]:find("^kafka_dlt%-") then
      break
    end
    list[#list + 1] = pair
  end
  return list
end

describe("beside Spring Kafka services #kafka", function()
  local broker, box, topic

  local function open_box()
    topic = broker:topic("order.created", 4)
    broker:create(topic .. "-dlt", 4)
    box = postbox.new {
      database = support.database(), kafka = broker.bootstrap, topics = { ORDER_CREATED = topic },
    }
    assert(box:migrate())
  end

  local function close_box()
    box:close(5)
  end

  -- Commits what fn publishes, and waits until it is on Kafka.
  local function publish(fn)
    assert(box:transaction(fn))
    local relay = box:relay()
    assert(relay:start())
    support.eventually(20, function()
      return #box:query("SELECT 1 FROM postbox.outbox LIMIT 1") == 0
    end)
    assert(relay:stop(5))
  end

  setup(function()
    broker = support.broker()
    java.build()
  end)

  describe("events", function()
    before_each(open_box)
    after_each(close_box)

    it("our events are read by a @KafkaListener, in envelope and headers", function()
      local payloads = {
        { orderId = 9007199254740991, sku = "thé \226\152\149", lines = postbox.array {}, nothing = postbox.null },
        "a plain string", postbox.raw('{"b": [1, 2.50], "a": {}}'), true, 1.5,
      }
      local ids = {}
      publish(function(tx)
        for i, payload in ipairs(payloads) do
          ids[i] = tx:publish("ORDER_CREATED", 40 + i, payload, { headers = { trace = "t" .. i } })
        end
        ids[6] = tx:publish("ORDER_CREATED", "no payload", nil)
        ids[7] = tx:publish("ORDER_CREATED", "tombstone", postbox.tombstone)
        ids[8] = tx:publish("ORDER_CREATED", "k\0\255", postbox.bytes("\0\255\254"))
        ids[9] = tx:publish("ORDER_CREATED", nil, "no key")
      end)
      local seen = by(java.records("events", broker.bootstrap, topic, 9), "headerEventId")
      for i, id in ipairs(ids) do
        local record = assert(seen[id], "event " .. i)
        assert.equal("ORDER_CREATED", record.headerEventType)
        assert.equal(i <= 5 and ("t" .. i) or nil, header(record, "trace"))
        assert.equal(id, header(record, "postbox-event-id"))
        if i ~= 7 and i ~= 8 then
          assert.equal(id, record.eventId)
          assert.equal("ORDER_CREATED", record.eventType)
        end
      end
      assert.equal("41", seen[ids[1]].key)
      assert.equal("thé \226\152\149", seen[ids[1]].payload.sku)
      assert.truthy(seen[ids[1]].value:find('"orderId":9007199254740991', 1, true))
      assert.truthy(seen[ids[1]].value:find('"lines":[]', 1, true))
      assert.equal("a plain string", seen[ids[2]].payload)
      assert.truthy(seen[ids[3]].value:find('{"b": [1, 2.50], "a": {}}', 1, true))
      assert.is_true(seen[ids[4]].payload)
      assert.equal(1.5, seen[ids[5]].payload)
      assert.equal(cjson.null, seen[ids[6]].payload)
      assert.is_nil(seen[ids[7]].value)
      assert.equal("\0\255\254", seen[ids[8]].value)
      assert.equal("k\0\255", seen[ids[8]].key)
      assert.is_nil(seen[ids[9]].key)
    end)

    it("A-33 Java's partitioner and ours choose the same partition for each key", function()
      local lines = java.run("produce", broker.bootstrap, topic, 100)
      publish(function(tx)
        for i = 0, 99 do
          tx:publish("ORDER_CREATED", "k" .. i, { number = i })
        end
      end)
      local theirs, ours = {}, {}
      for i, line in ipairs(lines) do
        lines[i] = cjson.decode(line)
        theirs[lines[i].key] = lines[i].partition
      end
      for _, record in ipairs(broker:records(topic)) do
        if #record.headers > 0 then
          ours[record.key] = record.partition
        end
      end
      assert.same(theirs, ours)
    end)

    it("our consumer takes what a Java service wrote into the envelope, each once", function()
      local written = {}
      for _, line in ipairs(java.run("produce", broker.bootstrap, topic, 100)) do
        written[cjson.decode(line).eventId] = 1
      end
      local seen = {}
      assert(box:consumer {
        group = "interop", topics = { topic },
        handlers = {
          ORDER_CREATED = function(event)
            assert(event.key == "k" .. ("%d"):format(event.payload.number))
            seen[event.id] = (seen[event.id] or 0) + 1
          end,
        },
      }:run { until_idle = 2 })
      assert.same(written, seen)
    end)

  end)

  -- Records that nobody can process, and the dead letters that ours and Spring's consumer make of each.
  describe("of the same records that fail", function()
    local found -- a list of { ours = record, spring = record }

    local function fail_ours()
      assert(box:consumer {
        group = "shipping", topics = { topic }, retry = { delay = 0.01, retries = 1 },
        handlers = {
          ORDER_CREATED = function()
            error("no tea in st\195\182ck")
          end,
        },
      }:run { until_idle = 2 })
    end

    -- By the source offset and partition in the headers themselves.
    local function pair_up(records)
      local index, list = {}, {}
      for _, record in ipairs(records) do
        local source = header(record, ORIGINAL[2]) .. header(record, ORIGINAL[3])
        if not index[source] then
          index[source] = {}
          list[#list + 1] = index[source]
        end
        index[source][header(record, GROUP):find("^spring") and "spring" or "ours"] = record
      end
      return list
    end

    setup(function()
      open_box()
      publish(function(tx)
        tx:publish("ORDER_CREATED", 42, { sku = "tea" },
          { headers = { first = "one", second = "\0\128\255" }, partition = 2 })
        tx:publish("ORDER_CREATED", "tombstone", postbox.tombstone, { partition = 3 })
      end)
      broker:produce { topic = topic, partition = 1, value = "\255\0\254" }
      fail_ours()
      found = pair_up(java.records("fail", broker.bootstrap, topic, 6, 60))
    end)

    teardown(close_box)

    it("there is one of each for each record", function()
      assert.equal(3, #found)
      for _, pair in ipairs(found) do
        assert.truthy(pair.ours and pair.spring)
      end
    end)

    it("I8 the record is the original, on the same partition", function()
      for _, pair in ipairs(found) do
        assert.equal(pair.spring.key, pair.ours.key)
        assert.equal(pair.spring.value, pair.ours.value)
        assert.equal(pair.spring.partition, pair.ours.partition)
        local original = brought(pair.spring)
        for i, brought_header in ipairs(original) do
          assert.same(brought_header, pair.ours.headers[i])
        end
      end
    end)

    it("our headers have Spring's names, in its order, once each, and all that a listener requires", function()
      for _, pair in ipairs(found) do
        local theirs, ours = names(pair.spring, "^kafka_dlt%-"), names(pair.ours, "^kafka_dlt%-")
        assert.same(names(java.fixture()[2], "^kafka_dlt%-"), theirs)
        local expected = {}
        for _, name in ipairs(theirs) do
          if header(pair.ours, name) or not OPTIONAL[name] then
            expected[#expected + 1] = name
          end
        end
        assert.same(expected, ours)
      end
    end)

    it("topic, partition, offset, timestamp and its type are byte for byte Spring's", function()
      for _, pair in ipairs(found) do
        for i = 1, 5 do
          assert.equal(header(pair.spring, ORIGINAL[i]), header(pair.ours, ORIGINAL[i]), ORIGINAL[i])
        end
        assert.equal("shipping", header(pair.ours, GROUP))
      end
    end)

    it("a @KafkaListener with Spring's own header constants reads ours", function()
      local seen = 0
      for _, record in ipairs(java.records("dlt", broker.bootstrap, topic, 6)) do
        local read = record.read
        if read.group == "shipping" then
          seen = seen + 1
          assert.equal(topic, read.topic)
          assert.equal(record.partition, read.partition)
          assert.equal(0, read.offset)
          assert.equal("CreateTime", read.timestampType)
          assert.equal(header(record, ORIGINAL[4]), java.big_endian(read.timestamp, 8))
          if record.value ~= "\255\0\254" then
            assert.equal("postbox.HandlerError", read.exception)
            assert.truthy(read.message:find("no tea in st\195\182ck", 1, true))
          end
        end
      end
      assert.equal(3, seen)
    end)

    it("our consumer reads both, each letter as an event of its own", function()
      local seen = {}
      assert(box:consumer {
        group = "reader", topics = { topic .. "-dlt" },
        codec = function(record)
          return { type = "DEAD_LETTER", payload = record.value }
        end,
        handlers = {
          DEAD_LETTER = function(event)
            local h = event.headers
            seen[h[GROUP] .. h[ORIGINAL[2]]] = { event.payload or "none", h[ORIGINAL[1]], h[ORIGINAL[3]] }
          end,
        },
      }:run { until_idle = 2 })
      local count = 0
      for _, pair in ipairs(found) do
        for _, letter in pairs(pair) do
          local source = header(letter, GROUP) .. header(letter, ORIGINAL[2])
          assert.same({ letter.value or "none", topic, java.big_endian(0, 8) }, seen[source])
          count = count + 1
        end
      end
      assert.equal(6, count)
    end)
  end)
end)

describe("the recorded dead letters", function()
  it("have the headers and formats that Spring writes", function()
    local recorded = java.fixture()[2]
    local expected = { "first", "second" }
    for _, list in ipairs { EXCEPTION, ORIGINAL } do
      for _, name in ipairs(list) do
        expected[#expected + 1] = name
      end
    end
    assert.same(expected, names(recorded, "."))
    assert.equal(java.big_endian(2, 4), header(recorded, ORIGINAL[2]))
    assert.equal(java.big_endian(1, 8), header(recorded, ORIGINAL[3]))
  end)
end)

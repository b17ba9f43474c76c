-- confirm = "readback": a row leaves the outbox only when its record was seen on Kafka.
local help = require "spec.support.relay"
local support = require "spec.support"

describe("relay, read-back", function()
  local box, relay, broker, topic

  before_each(function()
    broker = support.broker()
    topic = broker:topic("order.created", 2)
    box = help.box { confirm = "readback" }
    relay = assert(box:relay { readback_timeout = 2 })
  end)

  after_each(function()
    relay:stop(5)
    box:close(5)
  end)

  local function start()
    assert(relay:start())
    support.eventually(10, function() return relay:stats().active end)
  end

  local function by_id(id)
    return box:query("SELECT event_id, postbox.bytes_text(payload) AS payload FROM postbox.outbox "
      .. "WHERE outbox_id = $1", id)[1]
  end

  local function record(id, event_id, value, on)
    return { topic = on or topic, key = "k", value = value, partition = 0, headers = {
      { "postbox-event-id", event_id }, { "postbox-outbox-id", tostring(id) } } }
  end

  it("clears rows when they are seen, and nothing is repeated", function()
    help.fill(box, topic, 3000, 20)
    start()
    help.drained(box, 20)
    assert.equal(0, help.assert_complete(topic, 3000))
    support.eventually(3, function() return relay:stats().removed == 3000 end)
  end)

  it("C-35 goes on from its offset after a stop, and clears what was sent before a kill", function()
    local program = [[
      local box = require("postbox").new { database = os.getenv "DB", kafka = os.getenv "KAFKA" }
      local relay = box:relay { lease = 1 }
      assert(relay:start())
      io.read()
    ]]
    help.fill(box, topic, 20000, 20)
    local child = support.run_lua(program, { DB = box.options.database, KAFKA = broker.bootstrap })
    support.eventually(20, function() return help.waiting(box) < 15000 end)
    child:kill("KILL")
    child:wait(5)
    start()
    help.drained(box, 30)
    help.assert_complete(topic, 20000)
  end)

  -- The row is left to its publisher for a while, so that the relay does not send it itself.
  local function leave(seconds)
    return help.insert(box, topic, "k", '"true"'), box:query(
      "UPDATE postbox.outbox SET direct_until = clock_timestamp() + $1::double precision * interval '1 second'",
      seconds)
  end

  it("C-37 clears nothing for a forged record: other value, other topic, other event id", function()
    local id = leave(30)
    local row = by_id(id)
    local value = ('{"eventId":"%s","eventType":"ORDER_CREATED","payload":"true"}'):format(row.event_id)
    local elsewhere = broker:topic("elsewhere", 1)
    help.insert(box, elsewhere, "x", "1")
    start()
    support.eventually(10, function() return help.waiting(box) == 1 end)
    broker:produce(record(id, row.event_id, (value:gsub("true", "forged"))))
    broker:produce(record(id, row.event_id, value, elsewhere))
    broker:produce(record(id, "018f8e8e-0000-7000-8000-000000000009", value))
    broker:produce { topic = topic, key = "k", value = value }
    support.sleep(1)
    assert.equal(1, help.waiting(box))
    broker:produce(record(id, row.event_id, value))
    support.eventually(10, function() return help.waiting(box) == 0 end)
    assert.equal(1, relay:stats().published) -- the one on the other topic: the relay sent nothing else
  end)

  it("A-19 sends what its publisher left behind, and the later events of its key", function()
    leave(2)
    help.insert(box, topic, "k", "2")
    local other = help.insert(box, topic, "other", "3")
    box:query [[UPDATE postbox.outbox SET direct_until = clock_timestamp() + interval '1 hour'
      WHERE direct_until IS NULL]]
    start()
    support.sleep(0.5)
    assert.equal(3, help.waiting(box))
    support.eventually(10, function() return help.waiting(box) == 1 end)
    assert.same({ "\"true\"", 2 }, help.values(topic))
    assert.truthy(by_id(other))
  end)

  it("C-36 sends again what was not seen in time #mock", function()
    local testing = require "postbox.testing"
    local own = testing.broker { brokers = 2 }
    own:create("t", 1)
    box:close(5)
    box = help.box { confirm = "readback", kafka = own.bootstrap }
    relay = assert(box:relay { readback_timeout = 1 })
    start()
    help.insert(box, "t", "k", "1")
    help.drained(box)
    own:fail_requests("Fetch", "NOT_LEADER_FOR_PARTITION", 1000)
    help.insert(box, "t", "k", "2")
    support.eventually(15, function() return relay:stats().repeats >= 1 end)
    assert.equal(1, help.waiting(box))
    relay:stop(1)
    box:close(5)
    own:stop()
  end)
end)

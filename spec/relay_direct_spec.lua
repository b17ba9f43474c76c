-- delivery = "direct": the publishing process sends right after its commit; the relay is the net.
local core = require "postbox.core"
local help = require "spec.support.relay"
local support = require "spec.support"

describe("direct delivery", function()
  local box, broker, topic, direct

  local function open(confirm)
    broker = support.broker()
    topic = broker:topic("order.created", 2)
    box = help.box { delivery = "direct", confirm = confirm, topics = { ORDER_CREATED = topic } }
    if not box.direct then -- a box that does not start one itself
      direct = assert(core.direct(box.config, confirm == "readback", 1000000))
      box.published = function(_, batch) direct:publish(batch) end
    end
  end

  after_each(function()
    if direct then
      assert(direct:stop(5))
      direct = nil
    end
    box:close(5)
  end)

  it("publishes after the commit without any relay, and deletes its rows after the reports", function()
    open("report")
    for value = 1, 50 do
      assert(box:publish_manual("ORDER_CREATED", "k" .. value % 5, value))
    end
    assert(box:transaction(function(tx)
      for value = 51, 100 do
        tx:publish("ORDER_CREATED", "k" .. value % 5, value)
      end
    end))
    help.drained(box)
    assert.equal(0, help.assert_complete(topic, 100))
  end)

  it("publishes nothing of a transaction that rolled back", function()
    open("report")
    box:transaction(function(tx)
      tx:publish("ORDER_CREATED", "k", 1)
      error("no")
    end)
    assert(box:publish_manual("ORDER_CREATED", "k", 2))
    help.drained(box)
    assert.same({ 2 }, help.values(topic))
  end)

  it("with read-back is the pattern of publish after commit, clear when seen", function()
    open("readback")
    local relay = assert(box:relay())
    assert(relay:start())
    for value = 1, 20 do
      assert(box:publish_manual("ORDER_CREATED", "k", value))
    end
    help.drained(box, 20)
    assert.equal(0, help.assert_complete(topic, 20))
    assert.equal(0, relay:stats().published)
    assert(relay:stop(5))
  end)

  it("A-19 loses nothing when the publisher is killed after its commit", function()
    open("readback")
    local program = [[
      local box = require("postbox").new { database = os.getenv "DB", kafka = "127.0.0.1:1",
        topics = { ORDER_CREATED = os.getenv "TOPIC" } }
      for value = 1, 20 do
        assert(box:publish_manual("ORDER_CREATED", "k", value))
      end
      print "stored"
      io.read()
    ]]
    local child = support.run_lua(program, { DB = box.options.database, TOPIC = topic })
    support.eventually(10, function() return help.waiting(box) == 20 end)
    child:kill("KILL")
    child:wait(5)
    box:query("UPDATE postbox.outbox SET direct_until = clock_timestamp() + interval '1 second'")
    local relay = assert(box:relay())
    assert(relay:start())
    help.drained(box, 20)
    assert.equal(0, help.assert_complete(topic, 20))
    assert.equal(20, relay:stats().published)
    assert(relay:stop(5))
  end)
end)

-- What Kafka, PostgreSQL and the relay itself can do wrong, and what must not follow from it.
local help = require "spec.support.relay"
local support = require "spec.support"
local testing = require "postbox.testing"

describe("relay, failures", function()
  local box, relay, broker

  local function open(options)
    box = help.box(options)
    relay = assert(box:relay { lease = 2 })
  end

  local function start(which)
    assert((which or relay):start())
    support.eventually(10, function() return (which or relay):stats().active end)
  end

  after_each(function()
    if relay then
      relay:stop(5)
    end
    box:close(5)
  end)

  describe("of a broker", function()
    before_each(function()
      broker = testing.broker { brokers = 3 }
      broker:create("t", 4)
      open { kafka = broker.bootstrap }
    end)
    after_each(function()
      relay:stop(5)
      broker:stop()
    end)

    local function records() return #broker:records("t") end

    it("A-14 deletes nothing before the report, and goes on by itself when the broker is back #mock", function()
      start()
      help.fill(box, "t", 50, 10)
      help.drained(box)
      broker:slow(2)
      help.fill(box, "t", 100, 10)
      support.eventually(10, function() return relay:stats().in_flight > 0 end)
      support.sleep(0.5)
      assert.equal(100, help.waiting(box))
      broker:slow(0)
      help.drained(box, 20)
      assert.equal(150, records())
    end)

    it("A-26 survives an outage longer than any time-out, with the events in order and none lost #mock", function()
      help.fill(box, "t", 200, 10)
      start()
      help.drained(box)
      broker:down()
      help.fill(box, "t", 3000, 10)
      support.sleep(3)
      assert.equal(3000, help.waiting(box))
      broker:up()
      help.drained(box, 30)
      assert.is_true(records() >= 3200)
      assert.equal(0, box:query("SELECT count(*) AS n FROM postbox.parked")[1].n)
    end)

    it("A-52 lets the other partitions flow while one has no leader #mock", function()
      start()
      help.fill(box, "t", 100, 40)
      help.drained(box)
      broker:leader("t", 2, 0)
      local before = relay:stats().published
      for _ = 1, 30 do
        help.fill(box, "t", 1000, 1000)
        support.sleep(0.1)
      end
      support.eventually(10, function() return relay:stats().published - before >= 20000 end)
      support.eventually(10, function() return relay:stats().stalled_partitions >= 1 end)
      local waiting = help.waiting(box)
      assert.is_true(waiting > 1000 and waiting < 15000, "waiting: " .. waiting)
      broker:leader("t", 2, 1)
      help.drained(box, 30)
      assert.equal(30100, records())
    end)

    it("A-52 sends nothing twice where a partition is read again from before what it has sent #mock", function()
      assert(box:query [[CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN OLD; END']])
      assert(box:query [[CREATE TRIGGER slow BEFORE DELETE ON postbox.outbox
        FOR EACH ROW EXECUTE FUNCTION slow()]])
      local blocker, late = help.session(box), help.session(box)
      assert(blocker:query "SELECT pg_advisory_lock(77)")
      assert(late:begin())
      start()
      help.insert(late, "t", "late", "1", 2)
      for value = 2, 6 do
        help.insert(box, "t", "k", tostring(value), 2)
      end
      support.eventually(5, function() return relay:stats().published == 5 end)
      broker:leader("t", 2, 0)
      help.insert(box, "t", "k", "7", 2)
      support.eventually(5, function() return relay:stats().stalled_partitions == 1 end)
      assert(late:commit()) -- its row is before all that was sent and is not deleted
      support.sleep(0.3)
      broker:leader("t", 2, 1)
      support.eventually(5, function() return relay:stats().published >= 6 end)
      support.sleep(0.5)
      assert(blocker:query "SELECT pg_advisory_unlock(77)")
      help.drained(box)
      assert.equal(7, records())
      blocker:close()
      late:close()
    end)

    it("A-51 leaves no hole when the broker is away for longer than a message time-out #mock", function()
      box:close(5)
      open { kafka = { ["bootstrap.servers"] = broker.bootstrap, ["message.timeout.ms"] = "1000" } }
      start()
      help.insert(box, "t", "k", "1")
      help.drained(box)
      broker:down()
      for value = 2, 50 do
        help.insert(box, "t", "k", tostring(value))
      end
      support.sleep(2.5)
      for value = 51, 100 do
        help.insert(box, "t", "k", tostring(value))
      end
      broker:up()
      help.drained(box, 30)
      local last = 0
      for _, record in ipairs(broker:records("t")) do
        local value = tonumber(record.value:match('"payload":(%d+)'))
        assert.is_true(value <= last + 1, ("%d follows %d"):format(value, last))
        last = math.max(last, value)
      end
      assert.equal(100, last)
      assert.equal(1, relay:stats().takeovers) -- nothing timed out, so nothing began anew
    end)

    it("A-24 goes on by itself when a topic that was forbidden twice is allowed again #mock", function()
      broker:fail_requests("Produce", "TOPIC_AUTHORIZATION_FAILED", 2)
      help.insert(box, "t", "k", "1")
      start()
      help.drained(box, 15)
      assert.equal(1, records())
    end)

    it("A-29 begins anew with another producer when one is at its end #mock", function()
      start()
      help.fill(box, "t", 100, 10)
      help.drained(box)
      broker:fail_requests("Produce", "OUT_OF_ORDER_SEQUENCE_NUMBER", 1)
      help.fill(box, "t", 1000, 10)
      help.drained(box, 30)
      assert.is_true(records() >= 1100)
    end)

    it("A-24 pauses a topic that does not exist while the others flow, and probes it by metadata only #mock",
      function()
        broker:create("late", 2)
        broker:fail_topic("late", "UNKNOWN_TOPIC_OR_PART")
        start()
        help.fill(box, "late", 50, 5)
        help.fill(box, "t", 500, 5)
        support.eventually(10, function() return records() == 500 end)
        support.eventually(10, function() return relay:stats().paused_topics == 1 end)
        support.eventually(5, function() return help.waiting(box) == 50 end)
        broker:fail_topic("late", nil)
        help.drained(box, 20)
        assert.equal(50, #broker:records("late"))
      end)
  end)

  describe("of its own", function()
    local topic
    before_each(function()
      broker = support.broker()
      topic = broker:topic("order.created", broker.is_mock and 12 or 4) -- the mock keeps 5 MiB a partition
      open()
    end)

    it("lets a standby take over at once when it stops, and only one be active", function()
      local other = assert(box:relay { lease = 30 })
      start()
      assert(other:start())
      support.sleep(0.5)
      assert.is_false(other:stats().active)
      local epoch = relay:stats().epoch
      assert(relay:stop(5))
      support.eventually(1, function() return other:stats().active end)
      assert.is_true(other:stats().epoch > epoch)
      help.fill(box, topic, 100, 10)
      help.drained(box)
      assert(other:stop(5))
      assert.equal(0, help.assert_complete(topic, 100))
    end)

    it("A-13 loses nothing and keeps each key's order when it is killed in the middle of a drain", function()
      local count = broker.is_mock and 40000 or 60000
      help.fill(box, topic, count, 50)
      local program = [[
        local box = require("postbox").new { database = os.getenv "DB", kafka = os.getenv "KAFKA" }
        local relay = box:relay { lease = 1 }
        assert(relay:start())
        while true do
          os.execute "sleep 1"
          local line = {}
          for name, value in pairs(relay:stats()) do
            line[#line + 1] = name .. "=" .. tostring(value)
          end
          print(table.concat(line, " "))
          io.flush()
        end
      ]]
      for round = 1, 3 do
        local child = support.run_lua(program, { DB = box.options.database, KAFKA = broker.bootstrap })
        local target = count * (1 - round * 0.2)
        support.eventually(20, function()
          local waiting = help.waiting(box)
          return waiting < target or error(waiting .. " rows wait; the relay says " .. child:output())
        end)
        child:kill("KILL")
        child:wait(5)
      end
      start()
      help.drained(box, 30)
      local repeats = help.assert_complete(topic, count)
      assert.is_true(repeats <= 3 * 57344, "repeats: " .. repeats)
    end)

    it("A-15 starts nothing new after it was frozen for longer than its lease, and deletes nothing", function()
      local program = [[
        local box = require("postbox").new { database = os.getenv "DB", kafka = os.getenv "KAFKA" }
        local relay = box:relay { lease = 1 }
        assert(relay:start())
        io.read()
      ]]
      local frozen = support.run_lua(program, { DB = box.options.database, KAFKA = broker.bootstrap })
      local function lease()
        return box:query("SELECT holder, epoch FROM postbox.lease")[1]
      end
      support.eventually(10, function() return lease().epoch == 1 end)
      frozen:kill("STOP")
      start()
      assert.equal(2, lease().epoch)
      frozen:kill("CONT")
      help.fill(box, topic, 2000, 20)
      help.drained(box)
      support.sleep(0.5)
      assert.equal(2, lease().epoch)
      frozen:kill("KILL")
      frozen:wait(5)
      assert.equal(0, help.assert_complete(topic, 2000))
    end)

    it("A-15 stops deleting when the epoch is not its own any more", function()
      start()
      assert(box:query [[UPDATE postbox.lease SET epoch = epoch + 1, holder = 'other',
        expires_at = clock_timestamp() + interval '2 seconds']])
      help.fill(box, topic, 10, 2)
      support.eventually(5, function() return not relay:stats().active end)
      assert.equal(10, help.waiting(box))
      help.drained(box)
    end)

    it("takes over from itself when a connection is cut", function()
      start()
      for value = 1, 5 do
        help.fill(box, topic, 500, 10)
        assert(box:query [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE application_name LIKE 'postbox relay%' AND datname = current_database()]])
        support.eventually(10, function() return relay:stats().takeovers > value end)
      end
      help.drained(box, 20)
      help.assert_complete(topic, 500)
    end)

    it("A-22 D-16 stops within its deadline while the broker does not answer", function()
      box:close(5)
      open { kafka = "127.0.0.1:1" }
      help.fill(box, topic, 10, 2)
      assert(relay:start())
      support.sleep(1)
      local began = support.clock()
      relay:stop(2)
      assert.is_true(support.clock() - began < 3)
      assert.equal(10, help.waiting(box))
    end)
  end)

  it("A-53 takes its position from the lease when it begins anew, not from what it read before", function()
    broker = support.broker()
    local topic = broker:topic("order.created", 1)
    open()
    start()
    help.fill(box, topic, 200, 5)
    help.drained(box)
    assert(relay:stop(5))
    assert(box:query("SELECT setval(pg_get_serial_sequence('postbox.outbox', 'outbox_id'), 100)"))
    assert(box:query "UPDATE postbox.lease SET low_water = 100")
    start()
    help.fill(box, topic, 50, 5)
    help.drained(box)
    assert.equal(0, relay:stats().alarms)
    assert.equal(250, #broker:records(topic))
  end)

  it("A-53 publishes what gets ids that were published before a crash of the server", function()
    broker = support.broker()
    local topic = broker:topic("order.created", 1)
    local server = testing.postgres { settings = { synchronous_commit = "off", wal_writer_delay = "10s",
      fsync = "on", autovacuum = "off" } }
    open { database = server:create_database() }
    start()
    help.fill(box, topic, 200, 5)
    help.drained(box)
    server:down("immediate")
    server:up()
    support.eventually(10, function() help.fill(box, topic, 300, 5) return true end)
    support.eventually(20, function() return help.waiting(box) == 0 end)
    local seen = help.history(topic)
    for value = 1, 300 do
      assert.truthy(seen[value], value .. " is missing")
    end
    relay:stop(5)
    relay = nil
    box:close(5)
    server:stop()
  end)
end)

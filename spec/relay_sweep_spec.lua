-- The alarm: rows that the reading missed are found, told and sent. And how old the oldest row is.
local help = require "spec.support.relay"
local support = require "spec.support"

describe("relay, sweep", function()
  local box, relay, topic

  before_each(function()
    topic = support.broker():topic("order.created", 2)
    box = help.box { log = function() end }
    relay = assert(box:relay { sweep = 0.5 })
  end)

  after_each(function()
    relay:stop(5)
    box:close(5)
  end)

  -- A row behind the reading position that no gap waits for, as only a defect could leave it.
  local function hide_row(id, value)
    assert(box:query([[INSERT INTO postbox.outbox (outbox_id, event_id, event_type, topic, partition_key, payload)
      OVERRIDING SYSTEM VALUE VALUES ($1, gen_random_uuid(), 'ORDER_CREATED', $2, 'k', convert_to($3, 'UTF8'))]],
      id, topic, tostring(value)))
  end

  it("finds a row below all that is known, and one between, and raises no alarm otherwise", function()
    local late = help.session(box)
    help.fill(box, topic, 1, 1)
    assert(late:begin())
    help.insert(late, topic, "late", "0")
    assert(box:query("SELECT setval(pg_get_serial_sequence('postbox.outbox', 'outbox_id'), 10)"))
    help.fill(box, topic, 100, 5)
    assert(box:query("DELETE FROM postbox.outbox WHERE outbox_id = 50"))
    assert(relay:start())
    help.drained(box)
    support.sleep(2)
    assert.equal(0, relay:stats().alarms)
    hide_row(60, 1001) -- its gap is the late one's: the low-water id is below
    support.eventually(10, function() return relay:stats().alarms == 1 end)
    help.drained(box)
    assert(late:commit())
    help.drained(box)
    support.eventually(5, function() return relay:stats().gaps == 0 end)
    support.sleep(1)
    hide_row(1, 1002)
    support.eventually(10, function() return relay:stats().alarms == 2 end)
    help.drained(box)
    local seen = help.history(topic)
    assert.truthy(seen[1001] and seen[1002] and seen[0])
    late:close()
  end)

  it("stays silent while a partition is behind and rows are parked, late or in flight", function()
    assert(relay:start())
    for _ = 1, 20 do
      help.fill(box, topic, 2000, 50)
      help.insert(box, topic .. "-missing", "k", "1")
      support.sleep(0.1)
    end
    support.eventually(20, function() return help.waiting(box) <= 20 end)
    support.sleep(1.5)
    assert.equal(0, relay:stats().alarms)
  end)

  it("tells how old the oldest waiting row is", function()
    assert(relay:start())
    support.eventually(10, function() return relay:stats().active end)
    assert.equal(0, relay:stats().oldest)
    assert(box:query([[INSERT INTO postbox.outbox (event_id, event_type, topic, payload, direct_until, created_at)
      VALUES (gen_random_uuid(), 'ORDER_CREATED', $1, '1', clock_timestamp() + interval '3 seconds',
        clock_timestamp() - interval '100 seconds')]], topic))
    support.eventually(5, function() return relay:stats().oldest > 99 end)
    help.drained(box)
    support.eventually(5, function() return relay:stats().oldest == 0 end)
  end)
end)

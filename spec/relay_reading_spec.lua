-- The relay reads each committed event once, in order, however late it was committed.
local core = require "postbox.core"
local help = require "spec.support.relay"
local support = require "spec.support"

describe("relay, reading", function()
  local box, relay, broker, topic

  before_each(function()
    broker = support.broker()
    topic = broker:topic("order.created", 1)
    box = help.box()
    relay = assert(box:relay())
  end)

  after_each(function()
    assert(relay:stop(5))
    box:close(5)
  end)

  local function start()
    assert(relay:start())
    support.eventually(10, function() return relay:stats().active end)
  end

  it("publishes what waits and empties the outbox, in order", function()
    help.fill(box, topic, 5000, 7)
    start()
    help.drained(box)
    assert.equal(0, help.assert_complete(topic, 5000))
    local stats = relay:stats()
    assert.equal(5000, stats.published)
    support.eventually(2, function() return relay:stats().removed == 5000 end)
  end)

  it("reads the backlog of a topic that is new to it once", function()
    local count = 100000
    local function fetched()
      return tonumber(box:query([[SELECT coalesce(sum(idx_tup_fetch), 0)::bigint AS n
        FROM pg_stat_user_tables WHERE relname = 'outbox']])[1].n)
    end
    topic = broker:topic("order.created", 12)
    help.fill(box, topic, count, 500)
    local before = fetched()
    start()
    help.drained(box)
    assert(relay:stop(5))
    local reads
    support.eventually(5, function() -- the reader, and the DELETE
      reads = (fetched() - before) / count
      return reads >= 1.9
    end)
    assert.is_true(reads < 2.9, ("each row was read %.2f times"):format(reads))
    assert.equal(0, help.assert_complete(topic, count))
  end)

  it("A-52 keeps the order where a backlog ends and single events follow", function()
    -- Reads of 4,000 rows are sent in bulk, what is left of them by another producer.
    local count = 0
    topic = broker:topic("order.created", 4)
    start()
    for _ = 1, 3 do
      help.fill(box, topic, 9500, 40, count)
      count = count + 9500
      help.drained(box)
    end
    assert.equal(0, help.assert_complete(topic, count))
  end)

  it("writes key, value and headers as the outbox says", function()
    local id = box:query([[
      INSERT INTO postbox.outbox (event_id, event_type, topic, partition_key, payload, headers, envelope)
      VALUES ('018f8e8e-0000-7000-8000-000000000001', 'ORDER_CREATED', $1, 'k', 'raw',
              '\x000161000000026262', 'h'),
             ('018f8e8e-0000-7000-8000-000000000002', 'ORDER_CREATED', $1, NULL, NULL, '', 'j'),
             ('018f8e8e-0000-7000-8000-000000000003', 'ORDER_CREATED', $1, '', '[1]', '', 'j')
      RETURNING outbox_id]], topic)[1].outbox_id
    start()
    help.drained(box)
    local records = broker:records(topic)
    assert.equal("k", records[1].key)
    assert.equal("raw", records[1].value)
    assert.same({ "a", "bb" }, { records[1].headers[1][1] or records[1].headers[1].name,
      records[1].headers[1][2] or records[1].headers[1].value })
    local names = {}
    for i, header in ipairs(records[1].headers) do
      names[i] = (header[1] or header.name) .. "=" .. (header[2] or header.value)
    end
    assert.same({ "a=bb", "postbox-event-id=018f8e8e-0000-7000-8000-000000000001",
      "postbox-event-type=ORDER_CREATED", "postbox-outbox-id=" .. tostring(id) }, names)
    assert.is_nil(records[2].key)
    assert.is_nil(records[2].value)
    assert.equal("", records[3].key)
    assert.equal('{"eventId":"018f8e8e-0000-7000-8000-000000000003","eventType":"ORDER_CREATED",'
      .. '"payload":[1]}', records[3].value)
  end)

  it("A-01 publishes an event that is committed after later ones were published", function()
    local late = help.session(box)
    start()
    assert(late:begin())
    help.insert(late, topic, "slow", "1")
    help.insert(box, topic, "fast", "2")
    support.eventually(5, function() return #broker:records(topic) == 1 end)
    assert(late:commit())
    help.drained(box)
    assert.same({ 2, 1 }, help.values(topic))
    late:close()
  end)

  it("A-48 publishes a late event before its successor, which became visible in the same read", function()
    -- The late one holds its key's lock, as the flush does; its successor follows at once.
    local late, next_one = help.session(box), help.session(box)
    for round = 1, 30 do
      assert(late:begin())
      assert(late:query "SELECT pg_advisory_xact_lock(1, 1)")
      help.insert(late, topic, "k", tostring(round * 10))
      help.insert(box, topic, "other", tostring(round * 10 + 1)) -- takes the position past the gap
      if round == 1 then
        start()
      end
      support.eventually(5, function() return relay:stats().gaps > 0 end)
      assert(late:commit())
      assert(next_one:begin())
      assert(next_one:query "SELECT pg_advisory_xact_lock(1, 1)")
      help.insert(next_one, topic, "k", tostring(round * 10 + 2))
      assert(next_one:commit())
    end
    help.drained(box)
    local _, first = help.history(topic)
    assert.equal(60, #first.k)
    for i = 2, #first.k do
      assert.is_true(first.k[i - 1] < first.k[i], "order lost at " .. first.k[i])
    end
    late:close()
    next_one:close()
  end)

  it("A-49 keeps a gap for as long as its writer lives, and forgets those that were rolled back", function()
    local late = help.session(box)
    start()
    assert(late:begin())
    help.insert(late, topic, "k", "1")
    for value = 2, 5 do
      local doomed = help.session(box)
      assert(doomed:begin())
      help.insert(doomed, topic, "k", "0")
      assert(doomed:rollback())
      doomed:close()
      help.insert(box, topic, "other", tostring(value))
    end
    support.eventually(5, function() return #broker:records(topic) == 4 end)
    support.eventually(5, function() return relay:stats().gaps > 0 end)
    support.sleep(1)
    assert.is_true(relay:stats().gaps > 0)
    assert(late:commit())
    help.drained(box)
    assert.equal(5, #broker:records(topic))
    support.eventually(5, function() return relay:stats().gaps == 0 end)
    late:close()
  end)

  it("A-56 waits for a prepared transaction", function()
    local late = help.session(box)
    if late:query("SHOW max_prepared_transactions")[1].max_prepared_transactions == "0" then
      late:close()
      pending("the server allows no prepared transactions")
      return
    end
    start()
    assert(late:begin())
    help.insert(late, topic, "k", "1")
    help.insert(box, topic, "k2", "2")
    support.eventually(5, function() return #broker:records(topic) == 1 and relay:stats().gaps > 0 end)
    assert(late:script("PREPARE TRANSACTION 'late'"))
    support.sleep(1)
    assert.is_true(relay:stats().gaps > 0)
    assert(late:script("COMMIT PREPARED 'late'"))
    help.drained(box)
    assert.same({ 2, 1 }, help.values(topic))
    late:close()
  end)

  it("A-57 finds rows of a wide gap of which one writer is still open", function()
    local late = help.session(box)
    assert(late:begin())
    help.insert(late, topic, "k", "1")
    assert(box:query("SELECT setval(pg_get_serial_sequence('postbox.outbox', 'outbox_id'), 50000)"))
    help.insert(box, topic, "k2", "2")
    start()
    support.eventually(5, function() return #broker:records(topic) == 1 end)
    for value = 3, 40 do
      help.insert(box, topic, "k2", tostring(value))
    end
    support.eventually(5, function() return #broker:records(topic) == 39 end)
    assert(late:commit())
    help.insert(box, topic, "k2", "41")
    help.drained(box)
    assert.equal(41, #broker:records(topic))
    support.eventually(5, function() return relay:stats().gaps == 0 end)
    late:close()
  end)

  it("A-49 reads many gaps range by range, not all of the table for each", function()
    help.fill(box, topic, 60000, 50)
    assert(box:query "DELETE FROM postbox.outbox WHERE outbox_id <= 20000 AND outbox_id % 2 = 0")
    local writer = help.session(box)
    assert(writer:begin())
    help.insert(writer, topic, "late", "0") -- keeps the gaps: it might still fill one
    local began = core.now()
    start()
    help.drained(box, 15)
    assert.is_true(core.now() - began < 8)
    assert(writer:rollback())
    writer:close()
  end)

  it("A-41 reads large rows within a limit", function()
    local text = '"' .. ("x"):rep(300000) .. '"'
    for value = 1, 30 do
      help.insert(box, topic, "k", value % 3 == 0 and text or tostring(value))
    end
    start()
    help.drained(box)
    local values = help.values(topic)
    assert.equal(30, #values)
    for value = 1, 30 do
      if value % 3 == 0 then
        assert.equal(#text, #values[value])
      else
        assert.equal(value, values[value])
      end
    end
  end)

  it("finds what a session that takes over finds: nothing twice, nothing missing", function()
    help.fill(box, topic, 1000, 5)
    start()
    help.drained(box)
    assert(relay:stop(5))
    help.fill(box, topic, 1000, 5)
    start()
    help.drained(box)
    assert.equal(2000, #broker:records(topic))
  end)
end)

-- What publish accepts, what it refuses at the call, and what it stores.
local core = require "postbox.core"
local postbox = require "postbox"
local support = require "spec.support"

describe("publish", function()
  local box

  setup(function()
    box = postbox.new { database = support.database() }
    assert(box:migrate())
  end)

  before_each(function() assert(box:query "DELETE FROM postbox.outbox") end)

  teardown(function() box:close() end)

  local function row()
    return assert(box:query "SELECT * FROM postbox.outbox")[1]
  end

  local function refuse(code, pattern, ...)
    local ok, err = pcall(box.publish_manual, box, ...)
    assert.is_false(ok)
    assert.equal(code, err.code)
    assert.truthy(err.message:find(pattern, 1, true), err.message)
    assert.equal(0, box:query("SELECT count(*) AS n FROM postbox.outbox")[1].n)
  end

  it("publish_manual stores at once and returns the id when it is committed", function()
    local id = assert(box:publish_manual("COUPON_PUBLISH_REQUESTED", 7, { couponId = 7 }))
    local stored = row()
    assert.equal(id, stored.event_id)
    assert.equal("7", id:sub(15, 15)) -- the version of a UUID
    assert.equal("coupon.publish.requested", stored.topic)
    assert.equal("7", stored.partition_key)
    assert.equal('{"couponId":7}', stored.payload)
  end)

  it("publish_manual raises inside a transaction", function()
    local done, _, err = box:transaction(function() box:publish_manual("A", 1, {}) end)
    assert.is_nil(done)
    assert.equal("config", err.code)
  end)

  it("makes 42 and 42.0 the same key, and keeps nil apart from empty", function()
    local keys = { 42, 42.0, "" }
    for i = 1, 4 do
      assert(box:publish_manual("A", keys[i], i))
    end
    local rows = box:query "SELECT partition_key AS key FROM postbox.outbox ORDER BY outbox_id"
    assert.equal("42", rows[1].key)
    assert.equal("42", rows[2].key)
    assert.equal("", rows[3].key)
    assert.is_nil(rows[4].key)
  end)

  it("I14 keeps any bytes in key, payload and headers", function()
    local all = {}
    for i = 0, 255 do
      all[#all + 1] = string.char(i)
    end
    all = table.concat(all)
    assert(box:publish_manual("A", all, postbox.bytes(all), { headers = { h = all } }))
    local stored = row()
    assert.equal(all, stored.partition_key)
    assert.equal(all, stored.payload)
    assert.truthy(stored.headers:find(all, 1, true))
    assert.equal("h", stored.envelope)
  end)

  it("stores payloads as design says: table, string, raw, nil, tombstone", function()
    local null = { postbox.raw '{"a" : 1.50}', "text", true, 12, postbox.array {}, postbox.null }
    for _, payload in ipairs(null) do
      assert(box:publish_manual("A", 1, payload))
    end
    assert(box:publish_manual("A", 1, nil))
    assert(box:publish_manual("A", 1, postbox.tombstone))
    local rows = box:query "SELECT payload, envelope FROM postbox.outbox ORDER BY outbox_id"
    local texts = { '{"a" : 1.50}', '"text"', "true", "12", "[]", "null", "null" }
    for i, text in ipairs(texts) do
      assert.equal(text, rows[i].payload)
      assert.equal("j", rows[i].envelope)
    end
    assert.is_nil(rows[8].payload)
    assert.equal("h", rows[8].envelope)
  end)

  it("refuses wrong types and names before any SQL", function()
    refuse("config", "event type", nil, 1, {})
    refuse("config", "type", "", 1, {})
    refuse("config", "type", "A\0B", 1, {})
    refuse("config", "type", "A\255", 1, {})
    refuse("config", "topic", "A", 1, {}, { topic = "no spaces" })
    refuse("config", "topic", "A", 1, {}, { topic = ".." })
    refuse("config", "partition key", "A", {}, {})
    refuse("config", "partition key", "A", 1.5, {})
    refuse("config", "no option", "A", 1, {}, { patrition = 1 })
    refuse("config", "partition", "A", 1, {}, { partition = 1.5 })
    refuse("config", "UUID", "A", 1, {}, { id = "not-an-id" })
  end)

  it("E-08 refuses reserved and bad headers, too many and too large ones", function()
    refuse("config", "postbox-", "A", 1, {}, { headers = { ["postbox-event-id"] = "x" } })
    refuse("config", "kafka_dlt-", "A", 1, {}, { headers = { ["Kafka_DLT-original-topic"] = "x" } })
    refuse("config", "header", "A", 1, {}, { headers = { [1] = "x" } })
    refuse("config", "header", "A", 1, {}, { headers = { a = 1 } })
    local many = {}
    for i = 1, 65 do
      many["h" .. i] = ""
    end
    refuse("config", "65 of them", "A", 1, {}, { headers = many })
    refuse("too_large", "16384", "A", 1, {}, { headers = { h = ("x"):rep(16384) } })
  end)

  it("E-07 refuses NaN and functions inside a payload and says where", function()
    refuse("config", "payload.items[2].price", "A", 1, { items = { { price = 1 }, { price = 0 / 0 } } })
    refuse("config", "payload.f", "A", 1, { f = print })
  end)

  it("A-22 refuses a record larger than max_record_bytes", function()
    refuse("too_large", "max_record_bytes", "A", 1, postbox.bytes(("x"):rep(1000001)))
    assert(box:publish_manual("A", 1, postbox.bytes(("x"):rep(999000))))
  end)

  it("A-18 a given id is stored once while the row waits, and other content is a conflict", function()
    local id = core.new_id()
    assert.equal(id, assert(box:publish_manual("A", 1, { n = 1 }, { id = id })))
    assert.equal(id, assert(box:publish_manual("A", 1, { n = 1 }, { id = id, headers = { h = "1" } })))
    local done, _, err = box:publish_manual("A", 1, { n = 2 }, { id = id })
    assert.is_nil(done)
    assert.equal("conflict", err.code)
    assert.equal(1, box:query("SELECT count(*) AS n FROM postbox.outbox")[1].n)
  end)

  it("stores a given partition, and asks the partitioner at the call", function()
    assert(box:publish_manual("A", 1, {}, { partition = 3 }))
    assert.equal(3, row().partition)
    assert(box:query "DELETE FROM postbox.outbox")
    local seen
    local custom = postbox.new {
      database = box.options.database,
      partitioner = function(event, partitions)
        seen = event
        return (event.key + 1) % partitions
      end,
    }
    local ok, err = pcall(custom.publish_manual, custom, "B_C", 5, {})
    assert.is_false(ok)
    assert.equal("topic_unknown", err.code)
    assert(box:query "UPDATE postbox.topics SET partitions = 4 WHERE topic = 'b.c'")
    assert(custom:publish_manual("B_C", 5, {}))
    assert.equal(2, row().partition)
    assert.equal("b.c", seen.topic)
    custom:close()
  end)

  it("A-02 keeps commit order per key without any lock of the writers", function()
    -- The lock is taken inside the flush: a second writer of the key waits for the first one's end.
    local one, two = core.connect(box.config), core.connect(box.config)
    local function store(connection, n)
      local batch = core.batch()
      assert(batch:add("A", "shared", n, { topic = "a", max_record_bytes = 1000000 }))
      return connection, batch
    end
    assert(one:begin {})
    assert(one:query("SELECT postbox.lock_stripes(ARRAY[$1::bytea], NULL)", postbox.bytes "shared"))
    local hasty = postbox.new { database = box.options.database, lock_timeout = 0.2 }
    local done, _, err = hasty:publish_manual("A", "shared", 1)
    assert.is_nil(done)
    assert.equal("55P03", err.sqlstate)
    assert.is_true(err.retriable)
    assert(hasty:publish_manual("A", "shared", 1, { order = false }))
    assert(one:rollback())
    local connection, batch = store(two, 2)
    assert(connection:begin {})
    assert(connection:commit(batch))
    one:close()
    two:close()
    hasty:close()
  end)

  it("A-02 draws the id of an event after its key's lock, also where it has to wait for it", function()
    assert(box:query "DELETE FROM postbox.outbox")
    local first = assert(core.connect(box.config))
    assert(first:begin {})
    assert(first:query("SELECT postbox.lock_stripes(ARRAY[$1::bytea], NULL)", postbox.bytes "shared"))
    local second = support.run_lua([[
      local box = require("postbox").new { database = os.getenv "DATABASE" }
      assert(box:transaction(function(tx) tx:publish("SECOND", "shared", 2) end))
    ]], { DATABASE = box.options.database })
    support.eventually(10, function()
      return #box:query [[SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())]] == 1
    end)
    local batch = core.batch()
    assert(batch:add("FIRST", "shared", 1, { topic = "a", max_record_bytes = 1000000 }))
    assert(first:commit(batch))
    assert.equal(0, second:wait(20))
    local rows = assert(box:query "SELECT event_type FROM postbox.outbox ORDER BY outbox_id")
    assert.same({ "FIRST", "SECOND" }, { rows[1].event_type, rows[2].event_type })
    first:close()
  end)
end)

describe("a COMMIT whose answer is lost", function()
  local testing = require "postbox.testing"

  it("A-18 is told as unknown with the transaction's id, and box:outcome knows how it ended", function()
    -- The commit waits for a standby that is not there; ending the backend then breaks the
    -- connection although the transaction is committed.
    local postgres = testing.postgres()
    local box = postbox.new { database = postgres:create_database() }
    assert(box:migrate())
    local killer = postbox.new { database = box.options.database }
    assert(killer:query "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    assert(killer:query "SELECT pg_reload_conf()")
    local process = support.run_lua([[
      local core, postbox = require "postbox.core", require "postbox"
      local box = postbox.new { database = os.getenv "DATABASE" }
      for _ = 1, 100 do
        core.sleep(0.1)
        local rows = box:query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        if rows and #rows > 0 then os.exit(0) end
      end
      os.exit(1)
    ]], { DATABASE = box.options.database })
    local done, _, err = box:transaction(function(tx)
      tx:query("CREATE TABLE proof (n int)")
      tx:publish("A", 1, {})
    end)
    process:wait(20)
    assert(killer:query "ALTER SYSTEM RESET synchronous_standby_names")
    assert(killer:query "SELECT pg_reload_conf()")
    assert.is_nil(done)
    assert.equal("unknown", err.code)
    assert.truthy(err.xid)
    assert.equal("committed", support.eventually(10, function()
      local outcome = box:outcome(err.xid)
      return outcome ~= "in progress" and outcome
    end))
    assert.equal(1, #box:query "SELECT 1 FROM postbox.outbox")
    box:close()
    killer:close()
    postgres:stop()
  end)
end)

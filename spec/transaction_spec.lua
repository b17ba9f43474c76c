-- Writing with an open transaction: what commits together, what leaves nothing.
local postbox = require "postbox"
local support = require "spec.support"

describe("box:transaction", function()
  local box

  local function outbox()
    return assert(box:query("SELECT event_id, event_type, topic, postbox.bytes_text(partition_key) AS key, "
      .. "postbox.bytes_text(payload) AS payload FROM postbox.outbox ORDER BY outbox_id"))
  end

  setup(function()
    box = postbox.new { database = support.database(), topics = { PAYMENT_PAID = "payments" } }
    assert(box:migrate())
    assert(box:query "CREATE TABLE orders (id serial PRIMARY KEY, sku text NOT NULL)")
  end)

  before_each(function()
    assert(box:query "TRUNCATE orders")
    assert(box:query "DELETE FROM postbox.outbox")
  end)

  teardown(function() box:close() end)

  it("commits data and events together, in the order of publishing", function()
    local id, name = assert(box:transaction(function(tx)
      local order = tx:query("INSERT INTO orders (sku) VALUES ($1) RETURNING id", "tea")[1]
      tx:publish("ORDER_CREATED", order.id, { orderId = order.id, sku = "tea" })
      tx:publish("PAYMENT_PAID", "p-1", nil)
      return order.id, "created"
    end))
    assert.equal("created", name)
    local rows = outbox()
    assert.equal(2, #rows)
    assert.equal("order.created", rows[1].topic)
    assert.equal(tostring(id), rows[1].key)
    assert.equal(('{"orderId":%d,"sku":"tea"}'):format(id), rows[1].payload)
    assert.equal("payments", rows[2].topic)
    assert.equal("null", rows[2].payload)
  end)

  it("is joined by box:publish and box:query anywhere below, without a handle", function()
    local function domain_code()
      box:query("INSERT INTO orders (sku) VALUES ($1)", "coffee")
      return box:publish("ORDER_CREATED", 1, {})
    end
    local id = assert(box:transaction(function() return domain_code() end))
    assert.equal(id, outbox()[1].event_id)
    assert.equal(1, #box:query "SELECT 1 FROM orders")
  end)

  it("A-21 leaves nothing of a transaction that raises, and returns what was raised", function()
    local cause = { reason = "no stock" }
    local done, message, err = box:transaction(function(tx)
      tx:query("INSERT INTO orders (sku) VALUES ('tea')")
      tx:publish("ORDER_CREATED", 1, {})
      error(cause)
    end)
    assert.is_nil(done)
    assert.equal("string", type(message))
    assert.equal("aborted", err.code)
    assert.equal(cause, err.cause)
    assert.truthy(err.traceback)
    assert.equal(0, #outbox())
    assert.equal(0, #box:query "SELECT 1 FROM orders")
  end)

  it("A-21 leaves nothing after tx:rollback, even where the application catches it", function()
    local done, message, err = box:transaction(function(tx)
      tx:publish("ORDER_CREATED", 1, {})
      pcall(tx.rollback, tx, "changed my mind")
      return "went on"
    end)
    assert.is_nil(done)
    assert.equal("changed my mind", message)
    assert.equal("changed my mind", err.cause)
    assert.equal(0, #outbox())
  end)

  it("commits where fn returns nil and a reason: only an error rolls back", function()
    local first, reason = box:transaction(function(tx)
      tx:publish("ORDER_CREATED", 1, {})
      return nil, "a reason"
    end)
    assert.is_nil(first)
    assert.equal("a reason", reason)
    assert.equal(1, #outbox())
  end)

  it("A-21 says aborted with the first error where a failed statement was swallowed", function()
    local done, _, err = box:transaction(function(tx)
      tx:publish("ORDER_CREATED", 1, {})
      pcall(tx.query, tx, "SELECT 1/0")
    end)
    assert.is_nil(done)
    assert.equal("aborted", err.code)
    assert.equal("22012", err.cause.sqlstate)
    assert.equal(0, #outbox())
  end)

  it("leaves nothing where a deferred constraint fails at the commit", function()
    assert(box:query [[CREATE TABLE IF NOT EXISTS lines (order_id int REFERENCES orders (id)
      DEFERRABLE INITIALLY DEFERRED)]])
    local done, _, err = box:transaction(function(tx)
      tx:query("INSERT INTO lines VALUES (-1)")
      tx:publish("ORDER_CREATED", 1, {})
    end)
    assert.is_nil(done)
    assert.equal("23503", err.sqlstate)
    assert.equal(0, #outbox())
    assert(box:query "DROP TABLE lines")
  end)

  it("refuses publish outside a transaction and names publish_manual", function()
    local ok, err = pcall(box.publish, box, "ORDER_CREATED", 1, {})
    assert.is_false(ok)
    assert.truthy(tostring(err):find("publish_manual", 1, true))
    assert.equal("config", err.code)
  end)

  it("does not leak into another coroutine, which uses tx:publish", function()
    assert(box:transaction(function(tx)
      local ok, err = coroutine.wrap(function() return pcall(box.publish, box, "ORDER_CREATED", 1, {}) end)()
      assert.is_false(ok)
      assert.truthy(tostring(err):find("publish_manual", 1, true))
      coroutine.wrap(function() tx:publish("ORDER_CREATED", 1, {}) end)()
    end))
    assert.equal(1, #outbox())
  end)

  it("makes a nested transaction a savepoint whose events go with it", function()
    assert(box:transaction(function(tx)
      tx:publish("ORDER_CREATED", 1, { n = 1 })
      local ok, err = pcall(box.transaction, box, function(inner)
        inner:query("INSERT INTO orders (sku) VALUES ('lost')")
        inner:publish("ORDER_CREATED", 1, { n = 2 })
        inner:query("SELECT 1/0")
      end)
      assert.is_false(ok)
      assert.equal("22012", err.sqlstate)
      assert.equal(7, box:transaction(function() return 7 end))
      tx:publish("ORDER_CREATED", 1, { n = 3 })
    end))
    local rows = outbox()
    assert.equal(2, #rows)
    assert.equal('{"n":3}', rows[2].payload)
    assert.equal(0, #box:query "SELECT 1 FROM orders")
  end)

  it("refuses a tx that is kept beyond its function", function()
    local kept
    assert(box:transaction(function(tx) kept = tx end))
    for _, method in ipairs { "query", "publish", "rollback" } do
      local ok, err = pcall(kept[method], kept, "SELECT 1")
      assert.is_false(ok)
      assert.equal("closed", err.code)
    end
  end)

  it("calls after_commit only after a commit", function()
    local called = 0
    local function count() called = called + 1 end
    assert(box:transaction(function(tx) tx:after_commit(count) assert.equal(0, called) end))
    box:transaction(function(tx) tx:after_commit(count) tx:rollback() end)
    assert.equal(1, called)
  end)

  it("runs fn again after a serialization failure", function()
    local other = postbox.new { database = box.options.database }
    assert(box:query "INSERT INTO orders (sku) VALUES ('a')")
    local runs = 0
    assert(box:transaction({ isolation = "repeatable read", retries = 2 }, function(tx)
      runs = runs + 1
      tx:query("SELECT * FROM orders")
      if runs == 1 then
        assert(other:query "UPDATE orders SET sku = 'b'")
      end
      tx:query("UPDATE orders SET sku = 'c'")
      tx:publish("ORDER_CREATED", 1, {})
    end))
    assert.equal(2, runs)
    assert.equal(1, #outbox())
    other:close()
  end)

  it("refuses to publish in a read-only transaction", function()
    local done, _, err = box:transaction({ read_only = true }, function(tx) tx:publish("ORDER_CREATED", 1, {}) end)
    assert.is_nil(done)
    assert.equal("config", err.code)
  end)

  it("answers full when all connections of the pool are in use", function()
    local small = postbox.new { database = box.options.database, pool_size = 1 }
    assert(small:transaction(function()
      local done, _, err = coroutine.wrap(function() return small:query "SELECT 1" end)()
      assert.is_nil(done)
      assert.equal("full", err.code)
    end))
    small:close()
  end)

  it("carries on after the server has closed an idle connection", function()
    assert(box:query "SELECT 1")
    local other = postbox.new { database = box.options.database }
    assert(other:query [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid()]])
    other:close()
    support.eventually(5, function() return box:query "SELECT 1" end)
  end)
end)

describe("tx:query", function()
  local box

  setup(function()
    box = postbox.new { database = support.database() }
    assert(box:migrate())
  end)

  teardown(function() box:close() end)

  local function one(sql, ...)
    return assert(box:query("SELECT " .. sql .. " AS v", ...))[1].v
  end

  it("gives integers, booleans, floats and text their Lua types, NULL as an absent field", function()
    assert.equal(42, one "42::int2")
    assert.equal(-7, one "-7::int4")
    assert.equal(9007199254740991, one "9007199254740991::int8")
    assert.equal(true, one "true")
    assert.equal(0.5, one "0.5::float8")
    assert.equal(-1e300, one "-1e300::float8")
    assert.equal(1e15, one "1e15::float8")
    assert.equal(math.huge, one "'Infinity'::float8")
    assert.equal(-math.huge, one "'-Infinity'::float8")
    assert.is_true(one "'NaN'::float8" ~= one "'NaN'::float8")
    assert.equal("0.10", one "0.10::numeric")
    assert.is_nil(one "NULL")
    assert.equal("a\0b", one "'\\x610062'::bytea")
  end)

  it("keeps an int8 over 2^53 exact, as a string where the Lua has no such integers", function()
    local v = one "9223372036854775807::int8"
    assert.equal("9223372036854775807", type(v) == "string" and v or ("%d"):format(v))
  end)

  it("takes nil, booleans, numbers, strings and bytes as parameters", function()
    assert.is_nil(one("$1::text", nil))
    assert.equal(true, one("$1::boolean", true))
    assert.equal(3, one("$1::int", 3))
    assert.equal(3, one("$1::int", 3.0))
    assert.equal(0.1, one("$1::float8", 0.1))
    assert.equal(1e300, one("$1::float8", 1e300))
    assert.equal(math.huge, one("$1::float8", math.huge))
    assert.equal("it's", one("$1::text", "it's"))
    assert.equal("a\0b", one("$1::bytea", postbox.bytes "a\0b"))
  end)

  it("E-03 refuses NUL in text instead of cutting it", function()
    local rows, _, err = box:query("SELECT $1::text", "a\0b")
    assert.is_nil(rows)
    assert.equal("config", err.code)
    assert.truthy(err.message:find("postbox.bytes", 1, true))
  end)

  it("counts affected rows", function()
    assert.equal(3, one "3")
    assert(box:query "CREATE TABLE counted (n int)")
    assert.equal(3, box:query("INSERT INTO counted SELECT generate_series(1, 3)").affected_rows)
  end)

  it("runs statements that must stand alone", function()
    assert(box:query "VACUUM counted")
  end)

  it("says timeout where a statement takes longer than statement_timeout", function()
    local hasty = postbox.new { database = box.options.database, statement_timeout = 0.1 }
    local rows, _, err = hasty:query "SELECT pg_sleep(5)"
    assert.is_nil(rows)
    assert.equal("timeout", err.code)
    local done, _, failure = hasty:transaction(function(tx) tx:query "SELECT pg_sleep(5)" end)
    assert.is_nil(done)
    assert.equal("timeout", failure.code)
    hasty:close()
  end)

  it("E-14 shows neither the connection string nor its password in an error", function()
    local wrong = postbox.new { database = "host=127.0.0.1 port=1 user=x password=canary-secret" }
    local rows, message, err = wrong:query "SELECT 1"
    assert.is_nil(rows)
    assert.equal("connection", err.code)
    assert.is_nil(message:find("canary", 1, true))
    local broken = postbox.new { database = "postgresql://x:canary-secret@[oops" }
    local _, text, failure = broken:query "SELECT 1"
    assert.equal("config", failure.code)
    assert.is_nil(text:find("canary", 1, true))
  end)

  it("E-16 refuses an unverified server off this machine, however it is named", function()
    -- Names that no resolver knows: nothing leaves this machine.
    local file = os.tmpname()
    local handle = assert(io.open(file, "w"))
    handle:write "[shop]\nhost=db.invalid\nsslmode=require\n"
    handle:close()
    local program = [[
      local box = require("postbox").new { database = os.getenv "DATABASE", connect_timeout = 5 }
      local _, message, err = box:query "SELECT 1"
      print(err.code, message)
    ]]
    local function try(env)
      local process = support.run_lua(program, env)
      process:wait(20)
      return process:output()
    end
    local weak = { DATABASE = "host=db.invalid sslmode=disable" }
    local by_service = { DATABASE = "service=shop", PGSERVICEFILE = file }
    local by_address = { DATABASE = "dbname=x", PGHOST = "db.invalid", PGSSLMODE = "require" }
    for _, env in ipairs { weak, by_service, by_address } do
      local output = try(env)
      assert.truthy(output:find("^config") and output:find("insecure = true", 1, true), output)
    end
    assert.truthy(try({ DATABASE = "host=db.invalid" }):find("^connection"))
    os.remove(file)
  end)
end)

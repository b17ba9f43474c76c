-- What becomes of a connection, and of what a call answers, when something odd happens on the way.
local core = require "postbox.core"
local postbox = require "postbox"
local support = require "spec.support"

describe("a connection of the pool", function()
  local box

  setup(function()
    box = postbox.new { database = support.database() }
    assert(box:migrate())
    assert(box:query "CREATE TABLE t (n int)")
  end)

  before_each(function()
    assert(box:query "TRUNCATE t")
    assert(box:query "DELETE FROM postbox.outbox")
  end)

  teardown(function() box:close() end)

  local function count(from)
    return tonumber(box:query("SELECT count(*) AS n FROM " .. (from or "t"))[1].n)
  end

  -- Another box, on a database whose default for a setting is this.
  local function with_default(setting, value)
    local name = box:query("SELECT current_database() AS name")[1].name
    assert(box:query(("ALTER DATABASE %s SET %s = '%s'"):format(name, setting, value)))
    return postbox.new { database = box.options.database }
  end

  -- An error that is no use as text.
  local function wordless(answer)
    return setmetatable({}, { __tostring = answer or function() error "no text" end })
  end

  it("D-21 is not left in a transaction that a statement opened", function()
    local rows, _, err = box:query "BEGIN"
    assert.is_nil(rows)
    assert.equal("config", err.code)
    assert(box:query "INSERT INTO t VALUES (1)")
    local other = postbox.new { database = box.options.database }
    assert.equal(1, #other:query "SELECT 1 FROM t")
    other:close()
  end)

  it("begins with the first statement, or at once where it is asked to", function()
    local connection = assert(core.connect(box.config))
    local function begun(options)
      assert(connection:begin(options))
      local rows = assert(box:query [[SELECT FROM pg_stat_activity
        WHERE state = 'idle in transaction' AND datname = current_database()]])
      assert(connection:commit())
      return #rows
    end
    assert.equal(0, begun {})
    assert.equal(1, begun { at_once = true })
    connection:close()
  end)

  it("A-21 stores no event where a statement ended the transaction", function()
    for _, statement in ipairs { "ROLLBACK", "COMMIT", "; COMMIT AND CHAIN", "PREPARE TRANSACTION 'x'" } do
      local swallowed, _, err = box:transaction(function(tx)
        tx:query "INSERT INTO t VALUES (1)"
        tx:publish("A", 1, {})
        pcall(tx.query, tx, statement)
      end)
      assert.is_nil(swallowed, statement)
      assert.is_truthy(err.code)
      box:query "ROLLBACK PREPARED 'x'"
      assert.equal(0, count "postbox.outbox")
      assert(box:publish_manual("B", 1, {}))
      assert(box:query "DELETE FROM postbox.outbox")
    end
  end)

  it("runs fn again for a failure of its own transaction, not for one that it returns", function()
    assert(select("#", box:transaction({ retries = 1 }, function(tx)
      tx:query "INSERT INTO t VALUES (1)"
      return nil, "of another database", { sqlstate = "40001" }
    end)) == 3)
    assert.equal(1, count())
  end)

  it("D-08 is given back whatever is raised, and the answer stays true", function()
    local small = postbox.new { database = box.options.database, pool_size = 1, log = function() error(wordless()) end }
    for _, answer in ipairs { function() error "no text" end, function() return nil end, function() return 42 end } do
      local done, message, err = small:transaction(function() error(wordless(answer)) end)
      assert.is_nil(done)
      assert.equal("string", type(message))
      assert.equal("aborted", err.code)
    end
    assert.equal(7, small:transaction(function(tx)
      tx:query "INSERT INTO t VALUES (1)"
      tx:after_commit(function() error(wordless()) end)
      return 7
    end))
    local done, _, err = small:transaction(function(tx) tx:rollback(wordless()) end)
    assert.is_nil(done)
    assert.equal("aborted", err.code)
    small.relays[1] = { native = {} } -- one that cannot be told
    assert(small:publish_manual("A", 1, {}))
    small.relays[1] = nil
    assert.equal(1, #small:query "SELECT 1 FROM t")
    small:close()
  end)

  it("comes back when the coroutine of its transaction is collected", function()
    local small = postbox.new { database = box.options.database, pool_size = 1 }
    local thread = coroutine.create(function()
      for _ = 1, 2 do -- not in the transaction: Lua 5.1 cannot yield across pcall
        small:acquire()
        coroutine.yield()
      end
    end)
    assert(coroutine.resume(thread))
    local _, _, err = small:query "SELECT 1"
    assert.equal("full", err.code)
    thread = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert(small:query "SELECT 1")
    small:close()
  end)

  it("is not taken from the pool when the server has ended it", function()
    assert(box:query "SELECT 1")
    local other = postbox.new { database = box.options.database }
    assert(other:query [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid()]])
    support.eventually(5, function()
      return other:query("SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()")[1].n == 1
    end)
    other:close()
    support.sleep(0.1)
    assert(box:publish_manual("A", 1, {}))
  end)

  it("keeps the time-out that the server has for transactions left open", function()
    local other = with_default("idle_in_transaction_session_timeout", "7s")
    assert.equal("7s", assert(other:transaction(function(tx)
      return tx:query "SHOW idle_in_transaction_session_timeout"[1].idle_in_transaction_session_timeout
    end)))
    other:close()
  end)

  it("reads bytea in both of the forms that a database may be told to write", function()
    local other = with_default("bytea_output", "escape")
    for _, bytes in ipairs { "", "a\0\\b\255\1", "\\x41", ("\200'\n"):rep(100) } do
      assert.equal(bytes, other:query("SELECT $1::bytea AS v", postbox.bytes(bytes))[1].v)
      assert.equal(bytes, box:query("SELECT $1::bytea AS v", postbox.bytes(bytes))[1].v)
    end
    other:close()
  end)

  it("tells an error that comes with the implicit commit as what it is", function()
    assert(box:query "CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    assert(box:query "INSERT INTO late VALUES (1)")
    local rows, _, err = box:query "INSERT INTO late VALUES (1)"
    assert.is_nil(rows)
    assert.equal("aborted", err.code)
    assert.equal("23505", err.sqlstate)
    assert.equal(1, #box:query "SELECT 1 FROM late")
  end)

  it("prepares a text anew for parameters of another type", function()
    for _ = 1, 2 do
      assert.equal(3, box:query("SELECT octet_length($1) AS n", "abc")[1].n)
      assert.equal(2, box:query("SELECT octet_length($1) AS n", postbox.bytes "\255\0")[1].n)
    end
  end)

  it("prepares a text again whose Prepare was skipped behind an error", function()
    local function skipped(tx)
      pcall(tx.query, tx, "SELECT 1/0")
      pcall(tx.query, tx, "SELECT 77 AS v")
    end
    assert.is_nil((box:transaction(skipped)))
    assert.equal(77, box:query("SELECT 77 AS v")[1].v)
  end)

  it("undoes a nested transaction that swallowed an error, and goes on", function()
    assert(box:transaction(function(tx)
      local ok, err = pcall(tx.transaction, tx, function()
        tx:publish("A", 1, {})
        pcall(tx.query, tx, "SELECT 1/0")
      end)
      assert.is_false(ok)
      assert.equal("22012", err.sqlstate)
      tx:query "INSERT INTO t VALUES (1)"
    end))
    assert.equal(1, count())
    assert.equal(0, count "postbox.outbox")
  end)
end)

-- box:migrate and what a box checks when it first meets its database.
local core = require "postbox.core"
local postbox = require "postbox"
local process = require "postbox.testing.process"
local support = require "spec.support"

-- All that a migration makes, as one comparable text.
local WHAT_IS_THERE = [[
SELECT string_agg(line, chr(10) ORDER BY line) AS text FROM (
  SELECT format('%s %s %s %s', table_name, column_name, data_type, column_default) AS line
    FROM information_schema.columns WHERE table_schema = $1
  UNION ALL SELECT format('%s %s %s', oid::regprocedure, proconfig, md5(prosrc))
    FROM pg_proc WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
  UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = $1) AS all_lines]]

describe("migrate", function()
  local database, boxes

  before_each(function() database, boxes = support.database(), {} end)

  after_each(function()
    for _, box in ipairs(boxes) do
      box:close()
    end
  end)

  local function new_box(options)
    options = options or {}
    options.database = options.database or database
    local box = postbox.new(options)
    boxes[#boxes + 1] = box
    return box
  end

  local function one(box, sql, ...)
    local row = assert(box:query(sql, ...))[1]
    local _, value = next(row)
    return value
  end

  local function psql(...)
    local status, output = process.run { "psql", "-qXtA", "-v", "ON_ERROR_STOP=1", "-d", database, ... }
    return status == 0, output
  end

  it("makes the schema, and a second run changes nothing", function()
    local box = new_box()
    assert.is_true(box:migrate())
    local before = one(box, WHAT_IS_THERE, "postbox")
    assert.is_true(box:migrate())
    assert.equal(before, one(box, WHAT_IS_THERE, "postbox"))
    local versions = box:query "SELECT version, name FROM postbox.migration ORDER BY version"
    for i, row in ipairs(versions) do
      assert.equal(i, row.version)
      assert.equal(("%03d"):format(i), row.name:sub(1, 3))
    end
    assert.is_true(#versions >= 3)
  end)

  it("is safe in several processes at once", function()
    local started = {}
    for i = 1, 4 do
      started[i] = support.run_lua([[
        local box = require "postbox".new { database = os.getenv "DATABASE" }
        assert(box:migrate())
        print "migrated"]], { DATABASE = database })
    end
    for _, migration in ipairs(started) do
      assert.equal(0, migration:wait(30), migration:output())
      assert.truthy(migration:output():find "migrated")
    end
    assert.equal(1, one(new_box(), "SELECT count(*) FROM postbox.settings"))
  end)

  it("takes another schema, several in one database, with capitals", function()
    for _, name in ipairs { "postbox", "Shop", "shop" } do
      local box = new_box { schema = name }
      assert.is_true(box:migrate())
      assert(box:publish_manual("ORDER_CREATED", 1, {}))
      assert.truthy(one(box, ('SELECT "%s".publish(\'ORDER_CREATED\', \'1\')'):format(name)))
      assert.equal(2, one(box, ('SELECT count(*) FROM "%s".outbox'):format(name)))
    end
  end)

  it("E-01 takes no schema that is not a plain name", function()
    for _, name in ipairs { "", "1a", 'a"b', "a b", "a.b", "a\0b", ("a"):rep(64), "é" } do
      assert.has_error(function() new_box { schema = name } end)
    end
  end)

  it("print gives the SQL for other tools, which makes the same", function()
    assert(new_box():migrate())
    local options = { schema = "printed", delivery = "direct", topic_prefix = "eu.", max_record_bytes = 5000,
      topics = { ["it's\\"] = "orders" }, database = "host=/nowhere" }
    local text = new_box(options):migrate { print = true }
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    file:write(text)
    file:close()
    local ok, output = psql("--single-transaction", "-f", name)
    os.remove(name)
    assert.is_true(ok, output)
    options.database = database
    local box = new_box(options)
    assert(box:query "SELECT 1")
    assert.is_true(box:migrate())
    assert.equal("orders", one(box, "SELECT topic FROM printed.event_types WHERE event_type = $1", "it's\\"))
    local printed = one(box, WHAT_IS_THERE, "printed"):gsub("printed", "postbox")
    local migrated = one(box, WHAT_IS_THERE, "postbox")
    -- Bodies name their schema, so their sums differ; all else is equal.
    local function without_sums(text_of_all)
      return (text_of_all:gsub("%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x+", ""))
    end
    assert.equal(without_sums(migrated), without_sums(printed))
  end)

  it("writes the settings the first time only", function()
    assert(new_box { delivery = "direct", envelope = "headers" }:migrate())
    assert(new_box { delivery = "relay", confirm = "readback" }:migrate())
    local row = new_box():query("SELECT *, envelope::text AS envelope FROM postbox.settings")[1]
    assert.equal("direct", row.delivery)
    assert.equal("h", row.envelope)
    assert.equal("report", row.confirm)
  end)

  it("adds topics to event_types every time, so that SQL publishes to them as well", function()
    assert(new_box { topics = { ORDER_CREATED = "orders" } }:migrate())
    local box = new_box { topics = { ORDER_CREATED = "sales", PAYMENT_PAID = "payments" } }
    assert(box:migrate())
    assert.equal("sales", one(box, "SELECT postbox.topic_of('ORDER_CREATED')"))
    assert.equal("payments", one(box, "SELECT postbox.topic_of('PAYMENT_PAID')"))
    assert.equal("payment.failed", one(box, "SELECT postbox.topic_of('PAYMENT_FAILED')"))
  end)

  it("a box that asks for another setting is told how to change it", function()
    assert(new_box { schema = "Shop", envelope = "headers" }:migrate())
    local wanted = { delivery = "direct", confirm = "readback", refused = "skip", envelope = "json",
      topic_prefix = "eu.", max_record_bytes = 5000 }
    for name, value in pairs(wanted) do
      local rows, message, err = new_box { schema = "Shop", [name] = value }:query "SELECT 1"
      assert.is_nil(rows)
      assert.equal("config", err.code)
      assert.truthy(message:find('UPDATE "Shop".settings SET ' .. name .. " = ", 1, true), message)
      assert(psql("-c", message:match "run (UPDATE.*)$"))
      assert(new_box { schema = "Shop", [name] = value }:query "SELECT 1")
    end
    assert(new_box { schema = "Shop" }:query "SELECT 1")
  end)

  it("a database without the schema says what to run", function()
    local rows, message, err = new_box():query "SELECT 1"
    assert.is_nil(rows)
    assert.equal("config", err.code)
    assert.truthy(message:find("box:migrate()", 1, true))
    assert(new_box():migrate())
    assert(psql("-c", "DELETE FROM postbox.migration WHERE version = (SELECT max(version) FROM postbox.migration)"))
    rows, message = new_box():query "SELECT 1"
    assert.is_nil(rows)
    assert.truthy(message:find("box:migrate()", 1, true))
  end)

  it("refuses a database of a newer postbox", function()
    assert(new_box():migrate())
    assert(psql("-c", "INSERT INTO postbox.migration (version, name) VALUES (999, '999_future')"))
    local box = new_box()
    for _, call in ipairs { function() return box:migrate() end, function() return box:query "SELECT 1" end } do
      local done, message, err = call()
      assert.is_nil(done)
      assert.equal("config", err.code)
      assert.truthy(message:find "newer postbox.*999")
    end
  end)

  it("refuses an old server", function()
    local connect = core.connect
    finally(function() core.connect = connect end)
    local closed
    core.connect = function()
      return {
        begin = function() return true end,
        query = function() return { { server_version_num = "130012" } } end,
        close = function() closed = true end,
      }
    end
    local done, message, err = new_box():migrate()
    assert.is_nil(done)
    assert.equal("config", err.code)
    assert.truthy(message:find("PostgreSQL 14 or later is needed; this server is version 13.12", 1, true), message)
    assert.is_true(closed)
  end)

  it("a migration that fails leaves nothing behind", function()
    assert(psql("-c", "CREATE SCHEMA postbox", "-c", "CREATE TABLE postbox.lease ()"))
    local done, _, err = new_box():migrate()
    assert.is_nil(done)
    assert.equal("42P07", err.sqlstate)
    local ok, output = psql("-c", "SELECT string_agg(relname, ',') FROM pg_class "
      .. "WHERE relnamespace = 'postbox'::regnamespace")
    assert.is_true(ok)
    assert.equal("lease\n", output)
    assert(psql("-c", "DROP TABLE postbox.lease"))
    assert.is_true(new_box():migrate())
  end)

  it("needs no right to make schemas where an administrator made it", function()
    local role = "owner_" .. support.unique("role"):gsub("%W", "_")
    assert(psql("-c", "CREATE ROLE " .. role, "-c", "CREATE SCHEMA postbox AUTHORIZATION " .. role))
    local box = new_box { database = database .. " options='-c role=" .. role .. "'" }
    assert.is_true(box:migrate())
    assert.equal(role, one(box, "SELECT tableowner FROM pg_tables WHERE tablename = 'outbox'"))
    assert(psql("-c", "DROP OWNED BY " .. role, "-c", "DROP ROLE " .. role))
  end)

  it("finds its files wherever the modules are installed", function()
    local status, folder = process.run { "mktemp", "-d" }
    assert.equal(0, status)
    folder = folder:gsub("%s+$", "")
    finally(function() process.run { "rm", "-r", folder } end)
    assert.equal(0, (process.run { "cp", "-r", "lua/postbox", folder .. "/" }))
    local migration = support.run_lua([[
      local box = require "postbox".new { database = os.getenv "DATABASE" }
      assert(box:migrate())
      print(package.searchpath and package.searchpath("postbox.migrate", package.path) or "found")]], {
      DATABASE = database, LUA_PATH = folder .. "/?.lua;" .. folder .. "/?/init.lua",
    })
    assert.equal(0, migration:wait(30), migration:output())
  end)

  it("its own options are checked", function()
    local ok, err = pcall(function() return new_box():migrate { prin = true } end)
    assert.is_false(ok)
    assert.equal("config", err.code)
    ok, err = pcall(function() return new_box { topic_prefix = "a b" }:migrate() end)
    assert.is_false(ok)
    assert.equal("config", err.code)
  end)
end)

describe("a schema whose name has capitals", function()
  it("E-01 is quoted wherever SQL is made", function()
    local broker = support.broker()
    local topic = broker:topic("shop", 2)
    broker:create(topic .. "-dlt", 2)
    local box = postbox.new {
      database = support.database(), kafka = broker.bootstrap, schema = "Shop", topics = { SHOP = topic },
      partitioner = function() return 1 end,
    }
    assert(box:migrate())
    assert(box:query([[INSERT INTO "Shop".topics (topic, partitions) VALUES ($1, 2)]], topic))
    assert(box:publish_manual("SHOP", "key", { n = 1 }))
    assert(box:relay():run { until_empty = 0.1 })
    local seen
    local consumer = box:consumer {
      group = support.unique "shop", topics = { topic },
      default = function(event) seen = event.partition end,
    }
    assert(consumer:run { until_idle = 1 })
    assert.equal(1, seen)
    assert.equal(0, box:release "01a207d4-8fe3-763c-8f8b-b8c57fe0446a")
    assert.equal(0, assert(box:status()).pending)
    assert(box:close())
  end)
end)

local support = require "spec.support"
local testing = require "postbox.testing"
local process = require "postbox.testing.process"

describe("the broker of a run", function()
  local broker

  setup(function()
    broker = support.broker()
  end)

  it("makes topics of its own with the partitions asked for", function()
    local first, second = broker:topic("order.created", 3), broker:topic("order.created", 3)
    assert.truthy(first:find("order.created", 1, true))
    assert.not_equal(first, second)
    for partition = 0, 2 do
      broker:produce { topic = first, key = "k", partition = partition }
    end
    assert.equal(3, #broker:records(first))
    assert.same({}, broker:records(second))
  end)

  it("reads records back byte for byte, by partition and offset", function()
    local topic = broker:topic("bytes", 2)
    broker:produce {
      { topic = topic, partition = 1, key = "k\0\255", value = "v\0", timestamp = 1700000000,
        headers = { { "a", "x\0y" }, { "empty", "" }, { "null" } } },
      { topic = topic, partition = 0 },
      { topic = topic, partition = 1, key = "", value = "" },
    }
    local records = broker:records(topic)
    assert.equal(3, #records)
    assert.same({ partition = 0, offset = 0, headers = {}, timestamp = records[1].timestamp }, records[1])
    assert.same({ partition = 1, offset = 0, key = "k\0\255", value = "v\0", timestamp = 1700000000,
      headers = { { "a", "x\0y" }, { "empty", "" }, { "null" } } }, records[2])
    assert.equal("", records[3].key)
    assert.equal("", records[3].value)
  end)

  it("is reached by another process", function()
    local topic = broker:topic("other", 1)
    local child = support.run_lua(([[
      local client = require "postbox.testing.client".new(%q)
      client:produce { topic = %q, value = "from afar" }
    ]]):format(broker.bootstrap, topic))
    assert.equal(0, child:wait(20), child:output())
    assert.equal("from afar", broker:records(topic)[1].value)
  end)

  it("says what is wrong with a topic that is not there #kafka", function()
    assert.error_matches(function()
      broker:records("never.made")
    end, "never.made")
  end)
end)

describe("the embedded broker #mock", function()
  it("goes down and comes up with what it had", function()
    local broker = testing.broker { topics = { ["order.created"] = 4 } }
    broker:produce { topic = "order.created", key = "1" }
    broker:down()
    local other = require("postbox.testing.client").new(broker.bootstrap)
    assert.is_nil(require("postbox.core").probe(broker.bootstrap):read("order.created", 1))
    broker:up()
    assert.equal(1, #other:records("order.created"))
    other:close_probe()
    broker:stop()
  end)

  it("fails a topic, and requests", function()
    local broker = testing.broker { topics = { a = 1, b = 1 } }
    broker:fail_topic("a", "TOPIC_AUTHORIZATION_FAILED")
    assert.error_matches(function()
      broker:records("a")
    end, "TOPIC_AUTHORIZATION_FAILED")
    broker:produce { topic = "b" }
    broker:fail_topic("a")
    broker:fail_requests("Produce", "MSG_SIZE_TOO_LARGE")
    assert.error_matches(function()
      broker:produce { topic = "b" }
    end, "MSG_SIZE_TOO_LARGE")
    broker:produce { topic = "b" }
    assert.equal(2, #broker:records("b"))
    broker:stop()
  end)

  it("refuses names that it does not know", function()
    local broker = testing.broker()
    assert.error_matches(function() broker:fail_requests("Prodoose", "UNKNOWN") end, "Prodoose")
    assert.error_matches(function() broker:fail_topic("a", "NO_SUCH_ERROR") end, "NO_SUCH_ERROR")
    broker:stop()
    broker:stop()
    assert.error_matches(function() broker:create("a") end, "closed")
  end)
end)

local function query(conninfo, sql)
  local status, output = process.run { "psql", "-qXAt", "-d", conninfo, "-c", sql }
  assert.equal(0, status, output)
  return (output:gsub("%s+$", ""))
end

describe("the throw-away PostgreSQL", function()
  it("survives SIGKILL with what was committed", function()
    local postgres = support.postgres()
    local database = postgres:create_database()
    query(database, "CREATE TABLE t AS SELECT 1 AS n")
    for _, mode in ipairs { "kill", "immediate", "fast" } do
      local before = postgres:pid()
      postgres:down(mode)
      postgres:up()
      assert.not_equal(before, postgres:pid())
      assert.equal("1", query(database, "SELECT n FROM t"))
    end
  end)

  it("gives databases that do not know each other", function()
    local first, second = support.database(), support.database()
    query(first, "CREATE TABLE only_here ()")
    assert.equal("", query(second, "SELECT to_regclass('only_here')"))
  end)

  it("is gone with its process, even after SIGKILL", function()
    local child = support.run_lua([[
      local postgres = require "postbox.testing".postgres()
      print(postgres.folder, postgres:pid())
      io.stdout:flush()
      while true do postgres:pid() end
    ]])
    local folder, pid = support.eventually(20, function()
      return child:output():find("%d+\n") and child:output()
    end):match("(%S+)%s+(%d+)")
    assert.is_true(process.exists(pid))
    child:kill("KILL")
    support.eventually(10, function()
      return not process.exists(pid) and not io.open(folder .. "/data/PG_VERSION")
    end)
  end)
end)

describe("a process of a test", function()
  it("has an environment, output and a status", function()
    local status, output = process.run({ "sh", "-c", "echo $WORD; exit 3" }, 5, { env = { WORD = "hello" } })
    assert.equal(3, status)
    assert.equal("hello\n", output)
    status, output = process.run({ "sh", "-c", "echo $HOME" }, 5, { env = { HOME = "elsewhere" } })
    assert.equal(0, status)
    assert.equal("elsewhere\n", output)
    assert.equal(127, (process.run { "no-such-program" }))
  end)

  it("is killed with what it started", function()
    local child = process.start({ "sh", "-c", "sleep 60 & echo $!; wait" }, { capture = true })
    local pid = support.eventually(5, function() return child:output():match("%d+") end)
    assert.is_nil(child:wait(0))
    child:kill_all("KILL")
    assert.equal(137, child:wait(5))
    support.eventually(5, function() return not process.exists(pid) end)
    assert.is_false(child:kill("KILL"))
  end)
end)

-- The relay as a process of its own: it ends on a signal, within its deadline.
local help = require "spec.support.relay"
local support = require "spec.support"

describe("relay, process", function()
  local box, child

  before_each(function()
    box = help.box()
  end)

  after_each(function()
    if child then
      child:kill("KILL")
      child:wait(5)
    end
    box:close(5)
  end)

  local PROGRAM = [[
    local box = require("postbox").new { database = os.getenv "DB", kafka = os.getenv "KAFKA" }
    local relay = box:relay { stop_timeout = 2, lease = 5 }
    print(relay:run())
  ]]

  local function run(kafka)
    child = support.run_lua(PROGRAM, { DB = box.options.database, KAFKA = kafka })
    support.eventually(10, function()
      return box:query("SELECT holder FROM postbox.lease WHERE expires_at > clock_timestamp()")[1]
    end)
  end

  it("ends on SIGTERM with the outbox empty and the lease given back", function()
    local topic = support.broker():topic("order.created", 2)
    help.fill(box, topic, 1000, 10)
    run(support.broker().bootstrap)
    help.drained(box)
    child:kill("TERM")
    local began = support.clock()
    assert.equal(0, child:wait(5))
    assert.is_true(support.clock() - began < 3)
    assert.truthy(child:output():find("true", 1, true), child:output())
    assert.is_nil(box:query("SELECT holder FROM postbox.lease")[1].holder)
  end)

  it("D-16 ends on SIGTERM within stop_timeout while Kafka is away, and keeps the events", function()
    help.fill(box, "order.created", 10, 2)
    run("127.0.0.1:1")
    child:kill("TERM")
    local began = support.clock()
    assert.equal(0, child:wait(8))
    assert.is_true(support.clock() - began < 6)
    assert.equal(10, help.waiting(box))
  end)
end)

describe("a relay that cannot fit", function()
  local postbox = require "postbox"

  local function start_failure(options)
    options.kafka = "127.0.0.1:1"
    local box = postbox.new(options)
    local started, message, err = box:relay():start()
    box:close(1)
    assert.is_nil(started)
    assert.equal("config", err.code)
    return message
  end

  it("does not start where the schema is missing, or is of another version", function()
    local database = support.database()
    assert.truthy(start_failure({ database = database }):find("migrate", 1, true))
    local box = postbox.new { database = database }
    assert(box:migrate())
    assert(box:query "INSERT INTO postbox.migration (version, name) VALUES (999, 'later')")
    box:close()
    assert.truthy(start_failure({ database = database }):find("newer", 1, true))
  end)

  it("does not start where the box asks for settings that the outbox does not have", function()
    local database = support.database()
    local box = postbox.new { database = database }
    assert(box:migrate())
    box:close()
    local message = start_failure { database = database, confirm = "readback" }
    assert.truthy(message:find("SET confirm", 1, true), message)
  end)
end)

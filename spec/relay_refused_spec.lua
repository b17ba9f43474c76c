-- Records that Kafka refuses for themselves: found among their neighbours, parked with their key,
-- released again.
local help = require "spec.support.relay"
local support = require "spec.support"
local process = require "postbox.testing.process"

-- Apache Kafka's own tools, for what no client of ours does.
local function tool(class, ...)
  local jars = require("spec.support.kafka").fetch()
  local status, output = process.run({ "java", "-cp", jars .. "/lib/*", class,
    "--bootstrap-server", support.broker().bootstrap, ... }, 30)
  assert(status == 0, output)
end

local function create_topic(name, limit)
  tool("org.apache.kafka.tools.TopicCommand", "--create", "--topic", name, "--partitions", "1",
    "--config", "max.message.bytes=" .. limit)
end

local function set_limit(name, limit)
  tool("kafka.admin.ConfigCommand", "--alter", "--entity-type", "topics", "--entity-name", name,
    "--add-config", "max.message.bytes=" .. limit)
end

describe("relay, refused records #kafka", function()
  local box, relay, topic

  local function open(options)
    box = help.box(options)
    topic = support.unique("small")
    create_topic(topic, 20000)
    relay = assert(box:relay { lease = 3 })
    assert(relay:start())
  end

  after_each(function()
    relay:stop(5)
    box:close(5)
  end)

  local function parked()
    return box:query("SELECT outbox_id, event_id, reason, postbox.bytes_text(partition_key) AS key "
      .. "FROM postbox.parked ORDER BY outbox_id")
  end

  local fat = '"' .. ("x"):rep(50000) .. '"'

  it("A-50 parks the one record that is too large, with the later ones of its key, and no neighbour", function()
    open()
    relay:stop(5)
    for value = 1, 300 do
      help.insert(box, topic, "k" .. value % 10, value == 120 and fat or tostring(value))
    end
    assert(relay:start())
    help.drained(box, 30)
    local rows = parked()
    assert.equal(19, #rows) -- 120, 130 ... 300
    assert.truthy(rows[1].reason:find("MSG_SIZE_TOO_LARGE"))
    assert.is_nil(rows[2].reason)
    local seen = help.history(topic)
    for value = 1, 300 do
      assert.equal(value % 10 == 0 and value >= 120, not seen[value], "value " .. value)
    end
  end)

  it("A-22 releases a key in its order, once the topic takes the record", function()
    open()
    help.insert(box, topic, "k", "1")
    help.insert(box, topic, "k", fat)
    help.insert(box, topic, "k", "3")
    help.insert(box, topic, "other", "4")
    support.eventually(15, function() return #parked() == 2 end)
    help.insert(box, topic, "k", "5")
    support.eventually(15, function() return #parked() == 3 end)
    set_limit(topic, 1000000)
    assert(box:release(parked()[1].event_id))
    help.insert(box, topic, "k", "6")
    support.eventually(15, function() return #parked() == 0 end)
    help.drained(box, 15)
    local order = {}
    for _, record in ipairs(support.broker():records(topic)) do
      if record.key == "k" then
        order[#order + 1] = #record.value > 40000 and "fat" or record.value:match('"payload":(%d+)')
      end
    end
    assert.equal("1 fat 3 5 6", table.concat(order, " "))
  end)

  it("sets a refused record aside and lets its key go on with refused = skip", function()
    open()
    assert(box:query "UPDATE postbox.settings SET refused = 'skip'")
    relay:stop(5)
    assert(relay:start())
    help.insert(box, topic, "k", "1")
    help.insert(box, topic, "k", fat)
    help.insert(box, topic, "k", "3")
    help.drained(box, 15)
    assert.equal(1, #parked())
    assert.equal(2, #support.broker():records(topic))
  end)

  it("keeps held keys held over a take-over", function()
    open()
    help.insert(box, topic, "k", fat)
    support.eventually(15, function() return #parked() == 1 end)
    relay:stop(5)
    help.insert(box, topic, "k", "2")
    assert(relay:start())
    help.drained(box)
    assert.equal(2, #parked())
  end)
end)

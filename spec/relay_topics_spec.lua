-- Topics that the relay has not seen, that are missing, and that it makes.
local core = require "postbox.core"
local help = require "spec.support.relay"
local support = require "spec.support"
local testing = require "postbox.testing"

describe("relay, topics", function()
  local box, relay, log

  local function open(options)
    options = options or {}
    log = {}
    options.log = function(_, message) log[#log + 1] = message end
    box = help.box(options)
    relay = assert(box:relay { lease = 5 })
    assert(relay:start())
    support.eventually(10, function() return relay:stats().active end)
  end

  after_each(function()
    relay:stop(5)
    box:close(5)
  end)

  local function logged(text)
    local count = 0
    box:log()
    for _, message in ipairs(log) do
      count = count + (message:find(text, 1, true) and 1 or 0)
    end
    return count
  end

  it("publishes the first event of a topic without waiting for anything but its partitions", function()
    open()
    local broker, fastest = support.broker(), math.huge
    for i = 1, 5 do
      local topic = broker:topic("new", 2)
      local began = core.now()
      help.insert(box, topic, "k", tostring(i))
      while help.waiting(box) > 0 and core.now() < began + 10 do
        core.sleep(0.002)
      end
      fastest = math.min(fastest, core.now() - began)
    end
    assert.is_true(fastest < 0.2, ("the fastest of five took %.0f ms"):format(fastest * 1000))
  end)

  local function assert_says_how(topic)
    local command = "--create --topic " .. topic .. " --partitions"
    support.eventually(10, function()
      local said = relay:stats().last_error or ""
      return said:find("kafka-topics.sh --bootstrap-server", 1, true) and said:find(command, 1, true)
        or error(said)
    end)
    support.sleep(1.5) -- it has looked again meanwhile
    assert.equal(1, logged(command))
    assert.equal(1, relay:stats().paused_topics)
    assert.equal(1, help.waiting(box))
  end

  it("A-24 names the command for a missing topic, once, and goes on when it is there #kafka", function()
    open()
    local topic = support.unique("missing")
    help.insert(box, topic, "k", "1")
    assert_says_how(topic)
    support.broker():create(topic, 1)
    help.drained(box)
    support.eventually(2, function() return relay:stats().paused_topics == 0 end)
  end)

  it("A-24 names the command for a missing topic, once #mock", function()
    local broker = testing.broker { topics = { late = 1 } }
    broker:fail_topic("late", "UNKNOWN_TOPIC_OR_PART")
    open { kafka = broker.bootstrap }
    help.insert(box, "late", "k", "1")
    assert_says_how("late")
    broker:fail_topic("late", nil)
    help.drained(box)
    relay:stop(5)
    broker:stop()
  end)

  it("makes a missing topic where create_topics is given #kafka", function()
    open { create_topics = { partitions = 3, replication = 1 } }
    local topic = support.unique("made")
    help.fill(box, topic, 30, 30)
    help.drained(box)
    assert.equal(0, help.assert_complete(topic, 30))
    assert.equal(3, box:query("SELECT partitions FROM postbox.topics WHERE topic = $1", topic)[1].partitions)
  end)
end)

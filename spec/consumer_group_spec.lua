-- Several members of a group: they come, go, freeze and die; each effect is there once.

local shop = require "spec.consumer_support"
local support = require "spec.support"

local MEMBER = [[
local postbox = require "postbox"
local core = require "postbox.core"
local box = postbox.new { database = os.getenv "DATABASE", kafka = {
  ["bootstrap.servers"] = os.getenv "KAFKA", ["session.timeout.ms"] = 6000, ["heartbeat.interval.ms"] = 200 },
  log = function(level, message) print(level, message) end }
local pause = tonumber(os.getenv "PAUSE")
local ok, message = box:consumer { group = os.getenv "GROUP", topics = { os.getenv "TOPIC" }, handlers = {
  T = function(event, tx)
    core.sleep(pause)
    tx:query("INSERT INTO effects (id, type) VALUES ($1, $2)", event.id, os.getenv "NAME")
  end,
} }:run { until_idle = tonumber(os.getenv "IDLE") }
print(ok, message)
]]

describe("members of a group (broker) #kafka", function()
  local s, members

  before_each(function()
    s, members = shop.new(), {}
  end)

  after_each(function()
    for _, member in ipairs(members) do
      member:kill "KILL"
    end
    s.box:close()
  end)

  local function start(name, pause, idle)
    local member = support.run_lua(MEMBER, { DATABASE = s.database, KAFKA = s.broker.bootstrap, GROUP = s.group,
      TOPIC = s.topic, NAME = name, PAUSE = tostring(pause), IDLE = tostring(idle or 60) })
    members[#members + 1] = member
    return member
  end

  local function produce(count)
    local list = {}
    for i = 1, count do
      list[i] = s:record("T", i, { partition = i % 4 })
    end
    s.broker:produce(list)
  end

  local function count(what)
    return tonumber(s.box:query("SELECT count(" .. (what or "*") .. ") AS n FROM effects")[1].n)
  end

  it("C-08: come and go under load: nothing is lost, no effect is there twice", function()
    produce(1200)
    start("a", 0.004)
    for i = 1, 3 do
      support.sleep(0.7)
      local guest = start("guest" .. i, 0.004)
      support.sleep(1.2)
      guest:kill "TERM"
    end
    support.eventually(40, function() return count() >= 1200 end)
    support.sleep(0.3)
    assert.are.equal(1200, count())
    assert.are.equal(1200, count "DISTINCT id")
    assert.is_true(count "DISTINCT type" > 1)
  end)

  it("commit the offsets of what is finished when they give partitions up", function()
    produce(400)
    local first = start("first", 0.002, 1)
    assert.are.equal(0, first:wait(30), first:output())
    local second = start("second", 0, 1)
    assert.are.equal(0, second:wait(30))
    assert.are.equal(400, count())
    -- What the first one finished is not even read again.
    assert.are.equal(0, tonumber(s.box:query("SELECT count(*) AS n FROM effects WHERE type = 'second'")[1].n))
  end)

  it("C-10: that were frozen for longer than their session apply nothing twice", function()
    produce(600)
    local frozen = start("frozen", 0.005)
    support.eventually(20, function() return count() > 0 end)
    frozen:kill "STOP"
    local other = start("other", 0.001)
    support.sleep(8)
    frozen:kill "CONT"
    support.eventually(40, function() return count() >= 600 end)
    support.sleep(1)
    assert.are.equal(600, count())
    assert.are.equal(600, count "DISTINCT id")
    assert.is_truthy(other)
  end)

  it("hold no start against a record after a clean end", function()
    s:produce(s:record("T", "1"))
    local consumer
    consumer = s:consumer { retry = { delay = 30 }, handlers = { T = function()
      consumer:stop()
      error "not yet"
    end } }
    assert(consumer:run {})
    local row = s.box:query("SELECT starts, attempts FROM postbox.attempts WHERE consumer_group = $1", s.group)[1]
    assert.are.equal(0, row.starts)
    assert.are.equal(1, row.attempts)
  end)
end)

-- The inbox: an effect once, whatever is delivered again, whenever the consumer dies.

local core = require "postbox.core"
local postbox = require "postbox"
local process = require "postbox.testing.process"
local shop = require "spec.consumer_support"
local support = require "spec.support"

-- A consumer that dies once: right after the commit, or in the handler.
local MORTAL = [[
local postbox = require "postbox"
local box = postbox.new { database = os.getenv "DATABASE", kafka = {
  ["bootstrap.servers"] = os.getenv "KAFKA", ["session.timeout.ms"] = 6000 } }
local function die()
  local stat = io.open "/proc/self/stat"
  os.execute("kill -9 " .. stat:read "*n")
end
local deadly = os.getenv "DEADLY"
assert(box:consumer { group = os.getenv "GROUP", topics = { os.getenv "TOPIC" }, handlers = {
  T = function(event, tx)
    tx:query("INSERT INTO effects (id) VALUES ($1)", event.id)
    if event.payload == 3 and deadly == "handler" then
      die()
    elseif event.payload == 3 and deadly == "commit" then
      tx:after_commit(die)
    end
  end,
} }:run { until_idle = 1 })
]]

describe("the inbox (broker) #kafka", function()
  local s

  before_each(function()
    s = shop.new()
  end)

  after_each(function()
    s.box:close()
  end)

  local function run_mortal(deadly)
    local child = support.run_lua(MORTAL, { DATABASE = s.database, KAFKA = s.broker.bootstrap, GROUP = s.group,
      TOPIC = s.topic, DEADLY = deadly })
    local status = child:wait(40)
    assert(status, "the consumer did not end")
    return status, child:output()
  end

  for _, place in ipairs { "handler", "commit" } do
    it(("C-0%d: kill -9 %s: every effect once"):format(place == "handler" and 1 or 2,
      place == "handler" and "in the handler" or "between the commit and the offset"), function()
      for i = 1, 5 do
        s:produce(s:record("T", i))
      end
      assert.are.equal(137, (run_mortal(place)))
      assert.are.equal(place == "commit" and 5 or 0, #s:effects())
      local status, output = run_mortal "no"
      assert.are.equal(0, status, output)
      assert.are.equal(5, #s:effects())
      assert.are.equal(5, s:inbox())
    end)
  end

  it("E-07 gives a handler exactly what was published, and so can it be published again", function()
    local document = '{"big":1234567890123456789,"deep":' .. ("["):rep(127) .. ("]"):rep(127)
      .. ',"empty":[[],{},[{}]],"exact":9007199254740993,"float":0.30000000000000004,"huge":98765432109876543210,'
      .. '"max":9223372036854775807,"min":-9223372036854775808,"none":null,"safe":9007199254740991,'
      .. '"text":"\\"\\\\/\\u0000é😀","whole":1.0}'
    local published = { document, "[]", "{}", '"tea"', "null" }
    assert(s.box:transaction(function(tx)
      for _, text in ipairs(published) do
        tx:publish("T", "k", postbox.raw(text), { topic = s.topic })
      end
    end))
    assert(s.box:relay():run { until_empty = 0.2 })
    local seen = {}
    assert(s:consume { handlers = { T = function(event)
      seen[#seen + 1] = { event.payload }
    end } })
    assert.are.equal(#published, #seen)
    local payload = seen[1][1]
    for name, digits in pairs { big = "1234567890123456789", exact = "9007199254740993", huge = "98765432109876543210",
      max = "9223372036854775807", min = "-9223372036854775808" } do
      assert.are.equal(digits, tostring(payload[name]))
      payload[name] = postbox.raw(tostring(payload[name])) -- where this Lua has strings of it
    end
    assert.are.equal("9007199254740991", ("%.0f"):format(payload.safe))
    assert.are.equal(0.1 + 0.2, payload.float)
    assert.are.equal(postbox.null, payload.none)
    assert.are.equal('"\\/\0é😀', payload.text)
    assert.are.equal((document:gsub("1%.0", "1")), core.encode(payload))
    assert.are.equal("[]", core.encode(seen[2][1]))
    assert.are.equal("{}", core.encode(seen[3][1]))
    assert.are.equal("tea", seen[4][1])
    assert.is_nil(seen[5][1])
  end)

  it("C-03: waits for another transaction that has the event, and skips it once that is committed", function()
    local record = s:record("T", "1")
    s:produce(record)
    local other = process.start({ "psql", "-qX", "-d", s.database, "-c",
      ("BEGIN; INSERT INTO postbox.inbox (event_id, consumer_group) VALUES ('%s', '%s'); SELECT pg_sleep(1.5); COMMIT")
        :format(record.event_id, s.group) }, { capture = true })
    support.sleep(0.3)
    local started = support.clock()
    assert(s:consume { handlers = { T = shop.effect } })
    assert.is_true(support.clock() - started > 1)
    assert.are.equal(0, #s:effects())
    assert.are.equal(0, other:wait(5))
  end)

  for _, batch in ipairs { 1, 4 } do
    it("C-33: lets an outage of the database pass: no attempt, no dead letter; batch " .. batch, function()
      local postgres = support.postgres()
      s.box:close()
      s = shop.new { database = postgres:create_database() }
      for i = 1, 40 do
        s:produce(s:record("T", i))
      end
      local attempts, down = 0, false
      local function note(event, tx)
        attempts = math.max(attempts, event.attempt)
        shop.effect(event, tx)
        if event.payload == 20 and down == false then
          down = true
          postgres:down "immediate"
        end
      end
      s.box.options.log = function(_, message)
        if down and message:find("waiting for the database", 1, true) then
          support.sleep(1)
          postgres:up()
          down = nil
        end
      end
      assert(s:consume({ batch = batch, retry = { delay = 0.1, retries = 0 }, handlers = { T = note } }, 1))
      assert.are.equal(40, #s:effects())
      assert.are.equal(1, attempts)
      assert.are.equal(0, #s:letters())
    end)
  end

  it("C-42: makes the days that events need, and holds ids without a time apart", function()
    local function consume_id(id)
      s:produce(s:record("T", "1", { id = id }))
      assert(s:consume { handlers = { T = shop.effect } })
      return assert(s.box:query("SELECT max(tableoid::regclass::text) AS part FROM postbox.inbox "
        .. "WHERE processed_at = (SELECT max(processed_at) FROM postbox.inbox)"))[1].part
    end
    assert.are.equal("postbox.inbox_20241120", consume_id "01934b3c-0000-7000-8000-000000000001")
    assert.are.equal("postbox.inbox_untimed", consume_id "01934b3c-0000-4000-8000-000000000002")
    assert.are.equal("postbox.inbox_untimed", consume_id "0fff4b3c-0000-7000-8000-000000000003") -- a day far ahead
    assert.are.equal("postbox.inbox_untimed", consume_id "an id of theirs")
    assert.are.equal(4, #s:effects())
    consume_id "an id of theirs"
    consume_id "01934b3c-0000-4000-8000-000000000002"
    assert.are.equal(4, #s:effects())
    local today = os.date "!%Y%m%d"
    assert.is_not_nil(s.box:query("SELECT to_regclass('postbox.inbox_" .. today .. "') AS day")[1].day)
  end)

  it("C-43: drops a day only when its last insert is older than the retention", function()
    s:produce(s:record("T", "1", { id = "01934b3c-0000-7000-8000-000000000001" }))
    assert(s:consume { retention = 86400, handlers = { T = shop.effect } })
    assert(s:consume { retention = 86400, handlers = { T = shop.effect } })
    assert.are.equal(1, s:inbox()) -- of 2024, but processed today
    s.box:query "UPDATE postbox.inbox SET processed_at = now() - interval '2 days'"
    assert(s:consume { retention = 86400, handlers = { T = shop.effect } })
    assert.are.equal(0, s:inbox())
    assert.is_nil(s.box:query("SELECT to_regclass('postbox.inbox_20241120') AS day")[1].day)
  end)

  it("ends transactions that a frozen consumer left open", function()
    s:produce(s:record("T", "1"))
    local timeout
    assert(s:consume { handlers = { T = function(_, tx)
      timeout = tx:query("SHOW idle_in_transaction_session_timeout")[1].idle_in_transaction_session_timeout
    end } })
    assert.are.equal("5min", timeout)
  end)
end)

describe("the inbox's SQL", function()
  it("makes no partition outside the years that it knows, and none twice", function()
    local connection = assert(core.connect(require("postbox").new {
      database = support.database(), kafka = "localhost:1" }.config))
    local folder = debug.getinfo(require("postbox.migrate").run, "S").source:match "^@(.*)migrate%.lua$"
    local file = assert(io.open(folder .. "sql/002_inbox.sql"))
    assert(connection:script("CREATE SCHEMA postbox;" .. file:read "*a"))
    file:close()
    assert.are.equal(0, connection:query("SELECT postbox.inbox_make_ahead() AS n")[1].n)
    assert.are.equal(2, connection:query(
      "SELECT postbox.inbox_make_days('{2024-02-29,2024-02-29,2020-01-01}') AS n")[1].n)
    assert.is_nil((connection:query "SELECT postbox.inbox_make_days('{2019-12-31}')"))
    assert.is_nil((connection:query "SELECT postbox.inbox_make_days(ARRAY[current_date + 40])"))
    assert.is_truthy(connection:query [[INSERT INTO postbox.inbox (event_id, consumer_group)
      VALUES ('018df229-2800-7000-8000-000000000000', 'g'), ('018df74f-83ff-7fff-bfff-ffffffffffff', 'g')]])
    assert.are.equal(2, tonumber(connection:query("SELECT count(*) AS n FROM postbox.inbox_20240229")[1].n))
    connection:close()
  end)
end)

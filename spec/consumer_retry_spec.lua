-- What happens when handlers fail: which try counts, who waits, and what survives a crash.

local postbox = require "postbox"
local shop = require "spec.consumer_support"
local support = require "spec.support"

describe("a handler that fails (broker) #kafka", function()
  local s

  before_each(function()
    s = shop.new()
  end)

  after_each(function()
    s.box:close()
  end)

  it("gets the event again after the delay, four times in all by default", function()
    s:produce(s:record("T", "1"))
    local attempts, times = {}, {}
    assert(s:consume { batch = 1, retry = { delay = 0.2 }, handlers = { T = function(event)
      attempts[#attempts + 1] = event.attempt
      times[#times + 1] = support.clock()
      error "no tea"
    end } })
    assert.are.same({ 1, 2, 3, 4 }, attempts)
    for i = 2, 4 do
      local waited = times[i] - times[i - 1]
      assert.is_true(waited >= 0.18 and waited < 0.6, ("waited %g s"):format(waited))
    end
    assert.are.equal(1, #s:letters())
    assert.are.equal(1, s:inbox "dead")
  end)

  it("grows the delay where it is exponential", function()
    local retry = require "postbox.consumer.retry"
    local o = retry.check { delay = 1, backoff = "exponential", factor = 3, max_delay = 20, jitter = 0 }
    assert.are.same({ 1, 3, 9, 20 }, { retry.delay(o, 1), retry.delay(o, 2), retry.delay(o, 3), retry.delay(o, 4) })
    o = retry.check { delay = 10, backoff = "exponential", jitter = 0.5 }
    for _ = 1, 50 do
      local delay = retry.delay(o, 1)
      assert.is_true(delay >= 5 and delay <= 15)
    end
  end)

  it("C-13: holds its partition back, in order, while the others go on", function()
    for i = 1, 3 do
      s:produce(s:record("T", i, { partition = 0 }), s:record("T", i, { partition = 1 }))
    end
    local seen, failed = {}, false
    assert(s:consume { retry = { delay = 0.5 }, handlers = { T = function(event, tx)
      if event.partition == 0 and event.payload == 2 and not failed then
        failed = event.attempt == 2
        if not failed then
          error "later"
        end
      end
      shop.effect(event, tx)
    end } })
    for _, row in ipairs(s:effects()) do
      seen[#seen + 1] = row.place
    end
    local order = table.concat(seen, " ")
    assert.is_truthy(order:find("1/2.*0/1 0/2"), order)
    assert.are.equal(6, #seen)
  end)

  it("is found in its batch by taking the records one by one; the others keep attempt 1", function()
    for i = 1, 10 do
      s:produce(s:record("T", i))
    end
    local last = {}
    assert(s:consume { retry = { delay = 0.1, retries = 1 }, handlers = { T = function(event, tx)
      last[event.payload] = event.attempt
      shop.effect(event, tx)
      if event.payload == 7 then
        error "always"
      end
    end } })
    assert.are.same({ 1, 1, 1, 1, 1, 1, 2, 1, 1, 1 }, last)
    assert.are.equal(9, #s:effects())
    assert.are.equal(1, #s:letters())
  end)

  it("C-04: fails where it swallowed an SQL error, or left a failed transaction", function()
    s:produce(s:record("T", "1"), s:record("T", "2"))
    local tries = 0
    assert(s:consume { retry = { delay = 0.1, retries = 1 }, handlers = { T = function(event, tx)
      shop.effect(event, tx)
      if event.payload == 1 then
        tries = tries + 1
        pcall(tx.query, tx, "SELECT 1 / 0")
      end
    end } })
    assert.are.equal(1, #s:effects())
    assert.are.equal(3, tries) -- in the batch, and twice alone
    local headers = shop.headers(s:letters()[1])
    assert.is_truthy(headers["kafka_dlt-exception-message"]:find("division by zero", 1, true))
    assert.are.equal("postbox.DatabaseError", headers["kafka_dlt-exception-cause-fqcn"])
  end)

  it("C-04: may not end the transaction: the consumer stops, nothing is applied", function()
    for _, statement in ipairs { "COMMIT", " /* x */ rollback", "-- x\nEND;", "COMMIT AND CHAIN", "ABORT" } do
      s:produce(s:record("T", "1"))
      local ok, message, err = s:consume { handlers = { T = function(event, tx)
        shop.effect(event, tx)
        pcall(tx.query, tx, statement)
      end } }
      assert.is_nil(ok)
      assert.are.equal("handler", err.code)
      assert.is_truthy(message:find("may not end its transaction", 1, true))
      assert.are.equal(0, #s:effects())
      assert.are.equal(0, s:inbox())
    end
    assert(s:consume { handlers = { T = function(event, tx)
      tx:query "SAVEPOINT a"
      shop.effect(event, tx)
      tx:query "ROLLBACK TO a"
      tx:query "ROLLBACK WORK TO SAVEPOINT a"
    end } })
    assert.are.equal(5, s:inbox())
  end)

  it("rejects for good, without another try", function()
    s:produce(s:record("T", "1"), s:record("T", "2"))
    local alone = 0
    assert(s:consume { batch = 1, handlers = { T = function(event, tx)
      alone = alone + 1
      s.box:transaction(function()
        shop.effect(event, tx)
        if event.payload == 1 then
          postbox.reject "not ours"
        end
      end)
    end } })
    assert.are.equal(1, #s:effects())
    assert.are.equal(2, alone)
    local letters = s:letters()
    assert.are.equal(1, #letters)
    local headers = shop.headers(letters[1])
    assert.are.equal("rejected", headers["postbox-reason"])
    assert.are.equal("not ours", headers["kafka_dlt-exception-message"])
    assert.are.equal("1", headers["postbox-attempts"])
  end)

  it("C-33: costs no attempt where it was a conflict with another transaction", function()
    s:produce(s:record("T", "1"))
    local tries, attempts = 0, {}
    assert(s:consume { batch = 1, retry = { delay = 5, retries = 0 }, handlers = { T = function(event, tx)
      tries = tries + 1
      attempts[#attempts + 1] = event.attempt
      shop.effect(event, tx)
      if tries < 4 then
        tx:query "DO $$ BEGIN RAISE EXCEPTION 'crossed' USING ERRCODE = '40P01'; END $$"
      end
    end } })
    assert.are.equal(1, #s:effects())
    assert.are.same({ 1, 1, 1, 1 }, attempts)
    assert.are.equal(0, #s:letters())
  end)

  it("C-33: counts where the handler killed its own connection", function()
    s:produce(s:record("T", "1"), s:record("T", "2"))
    assert(s:consume { retry = { delay = 0.1, retries = 1 }, handlers = { T = function(event, tx)
      if event.payload == 1 then
        tx:query "SELECT pg_terminate_backend(pg_backend_pid())"
      end
      shop.effect(event, tx)
    end } })
    assert.are.equal(1, #s:effects())
    assert.are.equal(1, #s:letters())
  end)

  it("C-34: keeps its attempts when the consumer starts again", function()
    s:produce(s:record("T", "1"))
    local attempts, consumer = {}, nil
    local handlers = { T = function(event)
      attempts[#attempts + 1] = event.attempt
      if consumer and event.attempt == 2 then
        consumer:stop()
      end
      error "no"
    end }
    consumer = s:consumer { batch = 1, retry = { delay = 0.1 }, handlers = handlers }
    assert(consumer:run {})
    consumer = nil
    assert(s:consume { batch = 1, retry = { delay = 0.1 }, handlers = handlers })
    assert.are.equal("1 2 3 4", table.concat(attempts, " "))
    assert.are.equal("4", shop.headers(s:letters()[1])["postbox-attempts"])
  end)
end)

local KILLER = [[
local postbox = require "postbox"
local box = postbox.new { database = os.getenv "DATABASE", kafka = os.getenv "KAFKA" }
local file = io.open(os.getenv "TRACE", "a")
local function note(text) file:write(text, "\n") file:flush() end
local ok, message = box:consumer {
  group = os.getenv "GROUP", topics = { os.getenv "TOPIC" }, retry = { delay = 0.1, retries = 2 },
  handlers = { T = function(event, tx)
    note(event.payload .. ":" .. event.attempt)
    tx:query("INSERT INTO effects (id) VALUES ($1)", event.id)
    if event.payload == tonumber(os.getenv "DEADLY") then
      local stat = io.open "/proc/self/stat"
      os.execute("kill -9 " .. stat:read "*n")
    end
  end },
}:run { until_idle = 1 }
note(tostring(ok) .. " " .. tostring(message))
]]

describe("a handler that does not survive (broker) #kafka", function()
  it("C-34: has its attempts counted across kill -9, and ends as a dead letter", function()
    local s = shop.new()
    for i = 1, 5 do
      s:produce(s:record("T", i))
    end
    local trace = os.tmpname()
    local env = { DATABASE = s.database, KAFKA = s.broker.bootstrap, GROUP = s.group, TOPIC = s.topic,
      TRACE = trace, DEADLY = "3" }
    -- A member that died stays one until its session lapses: six seconds at least, and each time.
    s.options.kafka = { ["bootstrap.servers"] = s.broker.bootstrap, ["session.timeout.ms"] = 6000 }
    local starts = 0
    local status
    repeat
      starts = starts + 1
      local child = support.run_lua(KILLER:gsub('kafka = os.getenv "KAFKA"',
        'kafka = { ["bootstrap.servers"] = os.getenv "KAFKA", ["session.timeout.ms"] = 6000 }'), env)
      status = child:wait(40)
    until status == 0 or starts == 8
    local file = io.open(trace)
    local text = file:read "*a"
    file:close()
    os.remove(trace)
    assert.are.equal(0, status, text)
    -- The first kill is nobody's; then the suspect has its three attempts.
    assert.is_true(starts <= 6, text)
    assert.is_truthy(text:find("3:2", 1, true), text)
    assert.are.equal(4, #s:effects())
    local letters = s:letters()
    assert.are.equal(1, #letters)
    assert.are.equal("crashed", shop.headers(letters[1])["postbox-reason"])
    assert.are.equal(1, s:inbox "dead")
    s.box:close()
  end)
end)

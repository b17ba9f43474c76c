-- Odd handlers, a COMMIT without an answer, and what must go on meanwhile.
local shop = require "spec.consumer_support"
local support = require "spec.support"

describe("a consumer in trouble (broker)", function()
  local s

  before_each(function() s = shop.new { partitions = 1 } end)
  after_each(function() s.box:close() end)

  local function wordless(answer)
    return setmetatable({}, { __tostring = answer })
  end

  it("goes on whatever a handler raises, and says so in the dead letter", function()
    local raised = {
      wordless(function() error "no text" end), wordless(function() return nil end),
      wordless(function() return {} end), io.stdout, false, 42, setmetatable({}, { __index = error, __metatable = 1 }),
    }
    for i = 0, #raised do
      s:produce(s:record("T", tostring(i)))
    end
    assert(s:consume { retry = { delay = 0, retries = 0 }, handlers = { T = function(event)
      error(raised[event.payload], 0) -- nil for the first
    end } })
    local letters = s:letters()
    assert.are.equal(#raised + 1, #letters)
    for _, letter in ipairs(letters) do
      assert.is_truthy(shop.headers(letter)["kafka_dlt-exception-message"])
    end
  end)

  it("A-18: takes a COMMIT without an answer for no attempt: the inbox knows how it ended", function()
    assert(s.box:query "CREATE SEQUENCE commits")
    assert(s.box:query [[CREATE FUNCTION break_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF nextval('commits') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$]])
    assert(s.box:query [[CREATE CONSTRAINT TRIGGER breaks AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION break_first()]])
    s:produce(s:record("T", "1"))
    assert(s:consume { retry = { retries = 0 }, handlers = { T = shop.effect } })
    assert.are.equal(1, #s:effects())
    assert.are.equal(0, #s:letters())
  end)

  it("C-04: knows the end of a transaction behind comments and empty statements", function()
    for _, statement in ipairs { "; COMMIT", "/* a /* b */ */ COMMIT", "-- x\rROLLBACK" } do
      s.group = support.unique "ended" -- which need not wait for the one before to be gone
      s:produce(s:record("T", "1"), s:record("T", "2"))
      local ok, _, err = s:consume { handlers = { T = function(event, tx)
        shop.effect(event, tx)
        pcall(tx.query, tx, statement)
      end } }
      assert.is_nil(ok, statement)
      assert.are.equal("handler", err.code)
      assert.are.equal(0, #s:effects(), statement)
      assert.are.equal(0, s:inbox())
    end
  end)

  it("C-04: stops where a handler ends its transaction by a way around tx", function()
    s:produce(s:record("T", "1"))
    local ok, _, err = s:consume { handlers = { T = function(_, tx) tx.connection:query "ROLLBACK" end } }
    assert.is_nil(ok)
    assert.are.equal("handler", err.code)
    assert.are.equal(0, s:inbox())
  end)

  it("C-34: takes no start back that it did not make", function()
    assert(s.box:query("SELECT * FROM postbox.consumer_starts($1, $2, 0, 0)", s.group, s.topic))
    assert(s:consume { handlers = { T = shop.effect } })
    assert.are.equal(1, s.box:query("SELECT starts FROM postbox.attempts WHERE consumer_group = $1", s.group)[1].starts)
  end)

  it("C-17: writes dead letters with acks of its own, whatever the application's are", function()
    s.box:close()
    s = shop.new { partitions = 1, kafka = { ["bootstrap.servers"] = s.broker.bootstrap, acks = "1" } }
    s:produce(s:record("T", "no JSON"))
    local consumer
    consumer = s:consumer { handlers = { T = shop.effect } }
    s.box.options.log = function(_, message) if message:find("not written", 1, true) then consumer:stop() end end
    assert(consumer:run { until_idle = 0.5 })
    assert.are.equal(1, #s:letters())
  end)

  it("C-11: serves the group while records that came before wait for their turn #kafka", function()
    local list = {}
    for i = 1, 300 do
      list[i] = s:record("T", tostring(i))
    end
    s.broker:produce(list)
    local first = support.run_lua([[
      local postbox, core = require "postbox", require "postbox.core"
      local handled = 0
      local box = postbox.new { database = os.getenv "DATABASE", kafka = os.getenv "KAFKA" }
      box:consumer { group = os.getenv "GROUP", topics = { os.getenv "TOPIC" }, max_rate = 20,
        handlers = { T = function(event, tx)
          handled = handled + 1
          core.sleep(handled > 4 and 0.3 or 0)
          tx:query("INSERT INTO effects (id) VALUES ($1)", event.id)
        end } }:run {}
    ]], { DATABASE = s.database, KAFKA = s.broker.bootstrap, GROUP = s.group, TOPIC = s.topic })
    support.eventually(20, function() return #s:effects() > 6 end)
    local second = s:consumer { handlers = { T = shop.effect } }
    local started = support.clock()
    assert(second:run { until_idle = 0.1 }) -- idle begins when the group has answered
    first:kill "KILL"
    assert.is_true(support.clock() - started < 15)
  end)

  it("C-42: ends the drop of a day that was cut short, and takes events of such a day", function()
    local retention = require "postbox.consumer.retention"
    local function consume_old(n) -- by another group each time, which need not wait for the one before
      s.group = support.unique "late"
      s:produce(s:record("T", "1", { id = "01934b3c-0000-7000-8000-00000000000" .. n }))
      assert(s:consume { handlers = { T = shop.effect } })
      assert.are.equal(n, s:inbox())
    end
    local function is_there()
      return s.box:query("SELECT to_regclass('postbox.inbox_20241120') AS day")[1].day ~= nil
    end
    local function retire()
      local connection = assert(s.box:acquire())
      s.box:query("UPDATE " .. (is_there() and "postbox.inbox_20241120" or "postbox.inbox")
        .. " SET processed_at = now() - interval '9 days'")
      retention.new(s.box, 86400):look { get = function() return connection end }
      s.box:give_back(connection)
    end
    consume_old(1)
    -- Detached, and then the process ended.
    assert(s.box:query "ALTER TABLE postbox.inbox DETACH PARTITION postbox.inbox_20241120")
    consume_old(2)
    -- Given up while another transaction still used the inbox.
    assert(s.box:transaction(function(tx)
      tx:query "SELECT count(*) FROM postbox.inbox"
      coroutine.wrap(retire)()
    end))
    assert.is_true(is_there())
    retire()
    assert.is_false(is_there())
    consume_old(3)
    assert(s.box:query "ALTER TABLE postbox.inbox DETACH PARTITION postbox.inbox_20241120")
    retire()
    assert.is_false(is_there())
  end)
end)

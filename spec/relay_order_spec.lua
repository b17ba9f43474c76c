-- Order per key is commit order, also for writers that lock nothing themselves.
local help = require "spec.support.relay"
local support = require "spec.support"
local testing = require "postbox.testing"

describe("relay, order", function()
  it("A-02 publishes the events of a key in the order of their commits, from six writers at once", function()
    local server = testing.postgres { settings = { track_commit_timestamp = "on" } }
    local broker = support.broker()
    local topic = broker:topic("order.created", 2)
    local box = help.box { database = server:create_database(), topics = { ORDER_CREATED = topic } }
    local relay = assert(box:relay())
    assert(relay:start())
    local program = [[
      local box = require("postbox").new { database = os.getenv "DB", kafka = os.getenv "KAFKA",
        topics = { ORDER_CREATED = os.getenv "TOPIC" } }
      math.randomseed(tonumber(os.getenv "SEED"))
      for _ = 1, 200 do
        assert(box:transaction(function(tx)
          local xid = tx:query("SELECT pg_current_xact_id()::text AS xid")[1].xid
          if math.random(4) == 1 then
            tx:query("SELECT pg_sleep(0.003)")
          end
          tx:publish("ORDER_CREATED", "k" .. math.random(3), tonumber(xid))
        end))
      end
    ]]
    local writers = {}
    for i = 1, 6 do
      writers[i] = support.run_lua(program, { DB = box.options.database, KAFKA = broker.bootstrap,
        TOPIC = topic, SEED = tostring(i) })
    end
    for _, writer in ipairs(writers) do
      assert.equal(0, writer:wait(60), writer:output())
    end
    help.drained(box)
    assert(box:query "CREATE TABLE seen (place serial, key text, xid text)")
    assert(box:transaction(function(tx)
      for _, record in ipairs(broker:records(topic)) do
        tx:query("INSERT INTO seen (key, xid) VALUES ($1, $2)", record.key,
          record.value:match('"payload":(%d+)'))
      end
    end))
    local result = box:query [[
      SELECT count(*) AS all, count(*) FILTER (WHERE at < before) AS inverted FROM (
        SELECT at, lag(at) OVER (PARTITION BY key ORDER BY place) AS before FROM (
          SELECT place, key, pg_xact_commit_timestamp(xid::xid) AS at FROM seen) s) t]]
    assert.equal(1200, result[1].all)
    assert.equal(0, result[1].inverted)
    assert.equal(0, relay:stats().alarms)
    assert(relay:stop(5))
    box:close(5)
    server:stop()
  end)
end)

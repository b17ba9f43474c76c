-- The life of nginx's workers with postbox in them: reloads, ends, relays and consumers. They run
-- once, with LUA=jit, as spec/openresty_spec.lua.
local nginx = require "spec.support.nginx"
local postbox = require "postbox"
local support = require "spec.support"

if not rawget(_G, "jit") then
  return
end

local INIT = [[app = require "postbox".new { database = %q, kafka = %q, pool_size = 20 } ]]

local PUBLISH = [[
  local id, message = app:transaction(function(tx)
    tx:query("INSERT INTO orders (sku) VALUES ($1)", ngx.var.arg_n)
    return tx:publish("ORDER_CREATED", ngx.var.arg_n, { n = tonumber(ngx.var.arg_n) }, { topic = %q })
  end)
  ngx.status = id and 200 or 500
  ngx.header["X-Answer"] = id or message
  ngx.say "done"]]

describe("nginx's workers", function()
  local box, database, topic, server

  local function count(sql)
    return tonumber(assert(box:query("SELECT count(*) AS n FROM " .. sql))[1].n)
  end

  local function start(options)
    options.init = INIT:format(database, support.broker().bootstrap) .. (options.init or "")
    options.init_worker = options.init_worker or "assert(app:start())"
    options.exit_worker = options.exit_worker or "app:close(1)"
    options.locations = options.locations or {}
    options.locations["/publish"] = PUBLISH:format(topic)
    options.locations["/query"] = "ngx.say(app:query('SELECT 42 AS n')[1].n)"
    server = nginx.start(options)
    return server
  end

  before_each(function()
    database = support.database()
    topic = support.broker():topic("orders", 4)
    box = postbox.new { database = database, kafka = support.broker().bootstrap }
    assert(box:migrate())
    assert(box:query "CREATE TABLE orders (id serial PRIMARY KEY, sku text NOT NULL)")
  end)

  after_each(function()
    local crashes = server:crashes()
    server:close()
    box:close()
    assert.same({}, crashes)
  end)

  it("lose nothing in reloads under load, and publish all of it", function()
    start { workers = 2, init_worker = "assert(app:start()) relay = app:relay() assert(relay:start())" }
    local asked = server:ask_many("/publish?n=[1-4000]", 20)
    for _ = 1, 6 do
      support.sleep(0.3)
      server:signal "HUP"
    end
    local answers, ids = asked:finish(), {}
    for _, one in ipairs(answers) do
      if one.status == 200 then
        ids[#ids + 1] = one.answer
      end
    end
    assert.equal(4000, #answers)
    assert.is_true(#ids > 3900, ("%d of 4000 were answered"):format(#ids))
    support.eventually(20, function() return count "postbox.outbox" == 0 end)
    local seen = {}
    for _, record in ipairs(support.broker():records(topic)) do
      seen[record.value:match '"eventId":"([^"]+)"'] = true
    end
    for _, id in ipairs(ids) do
      assert(seen[id], "an event that was answered is not on Kafka")
    end
    support.eventually(15, function() return #server:workers() == 2 end)
  end)

  it("end at once when they are idle", function()
    start {}
    assert.equal("42", (server:get "/query"))
    local status, seconds = server:stop "QUIT"
    assert.equal(0, status)
    assert.is_true(seconds < 2, ("it took %.1f s"):format(seconds))
  end)

  it("finish what is asked before they quit, and stop in bounded time", function()
    start { locations = { ["/sleep"] = [[
      local rows, message = app:query "SELECT pg_sleep(1)"
      ngx.header["X-Answer"] = rows and "ok" or message ngx.say "done"]] } }
    local asked = server:ask_many("/sleep?[1-10]", 10)
    support.sleep(0.4)
    local status = server:stop "QUIT"
    assert.equal(0, status)
    for _, one in ipairs(asked:finish()) do
      assert.same({ 200, "ok" }, { one.status, one.answer })
    end
    server:close()
    start { locations = { ["/sleep"] = "app:query 'SELECT pg_sleep(20)'" } }
    asked = server:ask_many("/sleep?[1-10]", 10)
    support.sleep(0.4)
    local seconds
    status, seconds = server:stop "TERM"
    assert.equal(0, status)
    assert.is_true(seconds < 3.2, ("it took %.1f s"):format(seconds))
    assert.is_nil(server:log():find "signal 9")
    asked:finish()
  end)

  it("leave no socket behind, and wake up for nothing", function()
    start {}
    assert.equal("42", (server:get "/query"))
    local worker = server:workers()[1]
    local function ticks()
      local file = assert(io.open(("/proc/%d/status"):format(worker), "r"))
      local text = file:read "*a"
      file:close()
      return tonumber(text:match "\nvoluntary_ctxt_switches:%s*(%d+)")
    end
    support.sleep(2.2) -- for the look after transactions
    local before = ticks()
    support.sleep(1)
    assert.is_true(ticks() - before <= 2)
    local pipe = assert(io.popen("ls -d /tmp/postbox-??????/wake 2>/dev/null"))
    assert.equal("", pipe:read "*a")
    pipe:close()
  end)

  it("run relays and consumers whose handlers may yield", function()
    pcall(support.broker().create, support.broker(), topic .. "-dlt", 4) -- the mock makes topics by itself
    start { workers = 2, init_worker = ([[
      assert(app:start())
      relay = app:relay()
      assert(relay:start())
      consumer = app:consumer { group = %q, topics = { %q }, default = function(event, tx)
        ngx.sleep(0.001)
        tx:query("INSERT INTO handled (n) VALUES ($1)", event.payload.n)
      end }
      assert(consumer:start())]]):format(support.unique "shipping", topic) }
    assert(box:query "CREATE TABLE handled (n integer NOT NULL)")
    for _, one in ipairs(server:ask_many("/publish?n=[1-200]", 4):finish()) do
      assert.equal(200, one.status)
    end
    support.eventually(30, function() return count "handled" == 200 end)
    assert.equal(200, tonumber(box:query("SELECT count(DISTINCT n) AS n FROM handled")[1].n))
    local status, seconds = server:stop "QUIT"
    assert.equal(0, status)
    assert.is_true(seconds < 10, ("it took %.1f s"):format(seconds))
  end)

  it("refuse a second Lua state, as lua_code_cache off makes one for each request", function()
    start { http = "lua_code_cache off;", init_worker = "assert(app:start())", exit_worker = "",
      locations = { ["/cache"] = "local _, message = app:query 'SELECT 1' ngx.say(message)" } }
    support.eventually(5, function() return (server:get "/cache"):find("lua_code_cache", 1, true) end)
  end)

  it("start nothing in the master", function()
    start { init = "started = { app:start() } relayed = { app:relay():start() }", init_worker = "",
      locations = { ["/started"] = "ngx.say(started[3].code, ' ', relayed[3].code)" } }
    assert.equal("cannot_wait cannot_wait", (server:get "/started"))
  end)
end)

-- postbox inside nginx, on the real one: what a request may do, and what it may not. nginx's Lua
-- module is LuaJIT, so these run once, with LUA=jit.
local nginx = require "spec.support.nginx"
local postbox = require "postbox"
local process = require "postbox.testing.process"
local support = require "spec.support"

if not rawget(_G, "jit") then
  return
end

local INIT = [[
  app = require "postbox".new { database = %q, pool_size = 60, transaction_lease = 1 }
  seen = {}
  function answer(...) -- what a call returned, as one line
    local list = {}
    for i = 1, select("#", ...) do
      local value = select(i, ...)
      list[i] = type(value) == "table" and (value.code or #value) or tostring(value)
    end
    ngx.say(table.concat(list, " | "))
  end
]]

local locations = {
  ["/hello"] = "ngx.say 'hello'",
  ["/query"] = "local rows = assert(app:query('SELECT $1::integer + 1 AS n', 41)) ngx.say(rows[1].n)",
  ["/sleep"] = [[
    local rows, message = app:query "SELECT pg_sleep(0.2)"
    ngx.header["X-Answer"] = rows and "ok" or message
    ngx.say "done"]],
  ["/order"] = [[
    local function domain_code(sku) return app:publish("ORDER_CREATED", sku, { sku = sku }) end
    answer(app:transaction(function(tx)
      tx:query("INSERT INTO orders (sku) VALUES ($1)", ngx.var.arg_sku)
      return domain_code(ngx.var.arg_sku)
    end))]],
  ["/raise"] = [[
    answer(app:transaction(function(tx)
      tx:query("INSERT INTO orders (sku) VALUES ('raised')")
      app:publish("ORDER_CREATED", 1, {})
      error "no stock"
    end))]],
  ["/manual"] = "answer(app:publish_manual('COUPON_PUBLISH_REQUESTED', 7, { couponId = 7 }))",
  ["/bytes"] = [[
    local rows = assert(app:query("SELECT $1::bytea AS b, $2::text AS t, $3::integer AS n",
      require "postbox".bytes(("\0x"):rep(1000)), ("t"):rep(100), nil))
    answer(#rows[1].b, #rows[1].t, rows[1].n == nil)]],
  ["/outcome"] = [[
    local rows = assert(app:transaction(function(tx) return tx:query "SELECT pg_current_xact_id()::text AS xid" end))
    answer(app:outcome(rows[1].xid))]],
  ["/log"] = { [[
    content_by_lua_block { ngx.say "logged" }
    header_filter_by_lua_block { seen.header_filter = { app:query "CREATE TABLE submitted ()" } }
    body_filter_by_lua_block { seen.body_filter = { app:publish_manual("ORDER_CREATED", 1, {}) } }
    log_by_lua_block {
      seen.log = { app:transaction(function() seen.entered = true end) }
      seen.later = { app:publish_later("PAGE_SEEN", "log", { page = ngx.var.uri }) }
    }]] },
  ["/seen"] = [[
    for _, phase in ipairs { "init", "header_filter", "body_filter", "log" } do
      ngx.say(phase, " ", seen[phase][3].code, " ", seen[phase][2]:find("phase " .. phase .. " ", 1, true) and "named")
    end
    ngx.say("later ", seen.later[1], " ", tostring(seen.entered))]],
  ["/guard"] = [[
    local codes = {}
    local function try()
      local rows, _, err = app:query "SELECT 1"
      codes[#codes + 1] = rows and "rows" or err.code
    end
    pcall(table.sort, { 3, 1, 2 }, function(a, b) try() return a < b end)
    ;("a"):gsub("a", try)
    package.preload.waits = try
    require "waits"
    package.loaded.waits, package.preload.waits = nil, nil
    ngx.say(table.concat(codes, " "))]],
  ["/yields"] = [[
    local function ask() return app:query("SELECT 42 AS n")[1].n end
    local _, a = pcall(ask)
    local _, b = xpcall(ask, debug.traceback)
    local c = coroutine.wrap(ask)()
    local d = setmetatable({}, { __index = ask }).x
    local e = tostring(setmetatable({}, { __tostring = function() return tostring(ask()) end }))
    answer(a, b, c, d, e)]],
  ["/exit"] = [[
    app:transaction(function(tx)
      left = tx
      tx:query("INSERT INTO orders (sku) VALUES ('left')")
      ngx.exit(204)
    end)]],
  ["/slow"] = [[
    answer(app:transaction(function(tx)
      tx:query "SELECT 1"
      ngx.sleep(2.5)
      local ok, err = pcall(tx.query, tx, "SELECT 1")
      assert(not ok and err.code == "closed")
      return "through"
    end))]],
  ["/accessed"] = { [[
    access_by_lua_block {
      app:transaction(function(tx)
        tx:query("INSERT INTO orders (sku) VALUES ('left')")
        ngx.exit(ngx.OK)
      end)
    }
    content_by_lua_block {
      answer(app:transaction(function(tx)
        tx:query("INSERT INTO orders (sku) VALUES ('kept')")
        return app:publish("ORDER_CREATED", 1, {})
      end))
    }]] },
  ["/late"] = [[
    local ok, err = pcall(left.query, left, "SELECT 1")
    answer(ok, err)]],
  ["/inside"] = [[
    local ok, err = pcall(app.publish, app, "ORDER_CREATED", 1, {})
    answer(ok, err)]],
  ["/killed"] = [[
    local thread = ngx.thread.spawn(function()
      app:transaction(function(tx)
        tx:query("INSERT INTO orders (sku) VALUES ('killed')")
        tx:query "SELECT pg_sleep(0.3)"
      end)
    end)
    ngx.sleep(0.05)
    answer(ngx.thread.kill(thread))]],
  ["/threads"] = [[
    answer(app:transaction(function(tx)
      local first = ngx.thread.spawn(function() return tx:query "SELECT pg_sleep(0.2)" end)
      local ok, err = pcall(tx.query, tx, "SELECT 1")
      local joined, why = pcall(app.publish, app, "ORDER_CREATED", "outer", {})
      local _, there = ngx.thread.wait(ngx.thread.spawn(function()
        local nested, refused = pcall(app.publish, app, "ORDER_CREATED", "none", {})
        tx:publish("ORDER_CREATED", "handle", {})
        return refused.code
      end))
      ngx.thread.wait(first)
      return err.code, joined, there
    end))]],
}

describe("postbox in nginx", function()
  local box, server

  local function count(sql)
    return tonumber(assert(box:query("SELECT count(*) AS n FROM " .. sql))[1].n)
  end

  setup(function()
    local database = support.database()
    box = postbox.new { database = database }
    assert(box:migrate())
    assert(box:query "CREATE TABLE orders (id serial PRIMARY KEY, sku text NOT NULL)")
    server = nginx.start {
      init = INIT:format(database) .. [[ seen.init = { app:query "SELECT 1" } ]],
      init_worker = "assert(app:start())",
      exit_worker = "app:close(1)",
      locations = locations,
    }
  end)

  before_each(function()
    assert(box:query "TRUNCATE orders")
    assert(box:query "DELETE FROM postbox.outbox")
  end)

  after_each(function()
    local crashes = server:crashes()
    server:forget_log()
    assert.same({}, crashes)
  end)

  teardown(function()
    server:close()
    box:close()
  end)

  it("answers queries, with parameters of all kinds", function()
    assert.equal("42", (server:get "/query"))
    assert.equal("2000 | 100 | true", (server:get "/bytes"))
  end)

  it("commits data and events of a request together", function()
    local id = server:get "/order?sku=tea"
    local rows = assert(box:query "SELECT event_id, postbox.bytes_text(partition_key) AS key FROM postbox.outbox")
    assert.same({ { event_id = id, key = "tea" } }, { rows[1] })
    assert.equal(1, count "orders WHERE sku = 'tea'")
  end)

  it("leaves nothing of a transaction that raises", function()
    assert.matches("no stock | aborted", (server:get "/raise"), 1, true)
    assert.equal(0, count "orders")
    assert.equal(0, count "postbox.outbox")
  end)

  it("keeps what a later phase does apart from a transaction that ngx.exit has left", function()
    assert.matches("^%x+%-%x+%-%x+%-%x+%-%x+", (server:get "/accessed"))
    support.sleep(3)
    assert.equal(1, count "postbox.outbox")
    assert.equal("kept", box:query("SELECT sku FROM orders")[1].sku)
  end)

  it("publishes without a transaction, and tells how one ended", function()
    assert.matches("^%x+%-%x+%-%x+%-%x+%-%x+", (server:get "/manual"))
    assert.equal(1, count "postbox.outbox")
    assert.equal("committed", (server:get "/outcome"))
  end)

  it("refuses phases that cannot wait, before anything is submitted, and names them", function()
    assert.equal("logged", (server:get "/log"))
    support.eventually(5, function() return count "postbox.outbox" == 1 end)
    assert.equal("init cannot_wait named\nheader_filter cannot_wait named\nbody_filter cannot_wait named\n"
      .. "log cannot_wait named\nlater queued nil", (server:get "/seen"))
    assert.equal(0, count "pg_class WHERE relname = 'submitted'")
    assert.equal(1, count "postbox.outbox WHERE event_type = 'PAGE_SEEN'")
  end)

  it("refuses coroutines that cannot yield, without a crash", function()
    for _ = 1, 6 do -- comparisons, gsub's callback, a file being required
      assert.matches("^cannot_wait cannot_wait [cannot_wait ]*cannot_wait$", (server:get "/guard"))
    end
    assert.equal("42 | 42 | 42 | 42 | 42", (server:get "/yields"))
  end)

  it("rolls back a request that ended inside its transaction, within its lease", function()
    local _, status = server:get "/exit"
    assert.equal(204, status)
    assert.equal("false | closed", (server:get "/late"))
    for _ = 1, 20 do -- coroutines are used again by other requests: none of them is in a transaction
      assert.equal("false | config", (server:get "/inside"))
    end
    support.eventually(5, function()
      return count "pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'" == 0
    end)
    assert.equal("false | closed", (server:get "/late"))
    assert.equal(0, count "orders")
  end)

  it("fails a transaction that slept through its lease, and goes on", function()
    assert.matches("^nil | the transaction was rolled back.*transaction_lease | closed$", (server:get "/slow"))
    assert.equal("42", (server:get "/query"))
  end)

  it("rolls back a light thread that was killed inside a statement", function()
    assert.equal("1", (server:get "/killed"))
    support.eventually(5, function()
      return count("pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        .. "AND (state LIKE 'idle in transaction%' OR state = 'active' AND query LIKE '%pg_sleep%')") == 0
    end)
    assert.equal(0, count "orders")
  end)

  it("lets light threads use the transaction's handle, one at a time", function()
    assert.equal("busy | true | config", (server:get "/threads"))
    local rows = assert(box:query
      "SELECT postbox.bytes_text(partition_key) AS key FROM postbox.outbox ORDER BY outbox_id")
    assert.equal(2, #rows)
    assert.equal("outer", rows[1].key)
    assert.equal("handle", rows[2].key)
  end)

  it("keeps other requests quick while 50 wait for the database", function()
    local waiting = server:ask_many("/sleep?[1-50]", 50)
    support.sleep(0.1)
    local worst = 0
    for _, one in ipairs(server:ask_many("/hello?[1-500]"):finish()) do
      worst = math.max(worst, one.seconds)
    end
    local list = waiting:finish()
    assert.equal(50, #list)
    for _, one in ipairs(list) do
      assert.equal("ok", one.answer)
      assert.is_true(one.seconds < 2)
    end
    assert.is_true(worst < 0.1, ("the slowest trivial request took %.3f s"):format(worst))
  end)

  it("goes on in a new worker after a kill -9", function()
    local old = server:workers()[1]
    process.signal(old, "KILL")
    support.eventually(5, function()
      local now = server:workers()[1]
      return now and now ~= old and server:get "/query" == "42"
    end)
    assert.matches("exited on signal 9", server:crashes()[1])
    server:forget_log()
  end)
end)

-- cqueues and luv: the same calls, in coroutines of their loops.
local postbox = require "postbox"
local support = require "spec.support"

local PROGRAM = [[
  local core, postbox = require "postbox.core", require "postbox"
  local kind = os.getenv "LOOP"
  local box = postbox.new { database = os.getenv "DATABASE", host = kind }
  local run, wrap, sleep
  if kind == "cqueues" then
    local cqueues = require "cqueues"
    local controller = cqueues.new()
    wrap, sleep = function(fn) controller:wrap(fn) end, cqueues.sleep
    run = function() assert(controller:loop()) end
  else
    local luv = require "luv"
    wrap = function(fn) coroutine.wrap(fn)() end
    sleep = function(seconds)
      local thread, timer = coroutine.running(), luv.new_timer()
      timer:start(seconds * 1000, 0, function() timer:close() assert(coroutine.resume(thread)) end)
      coroutine.yield()
    end
    run = luv.run
  end
  local function say(...)
    local list = { ... }
    for i = 1, #list do list[i] = tostring(list[i]) end
    print(table.concat(list, " "))
  end
]]

local function run(kind, text, database)
  local program = support.run_lua(PROGRAM .. text, { LOOP = kind, DATABASE = database })
  local status = program:wait(30)
  local output = program:output()
  program:close()
  assert(status == 0, output)
  return output
end

if _VERSION == "Lua 5.1" and not rawget(_G, "jit") then
  describe("plain Lua 5.1", function()
    it("refuses event loops, because its coroutines cannot wait inside pcall", function()
      for _, kind in ipairs { "cqueues", "luv" } do
        local ok, err = pcall(postbox.new, { database = "dbname=x", host = kind })
        assert.is_false(ok)
        assert.equal("config", err.code)
        assert.matches("pcall", err.message, 1, true)
      end
    end)
  end)
  return
end

for _, kind in ipairs { "cqueues", "luv" } do
  describe("the host " .. kind, function()
    local box, database

    setup(function()
      database = support.database()
      box = postbox.new { database = database }
      assert(box:migrate())
      assert(box:query "CREATE TABLE orders (id serial PRIMARY KEY, sku text NOT NULL)")
    end)

    teardown(function() box:close() end)

    it("goes on while calls wait, and ends when they have ended", function()
      local output = run(kind, [[
        local done, ticks, before = 0, 0, core.now()
        for _ = 1, 4 do
          wrap(function() assert(box:query "SELECT pg_sleep(0.3)") done = done + 1 end)
        end
        wrap(function() while done < 4 do sleep(0.01) ticks = ticks + 1 end end)
        run()
        say(done, ticks >= 15, core.now() - before < 1.2)]], database)
      assert.equal("4 true true\n", output)
    end)

    it("commits, rolls back and keeps transactions apart", function()
      local output = run(kind, [[
        for i = 1, 3 do
          wrap(function()
            local id, message = box:transaction(function(tx)
              tx:query("INSERT INTO orders (sku) VALUES ($1)", "tea" .. i)
              tx:query "SELECT pg_sleep(0.05)"
              box:publish("ORDER_CREATED", i, { sku = "tea" .. i })
              if i == 3 then error "no stock" end
              return true
            end)
            say(i, tostring(id), id and "" or message:match "no stock")
          end)
        end
        run()
        wrap(function() say("manual", #assert(box:publish_manual("ORDER_CREATED", 9, {}))) end)
        wrap(function() say(box:publish_later("ORDER_CREATED", 10, {})) end)
        run()]], database)
      assert.is_truthy(output:find("1 true", 1, true))
      assert.is_truthy(output:find("2 true", 1, true))
      assert.is_truthy(output:find("3 nil no stock", 1, true))
      assert.is_truthy(output:find("manual 36", 1, true))
      assert.is_truthy(output:find("queued", 1, true))
      assert.equal(2, tonumber(box:query("SELECT count(*) AS n FROM orders")[1].n))
      assert.equal(4, tonumber(box:query("SELECT count(*) AS n FROM postbox.outbox")[1].n))
    end)

    it("waits as plain Lua outside its loop, and refuses what cannot yield inside", function()
      local output = run(kind, [[
        say("outside", box:query("SELECT 42 AS n")[1].n)
        wrap(function()
          pcall(table.sort, { 2, 1 }, function(a, b) say(select(3, box:query "SELECT 1").code) return a < b end)
          coroutine.wrap(function() say(pcall(box.query, box, "SELECT 1") and "inner") end)
        end)
        run()]], database)
      assert.equal("outside 42\ncannot_wait\n", output)
    end)

    it("lets two coroutines use one transaction one after the other only", function()
      local output = run(kind, [[
        wrap(function()
          box:transaction(function(tx)
            local over
            wrap(function() tx:query "SELECT pg_sleep(0.2)" over = true end)
            sleep(0.05)
            local ok, err = pcall(tx.query, tx, "SELECT 1")
            say(tostring(ok), err.code)
            while not over do sleep(0.01) end
            say(tx:query("SELECT 42 AS n")[1].n)
          end)
        end)
        run()]], database)
      assert.equal("false busy\n42\n", output)
    end)
  end)
end

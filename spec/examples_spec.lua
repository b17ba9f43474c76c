-- The demo and the shop, run as their head comments say: separate programs, chained by events alone.
local postbox = require "postbox"
local support = require "spec.support"

local PATIENCE = 60
local SERVICES = { "relay", "order_service", "payment_service", "coupon_service", "dead_letters" }
local EVENTS = { "order.created", "order.completed", "order.complete.failed", "payment.paid", "payment.failed",
  "payment.canceled", "coupon.publish.requested" }

-- Starts a command line such as "examples/shop/order_service.lua place ann tea".
local function start(line, env)
  local words = {}
  for word in line:gmatch("%S+") do
    words[#words + 1] = ("%q"):format(word)
  end
  local file = table.remove(words, 1)
  return support.run_lua(("arg = { [0] = %s, %s } dofile(arg[0])"):format(file, table.concat(words, ", ")), env)
end

local function run(line, env)
  local program = start(line, env)
  assert.equal(0, program:wait(PATIENCE), line .. "\n" .. program:output())
  return program:output()
end

-- The command lines in the head comment of a program of the shop.
local function documented(name)
  local lines = {}
  for line in io.lines("examples/shop/" .. name .. ".lua") do
    if line:sub(1, 2) ~= "--" then
      break
    end
    lines[#lines + 1] = line:match("^%-%-   lua (examples/shop/%S+ .-)   ")
      or line:match("^%-%-   lua (examples/shop/%S+)")
  end
  return lines
end

describe("examples/demo.lua", function()
  local function check_demo(output)
    for _, claim in ipairs { "one transaction stored the order and its event", "neither the order nor its event",
      "order 1 was shipped once, although it came twice", "tried four times", "kafka_dlt%-exception%-message",
      "no carrier takes an anvil", "the outbox is empty", "All of it was checked" } do
      assert.truthy(output:find(claim), claim .. " is missing in\n" .. output)
    end
    assert.is_nil(output:find("\27", 1, true))
  end

  it("shows what it claims, on servers of its own #mock", function()
    check_demo(run "examples/demo.lua")
  end)

  it("runs on servers that are there, and removes its schemas #kafka", function()
    local database = support.database()
    local output = run("examples/demo.lua", { POSTBOX_DATABASE = database, POSTBOX_KAFKA = support.broker().bootstrap })
    check_demo(output)
    assert.truthy(output:find("kafka-topics.sh", 1, true))
    local box = postbox.new { database = database, schema = "not_the_demos" }
    assert(box:migrate())
    assert.same({}, { (assert(box:query "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%demo\\_%'"))[1] })
    box:close()
  end)
end)

describe("examples/shop", function()
  local broker, box, env, prefix, programs

  -- The mock cluster cannot be asked to create topics; on Apache Kafka the programs do it.
  local function create_topics()
    for _, topic in ipairs(broker.is_mock and EVENTS or {}) do
      broker:create(prefix .. topic, 4)
      broker:create(prefix .. topic .. "-dlt", 4)
    end
  end

  setup(function()
    broker = support.broker()
    prefix = support.unique("shop") .. "."
    create_topics()
    env = { POSTBOX_DATABASE = support.database(), POSTBOX_KAFKA = broker.bootstrap, POSTBOX_TOPIC_PREFIX = prefix }
    run(documented("setup")[1], env)
    programs = {}
    for _, name in ipairs(SERVICES) do
      programs[name] = start(documented(name)[1], env)
    end
    box = postbox.new { database = env.POSTBOX_DATABASE }
  end)

  teardown(function()
    for _, program in pairs(programs or {}) do
      program:kill("KILL")
      program:close()
    end
    if box then
      box:close()
    end
  end)

  local function outputs()
    local all = {}
    for name, program in pairs(programs) do
      all[#all + 1] = name .. ":\n" .. program:output()
    end
    return table.concat(all, "\n")
  end

  local function order(id)
    return assert(box:query("SELECT status, reason FROM orders WHERE id = $1", id))[1]
  end

  local function wait_for_order(id, status)
    local ok, message = pcall(support.eventually, PATIENCE, function() return order(id).status == status end)
    assert(ok, ("order %d is %s, not %s: %s\n%s"):format(id, order(id).status, status, tostring(message), outputs()))
  end

  local function number(sql)
    return assert(box:query(sql))[1].n
  end

  it("can be set up again without harm", function()
    run("examples/shop/setup.lua", env)
    assert.equal(2, number "SELECT count(*) AS n FROM stock")
  end)

  it("completes an order that is paid", function()
    assert.equal("order 1: created\n", run(documented("order_service")[2], env))
    wait_for_order(1, "completed")
    assert.equal(9995, number "SELECT balance AS n FROM wallets WHERE customer = 'ann'")
    assert.equal(999, number "SELECT pieces AS n FROM stock WHERE sku = 'tea'")
    support.eventually(PATIENCE, function()
      return number "SELECT count(*) AS n FROM payments WHERE order_id = 1 AND status = 'settled'" == 1
    end)
  end)

  it("tells the order service that a payment failed", function()
    run("examples/shop/order_service.lua place bob tea", env)
    wait_for_order(2, "payment_failed")
    assert.equal("it costs 5, and the wallet has 3", order(2).reason)
    assert.equal(3, number "SELECT balance AS n FROM wallets WHERE customer = 'bob'")
  end)

  it("gives the money back for an order that cannot be completed", function()
    run("examples/shop/order_service.lua place ann anvil", env)
    wait_for_order(3, "canceled")
    assert.equal("out of stock", order(3).reason)
    assert.equal(9995, number "SELECT balance AS n FROM wallets WHERE customer = 'ann'")
    assert.equal(1, number "SELECT count(*) AS n FROM payments WHERE order_id = 3 AND status = 'canceled'")
  end)

  it("issues a coupon that is requested manually", function()
    run(documented("coupon_service")[2], env)
    support.eventually(PATIENCE, function() return number "SELECT count(*) AS n FROM coupons" == 1 end)
  end)

  it("shows the dead letter of an order that nobody can pay for", function()
    run("examples/shop/order_service.lua place eve tea", env)
    local output = support.eventually(PATIENCE, function()
      local text = programs.dead_letters:output()
      return text:find("postbox-reason", 1, true) and text
    end)
    assert.truthy(output:find("\n" .. prefix .. "order.created-dlt, partition ", 1, true), output)
    assert.truthy(output:find("kafka_dlt%-exception%-message +nobody called eve has a wallet"), output)
    assert.truthy(output:find("kafka_dlt%-original%-partition +%d\n"), output)
    assert.truthy(output:find("kafka_dlt%-original%-timestamp +20%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d UTC\n"), output)
    assert.equal("created", order(4).status)
  end)

  it("serves twenty orders, each once", function()
    run(documented("order_service")[3], env)
    support.eventually(PATIENCE, function()
      return number "SELECT count(*) AS n FROM orders WHERE status = 'completed'" == 21
    end)
    assert.equal(10000 - 21 * 5, number "SELECT balance AS n FROM wallets WHERE customer = 'ann'")
    assert.equal(1000 - 21, number "SELECT pieces AS n FROM stock WHERE sku = 'tea'")
  end)

  it("has published each of the seven types to its topic, and nothing is left behind", function()
    support.eventually(PATIENCE, function() return number "SELECT count(*) AS n FROM postbox.outbox" == 0 end)
    local expected = { ["order.created"] = 24, ["order.completed"] = 21, ["order.complete.failed"] = 1,
      ["payment.paid"] = 22, ["payment.failed"] = 1, ["payment.canceled"] = 1, ["coupon.publish.requested"] = 1 }
    for _, topic in ipairs(EVENTS) do
      local records = broker:records(prefix .. topic)
      assert.equal(expected[topic], #records, topic)
      local event_type = topic:upper():gsub("%.", "_")
      assert.truthy(records[1].value:find('"eventType":"' .. event_type .. '"', 1, true), records[1].value)
    end
  end)

  it("ends on SIGTERM", function()
    for _, name in ipairs(SERVICES) do
      programs[name]:kill("TERM")
    end
    for _, name in ipairs(SERVICES) do
      assert.equal(0, programs[name]:wait(PATIENCE), name .. "\n" .. programs[name]:output())
    end
    assert.truthy(programs.order_service:output():find("order 1: completed\n", 1, true))
    assert.truthy(programs.payment_service:output():find("order 3: payment canceled, 80 given back\n", 1, true))
    assert.truthy(programs.coupon_service:output():find("coupon 1: 10% for ann\n", 1, true))
  end)
end)

-- bin/postbox, as a program: what it prints and the exit codes.
local cjson = require "cjson"
local postbox = require "postbox"
local process = require "postbox.testing.process"
local safe = require "postbox.cli.safe"
local support = require "spec.support"

local PATIENCE = 60

local function start(arguments, env)
  local words = {}
  for i, word in ipairs(arguments) do
    words[i] = ("%q"):format(word)
  end
  return support.run_lua(('arg = { [0] = "postbox", %s } dofile "bin/postbox"'):format(table.concat(words, ", ")), env)
end

-- Exit code and output.
local function run(arguments, env)
  local program = start(arguments, env)
  return program:wait(PATIENCE), program:output()
end

local function psql(database, ...)
  local status, output = process.run { "psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-d", database, ... }
  assert.equal(0, status, output)
  return (output:gsub("%s+$", ""))
end

describe("postbox", function()
  it("--help tells the commands", function()
    local code, output = run { "--help" }
    assert.equal(0, code)
    for _, command in ipairs { "migrate", "relay", "status" } do
      assert.truthy(output:find(command, 1, true), output)
    end
  end)

  it("leaves with 2 where it is misused, and says how it is used", function()
    for _, arguments in ipairs { {}, { "stats" }, { "status", "--jsn" }, { "--kafka-option", "novalue", "status" } } do
      local code, output = run(arguments)
      assert.equal(2, code, output)
      assert.truthy(output:find("Usage: postbox", 1, true), output)
    end
  end)

  it("leaves with 1 where the database is not there, and does not show its password", function()
    local code, output = run { "--database", "host=/nonexistent user=shop password=geheim dbname=shop", "status" }
    assert.equal(1, code)
    assert.truthy(output:find("postbox status: ", 1, true), output)
    assert.is_nil(output:find("geheim", 1, true))
    assert.is_nil(output:find("traceback", 1, true), output)
  end)
end)

describe("postbox migrate", function()
  it("makes the schema, and does nothing the second time", function()
    local database = support.database()
    for _ = 1, 2 do
      local code, output = run({ "migrate" }, { POSTBOX_DATABASE = database })
      assert.equal(0, code, output)
      assert.equal("The schema postbox is up to date.\n", output)
    end
    assert.equal("0", psql(database, "-c", "SELECT count(*) FROM postbox.outbox_readable"))
  end)

  it("makes another schema with --schema", function()
    local database = support.database()
    assert.equal(0, (run { "-d", database, "--schema", "letters", "migrate" }))
    assert.equal("letters", psql(database, "-c",
      "SELECT nspname FROM pg_namespace WHERE nspname IN ('letters', 'postbox')"))
  end)

  it("--print prints SQL that psql runs", function()
    local database = support.database()
    local code, sql = run({ "migrate", "--print" }, { POSTBOX_DATABASE = database })
    assert.equal(0, code, sql)
    assert.equal("", psql(database, "-c", "SELECT to_regclass('postbox.outbox')"))
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    file:write(sql)
    file:close()
    psql(database, "-1", "-f", name)
    os.remove(name)
    assert.equal(0, (run({ "status" }, { POSTBOX_DATABASE = database })))
    assert.equal(0, (run({ "migrate" }, { POSTBOX_DATABASE = database })))
  end)
end)

describe("postbox status", function()
  local box, env

  setup(function()
    env = { POSTBOX_DATABASE = support.database() }
    box = postbox.new { database = env.POSTBOX_DATABASE }
  end)

  teardown(function() box:close() end)

  it("names migrate where there is no schema yet", function()
    local code, output = run({ "status" }, env)
    assert.equal(1, code)
    assert.truthy(output:find("migrate", 1, true), output)
  end)

  it("tells what waits and that nobody relays", function()
    assert(box:migrate())
    assert(box:publish_manual("ORDER_CREATED", 1, {}))
    assert(box:publish_manual("ORDER_CREATED", 2, {}))
    local code, output = run({ "status" }, env)
    assert.equal(0, code, output)
    assert.truthy(output:find("waiting  2, the oldest for %d+%.%d s\n"), output)
    assert.truthy(output:find("relay    none is active", 1, true), output)
    assert.truthy(output:find("confirm  report, delivery relay\n", 1, true), output)
    assert.truthy(output:find("parked   0\n", 1, true), output)
  end)

  it("--json prints one line that programs can read", function()
    local code, output = run({ "status", "--json" }, env)
    assert.equal(0, code, output)
    assert.truthy(output:find("^[^\n]+\n$"), output)
    assert.truthy(output:find('"parked":[]', 1, true), output)
    local state = cjson.decode(output)
    assert.equal(2, state.pending)
    assert.is_false(state.relay.active)
    assert.equal("report", state.settings.confirm)
  end)

  it("shows parked events, and no escape sequence of theirs", function()
    assert(box:query([[
      INSERT INTO postbox.parked (outbox_id, event_id, id_given, event_type, topic, partition_key, headers, envelope,
        created_at, reason, holds_key)
      VALUES (1, '0192f0c8-0000-7000-8000-000000000001', false, 'ORDER_CREATED', 'order.created', $1, '', 'j', now(),
        'too large', true)]], postbox.bytes "\27[2Jx"))
    local code, output = run({ "status" }, env)
    assert.equal(0, code, output)
    assert.truthy(output:find("parked   1\n", 1, true), output)
    assert.truthy(output:find("ORDER_CREATED to order.created, key \\x1b[2Jx", 1, true), output)
    assert.truthy(output:find("too large", 1, true), output)
    assert.is_nil(output:find("\27", 1, true))
  end)
end)

describe("postbox relay", function()
  local broker, box, env, topic

  setup(function()
    broker = support.broker()
    topic = broker:topic("cli", 2)
    env = { POSTBOX_DATABASE = support.database(), POSTBOX_KAFKA = broker.bootstrap }
    box = postbox.new { database = env.POSTBOX_DATABASE, topics = { ORDER_CREATED = topic } }
    assert(box:migrate())
  end)

  teardown(function() box:close() end)

  it("publishes what waits, and ends with --until-empty", function()
    assert(box:publish_manual("ORDER_CREATED", 1, { orderId = 1 }))
    local code, output = run({ "relay", "--until-empty", "0.5" }, env)
    assert.equal(0, code, output)
    assert.equal(1, #broker:records(topic))
    assert.equal(0, box:status().pending)
  end)

  it("runs until SIGTERM or SIGINT, and is seen in postbox status", function()
    for number, signal in ipairs { "TERM", "INT" } do
      local relay = start({ "relay" }, env)
      assert(box:publish_manual("ORDER_CREATED", 1, { orderId = 1 + number }))
      support.eventually(PATIENCE, function() return #broker:records(topic) == 1 + number end)
      assert.is_true(box:status().relay.active)
      local _, output = run({ "status" }, env)
      assert.truthy(output:find("relay    [^\n]+, epoch %d+\n"), output)
      assert.is_nil(output:find("none is active", 1, true))
      relay:kill(signal)
      assert.equal(0, relay:wait(PATIENCE), relay:output())
      assert.is_false(box:status().relay.active)
    end
  end)

  it("says what is missing where no broker is named", function()
    local code, output = run({ "relay", "--until-empty", "0.1" }, { POSTBOX_DATABASE = env.POSTBOX_DATABASE })
    assert.equal(1, code, output)
    assert.truthy(output:find("POSTBOX_KAFKA", 1, true), output)
  end)
end)

describe("text from elsewhere", function()
  it("is harmless on a terminal", function()
    for text, shown in pairs {
      ["tea for two"] = "tea for two",
      ["caf\195\169 \226\130\172 \240\159\152\128"] = "caf\195\169 \226\130\172 \240\159\152\128",
      ["a\27[31mb\0\127"] = "a\\x1b[31mb\\x00\\x7f",
      ["\155 2J"] = "\\x9b 2J",                             -- a control sequence of eight-bit terminals
      ["\194\155"] = "\\xc2\\x9b",                          -- the same in UTF-8
      ["\193\155"] = "\\xc1\\x9b",                          -- and badly encoded
      ["\226\128\174gpj.exe"] = "\\xe2\\x80\\xaegpj.exe",   -- written from right to left
      ["\237\160\128"] = "\\xed\\xa0\\x80",                 -- half of a surrogate pair
    } do
      assert.equal(shown, safe.text(text))
    end
  end)
end)

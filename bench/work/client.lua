-- A client that does business transactions, at the times that BENCH_POSTBOX, BENCH_BY_HAND,
-- BENCH_JOINED, BENCH_PLAIN and BENCH_NO_EVENT give ("start-end start-end …"). Prints "variant round
-- count seconds".
local cjson = require "cjson"
local core = require "postbox.core"
local plain = require "bench.plain"
local postbox = require "postbox"

local ACCOUNTS = 10000
local NOTE = ("x"):rep(224)
local UPDATE = "UPDATE bench_account SET balance = balance + 1 WHERE id = $1"
local INSERT = "INSERT INTO postbox.outbox (event_id, event_type, topic, partition_key, payload, headers) "
  .. "VALUES (gen_random_uuid(), $1, $2, convert_to($3, 'UTF8'), convert_to($4, 'UTF8'), '')"

local box = postbox.new {}
assert(box:query("SELECT 1"))
math.randomseed(tonumber(os.getenv("BENCH_NUMBER")))

local function connect_plainly()
  local connection = plain.connect(os.getenv("POSTBOX_DATABASE"))
  connection:prepare("begin", "BEGIN")
  connection:prepare("update", UPDATE)
  connection:prepare("insert", INSERT)
  connection:prepare("commit", "COMMIT")
  return connection
end

local variants = {}

function variants.postbox(id)
  assert(box:transaction(function(tx)
    tx:query(UPDATE, id)
    tx:publish("ORDER_CREATED", id, { accountId = id, note = NOTE })
  end))
end

local function one_by_one(id, begin)
  local connection = assert(box:acquire())
  assert(connection:begin(begin))
  assert(connection:query(UPDATE, id))
  assert(connection:query(INSERT, "ORDER_CREATED", "order.created", tostring(id),
    cjson.encode { accountId = id, note = NOTE }))
  assert(connection:commit())
  box:give_back(connection)
end

local AT_ONCE, LATER = { at_once = true }, {}

-- BEGIN, UPDATE, INSERT, COMMIT: four round trips, the first of them with the time-out and the id
-- of the transaction, as the connection always has them.
function variants.by_hand(id)
  one_by_one(id, AT_ONCE)
end

-- The same with BEGIN in the round trip of the UPDATE.
function variants.joined(id)
  one_by_one(id, LATER)
end

-- Nothing of postbox: four statements through the thinnest binding of libpq.
local plain_connection

function variants.plain(id)
  plain_connection = plain_connection or connect_plainly()
  plain_connection:run("begin")
  plain_connection:run("update", id)
  plain_connection:run("insert", "ORDER_CREATED", "order.created", id, cjson.encode { accountId = id, note = NOTE })
  plain_connection:run("commit")
end

function variants.no_event(id)
  assert(box:transaction(function(tx)
    tx:query(UPDATE, id)
  end))
end

local function read_turns()
  local turns = {}
  for name in pairs(variants) do
    local round = 0
    for start, stop in (os.getenv("BENCH_" .. name:upper()) or ""):gmatch("([%d.]+)-([%d.]+)") do
      round = round + 1
      table.insert(turns, { name = name, round = round, start = tonumber(start), stop = tonumber(stop) })
    end
  end
  table.sort(turns, function(a, b) return a.start < b.start end)
  return turns
end

local turns = read_turns()
assert(turns[1], "no time to work was given")
assert(core.now() < turns[1].start, "the start was over before the client was ready")
for _, turn in ipairs(turns) do
  core.sleep(math.max(0, turn.start - core.now()))
  local run, done, start = variants[turn.name], 0, core.now()
  while core.now() < turn.stop do
    run(math.random(ACCOUNTS))
    done = done + 1
  end
  print(("%s %d %d %.6f"):format(turn.name, turn.round, done, core.now() - start))
end
assert(box:close(5))

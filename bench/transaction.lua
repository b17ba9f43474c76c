-- A business transaction, the UPDATE of a row and one event: box:transaction beside the same
-- statements sent one by one through the same connections, the same with BEGIN in the trip of the
-- UPDATE, through a binding of libpq that does nothing else, and without any event as the floor; and
-- beside them in C. All take turns of a second, many times, so that what else the machine does
-- meets all alike.

local core = require "postbox.core"
local figures = require "bench.figures"

local ACCOUNTS = 10000
local VARIANTS = { "5.4/postbox", "5.4/by_hand", "5.4/joined", "5.4/plain", "5.4/no_event",
  "jit/postbox", "jit/by_hand", "jit/joined", "jit/plain", "jit/no_event", "C" }
local LUAS = { ["5.4"] = "Lua 5.4", jit = "LuaJIT" }
local PAUSE = 0.1
local TURNS = 2 -- of a second, in each round

-- Who works when: a list of "start-end" texts by variant. Each round begins with another one.
local function schedule(start, seconds, rounds)
  local turns, time = {}, start
  for _, variant in ipairs(VARIANTS) do
    turns[variant] = {}
  end
  for i = 1, rounds do
    for k = 1, #VARIANTS do
      local variant = VARIANTS[(k + i * 3) % #VARIANTS + 1]
      table.insert(turns[variant], ("%.3f-%.3f"):format(time, time + seconds))
      time = time + seconds + PAUSE
    end
  end
  return turns, time
end

local function start_clients(run, clients, turns)
  local programs = {}
  for lua in pairs(LUAS) do
    for i = 1, clients do
      local parameters = { number = i }
      for variant, times in pairs(turns) do
        local own = variant:match("^" .. lua:gsub("%.", "%%.") .. "/(.*)$")
        if own then
          parameters[own] = table.concat(times, " ")
        end
      end
      table.insert(programs, { lua = lua, program = run.servers:work("client", parameters, lua) })
    end
  end
  table.insert(programs, { program = run.servers.reference("transact", run.servers.database, clients,
    (table.unpack or unpack)(turns.C)) }) -- luacheck: ignore 113 143
  return programs
end

-- Transactions a second by variant and round, and how many had an event.
local function collect(programs)
  local rates, all, events = {}, 0, 0
  for _, entry in ipairs(programs) do
    local _, output = entry.program:finish()
    for line in output:gmatch("[^\n]+") do
      local name, round, done, seconds = line:match("^(%S*) ?(%d+) (%d+) ([%d.]+)$")
      if round then
        local variant = entry.lua and entry.lua .. "/" .. name or "C"
        rates[variant] = rates[variant] or {}
        rates[variant][tonumber(round)] = (rates[variant][tonumber(round)] or 0) + done / seconds
        all = all + done
        events = events + (name == "no_event" and 0 or done)
      end
    end
  end
  return rates, all, events
end

local function prepare(run)
  run.servers:query("DROP TABLE IF EXISTS bench_account")
  run.servers:query("CREATE TABLE bench_account (id integer PRIMARY KEY, balance bigint NOT NULL) "
    .. "WITH (fillfactor = 50)")
  run.servers:query("INSERT INTO bench_account SELECT i, 0 FROM generate_series(1, $1::integer) AS i", ACCOUNTS)
  run.servers:query("TRUNCATE postbox.outbox")
  run.servers:query("VACUUM ANALYZE bench_account")
  run.servers:settle()
end

local function check(run, all, events)
  local updates = run.servers:number("SELECT sum(balance) AS n FROM bench_account")
  local rows = run.servers:number("SELECT count(*) AS n FROM postbox.outbox")
  if updates ~= all or rows ~= events then
    error(("transaction: %d transactions with %d events were reported, and %d updates and %d events are stored")
      :format(all, events, updates, rows), 0)
  end
end

local REFERENCES = {
  { "by_hand", "Lua: BEGIN, UPDATE, INSERT, COMMIT", 1 },
  { "joined", "Lua: the same, BEGIN goes with UPDATE" },
  { "plain", "Lua: the four by a thin libpq, no time-outs" },
  { "no_event", "Lua: UPDATE alone, no event" },
}

local function report(run, clients, rates)
  for _, lua in ipairs { "5.4", "jit" } do
    local name = ("transaction with one event, %d client%s, %s"):format(clients, clients > 1 and "s" or "", LUAS[lua])
    local ours = rates[lua .. "/postbox"]
    for _, reference in ipairs(REFERENCES) do
      local theirs = rates[lua .. "/" .. reference[1]]
      if theirs then
        run.table:add { name = name, unit = "/s", samples = ours, share = reference[3], reference = reference[2],
          reference_samples = theirs }
        name = "... the same"
      end
    end
    run.table:add { name = "... the same", unit = "/s", samples = ours,
      reference = "C: BEGIN, UPDATE, INSERT, COMMIT", reference_samples = rates.C }
  end
end

local function measure(run, clients, seconds)
  prepare(run)
  local rounds = run.rounds * TURNS
  figures.say("transactions of %d client%s, %d rounds of %g s each", clients, clients > 1 and "s" or "", rounds,
    seconds)
  local turns, last = schedule(core.now() + 1 + clients * 0.1, seconds, rounds)
  local programs = start_clients(run, clients, turns)
  core.sleep(math.max(0, last - core.now()))
  local rates, all, events = collect(programs)
  check(run, all, events)
  report(run, clients, rates)
end

return function(run)
  local seconds = run.short and 0.3 or 1
  measure(run, 1, seconds)
  measure(run, 16, seconds)
  run.servers:query("TRUNCATE postbox.outbox")
end

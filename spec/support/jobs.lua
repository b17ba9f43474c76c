-- Programs that count what passed and failed, some at once, each within its time.
-- The last line of a program that has the form "N passed, N failed[, N skipped]" are its counts;
-- one that does not say so counts as one, by its status.

local core = require "postbox.core"
local process = require "postbox.testing.process"

local jobs = {}

jobs.totals = { passed = 0, failed = 0, skipped = 0 }

local function read_counts(output)
  local passed, failed, rest
  for line in output:gmatch("[^\n]+") do
    local p, f, r = line:match("^(%d+) passed, (%d+) failed(.*)$")
    if p then
      passed, failed, rest = tonumber(p), tonumber(f), r
    end
  end
  return passed, failed, rest and tonumber(rest:match("(%d+) skipped")) or 0
end

--- Adds to the totals, and says so in one line.
function jobs.count(name, passed, failed, skipped, note)
  local totals = jobs.totals
  totals.passed = totals.passed + passed
  totals.failed = totals.failed + failed
  totals.skipped = totals.skipped + skipped
  print(("%-6s %-52s %4d passed%s%s%s"):format(failed > 0 and "FAILED" or "ok", name, passed,
    failed > 0 and (", %d failed"):format(failed) or "",
    skipped > 0 and (", %d skipped"):format(skipped) or "", note and "  " .. note or ""))
  io.stdout:flush()
end

local function start(job)
  job.started = core.now()
  job.process = process.start(job.command, { env = job.env, capture = true })
end

local function finish(job, status)
  local output = job.process:output()
  local passed, failed, skipped = read_counts(output)
  if not passed then
    passed, failed, skipped = status == 0 and 1 or 0, status == 0 and 0 or 1, 0
  elseif status ~= 0 and failed == 0 then
    failed = 1 -- it counted, and then it crashed
  end
  if failed > 0 then
    print(output)
  end
  if status == nil then
    print(("%s took more than %d s; the last test that began is named above"):format(job.name, job.limit))
  elseif status > 128 then
    print(("%s was ended by signal %d"):format(job.name, status - 128))
  end
  jobs.count(job.name, passed, failed, skipped, ("(%.1f s)"):format(core.now() - job.started))
  job.process:kill_all("KILL") -- what it left behind
  job.process:close()
end

-- True when the job is over.
local function look(job)
  local status = job.process:wait(0)
  if status then
    finish(job, status)
    return true
  elseif core.now() - job.started > job.limit then
    job.process:kill_all("KILL")
    job.process:wait(5)
    finish(job, nil)
    return true
  end
  return false
end

--- Runs all, `width` at once.
-- @tparam {table,...} list of `{ name, command, env, limit }`, limit in seconds
function jobs.run(list, width)
  local next_job, running = 1, {}
  while next_job <= #list or #running > 0 do
    while #running < width and next_job <= #list do
      start(list[next_job])
      running[#running + 1] = list[next_job]
      next_job = next_job + 1
    end
    for i = #running, 1, -1 do
      if look(running[i]) then
        table.remove(running, i)
      end
    end
    if #running > 0 then
      running[1].process:wait(0.05)
    end
  end
end

return jobs

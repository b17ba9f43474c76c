-- What /proc tells of the machine and its processes.

local machine = {}

local TICKS = 100 -- of /proc, a second; the same on every Linux

local function read(path)
  local file = io.open(path, "r")
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text
end

--- CPU seconds that the whole machine has worked.
function machine.cpu()
  local user, nice, system, _, _, irq, soft =
    read("/proc/stat"):match("^cpu%s+(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)")
  return (user + nice + system + irq + soft) / TICKS
end

local function cpu_of(pid)
  local rest = read(("/proc/%d/stat"):format(pid)):match("^.*%) (.*)$")
  if not rest then
    return 0
  end
  local fields = {}
  for field in rest:gmatch("%S+") do
    fields[#fields + 1] = field
  end
  -- user, system, and those of children that have ended
  return (fields[12] + fields[13] + fields[14] + fields[15]) / TICKS
end

--- CPU seconds of a process and its children, also of those that have ended.
function machine.cpu_of_tree(pid)
  local sum = cpu_of(pid)
  for child in read(("/proc/%d/task/%d/children"):format(pid, pid)):gmatch("%d+") do
    sum = sum + cpu_of(tonumber(child))
  end
  return sum
end

--- The most memory, in MiB, that this process has had resident.
function machine.peak_memory()
  return tonumber(read("/proc/self/status"):match("VmHWM:%s*(%d+)")) / 1024
end

--- One line: processors, memory, kernel.
function machine.describe()
  local info = read("/proc/cpuinfo")
  local _, processors = info:gsub("\nprocessor%s*:", "")
  local memory = tonumber(read("/proc/meminfo"):match("MemTotal:%s*(%d+)")) / 1024 / 1024
  return ("machine: %d processors (%s), %.0f GiB, Linux %s"):format(processors + 1,
    info:match("model name%s*:%s*([^\n]+)") or "unknown", memory, read("/proc/sys/kernel/osrelease"):match("%S+"))
end

return machine

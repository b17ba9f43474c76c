--- Programs that a test starts beside itself.
-- They are killed when this process ends, however it ends.
-- @module postbox.testing.process

local core = require "postbox.core"

local process = {}

local SIGNALS = { HUP = 1, INT = 2, QUIT = 3, KILL = 9, USR1 = 10, TERM = 15, CONT = 18, STOP = 19 }

local function signal_number(signal)
  return type(signal) == "number" and signal
    or SIGNALS[signal] or error("no signal is called " .. tostring(signal), 3)
end

local methods = {}
local class = { __index = methods, __name = "postbox.testing.process" }

--- Starts a program.
-- @tparam {string,...} arguments the program (looked up in PATH) and its arguments
-- @tparam[opt] table options `env` (table of variables), `capture` (what it prints is kept for
-- `output()`), `file` (it is written there; otherwise it goes where this process prints),
-- `outlives` (not killed with this process: it sees the end of its standard input instead)
-- @treturn process
function process.start(arguments, options)
  options = options or {}
  local env = {}
  for name, value in pairs(options.env or {}) do
    env[#env + 1] = name .. "=" .. tostring(value)
  end
  local path = options.file or options.capture and os.tmpname()
  local file = path and assert(io.open(path, "a+b"))
  local handle = assert(core.process(arguments, env, path or nil, options.outlives))
  if options.capture then
    os.remove(path) -- open it stays, and nobody has to clean up
  end
  return setmetatable({ handle = handle, id = handle:id(), file = file }, class)
end

--- Runs a program to its end.
-- @treturn integer its status, 128 + signal where one ended it; nil where it took too long
-- @treturn string what it printed
function process.run(arguments, seconds, options)
  local started = process.start(arguments, { env = options and options.env, capture = true })
  local status = started:wait(seconds or 60)
  local output = started:output()
  started:close()
  return status, output
end

--- Quotes a text for the shell.
function process.quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

--- True where a process of this id runs (one that only waits for its parent to notice does not).
function process.exists(pid)
  local file = io.open(("/proc/%d/stat"):format(pid), "r")
  local state = file and file:read("*a"):match("^.*%) (%a)")
  if file then
    file:close()
  end
  return state ~= nil and state ~= "Z" and state ~= "X"
end

--- Sends a signal, by name or number, to a process id.
function process.signal(pid, signal)
  return core.kill(pid, signal_number(signal))
end

function methods:pid()
  return self.id
end

--- Sends a signal ("KILL", "TERM", "STOP", a number; "TERM" unless given). False: it has ended.
function methods:kill(signal)
  return self.handle:kill(signal_number(signal or "TERM"), false)
end

--- The same for the process and all that it started.
function methods:kill_all(signal)
  return self.handle:kill(signal_number(signal or "TERM"), true)
end

--- Waits for its end.
-- @treturn integer its status, 128 + signal where one ended it; nil while it still runs
function methods:wait(seconds)
  return self.handle:wait(seconds or 60)
end

--- What it has printed so far, where `capture` or `file` was given.
function methods:output()
  if not self.file then
    return ""
  end
  self.file:seek("set")
  return self.file:read("*a")
end

--- Ends it (or its input, with `outlives`).
function methods:close()
  self.handle:close()
  if self.file then
    self.file:close()
    self.file = nil
  end
end

return process

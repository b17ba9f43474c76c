--- A throw-away PostgreSQL: a cluster of its own in a temporary folder, reached through a unix
-- socket there, gone when this process ends.
-- @module postbox.testing.postgres

local core = require "postbox.core"
local process = require "postbox.testing.process"

local quote = process.quote

local postgres = {}

local methods = {}
local class = { __index = methods, __name = "postbox.testing.postgres" }

-- Durable enough to survive a crash of the server itself, which is what tests provoke; not a crash
-- of the machine. A crash is not hidden by a restart.
local SETTINGS = [[
listen_addresses = ''
port = 5432
unix_socket_directories = '%s'
fsync = off
full_page_writes = off
restart_after_crash = off
shared_buffers = 64MB
max_connections = 200
max_prepared_transactions = 20
max_wal_size = 4GB
wal_level = logical
timezone = 'UTC'
log_min_messages = warning
]]

-- Stops the server and removes the folder when the process that made them is gone.
local GUARD = [[
trap '' HUP INT TERM
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
  kill -QUIT "$pid" 2>/dev/null
  tries=0
  while kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$1"
]]

local function read_command(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read("*a"):gsub("%s+$", "")
  pipe:close()
  return text
end

local function has_server(folder)
  local file = io.open(folder .. "/initdb", "rb")
  return file and file:close() and true or false
end

local function find_programs()
  local folder = read_command("pg_config --bindir 2>/dev/null")
  if folder ~= "" and has_server(folder) then
    return folder
  end
  folder = read_command("ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1")
  if folder ~= "" and has_server(folder) then
    return folder
  end
  error("no PostgreSQL server is installed (initdb was not found): apt-get install postgresql", 0)
end

-- The server refuses to run as root: then it is the user `postgres`, or `nobody`.
local function find_user()
  if read_command("id -u") ~= "0" then
    return nil
  end
  return read_command("id -u postgres 2>/dev/null") ~= "" and "postgres" or "nobody"
end

function methods:run(arguments, seconds)
  local line = {}
  if self.user then
    local group = read_command("id -gn " .. self.user)
    line = { "setpriv", "--reuid=" .. self.user, "--regid=" .. group, "--clear-groups", "--" }
  end
  line[#line + 1] = self.programs .. "/" .. arguments[1]
  for i = 2, #arguments do
    line[#line + 1] = arguments[i]
  end
  local status, output = process.run(line, seconds or 60, { env = { LC_ALL = "C" } })
  if status ~= 0 then
    error(("%s failed: %s\n%s"):format(arguments[1], output, self:log()), 0)
  end
  return output
end

local function make_folder(user)
  local folder = read_command('mktemp -d "${TMPDIR:-/tmp}/postbox-pg-XXXXXX"')
  assert(folder ~= "", "no temporary folder could be made")
  if user then
    os.execute("chown " .. user .. " " .. quote(folder))
  end
  os.execute("chmod 711 " .. quote(folder)) -- others may reach the socket
  return folder
end

local function write_settings(self, settings)
  local lines = { SETTINGS:format(self.folder) }
  for name, value in pairs(settings or {}) do
    lines[#lines + 1] = ("%s = '%s'\n"):format(name, tostring(value):gsub("'", "''"))
  end
  local file = assert(io.open(self.folder .. "/data/postgresql.auto.conf", "a"))
  file:write(table.concat(lines))
  file:close()
end

--- Starts one.
-- @tparam[opt] table options `settings`: lines of postgresql.conf, name -> value
-- @treturn postgres with `database`, the connection string of its first, empty database
function postgres.start(options)
  local programs, user = find_programs(), find_user()
  local folder = make_folder(user)
  local guard = process.start({ "sh", "-c", GUARD, "sh", folder }, { outlives = true, file = "/dev/null" })
  local self = setmetatable({
    programs = programs, user = user, folder = folder, guard = guard, count = 0,
  }, class)
  self.database = self:connection_string("postgres")
  self:run { "initdb", "--pgdata=" .. folder .. "/data", "--username=postgres", "--auth=trust",
    "--encoding=UTF8", "--locale=C", "--no-sync" }
  write_settings(self, options and options.settings)
  self:up()
  return self
end

--- The connection string of a database by name.
function methods:connection_string(name)
  return ("host=%s port=5432 user=postgres dbname=%s"):format(self.folder, name)
end

--- Makes a fresh, empty database.
-- @tparam[opt] string name letters, digits and _; chosen unless given
-- @treturn string its connection string
function methods:create_database(name)
  self.count = self.count + 1
  name = name or ("test_%d_%d"):format(self.guard:pid(), self.count)
  self:run { "psql", "-qX", "-d", self.database, "-c", ('CREATE DATABASE "%s"'):format(name) }
  return self:connection_string(name)
end

--- The process id of the server; nil where it does not run.
function methods:pid()
  local file = io.open(self.folder .. "/data/postmaster.pid", "r")
  if not file then
    return nil
  end
  local pid = tonumber(file:read("*l"))
  file:close()
  return pid
end

local function children_of(pid)
  local file = io.open(("/proc/%d/task/%d/children"):format(pid, pid), "r")
  local list = {}
  for child in (file and file:read("*a") or ""):gmatch("%d+") do
    list[#list + 1] = tonumber(child)
  end
  if file then
    file:close()
  end
  return list
end

-- Without the server its children would end by themselves, but in their own time. The lock files
-- are removed because the process id in them may belong to somebody else by now.
local function kill_server(self)
  local server = assert(self:pid(), "the server does not run")
  local pids = children_of(server)
  table.insert(pids, 1, server)
  for _, pid in ipairs(pids) do
    process.signal(pid, "KILL")
  end
  for _, pid in ipairs(pids) do
    while process.exists(pid) do
      core.sleep(0.01)
    end
  end
  os.remove(self.folder .. "/data/postmaster.pid")
  os.remove(self.folder .. "/.s.PGSQL.5432.lock")
end

--- Stops the server; `up` starts it again with what it had stored.
-- @tparam[opt] string mode "fast" (connections are closed, unless given), "immediate" (as after a
-- crash), "kill" (SIGKILL to all its processes)
function methods:down(mode)
  if mode == "kill" then
    return kill_server(self)
  end
  self:run { "pg_ctl", "stop", "--wait", "--mode=" .. (mode or "fast"), "--pgdata=" .. self.folder .. "/data" }
end

--- Starts the server again.
function methods:up()
  self:run({ "pg_ctl", "start", "--wait", "--silent", "--timeout=60", "--pgdata=" .. self.folder .. "/data",
    "--log=" .. self.folder .. "/log" }, 70)
end

--- What the server has logged.
function methods:log()
  local file = io.open(self.folder .. "/log", "r")
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text
end

--- Stops the server and removes its folder.
function methods:stop()
  if not self.folder then
    return
  end
  pcall(self.down, self, "immediate")
  os.execute("rm -rf " .. quote(self.folder))
  self.guard:close()
  self.folder = nil
end

return postgres

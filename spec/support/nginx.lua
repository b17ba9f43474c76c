-- A throw-away nginx with its Lua module: in a temporary folder, on a loopback port, as nobody where
-- the specs run as root. It loads the module that was built for LuaJIT.
--
-- curl asks it, because plain Lua has no sockets. POSTBOX_TEST_NGINX_BUILD names another folder of
-- builds, such as one with the address sanitizer, and POSTBOX_TEST_NGINX_PRELOAD its library.

local core = require "postbox.core"
local process = require "postbox.testing.process"
local support = require "spec.support"

local nginx = {}

local MODULES = "/usr/lib/nginx/modules/"
local START_SECONDS = 10
local STOP_SECONDS = 20

-- Ends what is left, and removes the folder, when the process that made them is gone.
local GUARD = [[
trap '' HUP INT TERM
cat >/dev/null
kill -KILL -- "-$1" 2>/dev/null
rm -rf "$2"
]]

local CONF = [[
load_module {modules}ndk_http_module.so;
load_module {modules}ngx_http_lua_module.so;
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
worker_shutdown_timeout 20s;
{main}
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  lua_package_path "{here}/lua/?.lua;{here}/lua/?/init.lua;{folder}/?.lua;;";
  lua_package_cpath "{build}/jit/?.so;;";
  {http}
  init_by_lua_block { {init} }
  init_worker_by_lua_block { {init_worker} }
  exit_worker_by_lua_block { {exit_worker} }
  server {
    listen 127.0.0.1:{port} backlog=1024;
    keepalive_requests 1000000;
    location = /up { return 200; }
    {locations}
  }
}
]]

local methods = {}
local class = { __index = methods }

local function read_command(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read("*a"):gsub("%s+$", "")
  pipe:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

-- A string is the Lua code of the location's content; a table has nginx's lines.
local function location_lines(locations)
  local lines = {}
  for path, body in pairs(locations) do
    local text = type(body) == "table" and body[1] or ("content_by_lua_block { %s }"):format(body)
    lines[#lines + 1] = ("location = %s { %s }"):format(path, text)
  end
  return table.concat(lines, "\n    ")
end

local function conf_of(options, values)
  for _, name in ipairs { "main", "http", "init", "init_worker", "exit_worker" } do
    values[name] = options[name] or ""
  end
  values.workers = options.workers or 1
  values.locations = location_lines(options.locations)
  return (CONF:gsub("{([%w_]+)}", function(name) return tostring(values[name]) end))
end

local function command(folder, as_root)
  local line = { "nginx", "-e", folder .. "/error.log", "-c", folder .. "/nginx.conf", "-p", folder }
  if as_root then
    for i, word in ipairs { "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--" } do
      table.insert(line, i, word)
    end
  end
  return line
end

--- Starts one.
-- @tparam table options init, init_worker, exit_worker (Lua code), locations (by path: Lua code of
-- the content, or a table with nginx's lines), http and main (nginx's lines), workers (1)
function nginx.start(options)
  local folder = read_command('mktemp -d "${TMPDIR:-/tmp}/postbox-nginx-XXXXXX"')
  local as_root = read_command("id -u") == "0"
  local here = read_command("pwd")
  local build = os.getenv "POSTBOX_TEST_NGINX_BUILD" or os.getenv "BUILD" or "build"
  local self = setmetatable({ folder = folder, port = core.free_port() }, class)
  write(folder .. "/nginx.conf", conf_of(options, { folder = folder, port = self.port, modules = MODULES, here = here,
    build = build:sub(1, 1) == "/" and build or here .. "/" .. build }))
  if as_root then
    os.execute("chown -R nobody " .. process.quote(folder))
  end
  self.process = process.start(command(folder, as_root), { outlives = true, file = folder .. "/output",
    env = { LD_PRELOAD = os.getenv "POSTBOX_TEST_NGINX_PRELOAD" } })
  self.guard = process.start({ "sh", "-c", GUARD, "sh", tostring(self.process:pid()), folder },
    { outlives = true, file = "/dev/null" })
  support.eventually(START_SECONDS, function()
    return read_command(("curl -s -m 2 -o /dev/null -w '%%{http_code}' %s"):format(self:url "/up")) == "200"
  end)
  return self
end

function methods:url(path)
  return ("'http://127.0.0.1:%d%s'"):format(self.port, path)
end

--- Asks once. The body and the status.
function methods:get(path, seconds)
  local text = read_command(("curl -s -m %d -w '\n%%{http_code}' %s"):format(seconds or 30, self:url(path)))
  local body, status = text:match "^(.*)\n(%d+)$"
  return (body or text):gsub("%s+$", ""), tonumber(status)
end

--- Asks many times in the background.
-- @tparam string path with curl's [1-50]
-- @tparam[opt] number width at once; one after another on one connection unless given
-- @return an object with finish(seconds): waits, and returns a list of { status, seconds, answer },
-- the latter being the header X-Answer of the response
function methods:ask_many(path, width)
  local line = { "curl", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code} %{time_total} %header{x-answer}\n" }
  for _, word in ipairs(width and { "-Z", "--parallel-immediate", "--parallel-max", tostring(width),
    "--no-progress-meter" } or {}) do
    line[#line + 1] = word
  end
  line[#line + 1] = ("http://127.0.0.1:%d%s"):format(self.port, path)
  local asking = process.start(line, { capture = true })
  local function finish(_, seconds)
    asking:wait(seconds or 60)
    local list = {}
    for status, taken, answer in asking:output():gmatch "(%d%d%d) ([%d.]+) ([^\n]*)\n" do
      list[#list + 1] = { status = tonumber(status), seconds = tonumber(taken), answer = answer }
    end
    asking:close()
    return list
  end
  return { finish = finish }
end

--- The process ids of the workers.
function methods:workers()
  local list = {}
  local file = io.open(("/proc/%d/task/%d/children"):format(self.process:pid(), self.process:pid()), "r")
  for pid in (file and file:read "*a" or ""):gmatch "%d+" do
    list[#list + 1] = tonumber(pid)
  end
  if file then
    file:close()
  end
  return list
end

--- A signal to the master.
function methods:signal(name)
  self.process:kill(name)
end

function methods:log()
  local file = io.open(self.folder .. "/error.log", "r")
  local text = file and file:read "*a" or ""
  if file then
    file:close()
  end
  return text
end

--- What was logged up to now is expected.
function methods:forget_log()
  self.forgotten = #self:log()
end

--- Lines of the log that say that a worker died of a signal, or that Lua code failed.
function methods:crashes()
  local list = {}
  for line in self:log():sub((self.forgotten or 0) + 1):gmatch "[^\n]+" do
    if line:find("exited on signal", 1, true) or line:find("lua entry thread aborted", 1, true)
      or line:find("failed to run", 1, true) or line:find "exited with code [1-9]"
      or line:find("AddressSanitizer", 1, true) then
      list[#list + 1] = line
    end
  end
  return list
end

--- Ends it with a signal ("QUIT" unless given). Its status, nil where it had to be killed; seconds.
function methods:stop(signal)
  local before = core.now()
  self.process:kill(signal or "QUIT")
  local status = self.process:wait(STOP_SECONDS)
  local seconds = core.now() - before
  if not status then
    self.process:kill_all "KILL"
  end
  return status, seconds
end

function methods:close()
  self.process:kill_all "KILL"
  self.process:close()
  os.execute("rm -rf " .. process.quote(self.folder))
  self.guard:close()
end

return nginx

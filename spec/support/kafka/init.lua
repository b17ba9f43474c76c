-- Apache Kafka itself, one node, in a temporary folder and on ports that the kernel gives.
-- The jars come from Maven once and stay in ${XDG_CACHE_HOME:-~/.cache}/postbox.

local client = require "postbox.testing.client"
local core = require "postbox.core"
local process = require "postbox.testing.process"

local quote = process.quote

local VERSION = os.getenv("POSTBOX_KAFKA_VERSION") or "4.1.1"
local FETCH_SECONDS = 600
local START_SECONDS = 60
local FILES = "spec/support/kafka/"

local SETTINGS = [[
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d
advertised.listeners=PLAINTEXT://127.0.0.1:%d
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:%d
log.dirs=%s/data
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=2
log.segment.bytes=268435456
]]

-- Removes the folder when the process that made it is gone; Java is killed by then.
local GUARD = [[trap '' HUP INT TERM; cat >/dev/null; sleep 0.2; rm -rf "$1"]]

local kafka = {}
local methods = setmetatable({}, { __index = client.methods })

local function cache_folder()
  local base = os.getenv("XDG_CACHE_HOME")
  if not base or base == "" then
    base = (os.getenv("HOME") or "/tmp") .. "/.cache"
  end
  return base .. "/postbox/kafka-" .. VERSION
end

local function shell(command, seconds, what)
  local status, output = process.run({ "sh", "-c", command }, seconds)
  if status ~= 0 then
    error(("%s failed (%s): %s"):format(what, tostring(status or "time is over"), output), 0)
  end
  return (output:gsub("%s+$", ""))
end

-- Into a folder of another name first, so that an interrupted download is not taken for a whole one.
function kafka.fetch()
  local folder = cache_folder()
  local found = io.open(folder .. "/complete", "r")
  if found then
    found:close()
    return folder
  end
  print("fetching the jars of Apache Kafka " .. VERSION .. " into " .. folder)
  shell(([[
    set -e
    folder=%s
    mkdir -p "${folder%%/*}"
    part=$(mktemp -d "$folder.XXXXXX")
    cp %spom.xml "$part"
    mvn -q -B -f "$part/pom.xml" -Dkafka.version=%s dependency:copy-dependencies -DoutputDirectory="$part/lib"
    : >"$part/complete"
    [ -e "$folder/complete" ] || { rm -rf "$folder"; mv "$part" "$folder"; }
    rm -rf "$part"
  ]]):format(quote(folder), FILES, VERSION), FETCH_SECONDS, "fetching Apache Kafka")
  return folder
end

local function java(jars, folder, class, ...)
  local line = { "java", "-Xms256m", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
    "-Dkafka.logs.dir=" .. folder, "-Dlog4j2.configurationFile=file:" .. FILES .. "log4j2.properties",
    "-cp", jars .. "/lib/*", class }
  for _, argument in ipairs { ... } do
    line[#line + 1] = argument
  end
  return line
end

local function write_settings(folder, port, controller)
  local path = folder .. "/server.properties"
  local file = assert(io.open(path, "w"))
  file:write(SETTINGS:format(port, controller, port, controller, folder))
  file:close()
  return path
end

-- The first topic proves that the broker answers and stores.
local function wait_until_ready(self)
  local deadline = os.time() + START_SECONDS
  while os.time() < deadline and not self.process:wait(0) do
    if self:open_probe():create_topic("ready", 1, 1) then
      return true
    end
  end
  error("Apache Kafka does not answer: " .. self.process:output(), 0)
end

function kafka.start()
  local jars = kafka.fetch()
  local folder = shell('mktemp -d "${TMPDIR:-/tmp}/postbox-kafka-XXXXXX"', 5, "mktemp")
  local guard = process.start({ "sh", "-c", GUARD, "sh", folder }, { outlives = true, file = "/dev/null" })
  local port, controller = core.free_port(), core.free_port()
  local settings = write_settings(folder, port, controller)
  local id = "cG9zdGJveC1zcGVjcy0wMA" -- a cluster has one; any 16 bytes in base64
  local status, output = process.run(java(jars, folder, "kafka.tools.StorageTool", "format", "-t", id,
    "-c", settings), START_SECONDS)
  assert(status == 0, output)
  local self = client.new("127.0.0.1:" .. port)
  setmetatable(self, { __index = methods })
  self.folder, self.guard, self.is_mock = folder, guard, false
  self.process = process.start(java(jars, folder, "kafka.Kafka", settings), { file = folder .. "/log" })
  wait_until_ready(self)
  return self
end

-- Freezes it, as a long pause of its machine would, and wakes it up again.
function methods:down()
  self.process:kill("STOP")
end

function methods:up()
  self.process:kill("CONT")
end

function methods:stop()
  self:close_probe()
  self.process:kill("TERM")
  if not self.process:wait(10) then
    self.process:kill("KILL")
  end
  self.process:close()
  self.guard:close()
end

return kafka

--- Runs the Spring Kafka services of this folder and reads what they print.
local cjson = require "cjson"
local process = require "postbox.testing.process"

local java = {}

local services = nil -- the folder of the built services

local BUILD_SECONDS = 600
local START_SECONDS = 20 -- of a Java process, beside the time that its task may take

--- Builds the services if this has not been done on this machine, and returns their folder.
function java.build()
  if not services then
    local status, output = process.run({ "sh", "spec/java/build.sh" }, BUILD_SECONDS)
    assert(status == 0, "the Spring services could not be built: " .. output)
    services = assert(output:match("([^\n]+)\n$"), output)
  end
  return services
end

function java.from_hex(text)
  return (text:gsub("%x%x", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

--- Big-endian bytes of a whole number of at most 53 bits, as Java's ByteBuffer writes them.
function java.big_endian(number, size)
  local bytes = {}
  for i = size, 1, -1 do
    bytes[i] = string.char(number % 256)
    number = math.floor(number / 256)
  end
  return table.concat(bytes)
end

--- A printed record: cjson's null is an absent field, key, value and headers are bytes.
function java.record(text)
  local record = cjson.decode(text)
  for _, name in ipairs { "key", "value" } do
    record[name] = type(record[name]) == "string" and java.from_hex(record[name]) or nil
  end
  for i, header in ipairs(record.headers) do
    record.headers[i] = { header.name, java.from_hex(header.value) }
  end
  return record
end

--- Runs one mode until it has printed `count` lines, and returns them.
function java.run(mode, bootstrap, topic, count, seconds)
  seconds = seconds or 30
  local folder = java.build()
  local _, output = process.run({
    "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=" .. (mode == "fail" and "off" or "error"),
    "-cp", folder .. "/classes:" .. folder .. "/lib/*", "postbox.interop.Main",
    mode, bootstrap, topic, ("%d"):format(count), ("%d"):format(seconds),
  }, seconds + START_SECONDS)
  local lines = {}
  for line in output:gmatch("[^\n]+") do
    lines[#lines + 1] = line:find("^{") and line or nil
  end
  assert(#lines == count, ("Spring's %s printed %d of %d lines: %s"):format(mode, #lines, count, output))
  return lines
end

--- The same, for the modes that print records.
function java.records(...)
  local lines = java.run(...)
  for i, line in ipairs(lines) do
    lines[i] = java.record(line)
  end
  return lines
end

--- Dead letters that Spring wrote, from the fixture; a head line in it says how they were recorded.
function java.fixture()
  local records = {}
  for line in io.lines("spec/fixtures/spring_dead_letter.jsonl") do
    if not line:find("^{\"recorded\"") then
      records[#records + 1] = java.record(line)
    end
  end
  return records
end

return java

--- The command line: postbox migrate, relay, status.
-- @module postbox.cli
local argparse = require "argparse"

local postbox = require "postbox"

local cli = {}

local commands = {
  migrate = "postbox.cli.migrate",
  relay = "postbox.cli.relay",
  status = "postbox.cli.status",
}

-- argparse's own leaves with 1, which is what a command that failed leaves with.
local function misused(parser, message)
  io.stderr:write(parser:get_usage(), "\n\npostbox: ", message, "\n")
  os.exit(2)
end

local function name_and_value(text)
  if not text:find "^[^=]+=" then
    return nil, "--kafka-option takes name=value"
  end
  return text
end

local function parser()
  local top = argparse("postbox", "Transactional messaging between PostgreSQL and Kafka.")
  top.error = misused
  top:option("-d --database", "PostgreSQL connection string (default: POSTBOX_DATABASE)")
  top:option("-k --kafka", "Kafka brokers, host:port,... (default: POSTBOX_KAFKA)")
  top:option("--schema", "schema of postbox's tables", "postbox")
  top:option("--kafka-option", "a librdkafka property, name=value; may be repeated"):count("*"):argname("<name=value>")
    :convert(name_and_value)
  top:flag("--insecure", "allow servers off this machine without verified TLS")
  top:command_target("command")
  local names = {}
  for name in pairs(commands) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    require(commands[name]).describe(top)
  end
  return top
end

-- "host:port" alone, or with properties as a table of librdkafka's names.
local function kafka_option(args)
  local brokers = args.kafka or os.getenv "POSTBOX_KAFKA"
  if #args.kafka_option == 0 then
    return brokers
  end
  local properties = { ["bootstrap.servers"] = brokers }
  for _, pair in ipairs(args.kafka_option) do
    local name, value = pair:match "^([^=]+)=(.*)$"
    properties[name] = value
  end
  return properties
end

local function run(args)
  local command = require(commands[args.command])
  local box = postbox.new {
    database = args.database,
    kafka = kafka_option(args),
    schema = args.schema,
    insecure = args.insecure or nil,
    log = function(level, message)
      io.stderr:write("postbox: ", level, ": ", message, "\n")
    end,
  }
  local done, message = command.run(box, args)
  local closed, why = box:close(5)
  if not done or not closed then
    error(message or why, 0)
  end
end

--- Runs a command.
-- @tparam table arguments the words of the command line
-- @treturn integer the exit code: 0 done, 1 failed, 2 misused (argparse says how, and exits)
function cli.main(arguments)
  local args = parser():parse(arguments)
  local done, err = pcall(run, args)
  if done then
    return 0
  end
  io.stderr:write("postbox ", args.command, ": ", tostring(err), "\n")
  return 1
end

return cli

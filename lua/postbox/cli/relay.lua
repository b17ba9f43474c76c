--- postbox relay: moves committed events to Kafka until SIGTERM or SIGINT.
-- @module postbox.cli.relay
local relay = {}

function relay.describe(parser)
  local command = parser:command("relay", "Publish committed events to Kafka until SIGTERM or SIGINT.")
  command:option("--stop-seconds", "how long the end may take", "10"):convert(tonumber)
  command:option("--until-empty", "end when nothing has waited for so many seconds"):convert(tonumber)
end

function relay.run(box, args)
  local made, message = box:relay { stop_timeout = args.stop_seconds }
  if not made then
    return nil, message
  end
  return made:run { until_empty = args.until_empty }
end

return relay

--- postbox relay: moves committed events to Kafka until SIGTERM or SIGINT.
-- @module postbox.cli.relay
local core = require "postbox.core"

local relay = {}

local LOOK = 0.1 -- seconds between looks at the outbox with --until-empty

function relay.describe(parser)
  local command = parser:command("relay", "Publish committed events to Kafka until SIGTERM or SIGINT.")
  command:option("--stop-seconds", "how long the end may take", "10"):convert(tonumber)
  command:option("--until-empty", "end when nothing has waited for so many seconds"):convert(tonumber)
end

-- A signal ends the process at once here: what is not proven published is still in the outbox.
local function drain(box, running, seconds, stop_seconds)
  local started, message = running:start()
  local empty_since
  while started do
    local state, why = box:status()
    if not state then
      return nil, why
    end
    empty_since = state.pending == 0 and (empty_since or core.now()) or nil
    if empty_since and core.now() - empty_since >= seconds then
      return running:stop(stop_seconds)
    end
    core.sleep(LOOK)
  end
  return nil, message
end

function relay.run(box, args)
  local made, message = box:relay { stop_timeout = args.stop_seconds }
  if not made then
    return nil, message
  end
  if args.until_empty then
    return drain(box, made, args.until_empty, args.stop_seconds)
  end
  return made:run()
end

return relay

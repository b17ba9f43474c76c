--- postbox status: what waits, what is parked, who relays.
-- @module postbox.cli.status
local core = require "postbox.core"
local safe = require "postbox.cli.safe"
local values = require "postbox.values"

local status = {}

function status.describe(parser)
  parser:command("status", "Show what waits in the outbox, what is parked and which relay is active.")
    :flag("--json", "as one line of JSON")
end

local function age(seconds)
  if not seconds then
    return "-"
  end
  return seconds < 120 and ("%.1f s"):format(seconds) or ("%.0f min"):format(seconds / 60)
end

local function print_parked(rows, count)
  for _, row in ipairs(rows) do
    print(("  %s  %s to %s, key %s, %s: %s"):format(row.event_id, safe.text(row.event_type), safe.text(row.topic),
      safe.text(row.partition_key or "-"), age(row.parked_seconds), safe.text(row.reason or "waits behind its key")))
  end
  if count > #rows then
    print(("  and %d more"):format(count - #rows))
  end
end

local function print_text(state)
  local relay = state.relay
  print(("waiting  %d, the oldest for %s"):format(state.pending, age(state.oldest_seconds)))
  print(("relay    %s, epoch %d"):format(relay.active and safe.text(relay.holder) or "none is active", relay.epoch))
  print(("confirm  %s, delivery %s"):format(state.settings.confirm, state.settings.delivery))
  print(("parked   %d"):format(state.parked_count))
  print_parked(state.parked, state.parked_count)
  for _, topic in ipairs(state.topics) do
    print(("topic    %s, %s partitions"):format(safe.text(topic.topic), topic.partitions or "unknown"))
  end
end

function status.run(box, args)
  local state, message = box:status()
  if not state then
    return nil, message
  end
  if args.json then
    values.array(state.parked) -- [] and not {} where there are none
    values.array(state.topics)
    print(core.encode(state))
  else
    print_text(state)
  end
  return true
end

return status

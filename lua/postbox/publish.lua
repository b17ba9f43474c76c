--- Adds one event to the batch of a transaction, with the options of the call and of its box.
-- @module postbox.publish
local errors = require "postbox.errors"
local options = require "postbox.options"

local publish = {}

local rules = {
  id = { types = { "string" } },
  headers = { types = { "table" } },
  topic = { types = { "string" } },
  partition = { types = { "number" }, max = 2147483647 },
  order = { types = { "boolean" }, default = true },
}
local no_options = { order = true }

-- A list of pairs, sorted by name, so that equal headers give equal bytes.
local function header_list(headers, traceparent)
  local list = {}
  for name, value in pairs(headers or {}) do
    list[#list + 1] = { name, value }
  end
  if traceparent and not (headers and headers.traceparent) then
    list[#list + 1] = { "traceparent", traceparent }
  end
  for _, pair in ipairs(list) do
    if type(pair[1]) ~= "string" or type(pair[2]) ~= "string" then
      errors.raise("config", "publish: headers must have strings as names and values")
    end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

-- What the application's partitioner says, at the time of the call.
local function custom_partition(box, event)
  local count, message, err = box:partitions_of(event.topic)
  if not count then
    errors.assert(nil, message, err)
  end
  local partition = box.options.partitioner(event, count)
  if type(partition) ~= "number" or partition < 0 or partition >= count or partition % 1 ~= 0 then
    errors.raise("config", ("publish: the partitioner must answer an integer from 0 to %d for topic %s, not %s")
      :format(count - 1, event.topic, tostring(partition)))
  end
  return partition
end

-- The fields of an event that was published without options: one table for each box, since
-- batch:add has read it when it returns.
local function plain_fields(box)
  local settings = box.settings
  local fields = box.plain_fields
  if not fields then
    fields = { envelope_headers = settings.envelope == "h", max_record_bytes = settings.max_record_bytes }
    box.plain_fields = fields
  end
  return fields
end

local function asked_fields(box, cause, event_type, key, payload, asked)
  local settings = box.settings
  local fields = {
    id = asked.id,
    topic = asked.topic or box:topic_of(event_type),
    partition = asked.partition,
    headers = header_list(asked.headers, cause and cause.traceparent),
    unordered = not asked.order,
    envelope_headers = settings.envelope == "h",
    causation_id = cause and cause.id,
    max_record_bytes = settings.max_record_bytes,
  }
  if box.options.partitioner and not fields.partition then
    fields.partition = custom_partition(box, { type = event_type, key = key, payload = payload,
      headers = asked.headers or {}, topic = fields.topic })
  end
  return fields
end

--- Checks an event and adds it.
-- @param box the box
-- @param batch the transaction's batch (core)
-- @tparam table|nil cause { id, traceparent } of the event whose handler publishes
-- @param event_type what the event is called, such as ORDER_CREATED
-- @param key partition key: string, integer or nil
-- @param payload see postbox.raw, bytes, tombstone
-- @tparam table|nil given the options of the call
-- @treturn string the event's id; raises config, too_large, full, topic_unknown
function publish.add(box, batch, cause, event_type, key, payload, given)
  if type(event_type) ~= "string" then
    errors.raise("config", "publish: the event type must be a string, not a " .. type(event_type))
  end
  local fields
  if given or cause or box.options.partitioner then
    local asked = given and options.check("publish", given, rules) or no_options
    fields = asked_fields(box, cause, event_type, key, payload, asked)
  else
    fields = plain_fields(box)
    fields.topic = box:topic_of(event_type)
  end
  return (errors.assert(batch:add(event_type, key, payload, fields)))
end

return publish

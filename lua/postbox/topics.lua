--- Which topic an event type goes to, and how many partitions a topic has.
-- @module postbox.topics
local core = require "postbox.core"
local errors = require "postbox.errors"

local topics = {}

local BELIEVED = 5 -- seconds that partition counts are believed

--- The topic of an event type: from options.topics, else the type in lower case with dots.
function topics.topic_of(box, event_type)
  local settings = box.settings
  return box.options.topics[event_type] or settings.event_types[event_type]
    or settings.topic_prefix .. event_type:lower():gsub("_", ".")
end

local function read_partitions(box)
  local rows, message, err = box:query_outside(box:in_schema "SELECT topic, partitions FROM postbox.topics")
  if not rows then
    return nil, message, err
  end
  box.partitions = { read_at = core.now() }
  for _, row in ipairs(rows) do
    box.partitions[row.topic] = row.partitions
  end
  return true
end

-- Asks the relay to find out: it probes the topics that stand in the table.
local function ask_for_topic(box, topic)
  return box:query_outside(box:in_schema("INSERT INTO postbox.topics (topic, partitioner) VALUES ($1, true) "
    .. "ON CONFLICT (topic) DO UPDATE SET partitioner = true WHERE NOT topics.partitioner"), topic)
end

--- How many partitions a topic has, as the relay last saw it.
function topics.partitions_of(box, topic)
  local known = box.partitions
  if not known.read_at or core.now() - known.read_at > BELIEVED or not known[topic] then
    local read, message, err = read_partitions(box)
    if not read then
      return nil, message, err
    end
  end
  if not box.partitions[topic] then
    ask_for_topic(box, topic)
    return errors.fail(errors.new("topic_unknown", ("publish: the partition count of topic %s is not known yet: "
      .. "create the topic, and let a relay run, which finds it out"):format(topic), { retriable = true }))
  end
  return box.partitions[topic]
end

return topics

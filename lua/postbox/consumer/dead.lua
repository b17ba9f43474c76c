--- Records that failed for good: why, and how they get to the dead letter topic.
-- @module postbox.consumer.dead
local errors = require "postbox.errors"
local reject = require "postbox.reject"

local dead = {}

local SUFFIX = "-dlt"
local LOOK_SECONDS = 10 -- for the metadata of one topic

--- Why an event that a handler failed with `err` is dead.
function dead.by_handler(err, attempts)
  return {
    code = reject.is(err) and "rejected" or "handler",
    class = reject.is(err) and "postbox.RejectedError" or "postbox.HandlerError",
    cause = err.sqlstate and "postbox.DatabaseError" or nil,
    message = err.message,
    trace = err.traceback,
    attempts = attempts,
  }
end

--- Why one is dead whose handler ended the process each time, or was not heard of again.
function dead.by_crash(attempts)
  return {
    code = "crashed", class = "postbox.CrashError", attempts = attempts,
    message = ("delivered %d times; the process that handled it did not survive, or did not say why it failed")
      :format(attempts),
  }
end

--- Why one is dead that no handler was asked for.
function dead.unread(code, message)
  local class = code == "unreadable" and "postbox.CodecError" or "postbox.UnknownTypeError"
  return { code = code, class = class, message = message, attempts = 0 }
end

--- The topic to which the dead letters of a topic go.
function dead.letters_of(topic)
  return topic .. SUFFIX
end

function dead.is_dead_letter_topic(topic)
  return #topic > #SUFFIX and topic:sub(-#SUFFIX) == SUFFIX
end

local function explain_missing(topic, purpose, partitions, kafka)
  return ("topic %s is missing%s: create it (kafka-topics.sh --bootstrap-server %s --create --topic %s "
    .. "--partitions %s), or say create_topics in postbox.new"):format(topic, purpose, kafka, topic, partitions)
end

local function bootstrap(box)
  local kafka = box.options.kafka
  return type(kafka) == "table" and kafka["bootstrap.servers"] or kafka or "host:port"
end

-- The partition of a letter is that of its record.
local function check_count(box, source, letters, needed, found)
  if found >= needed then
    return true
  end
  return errors.fail(errors.new("config", ("topic %s has %d partitions and %s only %d, but dead letters keep their "
    .. "partition: add some (kafka-topics.sh --bootstrap-server %s --alter --topic %s --partitions %d)")
    :format(source, needed, letters, found, bootstrap(box), letters, needed)))
end

local function prepare_letters(box, native, source, partitions)
  local letters, create = source .. SUFFIX, box.options.create_topics
  local found, message, err = native:topic(letters, LOOK_SECONDS)
  if found then
    return check_count(box, source, letters, partitions, found)
  end
  if err.code ~= "topic_unknown" then
    return nil, message, err
  end
  if not create then
    return errors.fail(errors.new("topic_unknown",
      explain_missing(letters, ", where records that fail would go", partitions, bootstrap(box))))
  end
  return native:create_topic(letters, partitions, create.replication or -1, LOOK_SECONDS)
end

local function source_partitions(box, native, topic)
  local partitions, message, err = native:topic(topic, LOOK_SECONDS)
  local create = box.options.create_topics
  if partitions or err.code ~= "topic_unknown" then
    return partitions, message, err
  end
  if not create then
    return errors.fail(errors.new("topic_unknown", explain_missing(topic, "", "…", bootstrap(box))))
  end
  local count = create.partitions or 1
  local created
  created, message, err = native:create_topic(topic, count, create.replication or -1, LOOK_SECONDS)
  return created and count, message, err
end

--- Looks at the topics and at their dead letter topics, before anything is consumed.
-- @return true, or nil, message, err
function dead.prepare(box, native, topics)
  for _, topic in ipairs(topics) do
    local partitions, message, err = source_partitions(box, native, topic)
    if not partitions then
      return nil, message, err
    end
    if not dead.is_dead_letter_topic(topic) then
      local ready
      ready, message, err = prepare_letters(box, native, topic, partitions)
      if not ready then
        return nil, message, err
      end
    end
  end
  return true
end

return dead

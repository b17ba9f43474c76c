-- What the specs of the relay share: an outbox that is filled by SQL, so that they can write rows
-- that the library would not write, and a look at what came out.
local core = require "postbox.core"
local postbox = require "postbox"
local support = require "spec.support"

local help = {}

--- A box with a fresh, migrated database of its own.
function help.box(options)
  options = options or {}
  options.database = options.database or support.database()
  options.kafka = options.kafka or support.broker().bootstrap
  local box = postbox.new(options)
  assert(box:migrate())
  return box
end

--- A second session, outside the box's pool: conn:query, conn:script, conn:close.
function help.session(box)
  return assert(core.connect(box.config))
end

local INSERT = [[
  INSERT INTO postbox.outbox (event_id, event_type, topic, partition_key, payload, partition, headers)
  SELECT gen_random_uuid(), 'ORDER_CREATED', $1, convert_to($2, 'UTF8'), convert_to($3, 'UTF8'),
         $4::integer, '']]

--- One row; the payload is a JSON text.
function help.insert(connection, topic, key, payload, partition)
  local rows = assert(connection:query(INSERT .. " RETURNING outbox_id", topic, key, payload, partition))
  return tonumber(rows[1].outbox_id)
end

--- `count` rows with the payloads 1 ... count and the keys k1 ... k<keys>.
function help.fill(connection, topic, count, keys, after)
  assert(connection:query([[
    INSERT INTO postbox.outbox (event_id, event_type, topic, partition_key, payload, headers)
    SELECT gen_random_uuid(), 'ORDER_CREATED', $1,
           convert_to('k' || 1 + i % $3::integer, 'UTF8'), convert_to(i::text, 'UTF8'), ''
      FROM generate_series($4::integer + 1, $4::integer + $2::integer) i]],
    topic, count, keys or 10, after or 0))
end

function help.waiting(box)
  return tonumber(box:query("SELECT count(*) AS n FROM postbox.outbox")[1].n)
end

--- The values (a number where the payload is one) of a topic, as a list in the order of offsets
-- and partitions.
function help.values(topic)
  local values = {}
  for _, record in ipairs(support.broker():records(topic)) do
    local payload = record.value:match('"payload":(.*)}$')
    values[#values + 1] = tonumber(payload) or payload
  end
  return values
end

--- Waits until the outbox is empty.
function help.drained(box, seconds)
  support.eventually(seconds or 15, function() return help.waiting(box) == 0 end)
end

--- What was seen first of each key, and how often each value came.
function help.history(topic)
  local seen, first, list = {}, {}, support.broker():records(topic)
  for _, record in ipairs(list) do
    local value = tonumber(record.value:match('"payload":(.*)}$'))
    seen[value] = (seen[value] or 0) + 1
    if seen[value] == 1 then
      local key = record.key or ""
      first[key] = first[key] or {}
      table.insert(first[key], value)
    end
  end
  return seen, first, #list
end

--- Fails unless 1 ... count all came, and the first ones of each key in ascending order.
function help.assert_complete(topic, count)
  local seen, first, total = help.history(topic)
  local missing = 0
  for value = 1, count do
    if not seen[value] then
      missing = missing + 1
    end
  end
  assert(missing == 0, ("%d of %d events are missing"):format(missing, count))
  for key, values in pairs(first) do
    for i = 2, #values do
      assert(values[i - 1] < values[i],
        ("key %s: %d came before %d"):format(key, values[i - 1], values[i]))
    end
  end
  return total - count
end

return help

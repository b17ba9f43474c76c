-- The dead letters of the shop, one after the other, with the reason of each.
--
--   lua examples/shop/dead_letters.lua   prints those that it has not printed yet, and new ones,
--                                        until SIGTERM
--
-- A consumer like the others. Its codec takes every record, also one that no service could read,
-- and gives it no id: then its place in the topic is its id, and two letters about one event are
-- both shown. Records come from anywhere: what is printed goes through safe.text, which makes
-- escape sequences harmless.
local postbox = require "postbox"
local safe = require "postbox.cli.safe"

local prefix = os.getenv "POSTBOX_TOPIC_PREFIX" or ""
local box = postbox.new {
  topic_prefix = prefix,
  create_topics = { partitions = 4, replication = 1 }, -- a shop of one broker
}

-- What the services of the shop consume; their dead letters are in topics of these names and -dlt.
local topics = {
  "order.created", "order.completed", "order.complete.failed", "payment.paid", "payment.failed",
  "payment.canceled", "coupon.publish.requested",
}
for i, topic in ipairs(topics) do
  topics[i] = prefix .. topic .. "-dlt"
end

local function big_endian(bytes)
  local number = 0
  for i = 1, #bytes do
    number = number * 256 + bytes:byte(i)
  end
  return number
end

local function time_of(bytes)
  return os.date("!%Y-%m-%d %H:%M:%S UTC", math.floor(big_endian(bytes) / 1000))
end

-- Spring Kafka writes these as Java writes its numbers, and so does postbox.
local decoders = {
  ["kafka_dlt-original-partition"] = big_endian,
  ["kafka_dlt-original-offset"] = big_endian,
  ["kafka_dlt-original-timestamp"] = time_of,
}

local function add_lines(lines, name, text)
  for line in (text .. "\n"):gmatch "(.-)\n" do
    lines[#lines + 1] = ("  %-36s %s"):format(name, safe.text((line:gsub("\t", "  "))))
    name = ""
  end
end

local function describe(letter)
  local lines = { ("%s, partition %d, offset %d"):format(letter.topic, letter.partition, letter.offset) }
  add_lines(lines, "key", letter.key or "(none)")
  add_lines(lines, "value", letter.value or "(none)")
  local names = {}
  for name in pairs(letter.headers) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local decode = decoders[name] or tostring
    add_lines(lines, safe.text(name), tostring(decode(letter.headers[name])))
  end
  return table.concat(lines, "\n") .. "\n"
end

io.stdout:setvbuf "line"
print "dead letters: waiting"
assert(box:consumer {
  group = prefix .. "dead-letter-reader",
  topics = topics,
  codec = function(record) return { type = "DEAD_LETTER", payload = record.value } end,
  handlers = {
    DEAD_LETTER = function(letter, tx)
      local text = describe(letter)
      tx:after_commit(function() print(text) end)
    end,
  },
}:run())
assert(box:close())

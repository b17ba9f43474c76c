--- postbox: transactional messaging between PostgreSQL and Kafka.
--
-- An event is stored in the transaction of the data that it speaks of, is published to Kafka after
-- the commit, and takes effect exactly once in the consumer's database.
--
--     local postbox = require "postbox"
--     local box = postbox.new { database = "postgresql:///shop", kafka = "localhost:9092" }
--     assert(box:migrate())
--     assert(box:transaction(function(tx)
--       local order = tx:query("INSERT INTO orders (sku) VALUES ($1) RETURNING id", "tea")[1]
--       tx:publish("ORDER_CREATED", order.id, { orderId = order.id })
--     end))
--
-- @module postbox
local box = require "postbox.box"
local values = require "postbox.values"

local postbox = {
  _VERSION = "scm",
  new = box.new,
  raw = values.raw,
  bytes = values.bytes,
  array = values.array,
  null = values.null,
  tombstone = values.tombstone,
}

--- Fails the event for good: called in a handler, it ends it, and the record goes to the dead
-- letter topic at once, without retries.
-- @tparam string reason goes into the dead letter's headers
function postbox.reject(reason)
  return require("postbox.reject").raise(reason)
end

return postbox

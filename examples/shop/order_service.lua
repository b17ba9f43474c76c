-- The order service: takes orders, and completes those that are paid.
--
--   lua examples/shop/order_service.lua                    reacts to payments until SIGTERM
--   lua examples/shop/order_service.lua place ann tea      places an order
--   lua examples/shop/order_service.lua place ann tea 20   places twenty, each in a transaction
--
-- PAYMENT_PAID     -> ORDER_COMPLETED, or ORDER_COMPLETE_FAILED where the stock is empty
-- PAYMENT_FAILED   -> the order has failed
-- PAYMENT_CANCELED -> the order has failed, and the money is back
local postbox = require "postbox"

local prefix = os.getenv "POSTBOX_TOPIC_PREFIX" or ""
local box = postbox.new {
  topic_prefix = prefix,
  create_topics = { partitions = 4, replication = 1 }, -- a shop of one broker
}

-- The order and its event are stored together or not at all.
local function place(customer, sku)
  return box:transaction(function(tx)
    local article = tx:query("SELECT price FROM stock WHERE sku = $1", sku)[1]
    if not article then
      tx:rollback("the shop has no " .. sku)
    end
    local order = tx:query("INSERT INTO orders (customer, sku, amount) VALUES ($1, $2, $3) RETURNING id",
      customer, sku, article.price)[1]
    box:publish("ORDER_CREATED", order.id, {
      orderId = order.id, customer = customer, sku = sku, amount = article.price,
    })
    return order.id
  end)
end

local function set_status(tx, id, status, reason)
  local changed = tx:query("UPDATE orders SET status = $2, reason = $3 WHERE id = $1", id, status, reason)
  if changed.affected_rows == 0 then
    postbox.reject("there is no order " .. tostring(id)) -- trying again would not make one
  end
  tx:after_commit(function()
    print(("order %d: %s%s"):format(id, status, reason and " (" .. reason .. ")" or ""))
  end)
end

-- What a handler writes, what it publishes, and the note that this event is done commit together.
local handlers = {}

function handlers.PAYMENT_PAID(event, tx)
  local id = event.payload.orderId
  local taken = tx:query("UPDATE stock SET pieces = pieces - 1 "
    .. "WHERE sku = (SELECT sku FROM orders WHERE id = $1) AND pieces > 0", id)
  if taken.affected_rows == 1 then
    set_status(tx, id, "completed")
    box:publish("ORDER_COMPLETED", id, { orderId = id })
  else
    set_status(tx, id, "complete_failed", "out of stock")
    box:publish("ORDER_COMPLETE_FAILED", id, { orderId = id, reason = "out of stock" })
  end
end

function handlers.PAYMENT_FAILED(event, tx)
  set_status(tx, event.payload.orderId, "payment_failed", event.payload.reason)
end

function handlers.PAYMENT_CANCELED(event, tx)
  set_status(tx, event.payload.orderId, "canceled", event.payload.reason)
end

local function serve()
  print "order service: waiting for payments"
  return box:consumer {
    group = prefix .. "order-service",
    topics = { prefix .. "payment.paid", prefix .. "payment.failed", prefix .. "payment.canceled" },
    handlers = handlers,
  }:run()
end

io.stdout:setvbuf "line"
if arg[1] == "place" and arg[3] then
  for _ = 1, tonumber(arg[4] or 1) do
    print(("order %d: created"):format(assert(place(arg[2], arg[3]))))
  end
elseif arg[1] == nil then
  assert(serve())
else
  io.stderr:write "usage: order_service.lua [place CUSTOMER SKU [HOW_MANY]]\n"
  os.exit(2)
end
assert(box:close())

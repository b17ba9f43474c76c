-- The payment service: takes the money for orders, and gives it back where they are not completed.
--
--   lua examples/shop/payment_service.lua   reacts to orders until SIGTERM
--
-- ORDER_CREATED         -> PAYMENT_PAID, or PAYMENT_FAILED
-- ORDER_COMPLETED       -> the payment is settled
-- ORDER_COMPLETE_FAILED -> PAYMENT_CANCELED
local postbox = require "postbox"

local prefix = os.getenv "POSTBOX_TOPIC_PREFIX" or ""
local box = postbox.new {
  topic_prefix = prefix,
  create_topics = { partitions = 4, replication = 1 }, -- a shop of one broker
}

local function tell(tx, ...)
  local text = string.format(...)
  tx:after_commit(function() print(text) end)
end

local function balance_of(tx, customer)
  local wallet = tx:query("SELECT balance FROM wallets WHERE customer = $1 FOR UPDATE", customer)[1]
  if not wallet then
    postbox.reject("nobody called " .. tostring(customer) .. " has a wallet") -- a dead letter, at once
  end
  return wallet.balance
end

local function refuse(tx, order, reason)
  box:publish("PAYMENT_FAILED", order.orderId, { orderId = order.orderId, reason = reason })
  tell(tx, "order %d: payment failed (%s)", order.orderId, reason)
end

local handlers = {}

function handlers.ORDER_CREATED(event, tx)
  local order = event.payload
  local balance = balance_of(tx, order.customer)
  if balance < order.amount then
    return refuse(tx, order, ("it costs %d, and the wallet has %d"):format(order.amount, balance))
  end
  tx:query("UPDATE wallets SET balance = balance - $2 WHERE customer = $1", order.customer, order.amount)
  tx:query("INSERT INTO payments (order_id, customer, amount) VALUES ($1, $2, $3)",
    order.orderId, order.customer, order.amount)
  box:publish("PAYMENT_PAID", order.orderId, { orderId = order.orderId, amount = order.amount })
  tell(tx, "order %d: paid %d", order.orderId, order.amount)
end

-- A payment that waits for its order's end gets it.
local function conclude(tx, id, status)
  local payment = tx:query("UPDATE payments SET status = $2 WHERE order_id = $1 AND status = 'paid' "
    .. "RETURNING customer, amount", id, status)[1]
  return payment or postbox.reject(("order %d has no payment that waits"):format(id))
end

function handlers.ORDER_COMPLETED(event, tx)
  local id = event.payload.orderId
  conclude(tx, id, "settled")
  tell(tx, "order %d: payment settled", id)
end

function handlers.ORDER_COMPLETE_FAILED(event, tx)
  local id, reason = event.payload.orderId, event.payload.reason
  local payment = conclude(tx, id, "canceled")
  tx:query("UPDATE wallets SET balance = balance + $2 WHERE customer = $1", payment.customer, payment.amount)
  box:publish("PAYMENT_CANCELED", id, { orderId = id, amount = payment.amount, reason = reason })
  tell(tx, "order %d: payment canceled, %d given back", id, payment.amount)
end

io.stdout:setvbuf "line"
print "payment service: waiting for orders"
assert(box:consumer {
  group = prefix .. "payment-service",
  topics = { prefix .. "order.created", prefix .. "order.completed", prefix .. "order.complete.failed" },
  handlers = handlers,
}:run())
assert(box:close())

-- Makes the tables of the shop, and postbox's own, and puts something on the shelves. Run it once;
-- running it again does no harm.
--
--   lua examples/shop/setup.lua
--
-- POSTBOX_DATABASE says where. POSTBOX_TOPIC_PREFIX, if there is one, is kept with the outbox.
local postbox = require "postbox"

local tables = {
  -- The order service's own.
  [[CREATE TABLE IF NOT EXISTS orders (
      id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      customer text    NOT NULL,
      sku      text    NOT NULL,
      amount   integer NOT NULL,
      status   text    NOT NULL DEFAULT 'created',
      reason   text)]],
  [[CREATE TABLE IF NOT EXISTS stock (
      sku    text    PRIMARY KEY,
      price  integer NOT NULL,
      pieces integer NOT NULL CHECK (pieces >= 0))]],
  -- The payment service's own.
  [[CREATE TABLE IF NOT EXISTS wallets (
      customer text    PRIMARY KEY,
      balance  integer NOT NULL CHECK (balance >= 0))]],
  [[CREATE TABLE IF NOT EXISTS payments (
      order_id integer PRIMARY KEY,
      customer text    NOT NULL,
      amount   integer NOT NULL,
      status   text    NOT NULL DEFAULT 'paid')]],
  -- The coupon service's own.
  [[CREATE TABLE IF NOT EXISTS coupons (
      id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      customer  text        NOT NULL,
      percent   integer     NOT NULL,
      issued_at timestamptz NOT NULL DEFAULT now())]],
}

-- Nobody has an anvil to deliver, and bob cannot pay for much.
local goods = {
  "INSERT INTO stock VALUES ('tea', 5, 1000), ('anvil', 80, 0) ON CONFLICT DO NOTHING",
  "INSERT INTO wallets VALUES ('ann', 10000), ('bob', 3) ON CONFLICT DO NOTHING",
}

local box = postbox.new { topic_prefix = os.getenv "POSTBOX_TOPIC_PREFIX" }
assert(box:migrate())
assert(box:transaction(function(tx)
  for _, list in ipairs { tables, goods } do
    for _, sql in ipairs(list) do
      tx:query(sql)
    end
  end
end))
assert(box:close())
print "The shop is open: stock has tea and anvils, ann and bob have wallets."

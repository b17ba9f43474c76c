-- The coupon service: issues the coupons that somebody has asked for.
--
--   lua examples/shop/coupon_service.lua               issues coupons until SIGTERM
--   lua examples/shop/coupon_service.lua request ann   asks for one
--
-- Who asks has nothing to store, and so no transaction: the event is published manually.
local postbox = require "postbox"

local prefix = os.getenv "POSTBOX_TOPIC_PREFIX" or ""
local box = postbox.new {
  topic_prefix = prefix,
  create_topics = { partitions = 4, replication = 1 }, -- a shop of one broker
}

local PERCENT = 10

local function request(customer)
  local id = assert(box:publish_manual("COUPON_PUBLISH_REQUESTED", customer, {
    customer = customer, percent = PERCENT,
  }))
  print(("coupon for %s requested: event %s"):format(customer, id))
end

local handlers = {}

function handlers.COUPON_PUBLISH_REQUESTED(event, tx)
  local asked = event.payload
  local coupon = tx:query("INSERT INTO coupons (customer, percent) VALUES ($1, $2) RETURNING id",
    asked.customer, asked.percent)[1]
  tx:after_commit(function()
    print(("coupon %d: %d%% for %s"):format(coupon.id, asked.percent, asked.customer))
  end)
end

local function serve()
  print "coupon service: waiting for requests"
  return box:consumer {
    group = prefix .. "coupon-service",
    topics = { prefix .. "coupon.publish.requested" },
    handlers = handlers,
  }:run()
end

io.stdout:setvbuf "line"
if arg[1] == "request" and arg[2] then
  request(arg[2])
elseif arg[1] == nil then
  assert(serve())
else
  io.stderr:write "usage: coupon_service.lua [request CUSTOMER]\n"
  os.exit(2)
end
assert(box:close())

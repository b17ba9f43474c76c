-- What postbox does, step by step, with the Kafka records and database rows a person would look at.
--
--   make demo
--   POSTBOX_DATABASE=postgresql:///shop POSTBOX_KAFKA=localhost:9092 make demo
--
-- The first runs on servers of its own, which are gone at the end. The second runs on yours, in
-- schemas and topics of its own names; it drops the schemas, and says how to delete the topics.
-- Everything that it claims is checked: the exit code is 1 where something is not so.
local postbox = require "postbox"
local safe = require "postbox.cli.safe"
local testing = require "postbox.testing"
local testing_client = require "postbox.testing.client"

local PATIENCE = 20      -- seconds that anything may take
local PARTITIONS = 4
local RETRY_DELAY = 0.2  -- seconds; postbox waits 1 unless told otherwise

local EVENTS = { "order.created", "coupon.publish.requested" }
local DEAD_LETTERS = "order.created-dlt"

-- Showing things

local function is_terminal()
  local status = os.execute("test -t 1")
  return status == true or status == 0
end

local bold, plain = "", ""
if is_terminal() and not os.getenv("NO_COLOR") and os.getenv("TERM") ~= "dumb" then
  bold, plain = "\27[1m", "\27[0m"
end

-- Tables and records stand between empty lines, sentences do not.
local last
local function put(kind, text)
  if last and (kind ~= last or kind ~= "sentence") then
    print()
  end
  print(text)
  last = kind
end

local steps = 0
local function heading(text)
  steps = steps + 1
  put("heading", ("%s%d. %s%s"):format(bold, steps, text, plain))
end

local function say(text, ...)
  put("sentence", "   " .. text:format(...))
end

-- What the demo says must be so; it ends where it is not.
local function claim(holds, text)
  if not holds then
    error("This should be so, and is not: " .. text, 0)
  end
  put("sentence", "   ok  " .. text)
end

local function cell(value)
  return value == nil and "-" or safe.text(value)
end

-- A table with aligned columns, numbers to the right.
local function show_rows(title, columns, rows)
  local lines = { ("   %s%s%s%s"):format(bold, title, plain, rows[1] and "" or ": no rows") }
  local widths = {}
  for i, name in ipairs(columns) do
    local width = #name
    for _, row in ipairs(rows) do
      width = math.max(width, #cell(row[name]))
    end
    widths[i] = width
  end
  local function add_line(value_of)
    local cells = {}
    for i, name in ipairs(columns) do
      local text = value_of(name)
      local space = (" "):rep(widths[i] - #text)
      cells[i] = type(rows[1][name]) == "number" and space .. text or text .. space
    end
    lines[#lines + 1] = ("     " .. table.concat(cells, "  ")):gsub(" +$", "")
  end
  if rows[1] then
    add_line(function(name) return name end)
  end
  for _, row in ipairs(rows) do
    add_line(function(name) return cell(row[name]) end)
  end
  put("block", table.concat(lines, "\n"))
end

local function big_endian(bytes)
  local number = 0
  for i = 1, #bytes do
    number = number * 256 + bytes:byte(i)
  end
  return number
end

local function as_number(bytes)
  return ("%.0f"):format(big_endian(bytes))
end

local function as_time(bytes)
  local milliseconds = big_endian(bytes)
  return ("%.0f, which is %s"):format(milliseconds, os.date("!%Y-%m-%d %H:%M:%S UTC", math.floor(milliseconds / 1000)))
end

-- Spring Kafka has these as binary numbers, and so has postbox; all other headers are text.
local decoders = {
  ["kafka_dlt-original-partition"] = as_number,
  ["kafka_dlt-original-offset"] = as_number,
  ["kafka_dlt-original-timestamp"] = as_time,
}

-- Name and value; a value of many lines (a traceback) is cut after the fourth.
local function add_field(lines, name, value, width)
  local count = 0
  for line in (value .. "\n"):gmatch("(.-)\n") do
    count = count + 1
    line = count > 4 and "..." or safe.text((line:gsub("\t", "  ")))
    lines[#lines + 1] = ("     %-" .. width .. "s  %s"):format(count == 1 and name or "", line)
    if count > 4 then
      return
    end
  end
end

local function show_record(topic, record)
  local lines = { ("   %sKafka: %s, partition %d, offset %d%s"):format(bold, topic, record.partition, record.offset,
    plain) }
  local width = #"value"
  for _, header in ipairs(record.headers) do
    width = math.max(width, #header[1])
  end
  add_field(lines, "key", record.key or "-", width)
  add_field(lines, "value", record.value or "-", width)
  for _, header in ipairs(record.headers) do
    local decode = decoders[header[1]] or tostring
    add_field(lines, header[1], header[2] and decode(header[2]) or "-", width)
  end
  put("block", table.concat(lines, "\n"))
end

-- Servers

local demo = { topic_prefix = "", schema = "postbox", shop = "shop", log = {} }

local function names_of_its_own()
  local stamp = ("%x"):format(os.time())
  demo.schema, demo.shop = "postbox_demo_" .. stamp, "postbox_demo_shop_" .. stamp
  demo.topic_prefix = "postbox-demo-" .. stamp .. "."
end

local function start_servers()
  local database, kafka = os.getenv("POSTBOX_DATABASE"), os.getenv("POSTBOX_KAFKA")
  if database or kafka then
    names_of_its_own()
  end
  if not database then
    demo.postgres = testing.postgres()
  end
  demo.broker = kafka and testing_client.new(kafka) or testing.broker()
  demo.kafka = kafka
  for _, topic in ipairs(EVENTS) do
    demo.broker:create(demo.topic_prefix .. topic, PARTITIONS)
  end
  demo.broker:create(demo.topic_prefix .. DEAD_LETTERS, PARTITIONS)
  demo.box = postbox.new {
    database = database or demo.postgres.database,
    kafka = demo.broker.bootstrap,
    schema = demo.schema,
    topic_prefix = demo.topic_prefix,
    log = function(level, message) demo.log[#demo.log + 1] = level .. ": " .. message end,
  }
  say("PostgreSQL  %s", database and "POSTBOX_DATABASE, schemas " .. demo.schema .. " and " .. demo.shop
    or "a throw-away cluster of the demo's own")
  say("Kafka       %s", kafka and "POSTBOX_KAFKA, topics " .. demo.topic_prefix .. "*"
    or "the embedded broker, inside this process")
end

local function stop_servers()
  if demo.relay then
    demo.relay:stop(5)
  end
  if demo.box then
    if not demo.postgres then
      demo.box:query(("DROP SCHEMA IF EXISTS %s, %s CASCADE"):format(demo.schema, demo.shop))
    end
    demo.box:close(5)
  end
  if demo.kafka then
    put("heading", "The topics are still there. To delete them:")
    say("kafka-topics.sh --bootstrap-server %s --delete --topic 'postbox-demo-.*'", demo.kafka)
    demo.broker:close_probe()
  elseif demo.broker then
    demo.broker:stop()
  end
  if demo.postgres then
    demo.postgres:stop()
  end
end

-- A query on the demo's tables: {postbox} and {shop} are its schemas.
local function query(source, sql, ...)
  return assert(source:query(sql:gsub("{(%w+)}", { postbox = demo.schema, shop = demo.shop }), ...))
end

local function records(topic)
  return demo.broker:records(demo.topic_prefix .. topic)
end

-- Asks again and again, with a short rest, until the answer is true.
local function wait_for(what, answer)
  local deadline = os.time() + PATIENCE
  while not answer() do
    if os.time() > deadline then
      error(("Waited %d seconds, and still not so: %s"):format(PATIENCE, what), 0)
    end
    query(demo.box, "SELECT 1 FROM pg_sleep(0.02)")
  end
end

local function wait_until_published()
  wait_for("the outbox is empty", function()
    return assert(demo.box:status()).pending == 0
  end)
end

local function show_table(name, order)
  local rows = query(demo.box, ("SELECT * FROM {shop}.%s ORDER BY %s"):format(name, order))
  local columns = name == "orders" and { "id", "sku" } or { "order_id", "carrier" }
  show_rows(name, columns, rows)
  return rows
end

local function show_outbox()
  local rows = query(demo.box, "SELECT outbox_id, event_type, partition_key, payload FROM {postbox}.outbox_readable")
  show_rows("outbox", { "outbox_id", "event_type", "partition_key", "payload" }, rows)
  return rows
end

-- The story. This is what an application writes: the row and the event, in one transaction.

local function place_order(tx, sku)
  local order = query(tx, "INSERT INTO {shop}.orders (sku) VALUES ($1) RETURNING id", sku)[1]
  tx:publish("ORDER_CREATED", order.id, { orderId = order.id, sku = sku })
  return order.id
end

local function commit_an_order()
  heading "An order is committed, and its event with it"
  assert(demo.box:transaction(function(tx) return place_order(tx, "tea") end))
  local orders, waiting = show_table("orders", "id"), show_outbox()
  claim(#orders == 1 and #waiting == 1, "one transaction stored the order and its event")

  say("Now a relay starts: it publishes what is committed, and removes what Kafka has stored.")
  demo.relay = assert(demo.box:relay())
  assert(demo.relay:start())
  wait_until_published()
  local found = records "order.created"
  claim(#found == 1 and found[1].key == "1", "the event is on Kafka, once, with the order's id as its key")
  show_record(demo.topic_prefix .. "order.created", found[1])
  demo.first = found[1]
end

local function roll_an_order_back()
  heading "An order is rolled back"
  local done, message = demo.box:transaction(function(tx)
    place_order(tx, "coffee")
    tx:rollback("no coffee left")
  end)
  say("box:transaction returned nil, %q", message)
  local orders, waiting = show_table("orders", "id"), show_outbox()
  claim(done == nil and #orders == 1 and #waiting == 0, "neither the order nor its event was stored")
end

local function publish_manually()
  heading "A manual publish: there is no transaction to join"
  local id = assert(demo.box:publish_manual("COUPON_PUBLISH_REQUESTED", 7, { couponId = 7 }))
  say("box:publish_manual returned %s, which is committed", id)
  wait_until_published()
  local found = records "coupon.publish.requested"
  claim(#found == 1 and found[1].value:find(id, 1, true), "Kafka has it under this id")
  show_record(demo.topic_prefix .. "coupon.publish.requested", found[1])
end

local function deliver_twice()
  heading "The first event is delivered a second time"
  say("As after a crash between Kafka's answer and the relay's note of it: the same record again.")
  local first = demo.first
  demo.broker:produce { topic = demo.topic_prefix .. "order.created", partition = first.partition, key = first.key,
    value = first.value, headers = first.headers }
  local found = records "order.created"
  for _, record in ipairs(found) do
    record.event_id = record.value:match('"eventId":"(.-)"')
  end
  show_rows("Kafka: " .. demo.topic_prefix .. "order.created", { "partition", "offset", "key", "event_id" }, found)
  claim(#found == 2 and found[1].value == found[2].value, "two records of one event")
end

local function order_an_anvil()
  heading "An order that nobody can ship"
  assert(demo.box:transaction(function(tx) return place_order(tx, "anvil") end))
  wait_until_published()
  claim(#records "order.created" == 3, "the order is committed and published like any other")
end

-- What the handler was called for, in seconds since the first call.
local calls, began = {}, nil
local function note_call(event, tx)
  local now = query(tx, "SELECT extract(epoch FROM clock_timestamp())::float8 AS seconds")[1].seconds
  began = began or now
  local call = { at = ("%.1f s"):format(now - began), event = event.type, key = event.key, attempt = event.attempt,
    outcome = "failed, rolled back" }
  calls[#calls + 1] = call
  return call
end

local function ship(event, tx)
  local call = note_call(event, tx)
  query(tx, "INSERT INTO {shop}.shipments (order_id, carrier) VALUES ($1, 'bicycle')", event.payload.orderId)
  if event.payload.sku == "anvil" then
    error("no carrier takes an anvil")
  end
  call.outcome = "shipped"
end

local function consume()
  heading "A consumer ships the orders"
  say("Group shipping; the anvil is tried 4 times, %g s apart (1 s unless told otherwise).", RETRY_DELAY)
  assert(demo.box:consumer {
    group = demo.topic_prefix .. "shipping",
    topics = { demo.topic_prefix .. "order.created" },
    retry = { delay = RETRY_DELAY, retries = 3 },
    batch = 1, -- the handler notes its calls, which no rollback undoes
    handlers = { ORDER_CREATED = ship },
  }:run { until_idle = 1 })
  show_rows("calls of the handler", { "at", "event", "key", "attempt", "outcome" }, calls)
  local shipments = show_table("shipments", "order_id")
  local inbox = query(demo.box, "SELECT consumer_group, event_id, state FROM {postbox}.inbox ORDER BY event_id")
  show_rows("inbox", { "consumer_group", "event_id", "state" }, inbox)
  claim(#shipments == 1 and shipments[1].order_id == 1, "order 1 was shipped once, although it came twice")
  claim(#calls == 5 and calls[5].attempt == 4, "the anvil was tried four times, and left no shipment behind")
  claim(#inbox == 2 and inbox[1].state == "done" and inbox[2].state == "dead", "the inbox knows what became of both")
end

local function header_of(record, name)
  for _, header in ipairs(record.headers) do
    if header[1] == name then
      return header[2]
    end
  end
  return ""
end

local function show_dead_letter()
  heading "The anvil is in the dead letter topic"
  local letters = records(DEAD_LETTERS)
  claim(#letters == 1 and letters[1].key == "3", "one dead letter, with the bytes that the record had")
  show_record(demo.topic_prefix .. DEAD_LETTERS, letters[1])
  local original
  for _, record in ipairs(records "order.created") do
    original = record.key == "3" and record or original
  end
  claim(letters[1].value == original.value and letters[1].partition == original.partition,
    "same value and partition as the original")
  claim(header_of(letters[1], "kafka_dlt-exception-message"):find("no carrier takes an anvil", 1, true),
    "the headers say why, in the names and formats of Spring Kafka")
end

local function look_at_the_end()
  heading "At the end"
  assert(demo.relay:stop(5))
  local orders, waiting = show_table("orders", "id"), show_outbox()
  claim(#waiting == 0, "the outbox is empty: every committed event is on Kafka")
  local coffee = 0
  for _, record in ipairs(records "order.created") do
    coffee = coffee + (record.value:find("coffee", 1, true) and 1 or 0)
  end
  claim(#orders == 2 and coffee == 0, "the order that was rolled back was never seen by anybody")
end

local function tell()
  start_servers()
  assert(demo.box:migrate())
  query(demo.box, "CREATE SCHEMA {shop}")
  query(demo.box, "CREATE TABLE {shop}.orders (id serial PRIMARY KEY, sku text NOT NULL)")
  query(demo.box, "CREATE TABLE {shop}.shipments (order_id integer NOT NULL, carrier text NOT NULL)")
  commit_an_order()
  roll_an_order_back()
  publish_manually()
  deliver_twice()
  order_an_anvil()
  consume()
  show_dead_letter()
  look_at_the_end()
end

io.stdout:setvbuf("line")
local told, problem = pcall(tell)
local stopped, trouble = pcall(stop_servers)
if told and stopped then
  print("\nAll of it was checked and is so.")
else
  local log = #demo.log > 0 and "\n\nIt logged:\n" .. table.concat(demo.log, "\n") or ""
  local text = tostring(told and trouble or problem):gsub("^[%w_./-]+%.lua:%d+: ", "")
  io.stderr:write("\ndemo: ", text, log, "\n")
  os.exit(1)
end

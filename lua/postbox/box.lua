--- The box: what an application holds. It knows the database, Kafka and the options, keeps a few
-- connections, and connects to nothing until it is used.
-- @classmod postbox.box
local core = require "postbox.core"
local errors = require "postbox.errors"
local host = require "postbox.host"
local migrate = require "postbox.migrate"
local options = require "postbox.options"
local pool = require "postbox.pool"
local publish = require "postbox.publish"
local topics = require "postbox.topics"
local transaction = require "postbox.transaction"

local box = {}
box.__index = box
box.__name = "postbox.box"

local LEASE_SECONDS = 30  -- of a transaction in an event loop, from one call to the next
local DIRECT_SECONDS = 10 -- how long a row is its publisher's before the relay takes it

local rules = {
  database = { types = { "string" } },
  kafka = { types = { "string", "table" } },
  schema = { types = { "string" }, default = "postbox" },
  topics = { types = { "table" }, default = {} },
  topic_prefix = { types = { "string" } },
  delivery = { types = { "string" }, one_of = { "relay", "direct" } },
  confirm = { types = { "string" }, one_of = { "report", "readback" } },
  envelope = { types = { "string" }, one_of = { "json", "headers" } },
  refused = { types = { "string" }, one_of = { "hold", "skip" } },
  partitioner = { types = { "function" } },
  max_record_bytes = { types = { "number" }, min = 1000, max = 1e9 },
  create_topics = { types = { "table" } },
  pool_size = { types = { "number" }, default = 8, min = 1, max = 1000 },
  connect_timeout = { types = { "number" }, default = 10, min = 0.1, max = 3600 },
  statement_timeout = { types = { "number" }, default = 30, min = 0.01, max = 86400 },
  lock_timeout = { types = { "number" }, default = 10, min = 0.01, max = 86400 },
  prepare = { types = { "boolean" }, default = true },
  insecure = { types = { "boolean" }, default = false },
  host = { types = { "string", "table" } },
  transaction_lease = { types = { "number" }, min = 0.1, max = 86400 },
  log = { types = { "function" } },
}

-- librdkafka's properties as a sorted list of pairs of strings.
local function kafka_properties(kafka)
  if type(kafka) ~= "table" then
    return kafka and { { "bootstrap.servers", kafka } } or {}
  end
  local list = {}
  for name, value in pairs(kafka) do
    local kind = type(value)
    if type(name) ~= "string" or (kind ~= "string" and kind ~= "number" and kind ~= "boolean") then
      errors.raise("config", "kafka: a table of librdkafka's properties by name, with strings, numbers or booleans")
    end
    list[#list + 1] = { name, kind == "number" and ("%.14g"):format(value) or tostring(value) }
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

local function core_config(o)
  return errors.assert(core.config {
    database = o.database, schema = o.schema, kafka = kafka_properties(o.kafka),
    insecure = o.insecure, prepare = o.prepare, connect_timeout = o.connect_timeout,
    statement_timeout = o.statement_timeout, lock_timeout = o.lock_timeout,
    queue_log = o.log ~= nil,
  })
end

local topic_rules = {
  partitions = { types = { "number" }, default = 1, min = 1, max = 100000 },
  replication = { types = { "number" }, min = 1, max = 1000 },
}

local function check_topic_names(names)
  for event_type, topic in pairs(names) do
    if type(event_type) ~= "string" or type(topic) ~= "string" then
      errors.raise("config", "postbox.new: topics is a table of topic names by event type")
    end
  end
end

-- What an event loop adds: log records go where the host writes its own, and transactions end that
-- nobody will end.
local function adapt(o)
  local adapter = host.use(o.host)
  o.log = o.log or adapter.log
  o.transaction_lease = adapter.spawn and (o.transaction_lease or adapter.ends_requests and LEASE_SECONDS)
end

--- Makes a box. Checks the options and connects to nothing.
-- @tparam table given
-- database: libpq connection string or URI (default: POSTBOX_DATABASE);
-- kafka: "host:port,…" or a table of librdkafka's properties (default: POSTBOX_KAFKA);
-- schema ("postbox"): where postbox's tables live;
-- topics: topic names by event type, for those that do not follow from the name
-- (ORDER_CREATED goes to order.created); topic_prefix: put before the latter;
-- delivery ("relay" or "direct"), confirm ("report" or "readback"), envelope ("json" or
-- "headers"), refused ("hold" or "skip"), max_record_bytes (1000000): properties of the outbox,
-- written by the first box:migrate() and the same for all who share it;
-- partitioner: function(event, partitions) -> partition;
-- create_topics: { partitions (1), replication (the broker's default) }: missing topics are created;
-- pool_size (8 connections); connect_timeout (10 s), statement_timeout (30 s), lock_timeout (10 s,
-- for key locks); prepare (true; false behind a PgBouncer that knows no prepared statements);
-- insecure (false): allows connections off this machine without verified TLS;
-- host ("openresty" where that runs us; else "cqueues", "luv" or a table): see postbox.host;
-- transaction_lease (30 s in OpenResty; else none): how long a transaction may do nothing before it
-- is rolled back, as that of a request which ended inside it; event loops only;
-- log: function(level, message, fields), called from within calls of the box.
-- @treturn box the box; raises config
function box.new(given)
  local o, asked = options.check("postbox.new", given, rules)
  o.database = o.database or os.getenv "POSTBOX_DATABASE"
  o.kafka = o.kafka or os.getenv "POSTBOX_KAFKA"
  if not o.database then
    errors.raise("config", "postbox.new: no database: say database = \"postgresql://…\" or set POSTBOX_DATABASE")
  end
  check_topic_names(o.topics)
  adapt(o)
  o.create_topics = o.create_topics and options.check("postbox.new: create_topics", o.create_topics, topic_rules)
  return setmetatable({
    options = o, asked = asked, schema = o.schema, config = core_config(o),
    idle = {}, out = setmetatable({}, { __mode = "k" }), relays = {}, partitions = {}, closed = false,
  }, box)
end

local function check_open(self)
  if self.closed then
    errors.raise("closed", "the box is closed")
  end
end

-- A log function that fails must not change what a call answers.
local function writer_of(log)
  return function(level, message, fields)
    local ok, err = pcall(log, level, message, fields)
    if not ok then
      io.stderr:write("postbox: error: options.log failed: ", errors.text(err), "\n")
    end
  end
end

--- Hands the log records of other threads, and one of the caller's, to options.log.
function box:log(level, message, fields)
  local write = self.options.log and writer_of(self.options.log)
  if not write then
    if level and level ~= "info" then
      io.stderr:write("postbox: ", level, ": ", message, "\n")
    end
    return
  end
  local queued_level, text = self.config:take_log()
  while queued_level do
    write(queued_level, text, {})
    queued_level, text = self.config:take_log()
  end
  if level then
    write(level, message, fields or {})
  end
end

box.acquire, box.give_back = pool.acquire, pool.give_back
box.topic_of, box.partitions_of = topics.topic_of, topics.partitions_of

--- SQL in which the schema is called `postbox.`, with its real name.
function box:in_schema(sql)
  return (sql:gsub("postbox%.", '"' .. self.schema .. '".'))
end

--- A statement on a connection of its own, whatever transaction is open.
function box:query_outside(sql, ...)
  local connection, message, err = self:acquire()
  if not connection then
    return nil, message, err
  end
  local rows
  rows, message, err = connection:query(sql, ...)
  self:give_back(connection)
  return rows, message, err
end

--- Runs a statement: in the transaction that is open in this coroutine, where errors raise, or
-- else on its own.
-- @treturn table rows, as tx:query; or nil, message, err
function box:query(sql, ...)
  check_open(self)
  local tx = transaction.current(self)
  if tx then
    return tx:query(sql, ...)
  end
  return self:query_outside(sql, ...)
end

--- Publishes an event with the transaction that is open in this coroutine; see tx:publish.
function box:publish(event_type, key, payload, given)
  check_open(self)
  local tx = transaction.current(self)
  if not tx then
    errors.raise("config", "publish: no transaction is open in this coroutine: call it below box:transaction, or use "
      .. "box:publish_manual, which makes a transaction of its own")
  end
  return tx:publish(event_type, key, payload, given)
end

local function store_alone(self, connection, event_type, key, payload, given)
  local batch = core.batch()
  local id = publish.add(self, batch, nil, event_type, key, payload, given)
  errors.assert(connection:begin {})
  local done, message, err = connection:commit(batch, self:direct_seconds(), true)
  if done then
    self:published(batch)
    return id
  end
  err.event_id = id
  return nil, message, err
end

local function finish_alone(self, connection, ok, ...)
  self:give_back(connection)
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Stores an event at once, in a transaction of its own, and returns when that is committed. It
-- never waits for Kafka: with delivery "relay" nothing leaves until a relay runs.
-- @tparam string event_type such as COUPON_PUBLISH_REQUESTED
-- @param key partition key: string, integer or nil
-- @param payload as tx:publish
-- @tparam[opt] table given as tx:publish
-- @treturn string the event's id; or nil, message, err: connection, timeout, aborted, conflict,
-- full, or unknown (then err.event_id is the id: publishing again with it is safe while the first
-- still waits); raises config and too_large, and inside a transaction
function box:publish_manual(event_type, key, payload, given)
  check_open(self)
  if transaction.current(self) then
    errors.raise("config", "publish_manual: a transaction is open in this coroutine, and the event would be stored "
      .. "outside it: use publish")
  end
  local connection, message, err = self:acquire()
  if not connection then
    return nil, message, err
  end
  return finish_alone(self, connection, pcall(store_alone, self, connection, event_type, key, payload, given))
end

local transaction_rules = {
  isolation = { types = { "string" }, one_of = { "read committed", "repeatable read", "serializable" } },
  read_only = { types = { "boolean" }, default = false },
  retries = { types = { "number" }, default = 0, max = 100 },
}

-- One table for each box where no options are given.
local function transaction_options(self, given)
  if given == nil and self.plain_transaction then
    return self.plain_transaction
  end
  local o = options.check("box:transaction", given, transaction_rules)
  o.idle_timeout = self.options.transaction_lease or nil
  if given == nil then
    self.plain_transaction = o
  end
  return o
end

local function may_retry(err)
  return err and (err.sqlstate == "40001" or err.sqlstate == "40P01")
end

-- Ends a transaction as its function has ended. What failed, and what box:transaction returns.
local function finish(self, connection, tx, ok, ...)
  local done, message, err
  if ok then
    done, message, err = transaction.commit(tx)
  else
    err = ...
    message = err.message
    transaction.abort(tx)
  end
  self:give_back(connection)
  if done then
    return nil, transaction.values(...)
  end
  return err, nil, message, err
end

local function run_once(self, o, fn)
  local connection, message, err = self:acquire()
  if not connection then
    return err, nil, message, err
  end
  local tx = transaction.new(self, connection, o)
  return finish(self, connection, tx, transaction.call(tx, fn))
end

-- Runs fn again after what may be tried again; else returns the values behind what failed.
local function retry(self, o, fn, left, failure, ...)
  if left > 0 and may_retry(failure) then
    return retry(self, o, fn, left - 1, run_once(self, o, fn))
  end
  return ...
end

--- Runs fn in a transaction. What it publishes is stored just before the commit, in the same
-- transaction. An error in fn, or tx:rollback(reason), rolls back; `return nil, …` commits.
-- In a transaction it is a savepoint: see tx:transaction.
-- @tparam[opt] table given isolation ("read committed", "repeatable read", "serializable"),
-- read_only, retries (how often fn runs again after a serialization failure or a deadlock: 0)
-- @tparam function fn called with tx
-- @return fn's values, true if there are none; or nil, message, err: what fn raised (err.cause,
-- err.traceback; its own postbox errors as they are), aborted, conflict, connection, timeout, full,
-- or unknown: ask box:outcome(err.xid)
function box:transaction(given, fn)
  if fn == nil then
    given, fn = nil, given
  end
  check_open(self)
  if type(fn) ~= "function" then
    errors.raise("config", "box:transaction takes a function, not a " .. type(fn))
  end
  local o = transaction_options(self, given)
  local outer = transaction.current(self)
  if outer then
    return outer:transaction(fn)
  end
  return retry(self, o, fn, o.retries, run_once(self, o, fn))
end

--- How a transaction ended whose COMMIT was not answered.
-- @tparam string xid err.xid of a failure with code unknown
-- @treturn string "committed", "aborted", "in progress" or "too old" (the server no longer knows);
-- or nil, message, err
function box:outcome(xid)
  if type(xid) ~= "string" or not xid:match "^%d+$" then
    errors.raise("config", "box:outcome takes the xid of an error with code unknown")
  end
  local rows, message, err = self:query_outside("SELECT pg_xact_status($1::text::xid8) AS status", xid)
  if not rows then
    return nil, message, err
  end
  return rows[1].status or "too old"
end

-- How long the publisher keeps its rows to itself: 0 unless delivery is direct.
function box:direct_seconds()
  return self.settings.delivery == "direct" and DIRECT_SECONDS or 0
end

-- With delivery = "direct" this process publishes itself, on a thread that begins with the first
-- event. Where that cannot be made the events are the relay's, as after any other failure of it.
local function direct(self)
  if self.settings.delivery == "direct" and not self.direct and not self.direct_failed then
    local message
    self.direct, message = core.direct(self.config, self.settings.confirm == "readback",
      self.settings.max_record_bytes)
    if not self.direct then
      self.direct_failed = true
      self:log("warning", "direct delivery cannot begin, so the relay publishes: " .. message)
    end
  end
  return self.direct
end

local function hand_over(self, batch)
  local sender = direct(self)
  if sender then
    sender:publish(batch)
  end
  for _, relay in ipairs(self.relays) do
    relay.native:wake()
  end
end

--- Publishes an event from where nothing may wait, such as nginx's log phase, or without waiting. It
-- is kept in memory and stored a moment later, in a transaction with others: a process that is
-- killed before loses it. The payload must not be changed any more. Event loops only.
-- @treturn string "queued"; or nil, message, err: full (1,000 wait already); raises config and
-- too_large
function box:publish_later(event_type, key, payload, given)
  check_open(self)
  return require("postbox.later").publish(self, event_type, key, payload, given)
end

--- Prepares an event loop's worker, as in init_worker_by_lua: opens a connection in the background
-- and reads the outbox's settings, so that the first request need not. Does nothing in plain Lua.
-- @treturn boolean true; or nil, message, err: cannot_wait where no thread may be started
function box:start()
  check_open(self)
  local may, message, err = host.adapter.may_start()
  if not may or not host.adapter.spawn then
    return may, message, err
  end
  return host.adapter.spawn(function()
    local connection, why = self:acquire()
    if connection then
      self:give_back(connection)
    else
      self:log("warning", "no connection at the start; the first call tries again: " .. why)
    end
  end)
end

-- After a commit: hands the events to direct delivery; relays of this process need not wait for
-- their next look. What fails here takes nothing of the commit back.
function box:published(batch)
  if batch:count() == 0 then
    return
  end
  local ok, err = pcall(hand_over, self, batch)
  if not ok then
    self:log("error", "the relay was not told of new events: " .. errors.text(err))
  end
end

--- What direct delivery has done: published, removed, left (to the relay). nil before the first event.
function box:direct_stats()
  return self.direct and self.direct:stats()
end

--- Creates or updates postbox's tables; see postbox.migrate.
function box:migrate(given)
  check_open(self)
  return migrate.run(self, given)
end

--- A relay for this outbox; see postbox.relay.
function box:relay(given)
  check_open(self)
  return require("postbox.relay").new(self, given)
end

--- A consumer; see postbox.consumer.
function box:consumer(given)
  check_open(self)
  return require("postbox.consumer").new(self, given)
end

--- What waits, what is parked and which relay is active; see postbox.status.
function box:status()
  check_open(self)
  return require("postbox.status").read(self)
end

--- Lets a parked event, and those of its key behind it, be published again by the relay.
-- @tparam string event_id
-- @treturn integer how many rows wait to be moved back, 0 where the event is not parked;
-- or nil, message, err
function box:release(event_id)
  local sql = self:in_schema "SELECT postbox.release($1::text::uuid) AS released"
  local rows, message, err = self:query_outside(sql, event_id)
  if not rows then
    return nil, message, err
  end
  return rows[1].released
end

--- Stops direct delivery and the relays of this box and closes its connections.
-- @tparam[opt=5] number seconds for all of it
-- @treturn boolean true; or nil, message, err where something did not end in time
function box:close(seconds)
  if self.closed then
    return true
  end
  local deadline = core.now() + (seconds or 5)
  local done, message, err = true, nil, nil
  local function stop(what)
    local stopped, why, failure = what:stop(math.max(0, deadline - core.now()))
    if not stopped then
      done, message, err = nil, why, failure
    end
  end
  if self.later then
    require("postbox.later").finish(self)
  end
  if self.direct then
    stop(self.direct)
  end
  for _, relay in ipairs(self.relays) do
    stop(relay)
  end
  self.closed = true
  for _, connection in ipairs(self.idle) do
    connection:close()
  end
  self.idle = {}
  self:log()
  return done, message, err
end

return box

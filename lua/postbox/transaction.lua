--- Transactions: what runs between BEGIN and COMMIT, and the events published in it.
--
-- A transaction is known to the coroutine in which its function runs, so that domain code far
-- below can publish without being handed anything.
-- @module postbox.transaction
local core = require "postbox.core"
local errors = require "postbox.errors"
local host = require "postbox.host"
local publish = require "postbox.publish"

local transaction = {}

local methods = {}
local metatable = { __index = methods, __name = "postbox.transaction" }

local unpack = table.unpack or unpack -- luacheck: ignore 113 143
local ROLLBACK = {} -- marks what tx:rollback raises

local current = setmetatable({}, { __mode = "k" }) -- by coroutine, then by box

local function here()
  return host.adapter.here()
end

-- Is the function on this coroutine's stack? nginx kills coroutines and uses them again.
local function runs(body)
  local level = 2
  local frame = debug.getinfo(level, "f")
  while frame and frame.func ~= body do
    level = level + 1
    frame = debug.getinfo(level, "f")
  end
  return frame ~= nil
end

local function current_entry(box)
  local mine = current[here()]
  local entry = mine and mine[box]
  if entry and host.adapter.ends_requests and not runs(entry.body) then
    mine[box], entry = nil, nil
  end
  return entry
end

--- The transaction of `box` that is open in this coroutine, or nil.
function transaction.current(box)
  local entry = current_entry(box)
  return entry and entry.tx
end

local function set_current(box, entry)
  local place = here()
  local mine = current[place] or setmetatable({}, { __mode = "k" })
  current[place] = mine
  mine[box] = entry
end

local function pass(...)
  return ...
end

-- A batch that a transaction of the box has left, for the memory that it has already.
local function take_batch(box)
  local batch = box.spare_batch or core.batch()
  box.spare_batch = nil
  return batch
end

-- Only one that never held more than one event: the memory is no more than a record's.
local function leave_batch(tx)
  if tx.batch:count() <= 1 and not tx.was_cut then
    tx.batch:cut(0)
    tx.box.spare_batch = tx.batch
  end
end

--- Opens a transaction on a connection; BEGIN travels with the first statement.
-- @tparam table|nil options isolation, read_only, idle_timeout (seconds)
function transaction.new(box, connection, options)
  errors.assert(connection:begin(options or {}))
  return setmetatable({
    box = box,
    connection = connection,
    owner = host.adapter.owner(), -- a request that ends takes the transaction with it
    batch = take_batch(box),
    after = {},        -- functions to call after the commit
    depth = 0,         -- savepoints that are open
    over = false,
    read_only = options and options.read_only,
  }, metatable)
end

local function is_rollback(value)
  return type(value) == "table" and rawget(value, 1) == ROLLBACK
end

local function traceback_of(value)
  if is_rollback(value) then
    return value
  end
  return errors.wrap("aborted", value, debug.traceback(errors.text(value), 2))
end

local function rolled_back(reason)
  local text = reason == nil and "rolled back by tx:rollback" or errors.text(reason)
  return errors.new("aborted", text, { cause = reason })
end

local function pack(...)
  return { n = select("#", ...), ... }
end

-- What xpcall answered, once `before` is this coroutine's transaction again.
local function leave(box, before, ok, ...)
  set_current(box, before)
  if ok then
    return true, ...
  end
  local raised = ... -- as Lua made it where there was no memory or stack for traceback_of
  return false, is_rollback(raised) and rolled_back(raised.reason) or errors.wrap("aborted", raised)
end

--- Runs fn(tx), or fn(event, tx), with `tx` as the current transaction of this coroutine.
-- @return true and fn's values, or false and an error
function transaction.call(tx, fn, event)
  local before = current_entry(tx.box)
  local function body() -- no tail call: it stays on the stack
    if event then
      return pass(fn(event, tx))
    end
    return pass(fn(tx))
  end
  set_current(tx.box, { tx = tx, body = body })
  return leave(tx.box, before, xpcall(body, traceback_of))
end

local function run_after_commit(tx)
  for _, fn in ipairs(tx.after) do
    local ok, err = pcall(fn)
    if not ok then
      tx.box:log("error", "a function given to tx:after_commit failed: " .. errors.text(err))
    end
  end
end

local function explain(tx, err)
  if err.code == "aborted" and tx.first_error and err ~= tx.first_error then
    err.cause = err.cause or tx.first_error
    err.message = err.message .. ": " .. tx.first_error.message
    err.sqlstate = err.sqlstate or tx.first_error.sqlstate
  end
  return err
end

--- Stores the events and commits.
-- @return true, or nil, message, err (aborted, conflict, connection, timeout, unknown)
function transaction.commit(tx)
  if tx.doomed then
    transaction.abort(tx)
    return errors.fail(tx.doomed)
  end
  tx.over = true
  local box = tx.box
  local done, _, err = tx.connection:commit(tx.batch, box:direct_seconds())
  if not done then
    return errors.fail(explain(tx, err))
  end
  box:published(tx.batch)
  leave_batch(tx)
  run_after_commit(tx)
  return true
end

--- Rolls back. true, or nil, message, err where the connection broke (and the server rolls back).
function transaction.abort(tx)
  tx.over = true
  return tx.connection:rollback()
end

local function check_open(tx)
  if tx.over or tx.owner ~= host.adapter.owner() then
    errors.raise("closed", "the transaction is over: use its tx only inside the function that it was given to")
  end
end

--- Runs a statement in the transaction.
-- @tparam string sql one statement; $1, $2 … stand for the parameters
-- @param ... nil, boolean, number, string or postbox.bytes
-- @treturn table list of rows, each a table by column name (NULL is an absent field), with
-- `affected_rows`; raises (aborted with err.sqlstate, connection, timeout, config)
function methods:query(sql, ...)
  check_open(self)
  local rows, _, err = self.connection:query(sql, ...)
  if not rows then
    self.first_error = self.first_error or err
    error(err, 0)
  end
  return rows
end

--- Publishes an event with this transaction: it is stored just before the commit, and only if
-- the transaction commits.
-- @tparam string event_type such as ORDER_CREATED
-- @param key partition key: string, integer or nil; events of one key stay in commit order
-- @param payload table, string, number, boolean, nil, postbox.raw, postbox.bytes, postbox.tombstone
-- @tparam[opt] table options id, headers, topic, partition, order
-- @treturn string the event's id; raises config, too_large, full, topic_unknown
function methods:publish(event_type, key, payload, options)
  check_open(self)
  if self.read_only then
    errors.raise("config", "publish: the transaction is read-only, and an event is a row to be written")
  end
  return publish.add(self.box, self.batch, self.causation, event_type, key, payload, options)
end

--- Ends the function and rolls the transaction back; box:transaction then returns nil, reason.
function methods:rollback(reason)
  check_open(self)
  self.doomed = rolled_back(reason)
  error({ ROLLBACK, reason = reason }, 0)
end

--- Calls fn after the commit, never if the transaction is rolled back.
function methods:after_commit(fn)
  check_open(self)
  if type(fn) ~= "function" then
    errors.raise("config", "tx:after_commit takes a function, not a " .. type(fn))
  end
  self.after[#self.after + 1] = fn
end

-- Forgets what was published and asked for since the savepoint.
local function cut(tx, mark)
  tx.batch:cut(mark.events)
  tx.was_cut = true
  for i = #tx.after, mark.after + 1, -1 do
    tx.after[i] = nil
  end
  tx.first_error, tx.doomed = mark.first_error, nil
end

--- A transaction inside this one: a savepoint. If fn raises, what it wrote and published is
-- undone and the error is raised again.
-- @return fn's values, true if there are none
function methods:transaction(fn)
  check_open(self)
  local mark = { events = self.batch:count(), after = #self.after, first_error = self.first_error }
  self.depth = self.depth + 1
  local name = "postbox_" .. self.depth
  self:query("SAVEPOINT " .. name)
  local results = pack(transaction.call(self, fn))
  self.depth = self.depth - 1
  if results[1] and self.connection:status() == "failed" then -- fn swallowed a statement's error
    results = { n = 2, false, self.first_error or errors.new("aborted", "a statement failed") }
  end
  if results[1] then
    self:query("RELEASE SAVEPOINT " .. name)
    return transaction.values(unpack(results, 2, results.n))
  end
  self:query("ROLLBACK TO SAVEPOINT " .. name)
  self:query("RELEASE SAVEPOINT " .. name)
  cut(self, mark)
  error(results[2], 0)
end

--- What a call of fn returned, true where it returned nothing.
function transaction.values(...)
  if select("#", ...) == 0 then
    return true
  end
  return ...
end

return transaction

--- The consumer's connection: one at a time, replaced when it breaks.
-- @module postbox.consumer.database
local errors = require "postbox.errors"
local transaction = require "postbox.transaction"

local database = {}
database.__index = database

local ENDED = "a handler may not end its transaction: what it wrote and its inbox row are committed together when it "
  .. "returns"
local IDLE_SECONDS = 300 -- a consumer that is frozen inside a transaction lets its inbox rows go

function database.new(box)
  return setmetatable({ box = box }, database)
end

--- The connection, opened where there is none. nil, message, err.
function database:get()
  local connection = self.connection
  if connection and connection:status() == "lost" then
    self:drop()
    connection = nil
  end
  if connection then
    return connection
  end
  local message, err
  connection, message, err = self.box:acquire()
  if not connection then
    return nil, message, err
  end
  self.connection = connection
  return connection
end

--- Gives the connection back; one that is broken is closed by that.
function database:drop()
  if self.connection then
    self.box:give_back(self.connection)
    self.connection = nil
  end
end

local endings = { COMMIT = true, END = true, ROLLBACK = true, ABORT = true, PREPARE = true }

-- What is behind the comment that a text begins with; comments nest in PostgreSQL.
local function behind_comment(text)
  local depth, at = 0, 1
  repeat
    local opened, closed = text:find("/*", at, true), text:find("*/", at, true)
    if not opened and not closed then
      return ""
    end
    local opens = opened and opened < (closed or math.huge)
    depth, at = depth + (opens and 1 or -1), (opens and opened or closed) + 2
  until depth == 0
  return text:sub(at)
end

-- The first word of a statement, in capitals; for ROLLBACK and PREPARE the second matters too.
local function ends_transaction(sql)
  local rest, before = sql, nil
  while rest ~= before do -- comments and empty statements in front
    before = rest
    rest = rest:gsub("^[%s;]+", ""):gsub("^%-%-[^\r\n]*", "")
    rest = rest:find "^/%*" and behind_comment(rest) or rest
  end
  local first, behind = rest:match "^(%a+)(.*)$"
  first = first and first:upper()
  if not endings[first] then
    return false
  end
  behind = behind:upper()
  if first == "ROLLBACK" then -- to a savepoint it is allowed
    return not behind:match "^%s+TO%s" and not behind:match "^%s+%a+%s+TO%s"
  end
  return first ~= "PREPARE" or behind:match "^%s+TRANSACTION" ~= nil
end

-- A handler that committed would commit the inbox rows of the events behind its own with it.
local function guarded_query(tx, sql, ...)
  if type(sql) == "string" and ends_transaction(sql) then
    tx.ended = errors.new("handler", ENDED)
    error(tx.ended, 0)
  end
  return getmetatable(tx).__index.query(tx, sql, ...)
end

--- The error of a handler that ended its transaction, or tried to; nil where it did not.
function database.ended(tx)
  return tx.ended or (tx.connection:status() == "idle" and errors.new("handler", ENDED)) or nil
end

--- A transaction on it, for handlers.
function database:transaction()
  local connection, message, err = self:get()
  if not connection then
    return nil, message, err
  end
  local tx = transaction.new(self.box, connection, { idle_timeout = IDLE_SECONDS })
  tx.query = guarded_query
  return tx
end

--- A connection that broke in a handler: does a fresh one work at once? Then it was the handler.
function database:is_well()
  self:drop()
  local connection = self:get()
  return connection ~= nil and connection:query "SELECT 1" ~= nil
end

--- Is this failure the database's, and nobody's attempt?
function database:is_trouble(err)
  local connection = self.connection
  return err.code == "connection" or err.code == "unknown" or not connection or connection:status() == "lost"
end

local passing = { ["40001"] = true, ["40P01"] = true, ["55P03"] = true }

--- A conflict with another transaction, which is over when this one is tried again.
function database.is_conflict(err)
  return passing[err.sqlstate or ""] == true
end

--- The inbox has no partition for an event's day.
function database.lacks_day(err)
  return err.sqlstate == "23514"
end

return database

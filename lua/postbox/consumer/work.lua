--- What is done with the records in hand: all in one transaction where that goes well, else one by
-- one. Nothing here raises; each record ends as done, or is held for another time.
-- @module postbox.consumer.work
local codec = require "postbox.consumer.codec"
local dead = require "postbox.consumer.dead"
local errors = require "postbox.errors"
local reject = require "postbox.reject"
local retry = require "postbox.consumer.retry"
local transaction = require "postbox.transaction"

local work = {}
work.__index = work

local FREE_CONFLICTS = 10 -- conflicts of one event in a row that are no attempt
local LETTER_PAUSE = 30   -- longest wait before a dead letter is written again, seconds
local FOREVER = 1e9       -- a partition of a dead letter topic that failed: until the next start

--- @param run the run: box, options, native, intake, database, attempts, handlers, event_class
function work.new(run)
  run.troubles, run.conflicts, run.letter_failures = 0, 0, 0
  run.condemned = {} -- by partition: a record whose dead letter is still to be written
  return setmetatable(run, work)
end

local function place_name(self, i)
  local topic, partition, offset = self.attempts.place(self.intake, i)
  return topic .. "/" .. partition, offset, topic
end

-- The database is away, or another transaction in the way: everything waits, and nothing counts.
function work:wait_for_database(err)
  self.troubles = self.troubles + 1
  local seconds = retry.trouble(self.troubles)
  if self.troubles == 1 or seconds > 4 then
    self.box:log("warning", ("consumer %s: waiting for the database: %s"):format(self.options.group, err.message))
  end
  self.intake:reopen()
  self.native:hold_all(seconds)
  return "wait"
end

-- Opens a transaction and takes the inbox ids in it. Days of the inbox are made where they are missing.
function work:claim(i)
  for _ = 1, 2 do
    local tx, message, err = self.database:transaction()
    if not tx then
      return nil, message, err
    end
    local claimed
    claimed, message, err = self.native:claim(tx.connection, self.intake, i)
    if claimed then
      return tx
    end
    transaction.abort(tx)
    if not self.database.lacks_day(err) then
      return nil, message, err
    end
    claimed, message, err = self.native:make_days(tx.connection, self.intake)
    if not claimed then
      return nil, message, err
    end
  end
  return errors.fail(errors.new("aborted", "the inbox has no partition for an event, and none could be made"))
end

-- Runs one handler in the transaction. True, or false and an error; the third value: for good.
function work:handle(tx, i, number, attempt)
  local event = codec.event(self.event_class, i, self.intake:serial(), self.read and self.read[i])
  if attempt > 1 then
    event.attempt = attempt
  end
  tx.causation = event
  local ok, err = transaction.call(tx, self.handlers[number], event)
  local ended = self.database.ended(tx)
  if ended then
    return false, ended, true
  end
  if ok and tx.connection:status() == "open" and not tx.doomed then
    return true
  end
  if ok then -- an error that the handler did not let through
    err = tx.doomed or tx.first_error or errors.new("connection", "the connection broke in the handler")
  end
  return false, err
end

-- All records in one transaction. "done", "apart" (one by one), "wait", "fatal".
function work:together()
  local tx, _, err = self:claim()
  if not tx then
    return self:wait_for_database(err)
  end
  local i, number = self.intake:next(0)
  while i do
    local ok, failure, fatal = self:handle(tx, i, number, 1)
    if not ok then
      transaction.abort(tx)
      self.intake:reopen()
      self.failure = fatal and failure
      return fatal and "fatal" or "apart"
    end
    i, number = self.intake:next(i)
  end
  local done
  done, _, err = transaction.commit(tx)
  if not done then
    self.intake:reopen()
    return self.database:is_trouble(err) and self:wait_for_database(err) or "apart"
  end
  self.troubles = 0
  self.intake:finish()
  return "done"
end

-- The decision stands; what is left is to write the letter, and then the inbox row.
function work:bury(i, reason)
  local name, offset, topic = place_name(self, i)
  local sentence = self.condemned[name]
  if not sentence or sentence.offset ~= offset then
    sentence = { offset = offset, reason = reason }
    self.condemned[name] = sentence
  end
  if dead.is_dead_letter_topic(topic) then
    self.box:log("error", ("consumer %s: a record of %s failed, and a dead letter topic has none of its own: its "
      .. "partition waits until the next start: %s"):format(self.options.group, name, reason.message))
    self.native:hold(self.intake, i, FOREVER)
    self.stuck = true
    return "held"
  end
  if not sentence.written then
    local written, message = self.native:dead_letter(self.intake, i, sentence.reason)
    if not written then
      self.letter_failures = self.letter_failures + 1
      self.box:log("error", ("consumer %s: the dead letter of %s at offset %.0f is not written; the record stays: %s")
        :format(self.options.group, name, offset, message))
      self.native:hold(self.intake, i, math.min(LETTER_PAUSE, 2 ^ math.min(self.letter_failures - 1, 10)))
      return "held"
    end
    sentence.written = true
    self.letter_failures = 0
  end
  local marked = self:mark_dead(i)
  if marked ~= true then
    return marked
  end
  self.condemned[name] = nil
  self.box:log("error", ("consumer %s: %s at offset %.0f is a dead letter in %s now: %s")
    :format(self.options.group, name, offset, dead.letters_of(topic), sentence.reason.message))
  self.attempts:cleared(self.intake, i)
  self.intake:done(i)
  return "done"
end

function work:mark_dead(i)
  local failure
  for _ = 1, 2 do
    local connection, _, err = self.database:get()
    if not connection then
      return self:wait_for_database(err)
    end
    local marked, _, refused = self.native:mark_dead(connection, self.intake, i)
    if marked then
      return true
    end
    failure = refused
    if not self.database.lacks_day(refused) or not self.native:make_days(connection, self.intake) then
      break
    end
  end
  return self:wait_for_database(failure)
end

-- A handler failed alone: another try later, or the end.
function work:failed(i, err, attempt)
  local o = self.options
  -- Without a connection the count is in memory, and a crash forgets it.
  self.attempts:set(self.database:get(), self.intake, i, attempt)
  if reject.is(err) or attempt > o.retry.retries then
    return self:bury(i, dead.by_handler(err, attempt))
  end
  local seconds = retry.delay(o.retry, attempt)
  local name, offset = place_name(self, i)
  self.box:log("warning", ("consumer %s: %s at offset %.0f failed (attempt %d of %d, again in %.3g s): %s")
    :format(o.group, name, offset, attempt, o.retry.retries + 1, seconds, err.message))
  self.native:hold(self.intake, i, seconds)
  return "held"
end

-- Whose fault was it? After a COMMIT without an answer the inbox knows more than this.
function work:judge(i, err, attempt)
  if self.database:is_trouble(err) and not self.database:is_well() then
    return self:wait_for_database(err)
  end
  if (self.database.is_conflict(err) or err.code == "unknown") and self.conflicts < FREE_CONFLICTS then
    self.conflicts = self.conflicts + 1
    self.native:hold(self.intake, i, retry.trouble(self.conflicts))
    return "held"
  end
  return self:failed(i, err, attempt)
end

-- A suspect's attempt counts even if the process does not survive it, so it is written first; but
-- only where the inbox does not have the event already.
function work:announce(tx, i, attempt)
  transaction.abort(tx)
  local written, message, err = self.attempts:set(tx.connection, self.intake, i, attempt)
  if not written then
    return nil, message, err
  end
  return self:claim(i)
end

-- One record with a handler, in a transaction of its own.
function work:alone(i, number)
  local attempt = self.attempts:of(self.intake, i) + 1
  local tx, _, err = self:claim(i)
  if tx and self.intake:state(i) == "claimed" then
    if attempt > self.options.retry.retries + 1 then
      transaction.abort(tx)
      return self:bury(i, dead.by_crash(attempt - 1))
    end
    if self.attempts:is_suspect(self.intake, i) then
      tx, _, err = self:announce(tx, i, attempt)
    end
  end
  if not tx then
    return self:wait_for_database(err)
  end
  if self.intake:state(i) ~= "claimed" then
    transaction.abort(tx)
    self.attempts:forget(self.intake, i)
    self.intake:done(i)
    return "done"
  end
  local ok, failure, fatal = self:handle(tx, i, number, attempt)
  local done = ok
  if ok then
    done, _, failure = transaction.commit(tx)
  else
    transaction.abort(tx)
  end
  if done then
    self.troubles, self.conflicts = 0, 0
    self.attempts:cleared(self.intake, i)
    self.intake:done(i)
    return "done"
  end
  self.intake:reopen(i)
  if fatal then
    self.failure = failure
    return "fatal"
  end
  return self:judge(i, failure, attempt)
end

-- One record, whatever it is.
function work:one(i)
  local name, offset = place_name(self, i)
  local sentence = self.condemned[name]
  if sentence and sentence.offset == offset then
    return self:bury(i, sentence.reason)
  end
  local _, route = self.intake:state(i)
  if type(route) == "number" then
    return self:alone(i, route)
  elseif route == "unreadable" then
    local why = self.read and self.read[i] or self.intake:why(i, self.codec_number)
    return self:bury(i, dead.unread("unreadable", why))
  elseif route == "reject" then
    return self:bury(i, dead.unread("unknown_type", "no handler for the type " .. tostring(self:type_of(i))))
  end
  self.intake:done(i)
  return "done"
end

function work:type_of(i)
  if self.read then
    return self.read[i].type
  end
  return self.intake:get(i, self.intake:serial(), "type")
end

-- One by one. A record that is held holds what is behind it in its partition.
function work:apart()
  local held = {}
  for i = 1, self.intake:count() do
    local name = place_name(self, i)
    if not held[name] and self.intake:state(i) ~= "done" then
      local result = self:one(i)
      if result == "wait" or result == "fatal" then
        return result
      end
      held[name] = result == "held"
    end
    if self.stopping then
      return "done"
    end
  end
  return "done"
end

-- A culprit that waits for its turn would fail a batch again; it is known, so take them apart at once.
function work:must_be_apart()
  return next(self.condemned) ~= nil or self.attempts:suspects_in(self.intake) or self:has_failed_before()
end

function work:has_failed_before()
  if next(self.attempts.known) == nil then
    return false
  end
  for i = 1, self.intake:count() do
    if self.attempts:of(self.intake, i) > 0 then
      return true
    end
  end
  return false
end

--- Works on the records in hand. "done", "wait", or "fatal" with self.failure.
function work:records()
  local connection, _, err = self.database:get()
  if not connection then
    return self:wait_for_database(err)
  end
  local noted
  noted, _, err = self.attempts:note_starts(self.native, connection, self.intake)
  if not noted then
    return self:wait_for_database(err)
  end
  if self.custom_codec then
    self.read = codec.read_all(self.intake, self.event_class, self.custom_codec, self.route_of)
  end
  -- A single record's try is no batch's: it counts at once.
  if self.intake:count() == 1 or self:must_be_apart() then
    return self:apart()
  end
  local result = self:together()
  if result == "wait" or result == "fatal" or (result == "done" and self.intake:finish() == 0) then
    return result
  end
  return self:apart()
end

return work

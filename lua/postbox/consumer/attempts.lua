--- Attempts that survive the process.
--
-- While all goes well nothing is written for them. A consumer notes the offset at which it begins
-- to read a partition; beginning there again and again makes the records behind it suspects, and
-- only those are taken one by one, with the attempt written before the handler runs.
-- @module postbox.consumer.attempts
local attempts = {}
attempts.__index = attempts

local SUSPICIOUS = 2 -- starts in a row at one offset

local function name_of(topic, partition)
  return topic .. "/" .. partition
end

--- @param box
-- @tparam string group
-- @tparam number window fresh records behind a suspicious start that are taken one by one: as many
-- as one transaction may have held
function attempts.new(box, group, window)
  return setmetatable({
    group = group, window = window,
    starts_sql = box:in_schema "SELECT * FROM postbox.consumer_starts($1, $2, $3, $4)",
    ends_sql = box:in_schema "SELECT * FROM postbox.consumer_ends($1, $2, $3)",
    attempt_sql = box:in_schema "SELECT * FROM postbox.consumer_attempt($1, $2, $3, $4, $5)",
    known = {},    -- by partition: the record that fails and how often it did
    suspects = {}, -- by partition: how many records are still taken one by one
  }, attempts)
end

--- Notes where partitions begin. true, or nil, message, err: then nothing may be handled yet.
function attempts:note_starts(native, connection, intake)
  for _, i in ipairs(native:starts(intake) or {}) do
    local topic, partition, offset = self.place(intake, i)
    local rows, message, err = connection:query(self.starts_sql, self.group, topic, partition, offset)
    if not rows then
      return nil, message, err
    end
    local row, name = rows[1], name_of(topic, partition)
    self.suspects[name] = row.starts >= SUSPICIOUS and self.window or nil
    local failing = row.record_offset and tonumber(row.record_offset)
    self.known[name] = failing and failing >= offset and { offset = failing, count = row.attempts } or nil
  end
  native:started(intake)
  return true
end

--- The partitions are given up in good order: what began there says nothing against a record.
function attempts:note_ends(native, connection)
  for _, place in ipairs(native:partitions()) do
    if not connection:query(self.ends_sql, self.group, place.topic, place.partition) then
      return
    end
  end
end

--- Topic, partition and offset of a record.
function attempts.place(intake, i)
  local serial = intake:serial()
  return intake:get(i, serial, "topic"), intake:get(i, serial, "partition"), intake:get(i, serial, "offset")
end

--- Must the records of this intake be taken one by one?
function attempts:suspects_in(intake)
  if next(self.suspects) == nil then
    return false
  end
  for i = 1, intake:count() do
    if self:is_suspect(intake, i) then
      return true
    end
  end
  return false
end

function attempts:is_suspect(intake, i)
  local topic, partition = self.place(intake, i)
  return self.suspects[name_of(topic, partition)] ~= nil
end

--- A record is through: its attempts are history.
function attempts:forget(intake, i)
  if next(self.known) == nil then
    return
  end
  local topic, partition, offset = self.place(intake, i)
  local name = name_of(topic, partition)
  local known = self.known[name]
  if known and known.offset <= offset then
    self.known[name] = nil
  end
end

--- The same after a handler had it: where it was a suspect, there is one less.
function attempts:cleared(intake, i)
  self:forget(intake, i)
  if next(self.suspects) == nil then
    return
  end
  local name = name_of(self.place(intake, i))
  local left = self.suspects[name]
  self.suspects[name] = left and left > 1 and left - 1 or nil
end

--- How often a record has been given to a handler before.
function attempts:of(intake, i)
  local topic, partition, offset = self.place(intake, i)
  local known = self.known[name_of(topic, partition)]
  return known and known.offset == offset and known.count or 0
end

--- Sets it, in memory and, where there is a connection, in the database.
function attempts:set(connection, intake, i, count)
  local topic, partition, offset = self.place(intake, i)
  self.known[name_of(topic, partition)] = { offset = offset, count = count }
  return connection and connection:query(self.attempt_sql, self.group, topic, partition, offset, count)
end

return attempts

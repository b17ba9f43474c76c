--- How records become events: which fields they have, and when they are read.
-- @module postbox.consumer.codec
local core = require "postbox.core"
local errors = require "postbox.errors"

local codec = {}

-- As core.consumer counts them.
local numbers = { postbox = 0, json = 1, bytes = 2, custom = 3 }

local function decode_json(text)
  local value, message, err = core.decode(text)
  if err then
    error(message) -- not to be expected: what an intake gives is checked
  elseif value == core.null then
    return nil -- what was published as nil
  end
  return value
end

local function as_it_is(bytes)
  return bytes
end

-- A codec in Lua decodes by itself, at once.
local decoders = { postbox = decode_json, json = decode_json, bytes = as_it_is }

--- Checks the option `codec`.
-- @return its name for the core, its number, how a payload is decoded, and the function given
function codec.check(given)
  local name = type(given) == "function" and "custom" or given or "postbox"
  if not numbers[name] or given == "custom" then
    errors.raise("config", 'consumer: codec must be "postbox", "json", "bytes" or a function')
  end
  return name, numbers[name], decoders[name], name == "custom" and given or nil
end

local fields = {
  id = true, type = true, key = true, headers = true, topic = true, partition = true, offset = true,
  timestamp = true, traceparent = true, value = true,
}

--- The metatable of an intake's events. Fields are read from the record when they are first used,
-- the payload is decoded then; what was read stays when the record is gone.
function codec.events_of(intake, decode)
  local get = intake.get
  return {
    __name = "postbox.event",
    __index = function(event, name)
      local value
      if name == "payload" and decode then
        value = get(intake, event[1], event[2], name)
        if value ~= nil then
          value = decode(value)
        end
      elseif name == "attempt" then
        value = 1
      elseif fields[name] then
        value = get(intake, event[1], event[2], name)
      end
      rawset(event, name, value)
      return value
    end,
  }
end

local function read(custom, event)
  local ok, result, reason = pcall(custom, event)
  if not ok then
    return nil, "the codec failed: " .. errors.text(result)
  end
  if type(result) ~= "table" then
    return nil, reason and errors.text(reason) or "the codec did not recognise the record"
  end
  if result.id ~= nil and type(result.id) ~= "string" then
    return nil, "the codec's id is not a string"
  end
  if result.type ~= nil and type(result.type) ~= "string" then
    return nil, "the codec's type is not a string"
  end
  return result
end

--- Lets a codec in Lua read all records of an intake, and says what is to be done with each.
-- @tparam function custom the codec
-- @tparam function route_of handler's number, or "ignore" or "reject", for a type
-- @treturn table what was read, by the number of the record; a string is why it could not be
function codec.read_all(intake, metatable, custom, route_of)
  local results, serial = {}, intake:serial()
  for i = 1, intake:count() do
    local result, reason = read(custom, setmetatable({ i, serial }, metatable))
    if result then
      intake:route(i, route_of(result.type), result.id)
    else
      intake:route(i, "unreadable", nil)
    end
    results[i] = result or reason
  end
  return results
end

--- An event for a handler.
function codec.event(metatable, i, serial, result)
  local event = setmetatable({ i, serial }, metatable)
  if result then
    rawset(event, "type", result.type)
    rawset(event, "payload", result.payload)
    rawset(event, "id", result.id)
    rawset(event, "key", result.key)
  end
  return event
end


return codec

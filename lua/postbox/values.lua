--- Values that say how a payload is meant.
--
-- A plain Lua value becomes JSON: a table with positions 1, 2, 3 … an array, one with string keys
-- an object with sorted keys, an empty one `{}`; a float with an integral value is written as an
-- integer. Tables are read raw: no metamethod is called. Errors name the place, such as
-- `payload.items[3].price`.
-- @module postbox.values
local core = require "postbox.core"

local values = {}

local marks = core.marks

local function describe(name)
  marks[name].__tostring = function(value)
    local text = rawget(value, 1)
    return text and ("postbox.%s (%d bytes)"):format(name, #text) or "postbox." .. name
  end
end

describe("raw")
describe("bytes")
describe("tombstone")

-- Metatables that postbox.array may replace: they say the same.
local array_marks = { [marks.array] = true }

-- OpenResty's cjson marks arrays in ways of its own, others in none; an application has one or not.
local found, cjson = pcall(require, "cjson")
if found and type(cjson) == "table" and cjson.array_mt then
  core.mark(cjson.array_mt, "array")
  core.mark(cjson.empty_array_mt, "empty_array")
  core.mark(cjson.empty_array, "empty_array")
  array_marks[cjson.array_mt], array_marks[cjson.empty_array_mt] = true, true
end

local function expect_string(value, name)
  if type(value) ~= "string" then
    error(("postbox.%s takes a string, not a %s"):format(name, type(value)), 3)
  end
  return value
end

--- JSON text that is sent as it stands, as the payload or inside one.
-- It is checked when the event is published.
-- @tparam string json_text
-- @usage box:publish("ORDER_CREATED", id, postbox.raw(row.document))
function values.raw(json_text)
  return setmetatable({ expect_string(json_text, "raw") }, marks.raw)
end

--- Any bytes: as a payload the record's value itself, with the envelope in headers; as a parameter
-- of a query a `bytea`.
-- @tparam string bytes
function values.bytes(bytes)
  return setmetatable({ expect_string(bytes, "bytes") }, marks.bytes)
end

--- Marks a table as an array, so that it is written as `[]` when it is empty.
-- @tparam[opt] table list a table without a metatable; a new one when it is left out
-- @treturn table the same table
-- @usage { items = postbox.array(items) }
function values.array(list)
  if list == nil then list = {} end
  if type(list) ~= "table" then
    error(("postbox.array takes a table, not a %s"):format(type(list)), 2)
  end
  local present = getmetatable(list)
  if present ~= nil and not array_marks[present] then
    error("postbox.array: the table has a metatable already, which the mark would replace", 2)
  end
  return setmetatable(list, marks.array)
end

--- JSON null inside a payload, and what a null reads as. It equals `cjson.null` and `ngx.null`.
values.null = core.null

--- A payload that makes a record with a null value, with which a compacted topic forgets the key.
values.tombstone = setmetatable({}, marks.tombstone)

return values

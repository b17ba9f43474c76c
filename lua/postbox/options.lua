--- Checks tables of options: unknown names, wrong types and values outside their range are told
-- at the call, by name.
-- @module postbox.options
local errors = require "postbox.errors"

local options = {}

local function describe(rule)
  if rule.one_of then
    return "one of " .. table.concat(rule.one_of, ", ")
  end
  return table.concat(rule.types, " or ")
end

local function has_type(rule, value)
  for _, name in ipairs(rule.types) do
    if type(value) == name then
      return true
    end
  end
  return false
end

local function in_list(list, value)
  for _, allowed in ipairs(list) do
    if allowed == value then
      return true
    end
  end
  return false
end

local function check_value(what, name, rule, value)
  local fits = has_type(rule, value) and (not rule.one_of or in_list(rule.one_of, value))
  if not fits then
    -- The value itself is not shown: it may be a secret.
    errors.raise("config", ("%s: %s must be %s, not a %s"):format(what, name, describe(rule),
      rule.one_of and "different value" or type(value)))
  end
  if type(value) == "number" and (value ~= value or value < (rule.min or 0) or value > (rule.max or math.huge)) then
    errors.raise("config", ("%s: %s must be from %g to %g"):format(what, name, rule.min or 0, rule.max or math.huge))
  end
end

local function known_names(rules)
  local names = {}
  for name in pairs(rules) do
    names[#names + 1] = name
  end
  table.sort(names)
  return table.concat(names, " ")
end

--- Returns a copy of `given` with defaults filled in; raises (config) on the first wrong one.
-- @tparam string what the call, for the error text
-- @tparam table|nil given
-- @tparam table rules by name: types (list of type names), one_of, min, max, default
-- @treturn table the options
-- @treturn table which names were given
function options.check(what, given, rules)
  if given ~= nil and type(given) ~= "table" then
    errors.raise("config", ("%s takes a table of options, not a %s"):format(what, type(given)))
  end
  local result, asked = {}, {}
  for name, value in pairs(given or {}) do
    local rule = rules[name]
    if not rule then
      errors.raise("config", ("%s: no option %s; there are: %s"):format(what, tostring(name), known_names(rules)))
    end
    check_value(what, name, rule, value)
    result[name], asked[name] = value, true
  end
  for name, rule in pairs(rules) do
    if result[name] == nil then
      result[name] = rule.default
    end
  end
  return result, asked
end

return options

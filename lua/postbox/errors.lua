--- Errors: tables with a code of a closed list, a text, and what caused them.
--
-- `err.code` is one of config connection timeout unknown aborted conflict handler full closed busy
-- cannot_wait topic_unknown too_large. `err.retriable` says that the same call may work later,
-- `err.sqlstate` is PostgreSQL's code, `err.xid` the transaction's id (with code unknown),
-- `err.cause` the value that an application's function raised, `err.traceback` where.
-- `tostring(err)` is `err.message`.
-- @module postbox.errors
local core = require "postbox.core"

local errors = {}

local metatable = core.error_metatable
metatable.__index = nil

--- Makes an error.
-- @tparam string code one of the list above
-- @tparam string message what was tried, on what, and why it failed
-- @tparam[opt] table fields further fields: cause, traceback, retriable, sqlstate, xid
-- @treturn table the error
function errors.new(code, message, fields)
  local err = { code = code, message = message, retriable = false }
  for name, value in pairs(fields or {}) do
    err[name] = value
  end
  return setmetatable(err, metatable)
end

--- Tells postbox's errors from other values.
function errors.is(value)
  return type(value) == "table" and getmetatable(value) == metatable
end

--- Returns an error as a failure: nil, message, err.
function errors.fail(err)
  return nil, err.message, err
end

--- Raises an error (misuse: wrong types, a closed box, publish outside a transaction).
function errors.raise(code, message, fields)
  error(errors.new(code, message, fields), 0)
end

--- Raises `err` unless `value` is truthy; for calls that return nil, message, err.
function errors.assert(value, message, err)
  if value then
    return value, message, err
  end
  error(err or errors.new("config", message or "failed"), 0)
end

--- Any value as text. Never raises, whatever __tostring does.
function errors.text(value)
  if value == nil then
    return "nil was raised"
  end
  local ok, text = pcall(tostring, value)
  return ok and type(text) == "string" and text or ("(a %s that has no text)"):format(type(value))
end

--- Any raised value as an error of postbox; its own stay as they are.
-- @tparam string code for a value that is not one of postbox's errors
function errors.wrap(code, value, traceback)
  if errors.is(value) then
    return value
  end
  return errors.new(code, errors.text(value), { cause = value, traceback = traceback })
end

return errors

--- What postbox.reject raises, and how the consumer tells it from other errors.
-- @module postbox.reject
local errors = require "postbox.errors"

local reject = {}

--- Raises a rejection.
function reject.raise(reason)
  local text = reason == nil and "rejected by the handler" or tostring(reason)
  error(errors.new("handler", text, { rejected = true }), 0)
end

--- Is it one? Also where it passed through a nested transaction.
function reject.is(err)
  return errors.is(err) and err.rejected == true
end

return reject

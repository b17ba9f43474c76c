-- Busted's output for spec/support/run.lua: each test's name before it runs, so that a run that
-- hangs names its test; what failed, with its place; the counts in the last line.

local busted = require "busted"

local function text_of(message)
  local class = type(message) == "table" and getmetatable(message)
  if type(message) == "string" or class and class.__tostring then
    return tostring(message)
  end
  return message == nil and "no message" or require("pl.pretty").write(message)
end

local function describe_failure(failure)
  local place = failure.element.trace or failure.trace or {}
  local text = text_of(failure.message)
  if failure.isError and failure.trace and failure.trace.traceback then
    text = text .. failure.trace.traceback
  end
  return ("FAILED %s\n  %s:%s\n  %s\n"):format(failure.name, tostring(place.short_src or "?"),
    tostring(place.currentline or "?"), (text:gsub("\n", "\n  ")))
end

return function()
  local handler = require "busted.outputHandlers.base"()

  function handler.testStart(element)
    io.stdout:write("> ", handler.getFullName(element), "\n")
    io.stdout:flush()
    return nil, true
  end

  function handler.testEnd(_, _, status)
    if status ~= "success" then
      io.stdout:write("  ", status, "\n")
    end
    return nil, true
  end

  function handler.suiteEnd()
    for _, list in ipairs { handler.failures, handler.errors } do
      for _, failure in ipairs(list) do
        io.stdout:write(describe_failure(failure))
      end
    end
    io.stdout:write(("%d passed, %d failed, %d skipped\n"):format(handler.successesCount,
      handler.failuresCount + handler.errorsCount, handler.pendingsCount))
    io.stdout:flush()
    return nil, true
  end

  busted.subscribe({ "test", "start" }, handler.testStart, { predicate = handler.cancelOnPending })
  busted.subscribe({ "test", "end" }, handler.testEnd, { predicate = handler.cancelOnPending })
  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  return handler
end

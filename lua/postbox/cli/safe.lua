--- Makes text from the database and from Kafka harmless on a terminal: control characters, escape
-- sequences, bytes that are not UTF-8 and what reverses the direction of writing are shown as \xNN.
-- @module postbox.cli.safe
local safe = {}

local function escape(bytes)
  return (bytes:gsub(".", function(byte) return ("\\x%02x"):format(byte:byte()) end))
end

-- Well-formed UTF-8 beyond ASCII, by first byte.
local sequences = {
  "^[\194-\223][\128-\191]",
  "^\224[\160-\191][\128-\191]",
  "^[\225-\236\238\239][\128-\191][\128-\191]",
  "^\237[\128-\159][\128-\191]",
  "^\240[\144-\191][\128-\191][\128-\191]",
  "^[\241-\243][\128-\191][\128-\191][\128-\191]",
  "^\244[\128-\143][\128-\191][\128-\191]",
}

local harmful = {
  "^\194[\128-\159]$",             -- C1 controls
  "^\216\156$",                    -- marks and overrides of direction, line breaks
  "^\226\128[\142\143\168-\174]$",
  "^\226\129[\166-\169]$",         -- isolates
}

local function first_sequence(text, from)
  for _, pattern in ipairs(sequences) do
    local found = text:match(pattern, from)
    if found then
      return found
    end
  end
end

local function is_harmful(character)
  for _, pattern in ipairs(harmful) do
    if character:find(pattern) then
      return true
    end
  end
  return false
end

-- A run of bytes beyond ASCII.
local function clean(run)
  local parts, at = {}, 1
  while at <= #run do
    local character = first_sequence(run, at)
    local bytes = character or run:sub(at, at)
    parts[#parts + 1] = (not character or is_harmful(character)) and escape(bytes) or bytes
    at = at + #bytes
  end
  return table.concat(parts)
end

--- A text as it can be printed.
function safe.text(text)
  text = tostring(text):gsub("[%z\1-\31\127]", escape)
  return (text:gsub("[\128-\255]+", clean))
end

return safe

-- Samples of several rounds as medians, and the table at the end.

local figures = {}
local methods = {}

local HEAD = { "figure", "postbox: median (least to most)", "reference", "its median (least to most)", "goal", "met" }

--- Median, least and most of a list of numbers.
function figures.summary(samples)
  local sorted = {}
  for i, value in ipairs(samples) do
    sorted[i] = value
  end
  table.sort(sorted)
  local middle = (#sorted + 1) / 2
  local median = (sorted[math.floor(middle)] + sorted[math.ceil(middle)]) / 2
  return median, sorted[1], sorted[#sorted]
end

local function grouped(value)
  local text = ("%.0f"):format(value)
  local count
  repeat
    text, count = text:gsub("^(%d+)(%d%d%d)", "%1,%2")
  until count == 0
  return text
end

local function number(value)
  return value >= 1000 and grouped(value) or value >= 100 and ("%.0f"):format(value)
    or value >= 10 and ("%.1f"):format(value) or ("%.2f"):format(value)
end

local function cell(samples, unit)
  if not samples or #samples == 0 then
    return "-"
  end
  local median, least, most = figures.summary(samples)
  return ("%s%s (%s to %s)"):format(number(median), unit, number(least), number(most))
end

--- One figure.
-- @tparam table row name, unit, samples; and where there are: reference (its name),
-- reference_samples, least or most (the goal), share (the least share of the reference)
function methods:add(row)
  local met, goal = nil, "-"
  local median = figures.summary(row.samples)
  if row.share then
    local part = median / figures.summary(row.reference_samples)
    goal = (">= %g of it"):format(row.share)
    met = ("%s (%.2f)"):format(part >= row.share and "yes" or "NO", part)
  elseif row.least or row.most then
    goal = ("%s %s%s"):format(row.least and ">=" or "<=", number(row.least or row.most), row.unit)
    met = ((row.least and median >= row.least) or (row.most and median <= row.most)) and "yes" or "NO"
  elseif row.reference_samples then
    met = ("(%.2f)"):format(median / figures.summary(row.reference_samples))
  end
  table.insert(self.rows, { row.name, cell(row.samples, row.unit), row.reference or "-",
    cell(row.reference_samples, row.unit), goal, met or "-" })
  print(("   %s: %s"):format(row.name, self.rows[#self.rows][2]))
  io.stdout:flush()
end

--- Says what is being done, as it may take a while.
function figures.say(...)
  print("== " .. string.format(...))
  io.stdout:flush()
end

local function print_row(row, widths)
  local cells = {}
  for i, text in ipairs(row) do
    cells[i] = text .. (" "):rep(widths[i] - #text)
  end
  print("| " .. table.concat(cells, " | ") .. " |")
end

--- Prints the table (it is Markdown) and the facts under it.
function methods:print(facts)
  local widths = {}
  table.insert(self.rows, 1, HEAD)
  for _, row in ipairs(self.rows) do
    for i, text in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, #text)
    end
  end
  local rule = {}
  for i, width in ipairs(widths) do
    rule[i] = ("-"):rep(width)
  end
  table.insert(self.rows, 2, rule)
  print("")
  for _, row in ipairs(self.rows) do
    print_row(row, widths)
  end
  print("")
  for _, fact in ipairs(facts) do
    print(fact)
  end
end

function figures.new()
  return setmetatable({ rows = {} }, { __index = methods })
end

return figures

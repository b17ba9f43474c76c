-- What the documents say: the README's example runs as it stands, code compiles, links lead
-- somewhere, and the options of the tables are those of the code.
local postbox = require "postbox"
local process = require "postbox.testing.process"
local support = require "spec.support"

local PATIENCE = 90
local compile = loadstring or load -- luacheck: ignore 113 143

local function read(path)
  local file = assert(io.open(path, "r"), path)
  local text = file:read("*a")
  file:close()
  return text
end

local function exists(path)
  local file = io.open(path, "r")
  return file ~= nil and file:close() ~= nil
end

local function documents()
  local status, output = process.run { "sh", "-c", "ls README.md docs/*.md examples/*/README.md" }
  assert.equal(0, status, output)
  local list = {}
  for path in output:gmatch "%S+" do
    list[#list + 1] = path
  end
  return list
end

-- The code blocks of a language: { text, line }.
local function blocks(path, language)
  local list, text, wanted, line = {}, nil, false, 0
  for one in (read(path) .. "\n"):gmatch "(.-)\n" do
    line = line + 1
    if text and one:find "^```" then
      if wanted then
        list[#list + 1] = { text = table.concat(text, "\n") .. "\n", line = line - #text }
      end
      text = nil
    elseif text then
      text[#text + 1] = one
    elseif one:find "^```" then
      text, wanted = {}, one:sub(4) == language
    end
  end
  assert(not text, path .. ": a code block has no end")
  return list
end

-- The first Lua block of a document as a file of its own.
local function save_example(document)
  local path = os.tmpname() .. ".lua"
  local file = assert(io.open(path, "w"))
  file:write(blocks(document, "lua")[1].text)
  file:close()
  return path
end

describe("the example of docs/testing.md", function()
  it("passes with busted #mock", function()
    local path = save_example "docs/testing.md"
    local run = support.run_lua(('arg = { [0] = "busted", %q } dofile "spec/support/busted.lua"'):format(path))
    local status = run:wait(PATIENCE)
    os.remove(path)
    assert.equal(0, status, run:output())
    assert.truthy(run:output():find("2 successes / 0 failures / 0 errors", 1, true), run:output())
    run:close()
  end)
end)

describe("the README's example", function()
  local path

  setup(function() path = save_example "README.md" end)
  teardown(function() os.remove(path) end)

  local function assert_runs(env)
    local example = support.run_lua(path, env)
    local status = example:wait(PATIENCE)
    local output = example:output()
    example:close()
    assert.equal(0, status, output)
    output = output:gsub("postbox: warning: [^\n]*\n", "") -- on stderr: topics that are not made yet
    local id, order = output:match "event (%x+%-%x+%-7%x+%-%x+%-%x+): order (%d+) is shipped\n"
    assert.truthy(id, output)
    assert.truthy(output:find(("order %s was shipped 1 time\n"):format(order), 1, true), output)
    assert.equal(2, select(2, output:gsub("\n", "")), output)
  end

  it("runs as it stands, on servers of its own #mock", function()
    assert_runs {}
  end)

  -- Its names are fixed, so on servers that others use too, one runs at a time.
  it("runs as it stands, on servers that are there", function()
    local database, kafka = support.database(), support.broker().bootstrap
    local env = { POSTBOX_DATABASE = database, POSTBOX_KAFKA = kafka }
    local box = postbox.new {
      database = os.getenv "POSTBOX_TEST_DATABASE" or support.database(),
      schema = "readme_spec", statement_timeout = 4 * PATIENCE,
    }
    assert(box:migrate())
    assert(box:transaction(function(tx)
      tx:query "SELECT pg_advisory_xact_lock(hashtext('README'), 0)"
      assert_runs(env)
    end))
    assert(box:close())
  end)
end)

describe("the documents", function()
  it("have Lua that compiles", function()
    for _, path in ipairs(documents()) do
      for _, block in ipairs(blocks(path, "lua")) do
        local chunk, message = compile(block.text, ("=%s:%d"):format(path, block.line))
        assert.truthy(chunk, message)
      end
    end
  end)

  it("have links that lead to a file, and to a heading in it", function()
    local function anchors(path)
      local found = {}
      for heading in ("\n" .. read(path)):gmatch "\n#+ ([^\n]+)" do
        found[heading:lower():gsub("[^%w%- ]", ""):gsub(" ", "-")] = true
      end
      return found
    end
    for _, path in ipairs(documents()) do
      local folder = path:match "^(.*/)" or ""
      for link in read(path):gmatch "%]%(([^)%s]+)%)" do
        if not link:find "^https?:" then
          local target, anchor = link:match "^([^#]*)#?(.*)$"
          target = target == "" and path or folder .. target
          assert.truthy(exists(target), ("%s: the link %s leads nowhere"):format(path, link))
          if anchor ~= "" then
            assert.truthy(anchors(target)[anchor], ("%s: there is no heading for %s"):format(path, link))
          end
        end
      end
    end
  end)

  it("name tests that exist", function()
    local count = 0
    for file, name in read("docs/guarantees.md"):gmatch '`(spec/[%w_]+_spec%.lua)` "([^"]+)"' do
      count, name = count + 1, name:gsub("%s+", " ")
      assert.truthy(read(file):find(name, 1, true), ("%s has no test %q"):format(file, name))
    end
    assert.is_true(count > 40, count .. " tests are named")
  end)
end)

-- Tables of options stand behind a line `<!-- options: name -->`; each of their first columns has
-- one name. The code tells its options by refusing one that it does not know.
describe("the tables of options", function()
  local box

  setup(function() box = postbox.new { database = "host=/nowhere", kafka = "127.0.0.1:1" } end)

  local consumer = { group = "g", topics = { "t" }, default = function() end }
  local unknown = { ["there is no such option"] = true }
  local function with(name, value)
    local copy = { [name] = value }
    for key, given in pairs(consumer) do
      copy[key] = given
    end
    return copy
  end

  local calls = {
    ["postbox.new"] = function() postbox.new(unknown) end,
    ["box:transaction"] = function() box:transaction(unknown, function() end) end,
    ["publish"] = function()
      require("postbox.publish").add({ settings = {} }, nil, nil, "T", nil, nil, unknown)
    end,
    ["box:migrate"] = function() box:migrate(unknown) end,
    ["box:relay"] = function() box:relay(unknown) end,
    ["relay:run"] = function() box:relay():run(unknown) end,
    ["box:consumer"] = function() box:consumer(with("there is no such option", true)) end,
    ["retry"] = function() box:consumer(with("retry", unknown)) end,
    ["consumer:run"] = function() box:consumer(consumer):run(unknown) end,
  }

  local function known(name)
    local ok, err = pcall(calls[name])
    assert.is_false(ok)
    local list = tostring(err):match "there are: ([%w_ ]+)"
    assert.truthy(list, name .. " does not tell its options: " .. tostring(err))
    local names = {}
    for option in list:gmatch "%S+" do
      names[option] = true
    end
    return names
  end

  local function tables()
    local list = {}
    for _, path in ipairs(documents()) do
      for name, text in read(path):gmatch "<!%-%- options: (%S+) %-%->\n(.-)\n\n" do
        list[#list + 1] = { path = path, name = name, text = text .. "\n" }
      end
    end
    return list
  end

  it("have every option of the code, and no other", function()
    local told = {}
    for _, one in ipairs(tables()) do
      local names = known(one.name)
      for option in one.text:gmatch "\n| `([%w_]+)`" do
        assert.is_true(names[option], ("%s: %s has no option %s"):format(one.path, one.name, option))
        names[option] = nil
      end
      assert.is_nil(next(names), ("%s: the table of %s lacks %s"):format(one.path, one.name, tostring(next(names))))
      told[one.name] = true
    end
    for name in pairs(calls) do
      assert.is_true(told[name], "no document has a table of the options of " .. name)
    end
  end)
end)

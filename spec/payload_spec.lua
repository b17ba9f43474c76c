-- luacheck: std max+busted
-- What becomes of a payload: JSON text from Lua values, and the values that mean something else.
local cjson = require "cjson"
local core = require "postbox.core"
local values = require "postbox.values"

local has_integers = math.type ~= nil

local function refused(value, part)
  local text, message, err = core.encode(value)
  assert.is_nil(text)
  assert.is_string(message)
  assert.truthy(message:find(part, 1, true), ("`%s` does not contain `%s`"):format(message, part))
  return err
end

local function nested(depth, innermost)
  local value = innermost
  for _ = 1, depth do value = { value } end
  return value
end

describe("JSON text of a payload", function()
  it("E-07 keeps 16-digit integers exactly", function()
    assert.equal("9007199254740992", core.encode(9007199254740992))
    assert.equal("-9007199254740991", core.encode(-9007199254740991))
    assert.equal("[1234567890123456]", core.encode({ 1234567890123456 }))
  end)

  if has_integers then
    it("keeps 64-bit integers exactly", function()
      assert.equal("9007199254740993", core.encode(9007199254740992 + 1))
      assert.equal("9223372036854775807", core.encode(math.maxinteger))
      assert.equal("-9223372036854775808", core.encode(math.mininteger))
    end)
  end

  it("writes an integral number as an integer, the same on every Lua", function()
    assert.equal("3", core.encode(3))
    assert.equal("3", core.encode(6 / 2))
    assert.equal("0", core.encode(-1 * 0.0))
    assert.equal("100000000000000", core.encode(1e14))
  end)

  it("writes the shortest text that reads back as the same number", function()
    assert.equal("0.1", core.encode(0.1))
    assert.equal("19.99", core.encode(19.99))
    assert.equal("-0.000001", core.encode(-0.000001))
    assert.equal("0.30000000000000004", core.encode(0.1 + 0.2))
    for _, number in ipairs { 1 / 3, 2 / 3, 1e-7, 1.7976931348623157e308, 5e-324, 1e22, 123.456e-10 } do
      assert.equal(number, tonumber((core.encode(number))))
    end
  end)

  it("refuses NaN and infinity, and says where", function()
    refused(0 / 0, "payload: NaN")
    refused({ items = { 1, 2, { price = 1 / 0 } } }, "payload.items[3].price: NaN and infinity")
    refused({ -1 / 0 }, "payload[1]: NaN")
  end)

  it("writes the simple values", function()
    assert.equal("null", core.encode(nil))
    assert.equal("true", core.encode(true))
    assert.equal("false", core.encode(false))
    assert.equal("null", core.encode(values.null))
    assert.equal("null", core.encode(cjson.null))
    assert.equal('"tea"', core.encode("tea"))
    assert.equal('""', core.encode(""))
  end)

  it("escapes only what JSON demands", function()
    assert.equal([["\"\\/\b\f\n\r\t\u0000\u001f]] .. "\127ü😀\"",
      core.encode("\"\\/\b\f\n\r\t\0\031\127ü😀"))
  end)

  it("E-04 refuses strings and keys that are not UTF-8, and says where", function()
    refused("\255\254", "payload: a string that is not valid UTF-8")
    refused({ customer = { name = "J\252rgen" } }, "payload.customer.name: a string that is not")
    refused({ ["\237\160\128"] = 1 }, 'payload["???"]: a string that is not')
  end)

  it("sorts the keys of objects by their bytes", function()
    assert.equal('{"":0,"A":1,"Z":2,"a":3,"aa":4,"b":5,"ä":6}',
      core.encode({ b = 5, aa = 4, ["ä"] = 6, Z = 2, A = 1, a = 3, [""] = 0 }))
    local many, expected = {}, {}
    for i = 1, 100 do many[("key%03d"):format(i)] = i end
    for i = 1, 100 do expected[i] = ('"key%03d":%d'):format(i, i) end
    assert.equal("{" .. table.concat(expected, ",") .. "}", core.encode(many))
  end)

  it("writes inner objects before, between and behind others", function()
    local value = { a = { x = 1, b = { y = 2 } }, c = {}, d = { { e = 1 }, { f = { 1, 2 } } } }
    assert.equal('{"a":{"b":{"y":2},"x":1},"c":{},"d":[{"e":1},{"f":[1,2]}]}', core.encode(value))
  end)

  it("E-07 keeps empty arrays apart from empty objects", function()
    assert.equal("{}", core.encode({}))
    assert.equal("[]", core.encode(values.array({})))
    assert.equal("[]", core.encode(values.array()))
    assert.equal('{"items":[],"note":{}}', core.encode({ items = values.array({}), note = {} }))
    assert.equal("[1,2]", core.encode(values.array({ 1, 2 })))
  end)

  it("refuses tables that are neither arrays nor objects", function()
    refused({ a = { 1, 2, x = 3 } }, "payload.a: a table with string keys and with positions")
    refused({ 1, nil, 3 }, "payload: an array with holes")
    refused({ orders = { [1001] = "x" } }, "payload.orders: an array with holes")
    refused({ [0] = 1 }, "payload: a numeric key")
    refused({ [-1] = 1 }, "payload: a numeric key")
    refused({ [1.5] = 1 }, "payload: a numeric key")
    refused({ [true] = 1 }, "payload: a key that is neither")
    refused({ list = values.array({ x = 1 }) }, "payload.list: a table marked as an array")
    assert.equal("[1,null,3]", core.encode({ 1, values.null, 3 }))
  end)

  it("takes positions that are floats", function()
    local list = {}
    list[2 / 2], list[4 / 2] = "a", "b"
    assert.equal('["a","b"]', core.encode(list))
  end)

  it("refuses functions, threads and userdata, and says where", function()
    refused(print, "payload: a function has no JSON form")
    refused({ on = { { done = print } } }, "payload.on[1].done: a function")
    refused({ coroutine.create(function() end) }, "payload[1]: a thread")
    refused({ io.stdout }, "payload[1]: a userdata")
  end)

  if rawget(_G, "jit") then
    it("refuses cdata, whose digits it cannot read", function()
      local ffi = require "ffi"
      refused({ id = ffi.new("int64_t", 1) }, "payload.id: a cdata")
    end)
  end

  it("E-07 writes deep tables, to 128 levels", function()
    assert.equal(("["):rep(128) .. "1" .. ("]"):rep(128), core.encode(nested(128, 1)))
    refused(nested(129, 1), "deeper than 128")
    local text = core.encode(nested(128, 1))
    assert.is_true(core.check_json(text))
  end)

  it("ends at cycles", function()
    local node = {}
    node.next = node
    refused(node, "is one inside itself?")
    local a, b = {}, {}
    a[1], b[1] = b, a
    refused({ first = a }, "payload.first[1][1]")
  end)

  it("ends at a table that is reached too many times", function()
    local value = { ("x"):rep(1000) }
    for _ = 1, 40 do value = { value, value } end
    assert.equal("too_large", refused(value, "over 64 MiB").code)
  end)

  it("runs no metamethod", function()
    local function never() error("called") end
    local strange = setmetatable({ a = 1 }, { __index = never, __pairs = never, __len = never, __tostring = never })
    assert.equal('{"a":1}', core.encode(strange))
    assert.equal("{}", core.encode(setmetatable({}, { __index = { hidden = 1 } })))
  end)

  it("leaves the value and the stack as they were, also after an error", function()
    local value = { a = { 1, 2 }, b = { c = print } }
    for _ = 1, 1000 do refused(value, "payload.b.c") end
    value.b.c = 3
    for _ = 1, 1000 do assert.equal('{"a":[1,2],"b":{"c":3}}', core.encode(value)) end
  end)

  it("shows names in errors without harm", function()
    refused({ ["order id"] = print }, 'payload["order id"]: a function')
    refused({ ["a\27[31m\n"] = print }, 'payload["a?[31m?"]')
    refused({ ["größe"] = print }, 'payload["größe"]')
    refused({ [("k"):rep(1000)] = print }, 'payload["' .. ("k"):rep(40) .. "…")
    local deep = print
    for _ = 1, 100 do deep = { [("ö"):rep(15)] = deep } end
    local _, message = core.encode(deep)
    assert.truthy(#message < 500)
    assert.is_true(core.check_json(core.encode(message)))
  end)

  it("fails with a `config` error", function()
    local err = refused({ x = print }, "payload.x")
    assert.equal("config", err.code)
    assert.is_false(err.retriable)
  end)
end)

describe("values with a meaning", function()
  it("embeds raw JSON as it stands", function()
    assert.equal('{"b":1, "a":1}', core.encode(values.raw('{"b":1, "a":1}')))
    assert.equal('{"doc":[1.0],"n":1}', core.encode({ n = 1, doc = values.raw("[1.0]") }))
  end)

  it("checks raw JSON, and says where it is wrong", function()
    refused(values.raw("{]"), "payload: JSON: byte 2")
    refused({ a = { values.raw("NaN") } }, "payload.a[1]: JSON: byte 1 is not a JSON value")
    refused(values.raw(""), "payload: JSON: the text ends")
    refused({ values.raw(("["):rep(128) .. ("]"):rep(128)) }, "payload[1]: JSON: too many arrays")
  end)

  it("refuses bytes and tombstones inside a payload", function()
    refused({ file = values.bytes("x") }, "payload.file: postbox.bytes can only be the whole payload")
    refused({ file = values.tombstone }, "payload.file: postbox.tombstone can only be")
  end)

  it("takes only strings for raw and bytes", function()
    assert.has_error(function() values.raw({}) end, "postbox.raw takes a string, not a table")
    assert.has_error(function() values.bytes(1) end, "postbox.bytes takes a string, not a number")
    assert.has_error(function() values.array("x") end, "postbox.array takes a table, not a string")
  end)

  it("marks the table itself, and no table that means something else", function()
    local list = { 1 }
    assert.equal(list, values.array(list))
    assert.equal(list, values.array(list))
    assert.has_error(function() values.array(setmetatable({}, {})) end)
  end)

  it("prints what it is without its content", function()
    assert.equal("postbox.bytes (6 bytes)", tostring(values.bytes("secret")))
    assert.equal("postbox.tombstone", tostring(values.tombstone))
  end)

  it("honours the array marks of another cjson", function()
    local array_mt, empty_array_mt = {}, {}
    core.mark(array_mt, "array")
    core.mark(empty_array_mt, "empty_array")
    assert.equal("[]", core.encode(setmetatable({}, array_mt)))
    assert.equal("[]", core.encode(setmetatable({}, empty_array_mt)))
    assert.equal('{"a":1}', core.encode(setmetatable({ a = 1 }, empty_array_mt)))
    refused(setmetatable({ a = 1 }, array_mt), "marked as an array")
  end)

  if cjson.empty_array then
    it("honours the array marks of this cjson", function()
      assert.equal("[]", core.encode(cjson.empty_array))
      assert.equal("[]", core.encode(setmetatable({}, cjson.empty_array_mt)))
      assert.equal("[]", core.encode(values.array(setmetatable({}, cjson.array_mt))))
    end)
  end
end)

describe("round trip", function()
  it("E-07 gives back what was encoded", function()
    local value = {
      name = "Grüße \0 \"quoted\" \\ / \226\130\172", count = 9007199254740991, price = 19.99,
      items = { { sku = "tea", amount = 2 }, { sku = "", amount = 0 } }, paid = true, note = cjson.null,
    }
    assert.same(value, cjson.decode(core.encode(value)))
    assert.same(value, core.decode(core.encode(value)))
  end)

  it("E-07 checks more strictly than cjson decodes, so that a checked text always decodes", function()
    for _, text in ipairs { "NaN", "0x10", "[1,]", "01", "\"\255\"", "Infinity", "'a'", "\"\\ud800\"", "" } do
      assert.is_nil((core.check_json(text)))
    end
    for _, text in ipairs { "1", "[]", '{"a":[true,null,"\\u00e4\\ud83d\\ude00"]}', " 1e5 " } do
      assert.is_true(core.check_json(text))
      assert.has_no_error(function() cjson.decode("[" .. text .. "]") end)
    end
  end)
end)

-- Random JSON text in any form of writing, and the one that `encode` writes.
local generate = {}

local function space()
  return (" "):rep(math.random(0, 3) == 0 and math.random(1, 3) or 0) .. (math.random(9) == 1 and "\n\t\r" or "")
end

local function random_integer()
  local digits = has_integers and 18 or 15
  local text = tostring(math.random(1, 9))
  for _ = 1, math.random(0, digits - 1) do text = text .. math.random(0, 9) end
  text = (math.random(2) == 1 and "-" or "") .. text
  return text, text
end

local function random_float()
  local number = (math.random() - 0.5) * 10 ^ math.random(-30, 30)
  return (math.random(2) == 1 and "%.17g" or "%.25E"):format(number), (core.encode(number))
end

function generate.number()
  if math.random(2) == 1 then return random_integer() end
  local text, canonical = random_float()
  if text:find "[.eE]" and canonical:find "[.e]" then return text, canonical end
  return random_integer() -- one of them is an integer, perhaps one that this Lua cannot hold
end

local pieces = {
  { "a", "a" }, { "\\u0061", "a" }, { "\\n", "\\n" }, { "\\u000A", "\\n" }, { "\\u0000", "\\u0000" },
  { "\\/", "/" }, { "\\u00fc", "ü" }, { "ü", "ü" }, { "\\u20AC", "€" }, { "\\uD83d\\uDe00", "😀" },
  { "\\\"", "\\\"" }, { "\\\\", "\\\\" }, { "\127", "\127" }, { "some plain text ", "some plain text " },
}

function generate.string()
  local text, canonical = {}, {}
  for i = 1, math.random(0, 9) * (math.random(50) == 1 and 50 or 1) do
    local piece = pieces[math.random(#pieces)]
    text[i], canonical[i] = piece[1], piece[2]
  end
  return '"' .. table.concat(text) .. '"', '"' .. table.concat(canonical) .. '"'
end

function generate.word()
  local word = ({ "true", "false", "null" })[math.random(3)]
  return word, word
end

function generate.array(depth)
  local text, canonical = {}, {}
  for i = 1, math.random(0, 6) do
    local inner, expected = generate.value(depth - 1)
    text[i], canonical[i] = space() .. inner .. space(), expected
  end
  return "[" .. space() .. table.concat(text, ",") .. "]", "[" .. table.concat(canonical, ",") .. "]"
end

function generate.object(depth)
  local text, canonical = {}, {}
  for i = 1, math.random(0, 6) do
    local inner, expected = generate.value(depth - 1)
    local name = ("%d%s"):format(i, ("k"):rep(math.random(0, 60)))
    text[i] = ('%s"%s"%s:%s%s%s'):format(space(), name, space(), space(), inner, space())
    canonical[i] = ('"%s":%s'):format(name, expected)
  end
  return "{" .. space() .. table.concat(text, ",") .. "}", "{" .. table.concat(canonical, ",") .. "}"
end

function generate.value(depth)
  local kinds = { "number", "string", "word", "array", "object" }
  return generate[kinds[math.random(depth > 0 and 5 or 3)]](depth)
end

describe("values from JSON text", function()
  local function decoded(text)
    local value, message = core.decode(text)
    assert(message == nil, message)
    return value
  end

  it("E-07 keeps the digits of integers, as strings where this Lua cannot hold them", function()
    assert.equal("9007199254740992", ("%.0f"):format(decoded "9007199254740992"))
    assert.equal("number", type(decoded "-9007199254740992"))
    for _, text in ipairs { "9007199254740993", "-9007199254740993", "1234567890123456789",
      "9223372036854775807", "-9223372036854775808" } do
      local value = decoded(text)
      assert.equal(has_integers and "number" or "string", type(value))
      assert.equal(text, tostring(value))
    end
    for _, text in ipairs { "9223372036854775808", "-9223372036854775809", "18446744073709551616",
      "1" .. ("0"):rep(400), "1e400" } do
      assert.equal(text, decoded(text))
    end
  end)

  if has_integers then
    it("tells integers from floats", function()
      for text, kind in pairs { ["3"] = "integer", ["-0"] = "integer", ["3.0"] = "float", ["3e0"] = "float" } do
        assert.equal(kind, math.type(decoded(text)))
      end
    end)
  end

  it("reads floats to the nearest", function()
    for text, number in pairs { ["0.1"] = 0.1, ["19.99"] = 19.99, ["-2.5E-3"] = -0.0025, ["1e5"] = 1e5,
      ["0.30000000000000004"] = 0.1 + 0.2, ["5e-324"] = 5e-324, ["1.7976931348623157e+308"] = 1.7976931348623157e308,
      ["123456789.123456789"] = 123456789.123456789, ["1e-400"] = 0 } do
      assert.equal(number, decoded(text))
    end
  end)

  it("E-07 keeps [] apart from {}", function()
    for _, text in ipairs { "[]", "{}", '{"a":[],"b":{},"c":[[],{},[{}]]}' } do
      assert.equal(text, core.encode(decoded(text)))
    end
    assert.equal(core.marks.array, getmetatable(decoded "[ ]"))
    assert.is_nil(getmetatable(decoded "[1]"))
    assert.is_nil(getmetatable(decoded "{}"))
    assert.equal("[7]", (function(list) list[1] = 7; return core.encode(list) end)(decoded "[]"))
  end)

  it("reads null, wherever it stands", function()
    assert.equal(values.null, decoded "null")
    assert.same({ values.null, 2, values.null }, decoded "[null,2,null]")
    assert.same({ a = values.null }, decoded '{"a":null}')
    assert.equal(cjson.null, values.null)
    assert.equal(values.null, cjson.decode("[null]")[1])
  end)

  it("reads strings with every escape", function()
    assert.equal("\"\\/\b\f\n\r\t\0é€😀", decoded [["\"\\\/\b\f\n\r\t\u0000\u00e9\u20AC\uD83d\uDE00"]])
    assert.equal(("x\n"):rep(10000), decoded('"' .. ("x\\n"):rep(10000) .. '"'))
    assert.same({ ["\n"] = "", [""] = "\\" }, decoded [[{"\n":"","":"\\"}]])
    assert.same({ ["1"] = "a" }, decoded '{"1":"a"}')
  end)

  it("takes the last of several members of one name", function()
    assert.same({ a = 3, b = 2 }, decoded '{"a":1,"b":2,"\\u0061":3}')
    assert.same({ a = values.null }, decoded '{"a":1,"a":null}')
  end)

  it("E-07 reads 128 levels and refuses more, and whatever is no JSON", function()
    local deep = ('{"a":['):rep(64) .. ("]}"):rep(64)
    assert.equal(deep, core.encode(decoded(deep)))
    for text, part in pairs { ["[" .. deep .. "]"] = "too many arrays", ["[1"] = "ends at byte 2",
      ['"\\ud800"'] = "escape", ["1 2"] = "follows", [""] = "ends", ["NaN"] = "byte 1", ['"\255"'] = "UTF-8" } do
      local value, message, err = core.decode(text)
      assert.is_nil(value)
      assert.equal("config", err.code)
      assert.truthy(message:find(part, 1, true), message)
    end
    assert.has_error(function() core.decode(nil) end)
  end)

  it("reads wide and large values", function()
    local list = decoded("[" .. ("0,"):rep(99999) .. "1]")
    assert.equal(100000, #list)
    assert.equal(1, list[100000])
    local members = {}
    for i = 1, 5000 do members[i] = ('"%05d":%d'):format(i, i) end
    local text = "{" .. table.concat(members, ",") .. "}"
    assert.equal(text, core.encode(decoded(text)))
  end)

  it("E-07 reads what can be written, and writes it again: 3,000 random values", function()
    local seed = os.time()
    math.randomseed(seed)
    for _ = 1, 3000 do
      local text, expected = generate.value(6)
      text = space() .. text .. space()
      local written = core.encode(decoded(text))
      if written ~= expected then
        error(("seed %d: %s became %s, not %s"):format(seed, text, written, expected))
      end
      assert(core.encode(decoded(written)) == written)
    end
  end)
end)

describe("ids and partitions", function()
  it("makes ids that increase", function()
    local last = core.new_id()
    assert.truthy(last:find("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-7%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"))
    for _ = 1, 10000 do
      local id = core.new_id()
      if id <= last then error(last .. " is not before " .. id) end
      last = id
    end
  end)

  it("chooses the partition that Java's producer chooses", function()
    assert.equal(479470107 % 4, core.partition_of("abc", 4))
    assert.equal((-973932308 + 2147483648) % 12, core.partition_of("21", 12))
    assert.has_error(function() core.partition_of("abc", 0) end)
  end)
end)

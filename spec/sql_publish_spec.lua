-- Publishing by SQL: the same checks, locks and rows as the Lua call.
local core = require "postbox.core"
local postbox = require "postbox"
local support = require "spec.support"

local ID = "018f0000-0000-7000-8000-0000000000"

describe("postbox.publish in SQL", function()
  local box, database

  setup(function()
    database = support.database()
    box = postbox.new { database = database, max_record_bytes = 10000 }
    assert(box:migrate())
  end)

  before_each(function()
    assert(box:query "DELETE FROM postbox.outbox")
    assert(box:query "DELETE FROM postbox.parked")
  end)

  teardown(function() box:close() end)

  local function one(sql, ...)
    local row = assert(box:query(sql, ...))[1]
    local _, value = next(row)
    return value
  end

  local function waiting()
    return one "SELECT count(*) FROM postbox.outbox"
  end

  local function refuse(sqlstate, pattern, sql, ...)
    local rows, message, err = box:query(sql, ...)
    assert.is_nil(rows)
    assert.equal(sqlstate, err.sqlstate)
    assert.truthy(message:find(pattern, 1, true), message)
    assert.is_falsy(message:find("secret", 1, true), message)
    return message
  end

  local function connect()
    return assert(core.connect(box.config))
  end

  local ALL = [[SELECT event_type, topic, partition, partition_key, payload, headers, envelope::text AS envelope,
    id_given, direct_until FROM postbox.outbox ORDER BY outbox_id]]

  it("stores the row that the Lua call stores", function()
    local options = { headers = { b = "2", a = "ü", ccc = "" }, partition = 3 }
    assert(box:publish_manual("ORDER_CREATED", 7, { orderId = 7, name = "tée" }, options))
    assert(box:publish_manual("A", nil, nil, { topic = "x" }))
    assert(box:publish_manual("BYTES", "k\0\255", postbox.bytes "\0\255"))
    assert(box:publish_manual("GONE", "k", postbox.tombstone))
    one([[SELECT postbox.publish('ORDER_CREATED', '7', '{"name":"tée","orderId":7}',
      '{"headers": {"b": "2", "a": "ü", "ccc": ""}, "partition": 3}')]])
    one [[SELECT postbox.publish('A', NULL, NULL, '{"topic": "x", "id": null}')]]
    one [[SELECT postbox.publish_bytes('BYTES', '\x6b00ff', '\x00ff')]]
    one [[SELECT postbox.publish_bytes('GONE', 'k', NULL)]]
    local rows = box:query(ALL)
    assert.equal(8, #rows)
    for i = 1, 4 do
      assert.same(rows[i], rows[i + 4])
    end
  end)

  it("has defaults: JSON null, no options", function()
    local id = one "SELECT postbox.publish('ORDER_CREATED', '7')"
    local row = box:query(ALL)[1]
    assert.equal("null", row.payload)
    assert.equal("order.created", row.topic)
    assert.equal(id, one "SELECT event_id FROM postbox.outbox")
  end)

  it("joins the transaction: a rollback leaves nothing", function()
    local done = box:transaction(function(tx)
      tx:query "SELECT postbox.publish('ORDER_CREATED', '7')"
      assert.equal(1, tx:query("SELECT count(*) AS n FROM postbox.outbox")[1].n)
      tx:rollback "no"
    end)
    assert.is_nil(done)
    assert.equal(0, waiting())
  end)

  it("makes UUIDv7s that begin with the time", function()
    local rows = box:query "SELECT postbox.new_id() AS id, pg_sleep(0.001) FROM generate_series(1, 50)"
    local ms = one "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::float8"
    for i, row in ipairs(rows) do
      assert.truthy(row.id:find "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-7%x%x%x%-[89ab]%x%x%x%-%x+$", row.id)
      assert.is_true(i == 1 or row.id > rows[i - 1].id)
      assert.is_true(math.abs(tonumber((row.id:gsub("-", "")):sub(1, 12), 16) - ms) < 5000)
    end
  end)

  describe("refuses", function()
    after_each(function() assert.equal(0, waiting()) end)

    local types = { [""] = "empty", ["A B"] = "white space", ["A\tB"] = "white space", ["A\194\160B"] = "white space",
      ["A\226\128\139"] = "white space", ["A\194\133"] = "white space", [("é"):rep(101)] = "202 bytes" }
    for event_type, pattern in pairs(types) do
      it(("the type %q"):format(event_type), function()
        refuse("22023", pattern, "SELECT postbox.publish($1, '1')", event_type)
      end)
    end

    it("a topic that Kafka does not take", function()
      for _, topic in ipairs { "", ".", "..", "a b", "a/b", ("a"):rep(250), "é", "a\n" } do
        refuse("22023", "topic: ",
          "SELECT postbox.publish('A', '1', '1', jsonb_build_object('topic', $1::text))", topic)
      end
      refuse("22023", "topic: 'a:b'", "SELECT postbox.publish('A:B', '1')")
    end)

    local options = {
      ['{"topics": "a"}'] = "option 'topics' is not known", ['{"id": "a"}'] = "a UUID", ['{"id": 7}'] = "a UUID",
      ['{"topic": 7}'] = "a text", ['{"partition": -1}'] = "a whole number", ['{"partition": "1"}'] = "a whole number",
      ['{"partition": 1.5}'] = "a whole number", ['{"partition": 2147483648}'] = "a whole number",
      ['{"order": "no"}'] = "true or false", ["[]"] = "an object", ["7"] = "an object",
      ['{"headers": []}'] = "an object", ['{"headers": {"a": 1}}'] = "a text is expected",
      ['{"headers": {"": "secret"}}'] = "empty", ['{"headers": {"a\\n": "secret"}}'] = "control character",
      ['{"headers": {"postbox-event-id": "secret"}}'] = "reserved",
      ['{"headers": {"PostBox-x": "secret"}}'] = "reserved", ['{"headers": {"KAFKA_dlt-x": "secret"}}'] = "reserved",
    }
    for given, pattern in pairs(options) do
      it(("E-08 the options %s"):format(given), function()
        refuse("22023", pattern, "SELECT postbox.publish('A', '1', '1', $1)", given)
      end)
    end

    it("E-08 too many headers, and too many bytes of them", function()
      local many = "SELECT postbox.publish('A', '1', '1', jsonb_build_object('headers', "
        .. "(SELECT jsonb_object_agg('h' || g, repeat('x', $2::integer)) FROM generate_series(1, $1::integer) g)))"
      refuse("22023", "limit of one event is 64", many, 65, 1)
      refuse("22023", "16384 bytes", many, 2, 8191)
    end)

    it("a partition key or record that is too large", function()
      refuse("54000", "65537 bytes", "SELECT postbox.publish('A', repeat('k', 65537))")
      refuse("54000", "max_record_bytes is 10000", "SELECT postbox.publish('A', '1', to_json(repeat('secret', 2000)))")
    end)

    it("JSON that a consumer could not read", function()
      local deep = "SELECT postbox.publish('A', '1', (repeat($1, $2::integer) || repeat($3, $2::integer))::json)"
      refuse("22023", "128 levels", deep, "[", 129, "]")
      refuse("22023", "surrogate", "SELECT postbox.publish('A', '1', $1)", '{"secret": "\\ud800"}')
      refuse("22P02", "json", "SELECT postbox.publish('A', '1', $1)", "{")
      assert(box:query(deep, "[", 128, "]"))
      assert(box:query("SELECT postbox.publish('A', '1', $1)", '"\\ud83d\\ude00 \\u0000 \\\\ud800"'))
      assert.equal('"\\ud83d\\ude00 \\u0000 \\\\ud800"', box:query(ALL)[2].payload)
      assert(box:query "DELETE FROM postbox.outbox")
    end)

    it("a topic whose partitions a Lua function chooses", function()
      finally(function() assert(box:query "DELETE FROM postbox.topics") end)
      assert(box:query "INSERT INTO postbox.topics (topic, partitions, partitioner) VALUES ('px', 4, true)")
      refuse("0A000", "a Lua function chooses", [[SELECT postbox.publish('A', '1', '1', '{"topic": "px"}')]])
      assert(box:query [[SELECT postbox.publish('A', '1', '1', '{"topic": "px", "partition": 2}')]])
      assert(box:query "DELETE FROM postbox.outbox")
    end)

    it("all of several events where one is wrong", function()
      refuse("22023", "empty", "SELECT postbox.publish_many('{A,\"\"}', '{1,2}', '{1,2}')")
      refuse("22023", "differ in length", "SELECT postbox.publish_many('{A,B}', '{1}', '{1,2}')")
      refuse("22023", "differ in length", "SELECT postbox.publish_many('{A,B}', '{1,2}', '{1,2}', '{NULL}')")
    end)
  end)

  it("counts the bytes of a record as the Lua call does", function()
    local cases = {
      { "A", "k", ("x"):rep(9990), {} }, { 'Q"\\é', "", ("x"):rep(9990), { headers = { a = "b", ["é"] = "" } } },
      { "A", nil, ("x"):rep(9990), { headers = { traceparent = ("t"):rep(300) } } },
    }
    for _, case in ipairs(cases) do
      local ok, err = pcall(box.publish_manual, box, case[1], case[2], case[3],
        { topic = "t", headers = case[4].headers })
      assert.is_false(ok)
      local bytes = err.message:match "takes (%d+) bytes"
      local headers = {}
      for name, value in pairs(case[4].headers or {}) do
        headers[#headers + 1] = ('"%s": "%s"'):format(name, value)
      end
      local message = refuse("54000", "max_record_bytes", "SELECT postbox.publish($1, $2, to_json($3::text), $4)",
        case[1], case[2], case[3], ('{"topic": "t", "headers": {%s}}'):format(table.concat(headers, ",")))
      assert.equal(bytes, message:match "takes (%d+) bytes")
    end
  end)

  it("A-06 A-55 ids come from an identity without cache, which nobody else can use", function()
    local row = box:query [[SELECT s.seqcache::integer AS cache, a.attidentity::text AS identity FROM pg_sequence s,
      pg_attribute a WHERE s.seqrelid = pg_get_serial_sequence('postbox.outbox', 'outbox_id')::regclass
      AND a.attrelid = 'postbox.outbox'::regclass AND a.attname = 'outbox_id']][1]
    assert.equal(1, row.cache)
    assert.equal("a", row.identity)
    local rows, _, err = box:query [[INSERT INTO postbox.outbox (outbox_id, event_id, event_type, topic)
      VALUES (1, gen_random_uuid(), 'A', 'a')]]
    assert.is_nil(rows)
    assert.equal("428C9", err.sqlstate)
  end)

  it("needs only these rights", function()
    local role = "writer_" .. support.unique("role"):gsub("%W", "_")
    local owner = connect()
    assert(owner:script(([[CREATE ROLE %s;
      GRANT USAGE ON SCHEMA postbox TO %s;
      GRANT SELECT ON postbox.settings, postbox.event_types, postbox.topics, postbox.migration TO %s;
      GRANT SELECT ON postbox.outbox, postbox.parked TO %s;
      GRANT INSERT (event_id, id_given, event_type, topic, partition, partition_key, payload, headers, envelope,
                    direct_until) ON postbox.outbox TO %s]]):gsub("%%s", role)))
    local writer = postbox.new { database = database .. " options='-c role=" .. role .. "'" }
    finally(function()
      writer:close()
      assert(owner:script(("DROP OWNED BY %s; DROP ROLE %s"):gsub("%%s", role)))
      owner:close()
    end)
    assert(writer:publish_manual("A", 1, {}, { id = ID .. "01" }))
    assert(writer:query [[SELECT postbox.publish('A', '1', '{}', '{"headers": {"a": "b"}}')]])
    assert(writer:query("SELECT postbox.publish('A', '1', '{}', jsonb_build_object('id', $1::text))", ID .. "01"))
    assert.equal(2, waiting())
    for _, sql in ipairs { "SELECT nextval(pg_get_serial_sequence('postbox.outbox', 'outbox_id'))",
      "DELETE FROM postbox.outbox", "UPDATE postbox.outbox SET topic = 'x'",
      "SELECT postbox.release(gen_random_uuid())",
      "UPDATE postbox.settings SET topic_prefix = 'x'",
      [[INSERT INTO postbox.outbox (outbox_id, event_id, event_type, topic) OVERRIDING SYSTEM VALUE
        VALUES (1, gen_random_uuid(), 'A', 'a')]] } do
      local rows, _, err = writer:query(sql)
      assert.is_nil(rows)
      assert.equal("42501", err.sqlstate)
    end
  end)

  it("the view shows bytes as text", function()
    local id = one [[SELECT postbox.publish('A"B', 'kéy', '{"a": 1}',
      '{"topic": "t", "headers": {"a": "ü", "n": null}}')]]
    one [[SELECT postbox.publish_bytes('B', '\x00ff', '\xff', '{"headers": {}}')]]
    one "SELECT postbox.publish_bytes('C', NULL, NULL)"
    local rows = box:query [[SELECT *, headers ->> 'a' AS a, headers -> 'n' = 'null' AS n
      FROM postbox.outbox_readable ORDER BY outbox_id]]
    assert.equal("kéy", rows[1].partition_key)
    assert.equal('{"a": 1}', rows[1].payload)
    assert.equal("ü", rows[1].a)
    assert.is_true(rows[1].n)
    assert.equal(('{"eventId":"%s","eventType":"A\\"B","payload":{"a": 1}}'):format(id), rows[1].record_value)
    assert.equal("json", rows[1].envelope)
    assert.equal("\\x00ff", rows[2].partition_key)
    assert.equal("\\xff", rows[2].record_value)
    assert.equal("headers", rows[2].envelope)
    assert.is_nil(rows[3].partition_key)
    assert.is_nil(rows[3].record_value)
  end)

  it("headers that occur twice, have odd bytes or are broken can be read as well", function()
    local function shown(bytes)
      return one("SELECT postbox.headers_text($1)::text", postbox.bytes(bytes))
    end
    local a = "\0\1a\0\0\0\1"
    assert.equal('{"a": ["1", "2"]}', shown(a .. "1" .. a .. "2"))
    assert.equal('{"a": ["1", "2", "3"]}', shown(a .. "1" .. a .. "2" .. a .. "3"))
    assert.equal('{"a": "\\\\xff"}', shown(a .. "\255"))
    assert.equal('{"a": "\\\\x00"}', shown(a .. "\0"))
    assert.equal("{}", shown "")
    for _, broken in ipairs { "\0", "\0\1", a, "\0\1a\0\0", "\0\9a", "\0\1a\255\255\255\0", "\0\1a\127\255\255\255" } do
      assert.equal('"\\\\x', shown(broken):sub(1, 4))
    end
  end)

  it("release marks a parked event, and the rows of its key that wait behind it", function()
    assert(box:query [[
      INSERT INTO postbox.parked (outbox_id, event_id, id_given, event_type, topic, partition_key, payload, headers,
                                  envelope, created_at, reason, holds_key)
      SELECT n, md5(n::text)::uuid, false, 'A', topic, key::bytea, '1', '', 'j', now(), reason, holds FROM (VALUES
        (1, 'a', 'k', 'refused', true), (2, 'a', 'k', NULL, true), (3, 'a', 'l', 'refused', true),
        (4, 'b', 'k', 'refused', true), (5, 'a', NULL, 'refused', false), (6, 'a', NULL, 'refused', false),
        (7, 'a', 'k', 'skipped', false)) AS v (n, topic, key, reason, holds)]])
    local release = "SELECT postbox.release(md5($1::text)::uuid)"
    assert.equal(2, one(release, 2))
    assert.equal(0, one(release, 1))
    assert.equal(1, one(release, 5))
    assert.equal(1, one(release, 7))
    assert.equal(0, one(release, 99))
    assert.equal("1,2,5,7", one [[SELECT string_agg(outbox_id::text, ',' ORDER BY outbox_id)
      FROM postbox.parked_readable WHERE released]])
  end)
end)

--- Creates and updates postbox's tables and functions, and compares a box with their settings.
--
-- The files postbox/sql/NNN_name.sql are run in order, each once, in one transaction; the table
-- `migration` has what was run. Two processes may migrate at once: one of them waits.
-- @module postbox.migrate
local core = require "postbox.core"
local errors = require "postbox.errors"
local options = require "postbox.options"

local unpack = table.unpack or unpack -- luacheck: ignore 113 143

local migrate = {}

-- A file that was released is never changed; what changes later is a new file.
local files = { "001_outbox", "002_inbox", "003_store", "004_publish", "005_readable" }

local OLDEST_SERVER = 140000   -- DETACH PARTITION CONCURRENTLY
local SCRIPT_SECONDS = 600     -- that one migration may take
local rules = { print = { types = { "boolean" }, default = false } }

-- Options of a box that are columns of the table settings.
local setting_names = { "confirm", "delivery", "refused", "envelope", "topic_prefix", "max_record_bytes" }
local stored_envelope = { json = "j", headers = "h" }

local function as_stored(name, value)
  return name == "envelope" and stored_envelope[value] or value
end

local function as_option(name, value)
  return name == "envelope" and (value == "h" and "headers" or "json") or value
end

local function read_file(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return text
end

-- The folder of this module, then every folder of package.path.
local function sql_folders()
  local folders = {}
  local own = debug.getinfo(1, "S").source:match("^@(.*)migrate%.lua$")
  if own then
    folders[1] = own .. "sql/"
  end
  for template in package.path:gmatch("[^;]+") do
    local root = template:match("^(.-)%?%.lua$")
    if root then
      folders[#folders + 1] = root .. "postbox/sql/"
    end
  end
  return folders
end

local function read_sql(name)
  for _, folder in ipairs(sql_folders()) do
    local text = read_file(folder .. name .. ".sql")
    if text then
      return text
    end
  end
  errors.raise("config", ("migrate: postbox/sql/%s.sql is not beside the Lua modules: install postbox again")
    :format(name))
end

-- A step is a statement with its parameters.
local function first_steps(box)
  return {
    { ('CREATE SCHEMA IF NOT EXISTS "%s"'):format(box.schema) },
    { box:in_schema([[
CREATE TABLE IF NOT EXISTS postbox.migration (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)]]) },
  }
end

local function noted_step(box, version)
  return { box:in_schema("INSERT INTO postbox.migration (version, name) VALUES ($1, $2)"), version, files[version] }
end

-- The settings row, from what this box was given; a row that is there stays as it is.
local function settings_step(box, asked)
  local names, holders, values = {}, {}, {}
  for _, name in ipairs(setting_names) do
    if asked[name] then
      values[#values + 1] = as_stored(name, box.options[name])
      names[#names + 1], holders[#holders + 1] = name, "$" .. #values
    end
  end
  local given = #names > 0 and (" (%s) VALUES (%s)"):format(table.concat(names, ", "), table.concat(holders, ", "))
    or " DEFAULT VALUES"
  local step = { box:in_schema("INSERT INTO postbox.settings" .. given .. " ON CONFLICT (only_row) DO NOTHING") }
  for i, value in ipairs(values) do
    step[i + 1] = value
  end
  return step
end

local function data_steps(box)
  local steps = { settings_step(box, box.asked) }
  local types = {}
  for event_type in pairs(box.options.topics) do
    types[#types + 1] = event_type
  end
  table.sort(types)
  for _, event_type in ipairs(types) do
    steps[#steps + 1] = { box:in_schema("INSERT INTO postbox.event_types (event_type, topic) VALUES ($1, $2)\n"
      .. "ON CONFLICT (event_type) DO UPDATE SET topic = excluded.topic"), event_type, box.options.topics[event_type] }
  end
  return steps
end

local function check_prefix(box)
  local prefix = box.options.topic_prefix
  if prefix and not prefix:find("^[%w._-]*$") then
    errors.raise("config", "migrate: topic_prefix may have the characters a-z A-Z 0-9 . _ - of Kafka's topic names")
  end
end

local function quote(value)
  if type(value) == "number" then
    return ("%.0f"):format(value)
  end
  local text = value:gsub("'", "''")
  return text:find("\\", 1, true) and " E'" .. text:gsub("\\", "\\\\") .. "'" or "'" .. text .. "'"
end

local function as_text(step)
  return (step[1]:gsub("%$(%d)", function(digit) return quote(step[tonumber(digit) + 1]) end)) .. ";\n"
end

--- All of it as one SQL text, for tools that run migrations themselves. Asks no server.
local function print_sql(box)
  local parts = { "-- postbox: everything from the start. Run it in one transaction, once.\n" }
  local function add(steps)
    for _, step in ipairs(steps) do
      parts[#parts + 1] = as_text(step)
    end
  end
  add(first_steps(box))
  for version, name in ipairs(files) do
    parts[#parts + 1] = box:in_schema(read_sql(name))
    add { noted_step(box, version) }
  end
  add(data_steps(box))
  return table.concat(parts, "\n")
end

-- The calls below raise; run() catches, and rolls back.
local function query(connection, step)
  return errors.assert(connection:query(unpack(step, 1, #step)))
end

local function check_server(connection)
  local version = tonumber(query(connection, { "SHOW server_version_num" })[1].server_version_num)
  if version < OLDEST_SERVER then
    errors.raise("config", ("migrate: PostgreSQL %d or later is needed; this server is version %d.%d")
      :format(OLDEST_SERVER / 10000, math.floor(version / 10000), version % 10000))
  end
end

-- The schema may be there, made by an administrator, and this role not allowed to make one.
local function create_first(box, connection)
  local steps = first_steps(box)
  local there = query(connection, {
    "SELECT to_regclass($1) IS NOT NULL AS migration, EXISTS (SELECT FROM pg_namespace WHERE nspname = $2) AS schema",
    box:in_schema("postbox.migration"), box.schema,
  })
  if not there[1].schema then
    query(connection, steps[1])
  end
  if not there[1].migration then
    query(connection, steps[2])
  end
end

local function check_not_newer(box, version)
  if version > #files then
    errors.raise("config", ("schema %s was migrated by a newer postbox (version %d; this one knows %d): update postbox")
      :format(box.schema, version, #files))
  end
end

local function apply(box, connection)
  -- Text beside postbox's own class of advisory locks; held to the end of the transaction.
  query(connection, { "SELECT pg_advisory_xact_lock(hashtext('postbox migrate'), hashtext($1))", box.schema })
  check_server(connection)
  create_first(box, connection)
  local done = query(connection,
    { box:in_schema("SELECT coalesce(max(version), 0) AS version FROM postbox.migration") })
  check_not_newer(box, done[1].version)
  query(connection, { "SELECT set_config('statement_timeout', $1, true), "
    .. "set_config('search_path', 'pg_catalog, pg_temp', true)", SCRIPT_SECONDS .. "s" })
  for version = done[1].version + 1, #files do
    errors.assert(connection:script(box:in_schema(read_sql(files[version])), SCRIPT_SECONDS))
    query(connection, noted_step(box, version))
  end
  for _, step in ipairs(data_steps(box)) do
    query(connection, step)
  end
end

--- Creates postbox's schema or brings it up to date; what is there already stays as it is.
-- Writes the settings (confirm, delivery, refused, envelope, topic_prefix, max_record_bytes) the
-- first time, and adds options.topics to the table event_types every time.
-- @param box the box
-- @tparam[opt] table given print (false): true returns the SQL text instead, and asks no server
-- @return true, or the SQL text; nil, message, err
function migrate.run(box, given)
  local asked = options.check("migrate", given, rules)
  check_prefix(box)
  if asked.print then
    return print_sql(box)
  end
  local connection, message, err = core.connect(box.config)
  if not connection then
    return nil, message, err
  end
  local ok, raised = pcall(function()
    errors.assert(connection:begin { isolation = "read committed" })
    apply(box, connection)
    errors.assert(connection:commit())
  end)
  connection:close()
  if not ok then
    return errors.fail(errors.wrap("config", raised))
  end
  return true
end

-- Undefined table or schema.
local function is_missing(err)
  return err.sqlstate == "42P01" or err.sqlstate == "3F000"
end

local function differing(box, settings)
  for _, name in ipairs(setting_names) do
    local wanted = as_stored(name, box.options[name])
    if box.asked[name] and wanted ~= settings[name] then
      return errors.new("config", ("%s: this box asks for %s, the outbox in schema %s has %s. All programs that share "
        .. "it must agree: leave the option out, or stop them and run UPDATE \"%s\".settings SET %s = %s"):format(name,
        box.options[name], box.schema, as_option(name, settings[name]), box.schema, name, quote(wanted)))
    end
  end
end

--- Compares the box with the outbox that it has found.
-- @param box the box
-- @param connection an idle connection
-- @treturn table the row of the table settings, with `version` and `event_types` (topic by type);
-- nil, message, err (config) where there is no outbox, or one that does not fit
function migrate.check(box, connection)
  local rows, message, err = connection:query(box:in_schema([[
SELECT outbox, confirm, delivery, refused, envelope::text AS envelope, topic_prefix, max_record_bytes,
       (SELECT max(version) FROM postbox.migration) AS version
  FROM postbox.settings]]))
  local settings = rows and rows[1]
  if (err and is_missing(err)) or (rows and (not settings or settings.version < #files)) then
    return errors.fail(errors.new("config", ("the database has no schema %s of this version yet: run box:migrate()")
      :format(box.schema)))
  elseif not rows then
    return nil, message, err
  end
  local ok, newer = pcall(check_not_newer, box, settings.version)
  local wrong = not ok and newer or differing(box, settings)
  if wrong then
    return errors.fail(wrong)
  end
  rows, message, err = connection:query(box:in_schema("SELECT event_type, topic FROM postbox.event_types"))
  if not rows then
    return nil, message, err
  end
  settings.event_types = {}
  for _, row in ipairs(rows) do
    settings.event_types[row.event_type] = row.topic
  end
  return settings
end

return migrate

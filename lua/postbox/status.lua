--- What an outbox looks like from the database: what waits, what is parked, who relays.
-- @module postbox.status
local status = {}

local PARKED_SHOWN = 100 -- rows of postbox.parked in one answer

local waiting = [[
  SELECT count(*) AS pending,
         extract(epoch FROM clock_timestamp() - min(created_at))::float8 AS oldest_seconds
    FROM postbox.outbox]]

local relay = [[
  SELECT holder, epoch, expires_at > clock_timestamp() AS active,
         CASE WHEN isfinite(expires_at)
              THEN extract(epoch FROM expires_at - clock_timestamp())::float8 END AS expires_in
    FROM postbox.lease]]

local parked = [[
  SELECT event_id, event_type, topic, postbox.bytes_text(partition_key) AS partition_key, reason,
         holds_key, released, extract(epoch FROM clock_timestamp() - parked_at)::float8 AS parked_seconds
    FROM postbox.parked ORDER BY outbox_id LIMIT ]] .. PARKED_SHOWN

local parked_count = "SELECT count(*) AS n FROM postbox.parked"

local topics = "SELECT topic, partitions, partitioner FROM postbox.topics ORDER BY topic"

local function read(box, tx, sql)
  return tx:query(box:in_schema(sql))
end

local function collect(box, tx)
  local rows, lease = read(box, tx, waiting)[1], read(box, tx, relay)[1]
  return {
    pending = rows.pending,
    oldest_seconds = rows.oldest_seconds,
    relay = {
      holder = lease.holder,
      epoch = lease.epoch,
      active = lease.active,
      expires_in = lease.expires_in,
    },
    parked = read(box, tx, parked),
    parked_count = read(box, tx, parked_count)[1].n,
    topics = read(box, tx, topics),
    settings = box.settings,
  }
end

--- Reads the state of the outbox in one transaction.
-- @treturn table pending (events that wait), oldest_seconds (age of the oldest, nil when none waits),
-- relay { holder, epoch, active, expires_in }, parked (the first 100: event_id event_type topic
-- partition_key reason holds_key released parked_seconds), parked_count, topics, settings;
-- or nil, message, err
function status.read(box)
  return box:transaction({ read_only = true, isolation = "repeatable read" }, function(tx)
    local result = collect(box, tx)
    result.parked.affected_rows, result.topics.affected_rows = nil, nil
    return result
  end)
end

return status

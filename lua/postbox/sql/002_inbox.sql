-- The inbox: which events a consumer group has processed.
--
-- A UUIDv7 begins with its time, so a range of ids is a stretch of time: one partition a day (UTC),
-- and a repeated event always meets its first in the same partition. There is no DEFAULT partition:
-- one odd id in it would stop the next day's. Ids without a usable time are stored as a hash that
-- begins with ff, above all times.

CREATE TABLE postbox.inbox (
    event_id       uuid        NOT NULL,
    consumer_group text        NOT NULL,
    state          text        NOT NULL DEFAULT 'done' CHECK (state IN ('done', 'dead')),
    processed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, consumer_group)
) PARTITION BY RANGE (event_id);

CREATE TABLE postbox.inbox_untimed PARTITION OF postbox.inbox
    FOR VALUES FROM ('ff000000-0000-0000-0000-000000000000') TO (MAXVALUE);

-- Where a consumer began to read a partition, and the attempts of the record that fails there.
CREATE TABLE postbox.attempts (
    consumer_group text        NOT NULL,
    topic          text        NOT NULL,
    partition      integer     NOT NULL,
    start_offset   bigint,                       -- of the first record it was given
    starts         integer     NOT NULL DEFAULT 0, -- in a row at that offset, without a clean end
    record_offset  bigint,                       -- the record that fails
    attempts       integer     NOT NULL DEFAULT 0, -- that it has had
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic, partition)
);

-- The lowest id of a day.
CREATE FUNCTION postbox.inbox_bound(day date) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex((day - DATE '1970-01-01')::bigint * 86400000), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the partitions of these days where they are missing. Attached and not created in place:
-- that takes no lock that stops inserts. Runs with the owner's rights, and makes nothing else.
CREATE FUNCTION postbox.inbox_make_days(days date[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d    date;
    name text;
    made integer := 0;
BEGIN
    IF coalesce(array_length(days, 1), 0) > 4000 THEN
        RAISE EXCEPTION 'inbox: % days in one call; the limit is 4000', array_length(days, 1);
    END IF;
    -- Two consumers may want the same day at once.
    PERFORM pg_advisory_xact_lock(oid::integer, 0) FROM pg_class WHERE oid = 'postbox.inbox'::regclass;
    FOR d IN SELECT DISTINCT x FROM unnest(days) AS x ORDER BY x LOOP
        name := 'inbox_' || to_char(d, 'YYYYMMDD');
        CONTINUE WHEN d IS NULL OR EXISTS (SELECT FROM pg_inherits
                                            WHERE inhrelid = to_regclass('postbox.' || name));
        IF d NOT BETWEEN DATE '2020-01-01' AND (now() AT TIME ZONE 'UTC')::date + 31 THEN
            RAISE EXCEPTION 'inbox: no partition is made for %', d;
        END IF;
        -- One that is there was detached and not dropped: it is taken back.
        EXECUTE format('CREATE TABLE IF NOT EXISTS postbox.%I (LIKE postbox.inbox INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE postbox.inbox ATTACH PARTITION postbox.%I '
                       'FOR VALUES FROM (%L) TO (%L)', name,
                       postbox.inbox_bound(d), postbox.inbox_bound(d + 1));
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Today and the days ahead.
CREATE FUNCTION postbox.inbox_make_ahead(days integer DEFAULT 7) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT postbox.inbox_make_days(array_agg((now() AT TIME ZONE 'UTC')::date + n))
      FROM generate_series(0, least(days, 30)) AS n
$$;

-- The days of these ids, as the inbox stores them.
CREATE FUNCTION postbox.inbox_make_for(event_ids uuid[]) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT postbox.inbox_make_days(array_agg(DISTINCT
             DATE '1970-01-01'
             + (('x' || lpad(translate(left(id::text, 13), '-', ''), 16, '0'))::bit(64)::bigint
                / 86400000)::integer))
      FROM unnest(event_ids) AS id
     WHERE id < 'ff000000-0000-0000-0000-000000000000'
$$;

-- Partitions that may go: each day that was over `retention` ago, and whose last insert is older
-- than that too (an old event may have been processed late). A drop that was cut short left a day
-- `detaching` (it is to be finalized, before another can be detached) or `detached`.
CREATE FUNCTION postbox.inbox_expired(retention interval)
RETURNS TABLE (partition_name text, last_insert timestamptz, state text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    candidate record;
BEGIN
    FOR candidate IN
        SELECT c.relname, right(c.relname, 8)::date AS day,
               CASE WHEN i.inhdetachpending THEN 'detaching'
                    WHEN i.inhrelid IS NULL THEN 'detached' ELSE 'attached' END AS state
          FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
         WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'postbox.inbox'::regclass)
           AND c.relkind = 'r' AND c.relname ~ '^inbox_[0-9]{8}$'
         ORDER BY i.inhdetachpending IS NOT TRUE, c.relname
    LOOP
        CONTINUE WHEN (candidate.day + 1) + retention > now() AT TIME ZONE 'UTC';
        EXECUTE format('SELECT max(processed_at) FROM postbox.%I', candidate.relname) INTO last_insert;
        IF last_insert IS NULL OR last_insert < now() - retention THEN
            partition_name := candidate.relname;
            state := candidate.state;
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;

-- The one part that has no days is emptied in steps. Returns the rows that went.
CREATE FUNCTION postbox.inbox_purge_untimed(retention interval, at_most integer DEFAULT 10000)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM postbox.inbox_untimed
         WHERE ctid = ANY (ARRAY(SELECT ctid FROM postbox.inbox_untimed
                                  WHERE processed_at < now() - retention LIMIT at_most))
        RETURNING 1)
    SELECT count(*) FROM gone
$$;

-- A consumer was given a partition and begins at this offset. How often in a row it began there,
-- and what is known of a record that fails.
CREATE FUNCTION postbox.consumer_starts(
    IN groupname text, IN topicname text, IN partitionno integer, IN first_offset bigint,
    OUT starts integer, OUT record_offset bigint, OUT attempts integer)
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO postbox.attempts AS a (consumer_group, topic, partition, start_offset, starts)
    VALUES (groupname, topicname, partitionno, first_offset, 1)
    ON CONFLICT (consumer_group, topic, partition) DO UPDATE
       SET starts = CASE WHEN a.start_offset = first_offset THEN a.starts + 1 ELSE 1 END,
           start_offset = first_offset, updated_at = now()
    RETURNING a.starts, a.record_offset, a.attempts
$$;

-- It gave the partition up in good order: its start says nothing about a record.
CREATE FUNCTION postbox.consumer_ends(groupname text, topicname text, partitionno integer)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE postbox.attempts SET starts = greatest(starts - 1, 0), updated_at = now()
     WHERE consumer_group = groupname AND topic = topicname AND partition = partitionno
$$;

-- The attempts that a record has had.
CREATE FUNCTION postbox.consumer_attempt(
    groupname text, topicname text, partitionno integer, failing_offset bigint, count integer)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO postbox.attempts (consumer_group, topic, partition, record_offset, attempts)
    VALUES (groupname, topicname, partitionno, failing_offset, count)
    ON CONFLICT (consumer_group, topic, partition) DO UPDATE
       SET record_offset = excluded.record_offset, attempts = excluded.attempts, updated_at = now()
$$;

SELECT postbox.inbox_make_ahead(7);

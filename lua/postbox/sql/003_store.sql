-- Storing events: the two functions that every writer shares.
--
--   postbox.lock_stripes(keys bytea[], given_ids uuid[]) RETURNS void
--     once in a flush, before its INSERT: key locks in sorted order, and a synchronous commit.
--     NULL keys take no lock; either array may be empty or NULL.
--   postbox.store(event_ids uuid[], ids_given boolean[], event_types text[], topics text[],
--                 partitions integer[], keys bytea[], payloads bytea[], headers bytea[],
--                 envelopes text[], direct_until timestamptz) RETURNS bigint[]
--     after lock_stripes. Outbox ids in the order of the events; NULL for an event whose given id
--     waited already; SQLSTATE PB409 where what waits has other content. Without given ids its
--     first INSERT may as well be sent alone.
--
-- The one hash of all writers; a plain expression, so that the planner can put it in place.
CREATE FUNCTION postbox.stripe(key bytea) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.hashtext(pg_catalog.encode(key, 'hex') COLLATE "C") OPERATOR(pg_catalog.&) 1023
$$;

-- Two writers that publish for the same keys in the opposite order would deadlock, so all locks of
-- a call are taken in one order: keys in stripes 0 to 1023, given ids in 1024 to 2047. Nothing may
-- be joined to the sorted rows: a join would be free to change their order.
-- One plan serves all lengths: made anew for each call it cost 100 microseconds more.
CREATE FUNCTION postbox.lock_stripes(keys bytea[], given_ids uuid[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    class integer := 'postbox.outbox'::regclass::oid::integer; -- postbox's locks are of this class
BEGIN
    -- An unsynced commit can disappear in a crash after it was published, and its id come back.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM pg_advisory_xact_lock(class, sorted.stripe)
       FROM (SELECT postbox.stripe(key) AS stripe
               FROM unnest(keys) AS key WHERE key IS NOT NULL
              UNION
             SELECT 1024 + (hashtext(id::text COLLATE "C") & 1023)
               FROM unnest(given_ids) AS id WHERE id IS NOT NULL
              ORDER BY 1) AS sorted;
END
$$;

CREATE FUNCTION postbox.store(
    event_ids uuid[], ids_given boolean[], event_types text[], topics text[], partitions integer[],
    keys bytea[], payloads bytea[], headers bytea[], envelopes text[], direct_until timestamptz)
RETURNS bigint[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stored bigint[];
BEGIN
    IF true = ANY (ids_given) THEN
        RETURN postbox.store_given($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);
    END IF;
    WITH inserted AS (
        INSERT INTO postbox.outbox (event_id, event_type, topic, partition, partition_key, payload,
                                    headers, envelope, direct_until)
        SELECT e.event_id, e.event_type, e.topic, e.partition, e.partition_key, e.payload,
               e.headers, e.envelope::"char", $10
          FROM unnest($1, $3, $4, $5, $6, $7, $8, $9) WITH ORDINALITY
               AS e (event_id, event_type, topic, partition, partition_key, payload, headers,
                     envelope, n)
         ORDER BY e.n
        RETURNING outbox_id)
    SELECT array_agg(outbox_id) INTO stored FROM inserted;
    RETURN stored;
END
$$;

-- What store does where ids are given. A row can leave the outbox at any moment, for Kafka or for
-- postbox.parked: the events that were found waiting and then were not are tried again.
-- The plan must not be made while the table is small and then kept: hence the settings.
CREATE FUNCTION postbox.store_given(
    event_ids uuid[], ids_given boolean[], event_types text[], topics text[], partitions integer[],
    keys bytea[], payloads bytea[], headers bytea[], envelopes text[], direct_until timestamptz)
RETURNS bigint[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    stored bigint[] := array_fill(0::bigint, ARRAY[cardinality(event_ids)]); -- 0: not stored
    is_left boolean[] := array_fill(true, ARRAY[cardinality(event_ids)]);
    inserted record;
    n integer;
BEGIN
    WHILE true = ANY (is_left) LOOP
        n := 0;
        FOR inserted IN
            INSERT INTO postbox.outbox (event_id, id_given, event_type, topic, partition,
                                        partition_key, payload, headers, envelope, direct_until)
            SELECT e.event_id, e.id_given, e.event_type, e.topic, e.partition, e.partition_key,
                   e.payload, e.headers, e.envelope::"char", $10
              FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) WITH ORDINALITY
                   AS e (event_id, id_given, event_type, topic, partition, partition_key, payload,
                         headers, envelope, n)
             WHERE is_left[e.n]
               AND NOT (e.id_given AND EXISTS (SELECT FROM postbox.parked p
                                                WHERE p.id_given AND p.event_id = e.event_id))
             ORDER BY e.n
                ON CONFLICT (event_id) WHERE id_given DO NOTHING
            RETURNING outbox_id, event_id
        LOOP
            n := n + 1;
            WHILE event_ids[n] <> inserted.event_id LOOP -- waits already
                n := n + 1;
            END LOOP;
            stored[n] := inserted.outbox_id;
        END LOOP;
        is_left := postbox.left_to_store($1, $2, $3, $4, $6, $7, stored);
    END LOOP;
    RETURN array_replace(stored, 0::bigint, NULL);
END
$$;

-- Which events are neither stored nor waiting. Sees what was committed since the INSERT, since it
-- is a statement of its own, with a newer snapshot.
CREATE FUNCTION postbox.left_to_store(
    event_ids uuid[], ids_given boolean[], event_types text[], topics text[], keys bytea[],
    payloads bytea[], stored bigint[])
RETURNS boolean[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    is_left boolean[] := array_fill(false, ARRAY[cardinality(event_ids)]);
    e record;
BEGIN
    FOR e IN
        SELECT g.n, g.event_id, w.waits, stored[g.n] > 0 AS is_stored,
               (w.event_type, w.topic, w.partition_key, w.payload)
               IS NOT DISTINCT FROM (g.event_type, g.topic, g.key, g.payload) AS is_same
          FROM unnest(event_ids, ids_given, event_types, topics, keys, payloads) WITH ORDINALITY
               AS g (event_id, id_given, event_type, topic, key, payload, n)
          LEFT JOIN LATERAL (
               SELECT true AS waits, o.event_type, o.topic, o.partition_key, o.payload
                 FROM postbox.outbox o
                WHERE o.id_given AND o.event_id = g.event_id AND stored[g.n] = 0
                UNION ALL
               SELECT true, p.event_type, p.topic, p.partition_key, p.payload
                 FROM postbox.parked p WHERE p.id_given AND p.event_id = g.event_id) AS w ON true
         WHERE g.id_given
    LOOP
        IF e.waits IS NULL THEN
            is_left[e.n] := NOT e.is_stored;
        ELSIF NOT e.is_same THEN
            RAISE EXCEPTION 'event % waits already, with another type, topic, key or payload',
                            e.event_id
                  USING ERRCODE = 'PB409', HINT = 'An id names one event: make a new one.';
        ELSIF e.is_stored THEN
            RAISE EXCEPTION 'event % was parked while it was stored again', e.event_id
                  USING ERRCODE = 'serialization_failure', HINT = 'Try the transaction again.';
        END IF;
    END LOOP;
    RETURN is_left;
END
$$;

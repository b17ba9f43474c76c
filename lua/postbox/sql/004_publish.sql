-- Publishing from SQL: the same checks, locks and rows as the Lua call.
--
-- SQLSTATEs: 22023 a value that is not allowed, 54000 too large, 0A000 a topic that SQL cannot
-- publish to, PB409 a given id that waits already with other content.

-- A UUIDv7: milliseconds, then their 4096th parts, then 62 random bits.
CREATE FUNCTION postbox.new_id() RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    SELECT (overlay(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000000)::bigint
                                * 512 / 125), 15, '0') PLACING '7' FROM 13 FOR 0)
            || substr(encode(uuid_send(gen_random_uuid()), 'hex'), 17))::uuid
$$;

CREATE FUNCTION postbox.refuse(message text, hint text DEFAULT '', state text DEFAULT '22023')
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF hint = '' THEN
        RAISE EXCEPTION USING MESSAGE = message, ERRCODE = state;
    END IF;
    RAISE EXCEPTION USING MESSAGE = message, HINT = hint, ERRCODE = state;
END
$$;

CREATE FUNCTION postbox.check_type(event_type text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(event_type, '') = '' THEN
        PERFORM postbox.refuse('event type: empty; a type is a name such as ORDER_CREATED');
    ELSIF octet_length(convert_to(event_type, 'UTF8')) > 200 THEN
        PERFORM postbox.refuse(format('event type: %s bytes, the limit is 200',
                                      octet_length(convert_to(event_type, 'UTF8'))));
    ELSIF event_type COLLATE "C" ~ '[\u0001-\u0020\u007F-\u00A0\u1680\u2000-\u200B\u2028\u2029\u202F\u205F\u3000\uFEFF]'
    THEN
        PERFORM postbox.refuse('event type: white space and control characters are not allowed');
    END IF;
END
$$;

-- The topic of a type: postbox.event_types first, else order.created for ORDER_CREATED.
-- PL/pgSQL keeps its plans from call to call; a function in SQL would make them anew.
CREATE FUNCTION postbox.topic_of(event_type text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT t.topic FROM postbox.event_types t
                      WHERE t.event_type = topic_of.event_type),
                    (SELECT s.topic_prefix FROM postbox.settings s)
                    || replace(lower(event_type COLLATE "C"), '_', '.'));
END
$$;

CREATE FUNCTION postbox.check_topic(topic text, has_partition boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF topic COLLATE "C" !~ '^[A-Za-z0-9._-]{1,249}$' OR topic IN ('.', '..') THEN
        PERFORM postbox.refuse(
            format('topic: %s is not a name that Kafka takes (a-z A-Z 0-9 . _ -, at most 249, '
                   'neither . nor ..)', quote_literal(left(topic, 60))),
            'The option "topic", or a row in the table event_types, gives a type another topic.');
    ELSIF NOT has_partition AND EXISTS (SELECT FROM postbox.topics t
                                         WHERE t.topic = check_topic.topic AND t.partitioner) THEN
        PERFORM postbox.refuse(
            format('topic %s: a Lua function chooses its partitions, which SQL cannot call', topic),
            'Give the option "partition", or publish it from Lua.', '0A000');
    END IF;
END
$$;

-- Headers in the form that the outbox stores; NULL where there are none.
CREATE FUNCTION postbox.headers_stored(headers jsonb) RETURNS bytea
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    header record;
    total integer := 0;
    stored bytea := '';
BEGIN
    IF jsonb_typeof(headers) <> 'object' THEN
        PERFORM postbox.refuse('option "headers": an object of names and texts is expected');
    ELSIF (SELECT count(*) FROM jsonb_object_keys(headers)) > 64 THEN
        PERFORM postbox.refuse('headers: the limit of one event is 64');
    END IF;
    FOR header IN
        SELECT h.key AS name, convert_to(h.key, 'UTF8') AS name_bytes,
               jsonb_typeof(h.value) AS kind, convert_to(h.value #>> '{}', 'UTF8') AS value
          FROM jsonb_each(headers) AS h ORDER BY h.key COLLATE "C"
    LOOP
        IF header.name = '' THEN
            PERFORM postbox.refuse('header: the name is empty');
        ELSIF header.name COLLATE "C" ~ '[\u0001-\u001F\u007F-\u009F]' THEN
            PERFORM postbox.refuse('header: a control character in the name');
        ELSIF lower(header.name COLLATE "C") ~ '^(postbox-|kafka_dlt-)' THEN
            PERFORM postbox.refuse(
                'header: names that begin with `postbox-` or `kafka_dlt-` are reserved');
        ELSIF header.kind NOT IN ('string', 'null') THEN
            PERFORM postbox.refuse(format('header %s: a text is expected, not %s',
                                          quote_literal(left(header.name, 60)), header.kind));
        END IF;
        total := total + octet_length(header.name_bytes) + coalesce(octet_length(header.value), 0);
        IF total > 16384 THEN
            PERFORM postbox.refuse('headers: more than 16384 bytes, the limit of one event');
        END IF;
        stored := stored || int2send(octet_length(header.name_bytes)::smallint)
                  || header.name_bytes || int4send(coalesce(octet_length(header.value), -1))
                  || coalesce(header.value, '');
    END LOOP;
    RETURN stored;
END
$$;

-- The options of one event, checked.
CREATE FUNCTION postbox.check_options(
    options jsonb, OUT id uuid, OUT headers bytea, OUT topic text, OUT partition integer,
    OUT ordered boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unknown text;
    number numeric;
BEGIN
    headers := '';
    ordered := true;
    IF options IS NULL OR options = '{}' THEN
        RETURN;
    ELSIF jsonb_typeof(options) <> 'object' THEN
        PERFORM postbox.refuse('options: an object is expected, such as {"topic": "orders"}');
    END IF;
    options := jsonb_strip_nulls(options - 'headers') || CASE
        WHEN jsonb_typeof(options -> 'headers') <> 'null'
        THEN jsonb_build_object('headers', options -> 'headers') ELSE '{}' END;
    SELECT name INTO unknown FROM jsonb_object_keys(options) AS name
     WHERE name NOT IN ('id', 'headers', 'topic', 'partition', 'order') LIMIT 1;
    IF unknown IS NOT NULL THEN
        PERFORM postbox.refuse(format('option %s is not known', quote_literal(left(unknown, 60))),
                               'There are: id, headers, topic, partition, order.');
    END IF;
    IF options ? 'id' THEN
        IF options ->> 'id' !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
            PERFORM postbox.refuse('option "id": a UUID is expected');
        END IF;
        id := (options ->> 'id')::uuid;
    END IF;
    IF options ? 'headers' THEN
        headers := postbox.headers_stored(options -> 'headers');
    END IF;
    IF options ? 'topic' THEN
        IF jsonb_typeof(options -> 'topic') <> 'string' THEN
            PERFORM postbox.refuse('option "topic": a text is expected');
        END IF;
        topic := options ->> 'topic';
    END IF;
    IF options ? 'partition' THEN
        number := CASE jsonb_typeof(options -> 'partition')
                  WHEN 'number' THEN (options ->> 'partition')::numeric ELSE -1 END;
        IF number < 0 OR number > 2147483647 OR number <> trunc(number) THEN
            PERFORM postbox.refuse('option "partition": a whole number from 0 is expected');
        END IF;
        partition := number;
    END IF;
    IF options ? 'order' THEN
        IF jsonb_typeof(options -> 'order') <> 'boolean' THEN
            PERFORM postbox.refuse('option "order": true or false is expected');
        END IF;
        ordered := options -> 'order';
    END IF;
END
$$;

-- The bytes of the whole record, counted as the Lua call counts them: 90 around it, 10 around each
-- header, and the three headers that every record gets.
CREATE FUNCTION postbox.check_size(
    event_type text, key bytea, payload bytea, headers bytea, header_count integer, envelope text,
    max_record_bytes integer)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    type_bytes integer := octet_length(convert_to(event_type, 'UTF8'));
    bytes bigint := 90 + coalesce(octet_length(key), 0) + coalesce(octet_length(payload), 0)
        + 16 + 36 + 18 + type_bytes + 17 + 19 + 3 * 10
        + octet_length(headers) + header_count * (10 - 6);
BEGIN
    IF envelope = 'j' AND payload IS NOT NULL THEN
        bytes := bytes + 12 + 36 + 14 + octet_length(convert_to(to_json(event_type)::text, 'UTF8'))
                 + 11 + 1;
    END IF;
    IF octet_length(key) > 65536 THEN
        PERFORM postbox.refuse(format('partition key: %s bytes, the limit is 65536',
                                      octet_length(key)), '', '54000');
    ELSIF bytes > max_record_bytes THEN
        PERFORM postbox.refuse(
            format('event: its record takes %s bytes, max_record_bytes is %s', bytes,
                   max_record_bytes),
            'Store the large part elsewhere and publish where it is.', '54000');
    END IF;
END
$$;

-- What the publishing functions share. All events are checked, then all locks are taken, then all
-- rows are stored.
CREATE FUNCTION postbox.publish_events(
    event_types text[], keys bytea[], payloads bytea[], envelope text, options jsonb[])
RETURNS uuid[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    total integer := cardinality(event_types);
    max_bytes integer;
    no_options record;
    e record;
    o record;
    ids uuid[] := '{}';
    given boolean[] := '{}';
    topics text[] := '{}';
    partitions integer[] := '{}';
    stored_headers bytea[] := '{}';
    lock_keys bytea[] := '{}';
    lock_ids uuid[] := '{}';
BEGIN
    IF cardinality(keys) IS DISTINCT FROM total OR cardinality(payloads) IS DISTINCT FROM total
       OR cardinality(options) <> total THEN
        PERFORM postbox.refuse('the arrays of types, keys, payloads and options differ in length');
    ELSIF total = 0 THEN
        RETURN ids;
    END IF;
    SELECT s.max_record_bytes, coalesce(publish_events.envelope, s.envelope::text)
      INTO STRICT max_bytes, envelope FROM postbox.settings s;
    SELECT NULL::uuid AS id, ''::bytea AS headers, NULL::text AS topic, NULL::integer AS partition,
           true AS ordered INTO no_options;
    FOR e IN SELECT * FROM unnest(event_types, keys, payloads, options)
                           AS u (event_type, key, payload, options) LOOP
        -- Calling a function costs more than to see that an event does not need it.
        IF e.event_type COLLATE "C" ~ '^[A-Za-z0-9_.-]{1,200}$' IS NOT TRUE THEN
            PERFORM postbox.check_type(e.event_type);
        END IF;
        IF e.options <> '{}' THEN
            o := postbox.check_options(e.options);
        ELSE
            o := no_options;
        END IF;
        o.topic := coalesce(o.topic, postbox.topic_of(e.event_type));
        PERFORM postbox.check_topic(o.topic, o.partition IS NOT NULL);
        IF coalesce(octet_length(e.key), 0) + coalesce(octet_length(e.payload), 0)
           + octet_length(o.headers) > least(max_bytes - 3000, 65536) THEN
            PERFORM postbox.check_size(e.event_type, e.key, e.payload, o.headers,
                (SELECT count(*)::integer
                   FROM jsonb_object_keys(nullif(e.options -> 'headers', 'null'))),
                envelope, max_bytes);
        END IF;
        IF o.ordered THEN
            lock_keys := lock_keys || e.key;
        END IF;
        IF o.id IS NOT NULL THEN
            lock_ids := lock_ids || o.id;
        END IF;
        given := given || (o.id IS NOT NULL);
        ids := ids || coalesce(o.id, postbox.new_id());
        topics := topics || o.topic;
        partitions := partitions || o.partition;
        stored_headers := stored_headers || o.headers;
    END LOOP;
    PERFORM postbox.lock_stripes(lock_keys, lock_ids);
    PERFORM postbox.store(ids, given, event_types, topics, partitions, keys, payloads,
                          stored_headers, array_fill(envelope, ARRAY[total]), NULL);
    RETURN ids;
END
$$;

-- The text of a JSON payload. Refuses what json allows and consumers could not read: an escaped
-- surrogate without its partner, and more than 128 levels. Both are looked for only where the text
-- makes them possible.
CREATE FUNCTION postbox.json_bytes(payload json) RETURNS bytea
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    as_text text := coalesce(payload::text, 'null');
    parsed jsonb;
BEGIN
    IF (as_text ~* '\\ud[89a-f]' AND current_setting('server_encoding') = 'UTF8')
       OR length(as_text) - length(translate(as_text, '[{', '')) > 128 THEN
        BEGIN
            parsed := replace(as_text, '\u0000', '\u0001')::jsonb;
        EXCEPTION WHEN invalid_text_representation OR untranslatable_character THEN
            parsed := NULL; -- its own error would show a part of the payload
        END;
        IF parsed IS NULL THEN
            PERFORM postbox.refuse('payload: an escaped surrogate (\ud800 to \udfff) without its partner');
        ELSIF jsonb_path_exists(parsed, 'strict $.**{128} ? (@.type() == "object" || @.type() == "array")') THEN
            PERFORM postbox.refuse('payload: more than 128 levels of arrays and objects');
        END IF;
    END IF;
    RETURN convert_to(as_text, 'UTF8');
END
$$;

-- One event, stored with the caller's transaction. Returns its id.
CREATE FUNCTION postbox.publish(
    event_type text, partition_key text, payload json DEFAULT 'null', options jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE sql AS $$
    SELECT (postbox.publish_events(ARRAY[event_type], ARRAY[convert_to(partition_key, 'UTF8')],
                                   ARRAY[postbox.json_bytes(payload)], NULL, ARRAY[options]))[1]
$$;

-- The same with the record's value as it is: id and type are in headers. NULL is a tombstone.
CREATE FUNCTION postbox.publish_bytes(
    event_type text, partition_key bytea, payload bytea, options jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE sql AS $$
    SELECT (postbox.publish_events(ARRAY[event_type], ARRAY[partition_key], ARRAY[payload], 'h',
                                   ARRAY[options]))[1]
$$;

-- Several events: their locks are taken in one sorted call. `options` may be NULL for none at all.
CREATE FUNCTION postbox.publish_many(
    event_types text[], partition_keys text[], payloads json[], options jsonb[] DEFAULT NULL)
RETURNS uuid[]
LANGUAGE sql AS $$
    SELECT postbox.publish_events(
        event_types,
        ARRAY(SELECT convert_to(k, 'UTF8') FROM unnest(partition_keys) WITH ORDINALITY AS u (k, n)
               ORDER BY n),
        ARRAY(SELECT postbox.json_bytes(p) FROM unnest(payloads) WITH ORDINALITY AS u (p, n)
               ORDER BY n),
        NULL, options)
$$;

CREATE FUNCTION postbox.publish_bytes_many(
    event_types text[], partition_keys bytea[], payloads bytea[], options jsonb[] DEFAULT NULL)
RETURNS uuid[]
LANGUAGE sql AS $$
    SELECT postbox.publish_events(event_types, partition_keys, payloads, 'h', options)
$$;

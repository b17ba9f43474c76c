-- For people: what waits and what is parked as text, and the release of what is parked.

-- Gives a parked event back to the relay, and with it the rows of its key that wait behind it.
-- The number of rows marked; the relay moves them.
CREATE FUNCTION postbox.release(event_id uuid) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH wanted AS (
        SELECT p.outbox_id, p.topic, p.partition_key, p.holds_key
          FROM postbox.parked p WHERE p.event_id = release.event_id),
    marked AS (
        UPDATE postbox.parked p SET released = true
          FROM wanted w
         WHERE NOT p.released
           AND (p.outbox_id = w.outbox_id
                OR (w.holds_key AND p.holds_key AND p.topic = w.topic
                    AND p.partition_key = w.partition_key))
        RETURNING p.outbox_id)
    SELECT count(*) FROM marked
$$;

-- Bytes as text where they are UTF-8, else as \x and hexadecimal digits.
CREATE FUNCTION postbox.bytes_text(bytes bytea) RETURNS text
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN bytes::text;
END
$$;

-- Stored headers as an object; a name that occurs twice has an array of its values. Bytes that are
-- not headers come back as text.
CREATE FUNCTION postbox.headers_text(headers bytea) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rest bytea := headers;
    name text;
    length integer;
    value jsonb;
    shown jsonb := '{}';
BEGIN
    WHILE octet_length(rest) > 0 LOOP
        length := get_byte(rest, 0) * 256 + get_byte(rest, 1);
        name := postbox.bytes_text(substr(rest, 3, length));
        rest := substr(rest, 3 + length);
        length := ('x' || encode(substr(rest, 1, 4), 'hex'))::bit(32)::integer;
        IF octet_length(rest) < 4 + greatest(length, 0) THEN
            RETURN to_jsonb(headers::text);
        END IF;
        value := coalesce(to_jsonb(postbox.bytes_text(substr(rest, 5, nullif(length, -1)))), 'null');
        rest := substr(rest, 5 + greatest(length, 0));
        shown := shown || jsonb_build_object(name, CASE
            WHEN NOT shown ? name THEN value
            WHEN jsonb_typeof(shown -> name) = 'array' THEN (shown -> name) || jsonb_build_array(value)
            ELSE jsonb_build_array(shown -> name, value) END);
    END LOOP;
    RETURN shown;
EXCEPTION WHEN data_exception OR array_subscript_error THEN
    RETURN to_jsonb(headers::text);
END
$$;

-- The value of the event's record on Kafka, as text.
CREATE FUNCTION postbox.record_text(event_id uuid, event_type text, payload bytea, envelope "char")
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN envelope = 'h' THEN postbox.bytes_text(payload)
           ELSE '{"eventId":"' || event_id || '","eventType":' || to_json(event_type) || ',"payload":'
                || postbox.bytes_text(payload) || '}' END
$$;

-- What waits, as a person reads it.
CREATE VIEW postbox.outbox_readable AS
    SELECT outbox_id, event_id, id_given, event_type, topic, partition,
           postbox.bytes_text(partition_key) AS partition_key,
           postbox.bytes_text(payload) AS payload,
           postbox.headers_text(headers) AS headers,
           CASE envelope WHEN 'j' THEN 'json' ELSE 'headers' END AS envelope,
           postbox.record_text(event_id, event_type, payload, envelope) AS record_value,
           created_at, direct_until
      FROM postbox.outbox
     ORDER BY outbox_id;

CREATE VIEW postbox.parked_readable AS
    SELECT outbox_id, event_id, id_given, event_type, topic, partition,
           postbox.bytes_text(partition_key) AS partition_key,
           postbox.bytes_text(payload) AS payload,
           postbox.headers_text(headers) AS headers,
           CASE envelope WHEN 'j' THEN 'json' ELSE 'headers' END AS envelope,
           postbox.record_text(event_id, event_type, payload, envelope) AS record_value,
           created_at, direct_until, reason, holds_key, parked_at, released
      FROM postbox.parked
     ORDER BY outbox_id;

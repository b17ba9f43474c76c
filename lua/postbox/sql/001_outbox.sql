-- The outbox: events that are committed and not yet proven published.

CREATE TABLE postbox.outbox (
    outbox_id     bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    event_id      uuid        NOT NULL,
    id_given      boolean     NOT NULL DEFAULT false,   -- by the caller: unique while the row waits
    event_type    text        NOT NULL,
    topic         text        NOT NULL,
    partition     integer,                              -- NULL: chosen by the key
    partition_key bytea,                                -- NULL: no key
    payload       bytea,                                -- NULL: tombstone
    headers       bytea       NOT NULL DEFAULT '',      -- see postbox.headers_text
    envelope      "char"      NOT NULL DEFAULT 'j',     -- j: JSON envelope, h: payload alone
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    direct_until  timestamptz                           -- until then its publisher sends it itself
) WITH (
    fillfactor = 100,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);

CREATE UNIQUE INDEX outbox_given_id ON postbox.outbox (event_id) WHERE id_given;

-- Rows that Kafka refused for themselves, and the later rows of their keys.
CREATE TABLE postbox.parked (
    outbox_id     bigint      PRIMARY KEY,
    event_id      uuid        NOT NULL,
    id_given      boolean     NOT NULL,
    event_type    text        NOT NULL,
    topic         text        NOT NULL,
    partition     integer,
    partition_key bytea,
    payload       bytea,
    headers       bytea       NOT NULL,
    envelope      "char"      NOT NULL,
    created_at    timestamptz NOT NULL,
    direct_until  timestamptz,
    reason        text,                                 -- NULL: waits behind a refused row of its key
    holds_key     boolean     NOT NULL,                 -- later rows of its key are parked as well
    parked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    released      boolean     NOT NULL DEFAULT false    -- asked for: the relay moves it back
);

CREATE INDEX parked_event_id ON postbox.parked (event_id);

-- One row: which relay is the active one, by the database's clock.
CREATE TABLE postbox.lease (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    holder     text,
    epoch      bigint      NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    low_water  bigint      NOT NULL DEFAULT 0           -- no row at or below it is waiting
) WITH (fillfactor = 50);

INSERT INTO postbox.lease DEFAULT VALUES;

-- Topics that the relay has seen, and their partition counts.
CREATE TABLE postbox.topics (
    topic       text        PRIMARY KEY,
    partitions  integer,                                -- NULL: not known yet
    partitioner boolean     NOT NULL DEFAULT false,     -- a Lua function chooses: not from SQL
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Event types whose topic does not follow from their name.
CREATE TABLE postbox.event_types (
    event_type text PRIMARY KEY,
    topic      text NOT NULL
);

-- One row: what all programs that share this outbox must agree on.
CREATE TABLE postbox.settings (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    outbox           uuid    NOT NULL DEFAULT gen_random_uuid(), -- names the read-back group
    confirm          text    NOT NULL DEFAULT 'report' CHECK (confirm IN ('report', 'readback')),
    delivery         text    NOT NULL DEFAULT 'relay' CHECK (delivery IN ('relay', 'direct')),
    refused          text    NOT NULL DEFAULT 'hold' CHECK (refused IN ('hold', 'skip')),
    envelope         "char"  NOT NULL DEFAULT 'j' CHECK (envelope IN ('j', 'h')),
    topic_prefix     text    NOT NULL DEFAULT '',
    max_record_bytes integer NOT NULL DEFAULT 1000000
);

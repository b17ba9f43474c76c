--- Servers for tests, without a server: Kafka inside this process, PostgreSQL in a temporary folder.
--
-- Every function here and every method of what they return raises when it fails: a test that
-- cannot have its servers has failed.
--
--     local testing = require "postbox.testing"
--
--     describe("shipping", function()
--       local broker, postgres
--
--       setup(function()
--         broker = testing.broker { topics = { ["order.created"] = 4 } }
--         postgres = testing.postgres()
--       end)
--
--       teardown(function()
--         postgres:stop()
--         broker:stop()
--       end)
--
--       it("publishes an order", function()
--         local box = postbox.new { database = postgres:create_database(), kafka = broker.bootstrap }
--         ...
--         assert.equal("42", broker:records("order.created")[1].key)
--       end)
--     end)
--
-- The broker is librdkafka's mock cluster. It speaks Kafka's protocol, so other processes and other
-- clients can use it, as long as this process lives. What it has not: limits of size and time,
-- administration of topics, access rights, transactions, and the removal of duplicates of an
-- idempotent producer. It keeps at most 5 MiB a partition. Consumer groups wait for their members
-- on it for up to three seconds.
-- @module postbox.testing

local testing = {}

--- Kafka inside this process.
-- @function broker
-- @tparam[opt] table options `topics` (name -> number of partitions), `brokers` (1)
-- @treturn postbox.testing.broker with `bootstrap` ("host:port") and the methods `records(topic)`,
-- `produce(record)`, `create(topic, partitions)`, `down()`, `up()`, `stop()`,
-- `fail_topic`, `fail_requests`, `leader`, `slow`
-- @see postbox.testing.broker
function testing.broker(options)
  return require("postbox.testing.broker").start(options)
end

--- A PostgreSQL cluster of its own, as an unprivileged user when this process is root. Needs
-- PostgreSQL's server programs, not a running server. It is gone when it is stopped, and when this
-- process ends in whatever way.
-- @function postgres
-- @tparam[opt] table options `settings`: lines of postgresql.conf, name -> value
-- @treturn postbox.testing.postgres with `database` (a connection string) and the methods
-- `create_database()` (-> connection string), `down(mode)`, `up()`, `pid()`, `log()`, `stop()`
-- @see postbox.testing.postgres
function testing.postgres(options)
  return require("postbox.testing.postgres").start(options)
end

return testing

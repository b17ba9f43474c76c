#include "../../src/core/kafka.h"

#include <stdlib.h>

#include "test.h"

#define MANY 0x7fffffff /* so many partitions that the hash itself shows */

/* Utils.murmur2 of Apache Kafka, from its own unit test. */
static void hashes_like_java(void) {
    static const struct {
        pb_bytes key;
        int32_t hash;
    } golden[] = {
        {BYTES("21"), -973932308},
        {BYTES("foobar"), -790332482},
        {BYTES("a-little-bit-long-string"), -985981536},
        {BYTES("a-little-bit-longer-string"), -1486304829},
        {BYTES("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"), -58897971},
        {BYTES("abc"), 479470107},
    };
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        int32_t positive = golden[i].hash & 0x7fffffff;
        CHECK_INT(pb_kafka_partition_of(golden[i].key, MANY), positive % MANY);
        CHECK_INT(pb_kafka_partition_of(golden[i].key, 12), positive % 12);
        CHECK_INT(pb_kafka_partition_of(golden[i].key, 1), 0);
    }
    CHECK_INT(pb_kafka_partition_of(BYTES(""), MANY), 275646681); /* toPositive(275646681) */
    CHECK(pb_kafka_partition_of(BYTES("\xff\xfe\0\x80"), 7) < 7);
}

static rd_kafka_conf_t *conf_of(const char *brokers, const char *name, const char *value,
                                bool insecure, pb_error *err) {
    pb_property list[] = {{"bootstrap.servers", (char *)brokers}, {(char *)name, (char *)value}};
    pb_config config = {.kafka = list, .kafka_count = name ? 2 : 1, .insecure = insecure};
    return pb_kafka_conf(&config, err);
}

static bool works(const char *brokers, const char *name, const char *value, bool insecure) {
    pb_error err = {0};
    rd_kafka_conf_t *conf = conf_of(brokers, name, value, insecure, &err);
    if (!conf)
        return false;
    rd_kafka_conf_destroy(conf);
    return true;
}

static void has_protocol(const char *brokers, const char *expected) {
    pb_error err = {0};
    char text[64];
    size_t length = sizeof text;
    rd_kafka_conf_t *conf = conf_of(brokers, NULL, NULL, false, &err);
    if (!CHECK(conf != NULL))
        return;
    CHECK(rd_kafka_conf_get(conf, "security.protocol", text, &length) == RD_KAFKA_CONF_OK);
    CHECK(strcmp(text, expected) == 0);
    rd_kafka_conf_destroy(conf);
}

static void is_encrypted_away_from_this_machine(void) {
    has_protocol("localhost:9092", "plaintext");
    has_protocol("127.0.0.1:9092,[::1]:9092", "plaintext");
    has_protocol("kafka.example:9092", "ssl");
    has_protocol("localhost:9092,kafka.example:9092", "ssl");
    has_protocol("LOCALHOST, 127.1.2.3", "plaintext");
    has_protocol("PLAINTEXT://kafka.example:9092", "ssl");
    CHECK(!works("kafka.example:9092", "security.protocol", "plaintext", false));
    CHECK(works("kafka.example:9092", "security.protocol", "plaintext", true));
    CHECK(works("kafka.example:9092", "security.protocol", "sasl_ssl", false));
}

static void names_a_host_that_only_begins_like_loopback(void) {
    has_protocol("localhost.example.com:9092", "ssl");
    has_protocol("127.example.com:9092", "ssl");
    has_protocol("[::1].example:9092", "ssl");
    has_protocol("localhost:9092,", "plaintext");
}

static void refuses_without_the_value(void) {
    pb_error err = {0};
    CHECK(conf_of("localhost:1", "plugin.library.paths", "evil", false, &err) == NULL);
    test_contains(err.message, "plugin.library.paths", __FILE__, __LINE__);
    CHECK(strstr(err.message, "evil") == NULL);
    CHECK(conf_of("localhost:1", "no.such.property", "x", false, &err) == NULL);
    test_contains(err.message, "no.such.property", __FILE__, __LINE__);
    CHECK(conf_of("localhost:1", "acks", "s3cret", false, &err) == NULL);
    CHECK(strstr(err.message, "s3cret") == NULL);
    pb_config nothing = {0};
    CHECK(pb_kafka_conf(&nothing, &err) == NULL);
    test_contains(err.message, "POSTBOX_KAFKA", __FILE__, __LINE__);
}

int main(void) {
    hashes_like_java();
    is_encrypted_away_from_this_machine();
    names_a_host_that_only_begins_like_loopback();
    refuses_without_the_value();
    return test_report();
}

#include "../../src/core/config.h"

#include <stdlib.h>

#include "test.h"

static pb_config *config_with(const char *schema, pb_error *err) {
    static pb_property kafka[] = {{"bootstrap.servers", "localhost:9092"}, {"client.id", "shop"}};
    pb_log *log = pb_log_new(true);
    pb_config values = {.database = "postgresql:///shop",
                        .schema = (char *)schema,
                        .kafka = kafka,
                        .kafka_count = 2,
                        .log = log};
    pb_config *config = pb_config_new(&values, err);
    pb_log_release(log);
    return config;
}

static void is_a_copy_of_its_own(void) {
    pb_error err;
    char schema[] = "mine";
    pb_config *config = config_with(schema, &err);
    if (!CHECK(config != NULL))
        return;
    schema[0] = 'X';
    CHECK(strcmp(config->schema, "mine") == 0);
    CHECK_INT(config->kafka_count, 2);
    CHECK(strcmp(config->kafka[1].value, "shop") == 0);
    CHECK(pb_config_share(config) == config);
    pb_config_release(config);
    CHECK(strcmp(config->database, "postgresql:///shop") == 0); /* one share is left */
    pb_config_release(config);
    pb_config_release(NULL);
}

/* E-01: a schema name goes into SQL, so only plain names pass. */
static void refuses_what_is_no_plain_name(void) {
    static const char *const wrong[] = {
        "",      "1st", "a b", "a\"b", "a;drop table x", "pg.x", "a-b", "gr\xc3\xb6\xc3\x9f" "e",
        "a'b",   "x123456789x123456789x123456789x123456789x123456789x123456789xxxx",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        pb_error err = {0};
        pb_config *config = config_with(wrong[i], &err);
        CHECK(config == NULL);
        CHECK_INT(err.code, PB_CONFIG);
        test_contains(err.message, "schema", __FILE__, __LINE__);
        pb_config_release(config);
    }
}

static void puts_the_schema_into_sql(void) {
    pb_error err;
    pb_config *config = config_with("_Shop9", &err);
    if (!CHECK(config != NULL))
        return;
    char *sql = pb_config_sql(config, "SELECT postbox.a FROM postbox.b");
    CHECK_BYTES(pb_bytes_of(sql), "SELECT \"_Shop9\".a FROM \"_Shop9\".b");
    free(sql);
    sql = pb_config_sql(config, "SELECT 1");
    CHECK_BYTES(pb_bytes_of(sql), "SELECT 1");
    free(sql);
    pb_config_release(config);
}

int main(void) {
    is_a_copy_of_its_own();
    refuses_what_is_no_plain_name();
    puts_the_schema_into_sql();
    return test_report();
}

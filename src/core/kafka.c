#include "kafka.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>

#include "loopback.h"

/* They load code into the process or write what must stay secret. */
static const char *const refused[] = {"plugin.library.paths", "ssl.engine.location",
                                      "ssl_engine_callback_data",
                                      "interceptors", "debug", "open_cb", "default_topic_conf",
                                      /* and this one would make every record wait for a transaction */
                                      "transactional.id"};

static const char *find(const pb_config *config, const char *name) {
    for (size_t i = 0; i < config->kafka_count; i++)
        if (strcmp(config->kafka[i].name, name) == 0)
            return config->kafka[i].value;
    return NULL;
}

int pb_kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value, pb_error *err) {
    char text[256]; /* librdkafka's text repeats the value, which may be a secret: not used */
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strcmp(name, refused[i]) == 0)
            return pb_fail(err, PB_CONFIG, "kafka: the property %s is not allowed here", name);
    switch (rd_kafka_conf_set(conf, name, value, text, sizeof text)) {
    case RD_KAFKA_CONF_OK:
        return 0;
    case RD_KAFKA_CONF_UNKNOWN:
        return pb_fail(err, PB_CONFIG, "kafka: librdkafka %s has no property %s",
                       rd_kafka_version_str(), name);
    default:
        return pb_fail(err, PB_CONFIG, "kafka: the value of the property %s is not valid", name);
    }
}

int pb_kafka_default(rd_kafka_conf_t *conf, const pb_config *config, const char *name,
                     const char *value, pb_error *err) {
    char text[256];
    if (find(config, name))
        return 0;
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) == RD_KAFKA_CONF_INVALID)
        return pb_fail(err, PB_CONFIG, "kafka: %s", text);
    return 0;
}

/* The host of host:port or [host]:port, with a scheme or without. */
static bool is_local(const char *broker, size_t length) {
    static const char scheme_end[] = "://"; /* librdkafka takes PLAINTEXT://host:port as well */
    const char *scheme = memmem(broker, length, scheme_end, sizeof scheme_end - 1);
    const char *host = scheme ? scheme + sizeof scheme_end - 1 : broker;
    length -= (size_t)(host - broker);
    if (length > 0 && host[0] == '[') {
        const char *end = memchr(host, ']', length);
        return end && (end + 1 == host + length || end[1] == ':') &&
               pb_is_loopback(host + 1, (size_t)(end - host) - 1);
    }
    const char *port = memchr(host, ':', length);
    return pb_is_loopback(host, port ? (size_t)(port - host) : length);
}

static bool stays_on_this_machine(const char *brokers) {
    while (brokers && *brokers) {
        brokers += strspn(brokers, ", ");
        size_t length = strcspn(brokers, ",");
        if (length && !is_local(brokers, length))
            return false;
        brokers += length;
    }
    return true;
}

static int choose_tls(rd_kafka_conf_t *conf, const pb_config *config, pb_error *err) {
    const char *protocol = find(config, "security.protocol");
    if (config->insecure || stays_on_this_machine(find(config, "bootstrap.servers")))
        return 0;
    if (!protocol)
        return pb_kafka_set(conf, "security.protocol", "ssl", err);
    if (strcasecmp(protocol, "ssl") == 0 || strcasecmp(protocol, "sasl_ssl") == 0)
        return 0;
    return pb_fail(err, PB_CONFIG,
                   "kafka: security.protocol=%s is not encrypted, and the brokers are not on this "
                   "machine: use ssl or sasl_ssl, or say insecure = true",
                   protocol);
}

static pb_level level_of(int syslog_level) {
    if (syslog_level <= LOG_ERR)
        return PB_ERROR_LEVEL;
    return syslog_level <= LOG_WARNING ? PB_WARNING : PB_INFO;
}

/* Lines about a choice that postbox makes on purpose, which a user can do nothing about. */
static bool is_noise(const char *facility, const char *text) {
    return (strcmp(facility, "CONFWARN") == 0 && strstr(text, "enable.gapless.guarantee")) ||
           strcmp(facility, "AUTOCREATE") == 0; /* a broker too old to be told not to */
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text) {
    pb_config *config = rd_kafka_opaque(rk);
    if (config && !is_noise(facility, text))
        pb_log_write(config->log, level_of(level), "kafka: %s: %s", facility, text);
}

rd_kafka_conf_t *pb_kafka_conf(const pb_config *config, pb_error *err) {
    if (!find(config, "bootstrap.servers")) {
        pb_fail(err, PB_CONFIG, "kafka: no broker is named: say kafka = \"host:port\" or set POSTBOX_KAFKA");
        return NULL;
    }
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (!conf) {
        pb_fail_memory(err, "a Kafka configuration");
        return NULL;
    }
    rd_kafka_conf_set_opaque(conf, (void *)config);
    rd_kafka_conf_set_log_cb(conf, on_log);
    int failed = choose_tls(conf, config, err) ||
                 pb_kafka_default(conf, config, "client.id", "postbox", err) ||
                 pb_kafka_default(conf, config, "socket.nagle.disable", "true", err) ||
                 pb_kafka_default(conf, config, "socket.keepalive.enable", "true", err) ||
                 pb_kafka_default(conf, config, "allow.auto.create.topics", "false", err);
    for (size_t i = 0; !failed && i < config->kafka_count; i++)
        failed = pb_kafka_set(conf, config->kafka[i].name, config->kafka[i].value, err);
    if (failed) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    return conf;
}

rd_kafka_t *pb_kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, pb_error *err) {
    char text[512];
    rd_kafka_t *rk = rd_kafka_new(type, conf, text, sizeof text);
    if (!rk) {
        rd_kafka_conf_destroy(conf); /* librdkafka takes it only when it succeeds */
        pb_fail(err, PB_CONFIG, "kafka: %s", text);
    }
    return rk;
}

int pb_kafka_fail(pb_error *err, rd_kafka_resp_err_t code, const char *what) {
    pb_code ours = PB_CONNECTION;
    switch (code) {
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
        ours = PB_TIMEOUT;
        break;
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        ours = PB_TOPIC_UNKNOWN;
        break;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
        ours = PB_TOO_LARGE;
        break;
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        ours = PB_FULL;
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
        ours = PB_CONFIG;
        break;
    default:
        break;
    }
    return pb_fail(err, ours, "%s: %s (%s)", what, rd_kafka_err2str(code), rd_kafka_err2name(code));
}

/* The topic's own error, or its partition count. */
static int read_metadata(const struct rd_kafka_metadata *metadata, const char *topic, pb_error *err) {
    char what[300];
    snprintf(what, sizeof what, "kafka: topic %s", topic);
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const struct rd_kafka_metadata_topic *t = &metadata->topics[i];
        if (strcmp(t->topic, topic) != 0)
            continue;
        if (t->err)
            return pb_kafka_fail(err, t->err, what);
        if (t->partition_cnt > 0)
            return t->partition_cnt;
    }
    return pb_kafka_fail(err, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, what);
}

int pb_kafka_partitions(rd_kafka_t *rk, const char *topic, double timeout, pb_error *err) {
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    if (!rkt)
        return pb_kafka_fail(err, rd_kafka_last_error(), "kafka: topic");
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, rkt, &metadata, (int)(timeout * 1000));
    int count = code ? pb_kafka_fail(err, code, "kafka: metadata") : read_metadata(metadata, topic, err);
    if (metadata)
        rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(rkt);
    return count;
}

/* Java's org.apache.kafka.common.utils.Utils.murmur2, which Kafka's protocol makes a standard. */
static uint32_t murmur2(const uint8_t *data, size_t length) {
    const uint32_t m = 0x5bd1e995;
    uint32_t h = 0x9747b28cu ^ (uint32_t)length;
    for (; length >= 4; data += 4, length -= 4) {
        uint32_t k = (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
                     (uint32_t)data[3] << 24;
        k *= m;
        k ^= k >> 24;
        h = h * m ^ k * m;
    }
    if (length >= 3)
        h ^= (uint32_t)data[2] << 16;
    if (length >= 2)
        h ^= (uint32_t)data[1] << 8;
    if (length >= 1)
        h = (h ^ data[0]) * m;
    h ^= h >> 13;
    h *= m;
    return h ^ h >> 15;
}

int32_t pb_kafka_partition_of(pb_bytes key, int32_t partitions) {
    return (int32_t)((murmur2((const uint8_t *)key.data, key.length) & 0x7fffffff) % (uint32_t)partitions);
}

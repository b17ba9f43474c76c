#include "prober.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin.h"
#include "clock.h"
#include "kafka.h"
#include "thread.h"

#define CREATE_TIMEOUT 2.0      /* seconds */
#define CONFIGS_TIMEOUT_MS 250  /* a broker that knows the request answers within a few */
#define EARLY_MS 20             /* then the partitions are told without it */
#define SILENT_SECONDS 60.0     /* one that does not is not asked again for so long */
#define BUSY_SECONDS 1.0        /* ... while others wait */
#define SERVERS 200             /* bytes of bootstrap.servers in a message */

/* Seconds; the first request of a client may be lost while it still connects. */
static const double patience[] = {0.25, 0.75, 1.0};

typedef struct node {
    struct node *next;
    bool wanted;
    pb_probed probed;
} node;

typedef struct list {
    node *first, **end;
} list;

struct pb_prober {
    pb_config *config;
    pb_prober_options options;
    rd_kafka_t *rk;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t asked;
    list urgent, questions, answers;
    bool stopping;
    double silent_until; /* no configuration requests before */
};

static void push(list *l, node *n) {
    n->next = NULL;
    *l->end = n;
    l->end = &n->next;
}

static node *pop(list *l) {
    node *n = l->first;
    if (n && !(l->first = n->next))
        l->end = &l->first;
    return n;
}

static void clear(list *l) {
    for (node *n; (n = pop(l)) != NULL; free(n))
        free(n->probed.topic);
}

static void read_config(const rd_kafka_ConfigResource_t *resource, pb_probed *probed) {
    size_t count;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
    for (size_t i = 0; i < count; i++) {
        const char *name = rd_kafka_ConfigEntry_name(entries[i]);
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);
        if (value && strcmp(name, "max.message.bytes") == 0)
            probed->max_bytes = strtoll(value, NULL, 10);
        if (value && strcmp(name, "cleanup.policy") == 0)
            probed->compacted = strstr(value, "compact") != NULL;
    }
}

static void ring(pb_prober *prober) {
    static const uint64_t one = 1;
    if (write(prober->options.wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: the reader is awake anyway */
}

static void answer(pb_prober *prober, node *n) {
    pthread_mutex_lock(&prober->lock);
    push(&prober->answers, n);
    pthread_mutex_unlock(&prober->lock);
    ring(prober);
}

/* What is known so far. */
static void answer_early(pb_prober *prober, const pb_probed *probed) {
    node *early = calloc(1, sizeof *early);
    if (!early)
        return;
    early->probed = *probed;
    early->probed.topic = strdup(probed->topic);
    if (early->probed.topic)
        answer(prober, early);
    else
        free(early);
}

static bool is_needed_elsewhere(pb_prober *prober) {
    pthread_mutex_lock(&prober->lock);
    bool needed = prober->stopping || prober->urgent.first;
    pthread_mutex_unlock(&prober->lock);
    return needed;
}

/* NULL: not within the time, or other topics are wanted meanwhile. */
static rd_kafka_event_t *wait_for_configuration(pb_prober *prober, rd_kafka_queue_t *queue,
                                                const pb_probed *probed) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, EARLY_MS);
    double deadline = pb_now() + CONFIGS_TIMEOUT_MS / 1000.0;
    if (!event)
        answer_early(prober, probed);
    while (!event && pb_now() < deadline && !is_needed_elsewhere(prober))
        event = rd_kafka_queue_poll(queue, EARLY_MS);
    return event;
}

static void take_configuration(pb_prober *prober, rd_kafka_event_t *event, pb_probed *probed) {
    size_t count = 0;
    const rd_kafka_DescribeConfigs_result_t *result =
        event ? rd_kafka_event_DescribeConfigs_result(event) : NULL;
    const rd_kafka_ConfigResource_t **found =
        result ? rd_kafka_DescribeConfigs_result_resources(result, &count) : NULL;
    if (count == 1 && !rd_kafka_ConfigResource_error(found[0]))
        read_config(found[0], probed);
    else
        prober->silent_until = pb_now() + (is_needed_elsewhere(prober) ? BUSY_SECONDS : SILENT_SECONDS);
    if (event)
        rd_kafka_event_destroy(event);
}

/* Not every broker tells (rights, the mock cluster): then nothing is filled in. */
static void ask_configuration(pb_prober *prober, pb_probed *probed) {
    char text[200];
    if (pb_now() < prober->silent_until)
        return;
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(prober->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, probed->topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(prober->rk); /* an answer that comes late goes with it */
    if (options && resource && queue) {
        rd_kafka_AdminOptions_set_request_timeout(options, CONFIGS_TIMEOUT_MS, text, sizeof text);
        rd_kafka_DescribeConfigs(prober->rk, &resource, 1, options, queue);
        take_configuration(prober, wait_for_configuration(prober, queue, probed), probed);
    }
    if (queue)
        rd_kafka_queue_destroy(queue);
    if (resource)
        rd_kafka_ConfigResource_destroy(resource);
    if (options)
        rd_kafka_AdminOptions_destroy(options);
}

static bool is_stopping(pb_prober *prober) {
    pthread_mutex_lock(&prober->lock);
    bool stopping = prober->stopping;
    pthread_mutex_unlock(&prober->lock);
    return stopping;
}

static void ask_partitions(pb_prober *prober, pb_probed *probed) {
    probed->partitions = -1;
    for (size_t i = 0; i < sizeof patience / sizeof *patience; i++) {
        probed->partitions =
            pb_kafka_partitions(prober->rk, probed->topic, patience[i], &probed->err);
        if (probed->partitions > 0 || probed->err.code != PB_TIMEOUT || is_stopping(prober))
            return;
    }
}

static int say_how(pb_prober *prober, pb_probed *probed) {
    const pb_config *config = prober->config;
    const char *servers = "";
    for (size_t i = 0; i < config->kafka_count; i++)
        if (strcmp(config->kafka[i].name, "bootstrap.servers") == 0)
            servers = config->kafka[i].value;
    return pb_fail(&probed->err, PB_TOPIC_UNKNOWN,
                   "topic %s does not exist, so its events wait: create it (kafka-topics.sh "
                   "--bootstrap-server %.*s --create --topic %s --partitions N), or say "
                   "create_topics in postbox.new",
                   probed->topic, SERVERS, servers, probed->topic);
}

static void create(pb_prober *prober, pb_probed *probed) {
    const pb_prober_options *o = &prober->options;
    if (pb_admin_create_topic(prober->rk, probed->topic, o->partitions, o->replication,
                              CREATE_TIMEOUT, &probed->err) != 0)
        return;
    pb_log_write(prober->config->log, PB_INFO, "relay: topic %s was missing and is made now, with %d partitions",
                 probed->topic, o->partitions);
    ask_partitions(prober, probed);
}

static void probe(pb_prober *prober, node *n) {
    pb_probed *probed = &n->probed;
    ask_partitions(prober, probed);
    if (probed->partitions < 0 && probed->err.code == PB_TOPIC_UNKNOWN) {
        if (n->wanted && prober->options.partitions > 0)
            create(prober, probed);
        else
            say_how(prober, probed);
    }
    if (probed->partitions > 0)
        ask_configuration(prober, probed);
}

static node *next_question(pb_prober *prober) {
    node *n = pop(&prober->urgent);
    return n ? n : pop(&prober->questions);
}

static void *work(void *arg) {
    pb_prober *prober = arg;
    pthread_mutex_lock(&prober->lock);
    while (!prober->stopping) {
        node *n = next_question(prober);
        if (!n) {
            pthread_cond_wait(&prober->asked, &prober->lock);
            continue;
        }
        pthread_mutex_unlock(&prober->lock);
        probe(prober, n);
        answer(prober, n);
        pthread_mutex_lock(&prober->lock);
    }
    pthread_mutex_unlock(&prober->lock);
    return NULL;
}

static void release(pb_prober *prober) {
    if (prober->rk)
        rd_kafka_destroy(prober->rk);
    clear(&prober->urgent);
    clear(&prober->questions);
    clear(&prober->answers);
    pthread_cond_destroy(&prober->asked);
    pthread_mutex_destroy(&prober->lock);
    pb_config_release(prober->config);
    free(prober);
}

pb_prober *pb_prober_new(pb_config *config, const pb_prober_options *options, pb_error *err) {
    pb_prober *prober = calloc(1, sizeof *prober);
    if (!prober) {
        pb_fail_memory(err, "a watcher of topics");
        return NULL;
    }
    prober->config = pb_config_share(config);
    prober->options = *options;
    prober->urgent.end = &prober->urgent.first;
    prober->questions.end = &prober->questions.first;
    prober->answers.end = &prober->answers.first;
    pthread_mutex_init(&prober->lock, NULL);
    pthread_cond_init(&prober->asked, NULL);
    rd_kafka_conf_t *conf = pb_kafka_conf(config, err);
    prober->rk = conf ? pb_kafka_new(RD_KAFKA_PRODUCER, conf, err) : NULL;
    if (prober->rk && pb_thread_start(&prober->thread, work, prober) == 0)
        return prober;
    if (prober->rk)
        pb_fail(err, PB_FULL, "relay: cannot start the thread that watches topics");
    release(prober);
    return NULL;
}

int pb_prober_ask(pb_prober *prober, const char *topic, bool wanted) {
    node *n = calloc(1, sizeof *n);
    if (!n || !(n->probed.topic = strdup(topic))) {
        free(n);
        return -1;
    }
    n->wanted = wanted;
    pthread_mutex_lock(&prober->lock);
    push(wanted ? &prober->urgent : &prober->questions, n);
    pthread_cond_signal(&prober->asked);
    pthread_mutex_unlock(&prober->lock);
    return 0;
}

bool pb_prober_take(pb_prober *prober, pb_probed *answer) {
    pthread_mutex_lock(&prober->lock);
    node *n = pop(&prober->answers);
    pthread_mutex_unlock(&prober->lock);
    if (!n)
        return false;
    *answer = n->probed;
    free(n);
    return true;
}

void pb_prober_free(pb_prober *prober) {
    if (!prober)
        return;
    pthread_mutex_lock(&prober->lock);
    prober->stopping = true;
    pthread_cond_signal(&prober->asked);
    pthread_mutex_unlock(&prober->lock);
    pthread_join(prober->thread, NULL);
    release(prober);
}

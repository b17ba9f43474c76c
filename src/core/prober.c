#include "prober.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "kafka.h"

#define METADATA_TIMEOUT 2.0    /* seconds */
#define CONFIGS_TIMEOUT_MS 250  /* a broker that knows the request answers within a few */
#define SILENT_SECONDS 60.0     /* one that does not is not asked again for so long */

typedef struct node {
    struct node *next;
    pb_probed probed;
} node;

typedef struct list {
    node *first, **end;
} list;

struct pb_prober {
    pb_config *config;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue; /* of the configuration requests */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t asked;
    list questions, answers;
    int wake_fd;
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

/* Not every broker tells (rights, the mock cluster): then nothing is filled in. */
static void ask_configuration(pb_prober *prober, pb_probed *probed) {
    char text[200];
    if (pb_now() < prober->silent_until)
        return;
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(prober->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, probed->topic);
    if (options && resource) {
        rd_kafka_AdminOptions_set_request_timeout(options, CONFIGS_TIMEOUT_MS, text, sizeof text);
        rd_kafka_DescribeConfigs(prober->rk, &resource, 1, options, prober->queue);
        rd_kafka_event_t *event = rd_kafka_queue_poll(prober->queue, CONFIGS_TIMEOUT_MS * 4);
        const rd_kafka_DescribeConfigs_result_t *result =
            event ? rd_kafka_event_DescribeConfigs_result(event) : NULL;
        size_t count = 0;
        const rd_kafka_ConfigResource_t **found =
            result ? rd_kafka_DescribeConfigs_result_resources(result, &count) : NULL;
        if (count == 1 && !rd_kafka_ConfigResource_error(found[0]))
            read_config(found[0], probed);
        else
            prober->silent_until = pb_now() + SILENT_SECONDS;
        if (event)
            rd_kafka_event_destroy(event);
    }
    if (resource)
        rd_kafka_ConfigResource_destroy(resource);
    if (options)
        rd_kafka_AdminOptions_destroy(options);
}

static void probe(pb_prober *prober, pb_probed *probed) {
    probed->partitions =
        pb_kafka_partitions(prober->rk, probed->topic, METADATA_TIMEOUT, &probed->err);
    if (probed->partitions > 0)
        ask_configuration(prober, probed);
}

static void *work(void *arg) {
    pb_prober *prober = arg;
    static const uint64_t one = 1;
    pthread_mutex_lock(&prober->lock);
    while (!prober->stopping) {
        node *n = pop(&prober->questions);
        if (!n) {
            pthread_cond_wait(&prober->asked, &prober->lock);
            continue;
        }
        pthread_mutex_unlock(&prober->lock);
        probe(prober, &n->probed);
        pthread_mutex_lock(&prober->lock);
        push(&prober->answers, n);
        if (write(prober->wake_fd, &one, sizeof one) < 0)
            continue; /* the counter is full: the reader is awake anyway */
    }
    pthread_mutex_unlock(&prober->lock);
    return NULL;
}

static int start_thread(pb_prober *prober) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&prober->thread, NULL, work, prober);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static void release(pb_prober *prober) {
    if (prober->queue)
        rd_kafka_queue_destroy(prober->queue);
    if (prober->rk)
        rd_kafka_destroy(prober->rk);
    clear(&prober->questions);
    clear(&prober->answers);
    pthread_cond_destroy(&prober->asked);
    pthread_mutex_destroy(&prober->lock);
    pb_config_release(prober->config);
    free(prober);
}

pb_prober *pb_prober_new(pb_config *config, int wake_fd, pb_error *err) {
    pb_prober *prober = calloc(1, sizeof *prober);
    if (!prober) {
        pb_fail_memory(err, "a watcher of topics");
        return NULL;
    }
    prober->config = pb_config_share(config);
    prober->wake_fd = wake_fd;
    prober->questions.end = &prober->questions.first;
    prober->answers.end = &prober->answers.first;
    pthread_mutex_init(&prober->lock, NULL);
    pthread_cond_init(&prober->asked, NULL);
    rd_kafka_conf_t *conf = pb_kafka_conf(config, err);
    prober->rk = conf ? pb_kafka_new(RD_KAFKA_PRODUCER, conf, err) : NULL;
    prober->queue = prober->rk ? rd_kafka_queue_new(prober->rk) : NULL;
    if (prober->queue && start_thread(prober) == 0)
        return prober;
    if (prober->rk)
        pb_fail(err, PB_FULL, "relay: cannot start the thread that watches topics");
    release(prober);
    return NULL;
}

int pb_prober_ask(pb_prober *prober, const char *topic) {
    node *n = calloc(1, sizeof *n);
    if (!n || !(n->probed.topic = strdup(topic))) {
        free(n);
        return -1;
    }
    pthread_mutex_lock(&prober->lock);
    push(&prober->questions, n);
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

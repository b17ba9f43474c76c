/* The topics that a relay sends to: their partitions, and the pause of those that are unusable. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "relay_internal.h"

#define ASK_AGAIN_SOON 0.2   /* seconds after a request that was not answered */
#define ASK_AGAIN_FIRST 0.1  /* seconds until a missing topic is looked for again, doubled ... */
#define ASK_AGAIN_PAUSED 1.0 /* ... up to so many */
#define ASK_AGAIN_READY 30.0 /* ... of a usable one: its partitions may grow */
#define SMALLEST_BATCH 1024

static unsigned hash(pb_bytes name) {
    unsigned h = 2166136261u;
    for (size_t i = 0; i < name.length; i++)
        h = (h ^ (unsigned char)name.data[i]) * 16777619u;
    return h % PB_TOPIC_BUCKETS;
}

static bool is_named(const pb_topic *topic, pb_bytes name) {
    return topic->length == name.length && memcmp(topic->name, name.data, name.length) == 0;
}

static void ask_again(pb_active *a, pb_topic *topic, double now) {
    if (now < topic->ask_at)
        return;
    topic->ask_at = pb_prober_ask(a->relay->prober, topic->name, topic->wanted) == 0 ? (double)PB_NEVER
                                                                      : now + ASK_AGAIN_PAUSED;
}

static pb_topic *add(pb_active *a, pb_bytes name, unsigned bucket) {
    pb_topic *topic = calloc(1, sizeof *topic);
    if (!topic || !(topic->name = pb_bytes_copy(name))) {
        free(topic);
        return NULL;
    }
    topic->length = name.length;
    topic->resume = PB_NEVER;
    topic->on_trial = pb_topic_is_banned(a->relay, topic->name, pb_now(), &topic->ask_at);
    if (topic->on_trial && topic->ask_at > pb_now())
        topic->state = PB_TOPIC_PAUSED; /* otherwise the next step asks, or who waits for it */
    topic->next = a->topics[bucket];
    a->topics[bucket] = topic;
    return topic;
}

/* Comes before all that nobody waits for. */
void pb_topic_want(pb_active *a, pb_topic *topic) {
    if (topic->wanted)
        return;
    topic->wanted = true;
    if (topic->state == PB_TOPIC_ASKED) {
        topic->ask_at = 0;
        ask_again(a, topic, pb_now());
    }
}

bool pb_topics_are_asked(const pb_active *a) {
    for (int i = 0; i < PB_TOPIC_BUCKETS; i++)
        for (const pb_topic *topic = a->topics[i]; topic; topic = topic->next)
            if (topic->wanted && topic->state == PB_TOPIC_ASKED)
                return true;
    return false;
}

pb_topic *pb_topics_get(pb_active *a, pb_bytes name) {
    if (a->last_topic && is_named(a->last_topic, name))
        return a->last_topic;
    unsigned bucket = hash(name);
    pb_topic *topic = a->topics[bucket];
    while (topic && !is_named(topic, name))
        topic = topic->next;
    if (!topic)
        topic = add(a, name, bucket);
    a->last_topic = topic;
    return topic;
}

int pb_topics_load(pb_active *a, pb_error *err) {
    PGresult *result = NULL;
    char *sql = pb_config_sql(a->config, "SELECT topic FROM postbox.topics ORDER BY updated_at"
                                         " DESC LIMIT 1000");
    if (!sql)
        return pb_fail_memory(err, "a statement");
    int failed = pb_pg_run(a->remover, sql, NULL, 0, PB_TEXT_RESULT, &result, err);
    free(sql);
    if (failed)
        return -1;
    for (int i = 0; !failed && i < PQntuples(result); i++)
        if (!pb_topics_get(a, pb_bytes_of(PQgetvalue(result, i, 0))))
            failed = pb_fail_memory(err, "a topic");
    PQclear(result);
    return failed;
}

static pb_lane *new_lane(pb_topic *topic, int32_t partition) {
    pb_lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return NULL;
    lane->topic = topic;
    lane->partition = partition;
    lane->resume = topic->resume; /* what came before the partitions were known is read again */
    return lane;
}

/* Rows that one partition has to read again may be another's from now on: all read them again. */
static void read_again_together(pb_active *a, pb_topic *topic) {
    int64_t lowest = PB_NEVER;
    for (int i = 0; i < topic->partitions; i++)
        if (topic->lanes[i]->resume < lowest)
            lowest = topic->lanes[i]->resume;
    for (int i = 0; lowest != PB_NEVER && i < topic->partitions; i++)
        pb_lane_fall_behind(a, topic->lanes[i], lowest);
}

static int grow(pb_active *a, pb_topic *topic, int partitions) {
    pb_lane **grown = realloc(topic->lanes, (size_t)partitions * sizeof *grown);
    bool more = partitions > topic->partitions;
    if (!grown)
        return -1;
    topic->lanes = grown;
    while (topic->partitions < partitions) {
        pb_lane *lane = new_lane(topic, topic->partitions);
        if (!lane)
            return -1;
        topic->lanes[topic->partitions++] = lane;
        a->lane_count++;
    }
    if (more)
        read_again_together(a, topic);
    return 0;
}

/* For publishers with a partitioner of their own, who read the count from the table. */
static int save(pb_active *a, const pb_topic *topic, pb_error *err) {
    char *sql = pb_config_sql(
        a->config, "INSERT INTO postbox.topics AS t (topic, partitions) VALUES ($1, $2::bigint)"
                   " ON CONFLICT (topic) DO UPDATE SET partitions = EXCLUDED.partitions,"
                   " updated_at = clock_timestamp()"
                   " WHERE t.partitions IS DISTINCT FROM EXCLUDED.partitions");
    if (!sql)
        return pb_fail_memory(err, "a statement");
    pb_param params[] = {pb_param_text(pb_bytes_of(topic->name)), pb_param_i64(topic->partitions)};
    int done = pb_pg_run(a->remover, sql, params, 2, PB_TEXT_RESULT, NULL, err);
    free(sql);
    return done;
}

/* Kafka refuses whole batches, so none may be larger than the smallest topic takes. */
static void fit_batches(pb_active *a, int64_t max_bytes) {
    int64_t fitting = max_bytes - max_bytes / 16 - 200;
    if (max_bytes <= 0)
        return;
    if (fitting < SMALLEST_BATCH)
        fitting = SMALLEST_BATCH;
    if ((size_t)fitting < a->batch_bytes) {
        a->batch_bytes = a->relay->batch_bytes = (size_t)fitting;
        a->renew_producers = true;
    }
}

void pb_topic_pause(pb_active *a, pb_topic *topic, double now, const pb_error *err) {
    if (topic->state != PB_TOPIC_PAUSED)
        pb_log_write(a->config->log, PB_WARNING, "relay: topic %s is paused: %s", topic->name,
                     err->message);
    pb_relay_show_error(a->relay, err); /* again each time, because others may go on */
    topic->state = PB_TOPIC_PAUSED;
    if (err->code == PB_TOPIC_UNKNOWN) {
        double doubled = topic->backoff * 2;
        topic->backoff = doubled < ASK_AGAIN_FIRST    ? ASK_AGAIN_FIRST
                         : doubled > ASK_AGAIN_PAUSED ? ASK_AGAIN_PAUSED
                                                      : doubled;
        topic->ask_at = now + topic->backoff;
    } else {
        topic->ask_at = now + pb_ban_topic(a->relay, topic->name, now);
        topic->on_trial = true;
    }
}

static int resume_topic(pb_active *a, pb_topic *topic, const pb_probed *probed, double now,
                        pb_error *err) {
    bool grown = probed->partitions != topic->partitions;
    if (topic->state == PB_TOPIC_PAUSED)
        pb_log_write(a->config->log, PB_INFO, "relay: topic %s goes on", topic->name);
    fit_batches(a, probed->max_bytes);
    if (a->readback && pb_readback_add(a->readback, topic->name, probed->partitions, err) != 0)
        return -1;
    if (grow(a, topic, probed->partitions) != 0)
        return pb_fail_memory(err, "the partitions of a topic");
    for (int i = 0; i < topic->partitions; i++)
        if (topic->lanes[i]->resume > topic->resume)
            topic->lanes[i]->resume = topic->resume;
    topic->resume = PB_NEVER;
    topic->state = PB_TOPIC_READY;
    topic->backoff = 0;
    topic->ask_at = now + ASK_AGAIN_READY;
    a->turn.next = now;
    return grown ? save(a, topic, err) : 0;
}

static bool refuses_compaction(const pb_active *a, const pb_probed *probed, pb_error *err) {
    if (!a->settings.readback || !probed->compacted)
        return false;
    pb_fail(err, PB_CONFIG,
            "relay: topic %s is compacted, so confirm = \"readback\" may never see an event: use "
            "cleanup.policy=delete, or confirm = \"report\"",
            probed->topic);
    return true;
}

static int take_answer(pb_active *a, const pb_probed *probed, double now, pb_error *err) {
    pb_topic *topic = pb_topics_get(a, pb_bytes_of(probed->topic));
    pb_error why = probed->err;
    if (!topic)
        return pb_fail_memory(err, "a topic");
    if (probed->partitions > 0 && !refuses_compaction(a, probed, &why))
        return resume_topic(a, topic, probed, now, err);
    if (why.code == PB_TOPIC_UNKNOWN || why.code == PB_CONFIG) {
        pb_topic_pause(a, topic, now, &why);
    } else { /* the broker is away or slow: that is no news of the topic */
        pb_relay_show_error(a->relay, &why);
        topic->ask_at = now + ASK_AGAIN_SOON;
    }
    return 0;
}

int pb_topics_step(pb_active *a, double now, pb_error *err) {
    pb_probed probed;
    int failed = 0;
    /* An answer is saved on the remover's connection, which must have nothing under way. */
    while (!failed && !a->removal.busy && pb_prober_take(a->relay->prober, &probed)) {
        failed = take_answer(a, &probed, now, err);
        free(probed.topic);
    }
    for (int i = 0; i < PB_TOPIC_BUCKETS; i++)
        for (pb_topic *topic = a->topics[i]; topic; topic = topic->next)
            ask_again(a, topic, now);
    return failed;
}

void pb_topics_each_lane(pb_active *a, pb_lane_visit visit, void *arg) {
    for (int i = 0; i < PB_TOPIC_BUCKETS; i++)
        for (pb_topic *topic = a->topics[i]; topic; topic = topic->next)
            for (int p = 0; p < topic->partitions; p++)
                visit(a, topic->lanes[p], arg);
}

static void free_lane(pb_lane *lane) {
    for (size_t i = 0; i < lane->count; i++)
        pb_page_release(lane->waiting[lane->first + i].page);
    free(lane->waiting);
    free(lane);
}

void pb_topics_free(pb_active *a) {
    for (int i = 0; i < PB_TOPIC_BUCKETS; i++) {
        for (pb_topic *topic = a->topics[i], *next; topic; topic = next) {
            next = topic->next;
            for (int p = 0; p < topic->partitions; p++)
                free_lane(topic->lanes[p]);
            free(topic->lanes);
            free(topic->name);
            free(topic);
        }
        a->topics[i] = NULL;
    }
    a->last_topic = NULL;
}

/* Shared by the files of consumer; nobody else includes it. */
#ifndef PB_CONSUMER_INTERNAL_H
#define PB_CONSUMER_INTERNAL_H

#include "consumer.h"
#include "kafka.h"

#define PB_NO_OFFSET (-1)

/* A partition that is or was ours. Kept until the consumer is closed: records point to it. */
typedef struct pb_partition {
    struct pb_partition *next;
    char *topic;
    int32_t number;
    bool assigned;
    bool started;      /* its first record was handed out */
    bool paused;       /* as Kafka's client knows it: resuming what is not paused may rewind it */
    int assignment;    /* grows with each */
    double held_until; /* hands out nothing before */
    int64_t finished;  /* the offset to commit, or PB_NO_OFFSET */
    int64_t committed; /* the last one sent */
    pb_intake waiting; /* records given back or come while it was held, in order */
    size_t waiting_first;
} pb_partition;

struct pb_consumer {
    pb_config *config;
    rd_kafka_t *rk;
    int process;
    pb_codec codec;
    char **types;
    size_t type_count;
    int default_route;
    pb_partition *partitions;
    pb_partition *last_found;     /* most records come from the same partition as the one before */
    const void *last_topic;
    bool joined, closing, failed;
    bool lost;                    /* the revocation below came without asking */
    rd_kafka_topic_partition_list_t *revoked; /* until the caller gives them up */
    double commit_at;             /* earliest time of the next background commit */
    double warned_at;             /* errors that come again and again are told now and then */
};

/* consumer_group.c: what the group decides, and offsets */
void pb_consumer_set_callbacks(rd_kafka_conf_t *conf);
/* whose callbacks run in this thread; NULL: none */
void pb_consumer_serve_as(pb_consumer *consumer);
/* while it is closed */
void pb_consumer_serve_event(pb_consumer *consumer, rd_kafka_event_t *event);
void pb_consumer_let_go(pb_consumer *consumer);   /* unassigns what is revoked */

/* consumer_partitions.c */
pb_partition *pb_partition_find(pb_consumer *consumer, const char *topic, int32_t number);
void pb_partition_assign(pb_partition *partition);
void pb_partition_revoke(pb_partition *partition);
void pb_partition_free(pb_partition *partition);
/* Keeps a record that cannot be handed out now; takes it over in any case. */
int pb_partition_keep(pb_partition *partition, pb_record *record, pb_error *err);
size_t pb_partition_waiting(const pb_partition *partition);
/* Moves records that may be handed out to the intake; resumes partitions that have none left. */
int pb_partitions_take(pb_consumer *consumer, size_t most, pb_intake *intake, pb_error *err);
/* Seconds until a held partition may go on; `most` where none is nearer. */
double pb_partitions_next(const pb_consumer *consumer, double most);

#endif

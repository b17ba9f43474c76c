/* Shared by the files of the relay; nobody else includes it. All of it belongs to its thread. */
#ifndef PB_RELAY_INTERNAL_H
#define PB_RELAY_INTERNAL_H

#include <libpq-fe.h>

#include "awaiting.h"
#include "gaps.h"
#include "lease.h"
#include "park.h"
#include "pg.h"
#include "producer.h"
#include "prober.h"
#include "readback.h"
#include "relay.h"

#define PB_NEVER INT64_MAX
#define PB_READ_ROWS 4000           /* rows of one read, fewer when they are large */
#define PB_WINDOW_ROWS 24576        /* rows in memory: waiting and in flight, of all partitions */
#define PB_WINDOW_BYTES (12u << 20)  /* their bytes */
#define PB_LANE_ROWS_LEAST 128      /* a partition's part of the window is never smaller */
#define PB_STALL 0.5                /* seconds without a report: the partition is left behind */

/* How a row is sent, each way by a producer of its own. */
typedef enum pb_manner {
    PB_AT_ONCE,
    PB_IN_BULK, /* of a backlog: in large requests */
    PB_ALONE,   /* a suspect */
    PB_MANNERS
} pb_manner;

/* A result whose rows are waiting to be sent. */
typedef struct pb_page {
    PGresult *result;
    int references;
} pb_page;

pb_page *pb_page_new(PGresult *result); /* takes it; NULL without memory */
void pb_page_release(pb_page *page);

/* A row as relay_row.c decodes it; the bytes belong to the page. */
typedef struct pb_row {
    int64_t id;
    const uint8_t *event_id;
    pb_bytes type, topic, key, payload, headers;
    char envelope;
    int32_t partition;   /* PB_NO_PARTITION: by the key */
    int64_t large;       /* bytes that were left out because the row is large, or 0 */
    double direct_left;  /* seconds that its publisher still has to send it itself */
} pb_row;

extern const char pb_row_main_sql[], pb_row_gap_sql[], pb_row_large_sql[];
int64_t pb_row_id(const pb_page *page, int row);
int64_t pb_row_large(const pb_page *page, int row);
void pb_row_read(const pb_page *page, int row, pb_row *out);
int32_t pb_row_partition(const pb_row *row, int partitions); /* its own, its key's, or any */
uint32_t pb_row_bytes(const pb_row *row);
/* The record's value; `scratch` is used where it has to be made. */
pb_bytes pb_row_value(const pb_row *row, pb_buffer *scratch);
rd_kafka_headers_t *pb_row_headers(const pb_row *row); /* NULL without memory */

typedef struct pb_waiting {
    int64_t id;
    pb_page *page;
    int row;
    uint32_t bytes;
} pb_waiting;

/* One partition: what waits for it, what is in flight, and from where it must be read again. */
typedef struct pb_lane {
    struct pb_topic *topic;
    int32_t partition;
    pb_waiting *waiting; /* ascending by id, from `first` on */
    size_t first, count, capacity, waiting_bytes;
    size_t in_flight;
    pb_manner manner;    /* of what is in flight */
    bool last_small;     /* the last send was small: it alone is in flight */
    int sends;           /* that are in flight, each about one request */
    struct pb_slot *newest; /* of the last send */
    bool alone;          /* a suspect is on its way */
    double progress;     /* last report, or the first send after a pause */
    int64_t high;        /* highest id sent */
    int64_t resume;      /* rows from here on are not sent and not waiting; PB_NEVER: all are */
    bool dirty;          /* some from there on are sent: they must go before it is read again */
    int64_t clean_after; /* number of the DELETE that removes them; 0: not known yet */
    bool catching_up;    /* takes part in the current turn's second read */
} pb_lane;

typedef enum pb_topic_state { PB_TOPIC_ASKED, PB_TOPIC_READY, PB_TOPIC_PAUSED } pb_topic_state;

typedef struct pb_topic {
    struct pb_topic *next; /* in its bucket */
    char *name;
    size_t length;
    pb_topic_state state;
    rd_kafka_topic_t *handles[PB_MANNERS];
    int partitions;
    pb_lane **lanes;
    int64_t resume;  /* first row that came while the partitions were not known */
    bool on_trial;   /* it refused lately: one record alone goes first */
    bool wanted;     /* somebody waits for it: events, or a publisher who asks for the count */
    double ask_at;   /* next metadata request */
    double backoff;  /* while it is missing */
} pb_topic;

/* A record that is in flight: the opaque pointer of its delivery report. */
typedef struct pb_slot {
    int64_t id;
    pb_lane *lane;
    uint32_t bytes;
    bool suspect;
    struct pb_slot *next; /* free list */
    bool ends_send;       /* its report is the last of its send */
} pb_slot;

/* A row that was refused alone, to be parked. */
typedef struct pb_refused {
    int64_t id;
    char reason[200];
} pb_refused;

/* A topic that refused what was sent: it rests, over take-overs too. */
typedef struct pb_banned {
    char topic[PB_TOPIC_LIMIT + 1];
    double until, backoff;
} pb_banned;

#define PB_TOPIC_BUCKETS 256
#define PB_SLOT_CHUNK 2048

typedef struct pb_ids {
    int64_t *list;
    size_t count, capacity;
} pb_ids;

int pb_ids_add(pb_ids *ids, int64_t id); /* -1 without memory */
int pb_ids_sort(pb_ids *ids);            /* quick where it consists of few ascending runs */
void pb_ids_unique(pb_ids *sorted);
bool pb_ids_contain(const pb_ids *sorted, int64_t id);
int64_t pb_ids_lowest(const pb_ids *ids); /* PB_NEVER when empty */

/* Statements under way on a connection, and their results so far. */
#define PB_ANSWERS 6
typedef struct pb_answers {
    PGresult *results[PB_ANSWERS];
    int wanted, got;
    double deadline;
} pb_answers;

/* 1 all are here, 0 not yet, -1 failed: the connection, or a statement. */
int pb_answers_poll(pb_answers *answers, pb_pg *pg, const char *what, pb_error *err);
void pb_answers_clear(pb_answers *answers);

typedef enum pb_turn_state {
    PB_TURN_IDLE,
    PB_TURN_READ,    /* main read, gap read, perhaps the holders */
    PB_TURN_HOLDERS, /* the holders alone, because wide gaps were left out */
    PB_TURN_AGAIN,   /* the wide gaps, because one of their holders ended */
    PB_TURN_LARGE    /* the large rows */
} pb_turn_state;

typedef struct pb_turn {
    pb_turn_state state;
    bool catch_up, main_read, gap_read, holders_read;
    bool gap_cut;         /* the gap read was cut short: the main rows wait for another turn */
    bool discard;         /* what comes is stale */
    int64_t upper;        /* catch-up: not behind this id */
    int64_t bound;        /* catch-up: ids up to here were read */
    int limit;
    pb_page *main, *gaps, *again, *large;
    int main_rows, gap_rows, again_rows; /* used of each */
    pb_ids noted;         /* gap rows of this turn that a lane took */
    pb_answers answers;
    double next;          /* not before */
    double pause;         /* grows while nothing comes */
    double holders_at;    /* last listed */
    int taken;            /* rows of the hot read that a partition took */
    double hot_at;        /* not before, while partitions catch up */
    bool caught_up_last;  /* the last turn was a catch-up: the next is not */
    double row_bytes;     /* average of late */
} pb_turn;

typedef struct pb_removal {
    pb_ids acked;        /* proven, to be deleted */
    pb_ids removing;     /* being deleted */
    double since;        /* age of the oldest in `acked` */
    int64_t started, done; /* numbers of DELETEs */
    pb_answers answers;
    bool busy, renewing;
    double renew_at, renew_sent_at;
    double chores_at, sweep_at;
    int64_t swept;       /* the sweep has come so far */
} pb_removal;

typedef struct pb_settings {
    bool readback, direct, skip_refused;
    char outbox[PB_ID_TEXT + 1];
    int64_t max_record_bytes;
} pb_settings;

/* The period in which this relay is the active one, from take-over to loss or stop. */
typedef struct pb_active {
    pb_relay *relay;
    pb_config *config;
    pb_pg *reader, *remover;
    pb_lease *lease;
    pb_settings settings;
    pb_producer *producers[PB_MANNERS]; /* made when the first row is sent so */
    pb_manner manner;   /* in bulk while reads are full */
    pb_gaps *gaps;
    pb_held *held;
    pb_ids to_park;     /* rows of held keys that were read */
    pb_ids *suspects;   /* of the relay, ascending: rows to be sent alone */
    struct pb_later_row *later; /* their publishers send them themselves, for a while */
    size_t later_count, later_capacity;
    double later_next;  /* the first of them is due */
    pb_awaiting *taken; /* those that are ours from now on */
    pb_refused *refused;
    size_t refused_count;
    pb_topic *topics[PB_TOPIC_BUCKETS];
    pb_topic *last_topic;
    size_t lane_count;
    int64_t position;
    pb_turn turn;
    pb_turn placed;     /* the one whose rows are being placed */
    pb_removal removal;
    pb_slot **chunks;
    size_t chunk_count;
    pb_slot *free_slots;
    size_t waiting, in_flight, bytes;
    pb_readback *readback; /* with confirm = readback, as the next three */
    pb_awaiting *awaiting; /* sent and not read back, those in flight included */
    void *seen;            /* room for the records of one look-up */
    double looked_at;
    pb_buffer scratch;
    char *sql_main, *sql_gap, *sql_large, *sql_holders, *sql_delete;
    bool flush;          /* a lane may be able to send */
    double now;          /* of this round of the loop */
    bool again;          /* there is more to do at once */
    bool stopping;
    double stop_at;
    double checked_at;   /* lanes looked at for stalls */
    size_t batch_bytes;
    bool broken;         /* a record was refused, or the producer is at its end: no more sends */
    double broken_at;
    pb_error why;        /* ... and what it said */
    bool renew_producers; /* a topic with smaller batches has come */
    double renew_since;   /* ... since when they wait for reports */
} pb_active;

int pb_active_open(pb_active *a, pb_error *err);
int pb_active_run(pb_active *a, pb_error *err);
void pb_active_close(pb_active *a);
int64_t pb_active_low_water(const pb_active *a);
pb_producer *pb_active_producer(pb_active *a, pb_manner manner, pb_error *err); /* NULL: failed */

/* relay_topics.c */
pb_topic *pb_topics_get(pb_active *a, pb_bytes name); /* NULL without memory */
bool pb_topics_are_asked(const pb_active *a); /* rows wait for the answer about a topic */
void pb_topic_want(pb_active *a, pb_topic *topic);   /* asked for at once */
int pb_topics_load(pb_active *a, pb_error *err);      /* those known to the table are asked for */
int pb_topics_step(pb_active *a, double now, pb_error *err);
void pb_topics_free(pb_active *a);
typedef void (*pb_lane_visit)(pb_active *a, pb_lane *lane, void *arg);
void pb_topics_each_lane(pb_active *a, pb_lane_visit visit, void *arg);

void pb_topic_pause(pb_active *a, pb_topic *topic, double now, const pb_error *err);

/* relay_suspects.c */
bool pb_is_suspect(const pb_active *a, const pb_lane *lane, int64_t id);
int pb_refuse(pb_active *a, int64_t id, const char *reason); /* -1 without memory */
int pb_suspect_reported(pb_active *a, pb_slot *slot, rd_kafka_resp_err_t code);
int pb_park_refused(pb_active *a, pb_error *err);
double pb_ban_topic(struct pb_relay *relay, const char *topic, double now);
bool pb_topic_is_banned(struct pb_relay *relay, const char *topic, double now, double *until);

/* relay_lanes.c */
size_t pb_lane_limit(const pb_active *a);
bool pb_lane_stalled(const pb_lane *lane, double now);
bool pb_lane_can_catch_up(const pb_active *a, const pb_lane *lane, double now);
void pb_lane_mark(pb_active *a, pb_lane *lane, void *catch_up);    /* takes part in this one? */
void pb_lane_caught_up(pb_active *a, pb_lane *lane, void *bound); /* ids up to there were read */
int pb_lane_put(pb_active *a, pb_lane *lane, pb_page *page, int row, int64_t id, uint32_t bytes);
void pb_lane_fall_behind(pb_active *a, pb_lane *lane, int64_t id);
void pb_lane_drop(pb_active *a, pb_lane *lane);
void pb_lanes_check(pb_active *a, double now);
int pb_lanes_flush(pb_active *a, pb_error *err);

/* relay_reports.c */
pb_slot *pb_slot_take(pb_active *a);
void pb_slot_give_back(pb_active *a, pb_slot *slot);
void pb_break_off(pb_active *a, rd_kafka_resp_err_t code, const char *what);
int pb_reports_serve(pb_active *a, pb_error *err);

/* relay_turn.c, relay_place.c */
int pb_turn_step(pb_active *a, double now, pb_error *err);
void pb_turn_clear(pb_active *a);
int pb_place_rows(pb_active *a, pb_error *err);

/* relay_removal.c */
int pb_removal_step(pb_active *a, double now, pb_error *err);
void pb_removal_free(pb_active *a);

/* relay_chores.c */
int pb_chores_step(pb_active *a, double now, pb_error *err);

/* relay_sweep.c */
int pb_sweep_step(pb_active *a, double now, pb_error *err);
int pb_oldest_step(pb_active *a, pb_error *err);

/* relay_readback.c */
int pb_readback_open(pb_active *a, pb_error *err);
int pb_readback_step(pb_active *a, double now, pb_error *err);
void pb_readback_close(pb_active *a);

/* relay_later.c */
bool pb_is_later(const pb_active *a, const pb_row *row);
bool pb_later_is_full(const pb_active *a);
int pb_later_add(pb_active *a, const pb_row *row); /* -1 without memory */
int64_t pb_later_lowest(const pb_active *a);
int pb_later_each(const pb_active *a, pb_ids *ids); /* adds them; -1 without memory */
int pb_later_step(pb_active *a, double now, pb_error *err);

/* relay_settings.c */
extern const char pb_relay_planner_sql[]; /* the plans that the reads need, for one transaction */
int pb_settings_load(pb_pg *pg, pb_settings *settings, pb_error *err);

struct pb_relay {
    pb_config *config;
    pb_relay_options options;
    pb_lease lease;
    pb_prober *prober;
    pb_ids suspects;
    pb_banned *banned;
    size_t banned_count;
    int wake_fd;
    size_t batch_bytes; /* the smallest that a topic asked for, over periods; 0: none did */
    double patience; /* with an unseen event; 0: as the options say */
    /* shared with other threads, under `lock` or atomic */
    struct pb_relay_shared *shared;
};

/* What the active relay counts; copied for readers now and then. */
pb_relay_stats *pb_relay_counts(struct pb_relay *relay);
void pb_relay_publish_stats(struct pb_relay *relay);
void pb_relay_show_error(struct pb_relay *relay, const pb_error *err); /* in the stats */
void pb_relay_note_error(struct pb_relay *relay, const pb_error *err); /* in the log too */
bool pb_relay_woken(struct pb_relay *relay);
bool pb_relay_stop_wanted(struct pb_relay *relay, double *deadline);

#endif

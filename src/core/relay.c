#include "relay.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "relay_internal.h"
#include "thread.h"

#define STANDBY_PAUSE 0.1       /* seconds between looks at the lease */
#define FIRST_PAUSE 0.05        /* before the next try after a failure */
#define LONGEST_PAUSE 2.0
#define QUIET_AFTER 5.0         /* a period that lasted so long was no failure at the start */
#define STATS_EVERY 0.01
#define FREE_PATIENCE 5.0       /* seconds that freeing waits for the thread */

struct pb_relay_shared {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    pid_t process;
    bool started, running, stop;
    double stop_deadline;
    pb_relay_stats stats;        /* as others see them */
    atomic_bool woken;
    /* of the thread */
    pb_relay_stats counts;
    double shown_at;
    int64_t published_at_error;
};

pb_relay_options pb_relay_defaults(void) {
    return (pb_relay_options){.lease = 10, .readback_timeout = 30, .sweep = 60, .replication = -1};
}

pb_relay_stats *pb_relay_counts(pb_relay *relay) {
    return &relay->shared->counts;
}

void pb_relay_publish_stats(pb_relay *relay) {
    struct pb_relay_shared *s = relay->shared;
    double now = pb_now();
    if (now < s->shown_at + STATS_EVERY)
        return;
    s->shown_at = now;
    if (s->counts.published > s->published_at_error)
        s->counts.last_error[0] = '\0';
    pthread_mutex_lock(&s->lock);
    s->stats = s->counts;
    pthread_mutex_unlock(&s->lock);
}

static void show_now(pb_relay *relay) {
    relay->shared->shown_at = 0;
    pb_relay_publish_stats(relay);
}

void pb_relay_note_error(pb_relay *relay, const pb_error *err) {
    if (strcmp(relay->shared->counts.last_error, err->message) != 0)
        pb_log_write(relay->config->log, PB_WARNING, "%s", err->message);
    pb_relay_show_error(relay, err);
}

void pb_relay_show_error(pb_relay *relay, const pb_error *err) {
    struct pb_relay_shared *s = relay->shared;
    memcpy(s->counts.last_error, err->message, sizeof s->counts.last_error);
    s->published_at_error = s->counts.published;
}

bool pb_relay_stop_wanted(pb_relay *relay, double *deadline) {
    struct pb_relay_shared *s = relay->shared;
    pthread_mutex_lock(&s->lock);
    bool stop = s->stop;
    *deadline = s->stop_deadline;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

/* Takes what was written to the wake-up descriptor; true when it was a publisher. */
bool pb_relay_woken(pb_relay *relay) {
    uint64_t count;
    if (read(relay->wake_fd, &count, sizeof count) < 0)
        return false;
    return atomic_exchange(&relay->shared->woken, false);
}

static void ring(pb_relay *relay) {
    uint64_t one = 1;
    while (write(relay->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

void pb_relay_wake(pb_relay *relay) {
    if (!atomic_exchange(&relay->shared->woken, true))
        ring(relay);
}

/* -- the thread ----------------------------------------------------------------------------- */

static bool stop_wanted(pb_relay *relay) {
    double deadline;
    return pb_relay_stop_wanted(relay, &deadline);
}

static void rest(pb_relay *relay, double seconds) {
    double until = pb_now() + seconds;
    while (!stop_wanted(relay)) {
        int left = pb_remaining_ms(until);
        struct pollfd fd = {relay->wake_fd, POLLIN, 0};
        if (left == 0)
            return;
        if (poll(&fd, 1, left) > 0)
            pb_relay_woken(relay);
    }
}

/* 1 the lease is ours, 0 stop, -1 failed. */
static int stand_by(pb_relay *relay, pb_pg *pg, pb_error *err) {
    while (!stop_wanted(relay)) {
        int taken = pb_lease_take(&relay->lease, pg, err);
        if (taken != 0)
            return taken;
        show_now(relay);
        rest(relay, STANDBY_PAUSE);
    }
    return 0;
}

static void set_active(pb_relay *relay, bool active) {
    pb_relay_stats *counts = pb_relay_counts(relay);
    counts->active = active;
    counts->epoch = active ? relay->lease.epoch : 0;
    counts->takeovers += active;
    if (!active)
        counts->pending = counts->in_flight = counts->gaps = counts->stalled_partitions =
            counts->paused_topics = 0;
    show_now(relay);
}

static int be_active(pb_active *a, pb_error *err) {
    pb_relay *relay = a->relay;
    set_active(relay, true);
    pb_log_write(a->config->log, PB_INFO, "relay: active with epoch %lld",
                 (long long)relay->lease.epoch);
    int failed = pb_active_open(a, err) || pb_active_run(a, err);
    if (!failed) {
        pb_error ignored; /* if it cannot be given back, it lapses */
        pb_lease_give_back(&relay->lease, a->remover, pb_active_low_water(a), &ignored);
    }
    set_active(relay, false);
    pb_active_close(a);
    return failed;
}

/* From connecting to the loss of a connection, of the lease, or a stop: nothing outlives it. */
static int period(pb_relay *relay, pb_error *err) {
    pb_active a = {.relay = relay, .config = relay->config, .lease = &relay->lease};
    int failed = -1;
    a.remover = pb_pg_open(relay->config, "postbox relay", err);
    if (a.remover) {
        failed = stand_by(relay, a.remover, err);
        if (failed == 1) {
            a.reader = pb_pg_open(relay->config, "postbox relay reader", err);
            failed = !a.reader || pb_settings_load(a.reader, &a.settings, err) ||
                     be_active(&a, err);
        }
    }
    pb_pg_close(a.reader);
    pb_pg_close(a.remover);
    return failed ? -1 : 0;
}

static void *work(void *arg) {
    pb_relay *relay = arg;
    struct pb_relay_shared *s = relay->shared;
    double pause = FIRST_PAUSE;
    while (!stop_wanted(relay)) {
        pb_error err;
        double began = pb_now();
        int64_t published = s->counts.published;
        if (period(relay, &err) == 0)
            continue;
        pb_relay_note_error(relay, &err);
        show_now(relay);
        bool worked = pb_now() - began > QUIET_AFTER || s->counts.published > published;
        pause = worked ? FIRST_PAUSE : pause * 2 < LONGEST_PAUSE ? pause * 2 : LONGEST_PAUSE;
        rest(relay, pause);
    }
    s->counts.running = false;
    show_now(relay);
    pthread_mutex_lock(&s->lock);
    s->running = false;
    pthread_cond_broadcast(&s->ended);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* -- what others call ------------------------------------------------------------------------ */

static struct pb_relay_shared *new_shared(void) {
    struct pb_relay_shared *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    pb_condition_init(&s->ended);
    s->process = getpid();
    return s;
}

static void release(pb_relay *relay) {
    if (relay->wake_fd >= 0)
        close(relay->wake_fd);
    if (relay->shared) {
        pthread_cond_destroy(&relay->shared->ended);
        pthread_mutex_destroy(&relay->shared->lock);
        free(relay->shared);
    }
    pb_config_release(relay->config);
    free(relay->suspects.list);
    free(relay->banned);
    free(relay);
}

pb_relay *pb_relay_new(pb_config *config, const pb_relay_options *options, pb_error *err) {
    pb_relay *relay = calloc(1, sizeof *relay);
    if (!relay) {
        pb_fail_memory(err, "a relay");
        return NULL;
    }
    relay->config = pb_config_share(config);
    relay->options = *options;
    relay->lease.term = options->lease;
    relay->shared = new_shared();
    relay->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!relay->shared || relay->wake_fd < 0) {
        release(relay);
        pb_fail(err, PB_FULL, "relay: no memory, or no descriptor left");
        return NULL;
    }
    pb_lease_name(&relay->lease);
    return relay;
}

int pb_relay_start(pb_relay *relay, pb_error *err) {
    struct pb_relay_shared *s = relay->shared;
    if (s->started && pb_relay_stop(relay, 0, err) != 0)
        return pb_fail(err, PB_BUSY, "relay: it runs already, or is still stopping");
    pb_prober_options probing = {relay->options.partitions, relay->options.replication,
                                 relay->wake_fd};
    relay->prober = pb_prober_new(relay->config, &probing, err);
    if (!relay->prober)
        return -1;
    s->stop = false;
    s->running = s->counts.running = true;
    if (pb_thread_start(&s->thread, work, relay) != 0) {
        s->running = s->counts.running = false;
        pb_prober_free(relay->prober);
        relay->prober = NULL;
        return pb_fail(err, PB_FULL, "relay: cannot start a thread");
    }
    s->started = true;
    return 0;
}

static bool wait_for_end(struct pb_relay_shared *s, double seconds) {
    double until = pb_now() + seconds;
    struct timespec t = {(time_t)until, (long)((until - (double)(time_t)until) * 1e9)};
    int waited = 0;
    while (s->running && waited == 0)
        waited = pthread_cond_timedwait(&s->ended, &s->lock, &t);
    return !s->running;
}

int pb_relay_stop(pb_relay *relay, double seconds, pb_error *err) {
    struct pb_relay_shared *s = relay->shared;
    if (!s->started)
        return 0;
    pthread_mutex_lock(&s->lock);
    bool running = s->running;
    if (!s->stop || seconds > 0) {
        s->stop = true;
        s->stop_deadline = pb_now() + seconds;
    }
    pthread_mutex_unlock(&s->lock);
    ring(relay);
    pthread_mutex_lock(&s->lock);
    bool ended = wait_for_end(s, running ? seconds : 0);
    pthread_mutex_unlock(&s->lock);
    if (!ended)
        return pb_fail(err, PB_TIMEOUT, "relay: it did not stop within %g s; it ends by itself",
                       seconds);
    pthread_join(s->thread, NULL);
    s->started = false;
    pb_prober_free(relay->prober);
    relay->prober = NULL;
    return 0;
}

void pb_relay_read_stats(pb_relay *relay, pb_relay_stats *stats) {
    pthread_mutex_lock(&relay->shared->lock);
    *stats = relay->shared->stats;
    pthread_mutex_unlock(&relay->shared->lock);
}

bool pb_relay_is_foreign(const pb_relay *relay) {
    return relay->shared->process != getpid();
}

void pb_relay_free(pb_relay *relay) {
    pb_error ignored;
    if (!relay || pb_relay_is_foreign(relay))
        return; /* its thread lives in the parent */
    if (pb_relay_stop(relay, FREE_PATIENCE, &ignored) == 0)
        release(relay); /* otherwise its thread may still use it: better lost than torn */
}

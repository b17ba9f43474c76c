#include "direct.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "direct_internal.h"
#include "thread.h"

#define MOST_WAITING 20000   /* events; more are left to the relay */
#define FREE_PATIENCE 3.0    /* seconds */
#define IDLE_WAIT_MS 1000
#define BUSY_WAIT_MS 2

struct pb_direct {
    pb_config *config;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    pid_t process;
    int wake_fd;
    bool readback, running, joined, stop;
    size_t max_record_bytes;
    double deadline;
    pb_batch waiting;     /* given by publishers */
    pb_direct_stats stats;
};

static void ring(pb_direct *d) {
    uint64_t one = 1;
    if (write(d->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: the thread is awake */
}

void pb_direct_publish(pb_direct *d, const pb_batch *batch) {
    pb_error ignored; /* what finds no room is the relay's */
    int taken = 0;
    pthread_mutex_lock(&d->lock);
    for (int i = 0; i < batch->count && !d->stop; i++) {
        pb_event event;
        if (pb_batch_row(batch, i) == 0)
            continue; /* the same event waited already: its row has its publisher */
        pb_batch_get(batch, i, &event);
        if (d->waiting.count < MOST_WAITING && pb_batch_add(&d->waiting, &event, &ignored) == 0) {
            pb_batch_set_row(&d->waiting, d->waiting.count - 1, pb_batch_row(batch, i));
            taken++;
        } else {
            d->stats.left++;
        }
    }
    pthread_mutex_unlock(&d->lock);
    if (taken > 0)
        ring(d);
}

/* Takes what publishers gave; true when it is to end. */
static bool take(pb_direct *d, pb_batch *work, pb_direct_stats *done, double *deadline) {
    pthread_mutex_lock(&d->lock);
    pb_batch given = d->waiting;
    d->waiting = *work; /* empty, with its memory */
    *work = given;
    d->stats.published += done->published;
    d->stats.removed += done->removed;
    d->stats.left += done->left;
    bool stop = d->stop;
    *deadline = d->deadline;
    pthread_mutex_unlock(&d->lock);
    *done = (pb_direct_stats){0};
    return stop;
}

static void wait_for_news(pb_direct *d, bool busy) {
    struct pollfd fd = {d->wake_fd, POLLIN, 0};
    uint64_t count;
    if (poll(&fd, 1, busy ? BUSY_WAIT_MS : IDLE_WAIT_MS) > 0 &&
        read(d->wake_fd, &count, sizeof count) < 0)
        return;
}

static void *work(void *arg) {
    pb_direct *d = arg;
    pb_batch given = {0};
    pb_direct_stats done = {0};
    pb_sender sender = {.config = d->config,
                        .wake_fd = d->wake_fd,
                        .readback = d->readback,
                        .max_record_bytes = d->max_record_bytes};
    double deadline;
    for (;;) {
        bool stop = take(d, &given, &done, &deadline);
        for (int i = 0; i < given.count; i++)
            done.left += !pb_sender_send(&sender, &given, i);
        pb_batch_cut(&given, 0);
        pb_sender_serve(&sender, &done);
        if (stop && (pb_sender_is_idle(&sender) || pb_now() >= deadline))
            break;
        wait_for_news(d, stop || !pb_sender_is_idle(&sender));
    }
    take(d, &given, &done, &deadline);
    pb_sender_close(&sender);
    pb_batch_free(&given);
    pthread_mutex_lock(&d->lock);
    d->running = false;
    pthread_cond_broadcast(&d->ended);
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void release(pb_direct *d) {
    if (d->wake_fd >= 0)
        close(d->wake_fd);
    pb_batch_free(&d->waiting);
    pthread_cond_destroy(&d->ended);
    pthread_mutex_destroy(&d->lock);
    pb_config_release(d->config);
    free(d);
}

pb_direct *pb_direct_new(pb_config *config, bool readback, size_t max_record_bytes, pb_error *err) {
    pb_direct *d = calloc(1, sizeof *d);
    if (!d) {
        pb_fail_memory(err, "a direct publisher");
        return NULL;
    }
    pthread_mutex_init(&d->lock, NULL);
    pb_condition_init(&d->ended);
    d->config = pb_config_share(config);
    d->process = getpid();
    d->readback = readback;
    d->max_record_bytes = max_record_bytes;
    d->running = true;
    d->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (d->wake_fd >= 0 && pb_thread_start(&d->thread, work, d) == 0)
        return d;
    release(d);
    pb_fail(err, PB_FULL, "direct delivery: cannot start a thread");
    return NULL;
}

void pb_direct_read_stats(pb_direct *d, pb_direct_stats *stats) {
    pthread_mutex_lock(&d->lock);
    *stats = d->stats;
    pthread_mutex_unlock(&d->lock);
}

bool pb_direct_is_foreign(const pb_direct *d) {
    return d->process != getpid();
}

int pb_direct_stop(pb_direct *d, double seconds, pb_error *err) {
    double until = pb_now() + seconds;
    struct timespec t = {(time_t)until, (long)((until - (double)(time_t)until) * 1e9)};
    int waited = 0;
    if (d->joined)
        return 0;
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    d->deadline = until - seconds / 4; /* the rest is for closing */
    pthread_mutex_unlock(&d->lock);
    ring(d);
    pthread_mutex_lock(&d->lock);
    while (d->running && waited == 0)
        waited = pthread_cond_timedwait(&d->ended, &d->lock, &t);
    bool running = d->running;
    pthread_mutex_unlock(&d->lock);
    if (running)
        return pb_fail(err, PB_TIMEOUT, "direct delivery: it did not stop within %g s", seconds);
    pthread_join(d->thread, NULL);
    d->joined = true;
    return 0;
}

void pb_direct_free(pb_direct *d) {
    pb_error ignored;
    if (!d || pb_direct_is_foreign(d))
        return;
    if (pb_direct_stop(d, FREE_PATIENCE, &ignored) == 0)
        release(d); /* otherwise its thread may still use it */
}

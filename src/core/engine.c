#include "engine.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "engine_internal.h"
#include "thread.h"

static pb_engine *only; /* of this process, or of the one that it was forked from */

pb_engine *pb_engine_here(void) {
    return only && only->process == getpid() ? only : NULL;
}

static pb_engine *make(const void *owner, pb_error *err) {
    pb_engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        pb_fail_memory(err, "the engine");
        return NULL;
    }
    engine->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (engine->interrupt < 0) {
        pb_fail(err, PB_FULL, "no descriptor is left for the engine: %s", strerror(errno));
        free(engine);
        return NULL;
    }
    engine->process = getpid();
    engine->owner = owner;
    pthread_mutex_init(&engine->lock, NULL);
    pb_condition_init(&engine->work);
    pb_condition_init(&engine->quiet);
    pb_wake_init(&engine->wake);
    return engine;
}

int pb_engine_attach(const void *owner, pb_error *err) {
    pb_engine *engine = pb_engine_here();
    if (engine && engine->owner != owner)
        return pb_fail(err, PB_CONFIG,
                       "another Lua state of this process has postbox's engine already: in nginx "
                       "leave lua_code_cache on");
    if (engine)
        return 0;
    engine = make(owner, err);
    if (!engine)
        return -1;
    if (only) { /* its threads did not come along, and one may have held its lock: it stays as it is */
        pb_wake_close(&only->wake);
        engine->parents = only;
    }
    only = engine;
    return 0;
}

static pb_job *pop(pb_engine *engine) {
    pb_job *job = engine->first;
    engine->first = job->next;
    if (!engine->first)
        engine->last = NULL;
    engine->queued--;
    return job;
}

static void finished(pb_engine *engine, pb_job *job) {
    job->next = NULL;
    job->state = PB_JOB_DONE;
    if (engine->last_done)
        engine->last_done->next = job;
    else
        engine->first_done = job;
    engine->last_done = job;
    pb_wake_send(&engine->wake);
}

static void run_one(pb_engine *engine) {
    pb_job *job = pop(engine);
    job->state = PB_JOB_RUNNING;
    engine->running++;
    pthread_mutex_unlock(&engine->lock);
    job->run(job);
    pthread_mutex_lock(&engine->lock);
    engine->running--;
    finished(engine, job);
    if (engine->stopping)
        pthread_cond_broadcast(&engine->quiet);
}

static void *serve(void *arg) {
    pb_engine *engine = arg;
    pb_thread_interrupted_by(engine->interrupt);
    pthread_mutex_lock(&engine->lock);
    while (!engine->stopping) {
        if (engine->first) {
            run_one(engine);
            continue;
        }
        engine->idle++;
        pthread_cond_wait(&engine->work, &engine->lock);
        engine->idle--;
    }
    pthread_mutex_unlock(&engine->lock);
    return NULL;
}

/* One more thread where fewer are idle than jobs wait. False where there is none at all. */
static bool have_threads(pb_engine *engine) {
    if (engine->idle < engine->queued && engine->threads < PB_ENGINE_THREADS &&
        pb_thread_start(&engine->ids[engine->threads], serve, engine) == 0)
        engine->threads++;
    return engine->threads > 0;
}

static void append(pb_engine *engine, pb_job *job) {
    job->next = NULL;
    job->state = PB_JOB_QUEUED;
    if (engine->last)
        engine->last->next = job;
    else
        engine->first = job;
    engine->last = job;
    engine->queued++;
    engine->pending++;
}

static int submit(pb_engine *engine, pb_job *job, pb_error *err) {
    if (engine->stopping)
        return pb_fail(err, PB_CLOSED, "the process is ending: nothing is begun any more");
    if (engine->queued >= PB_ENGINE_JOBS)
        return pb_fail(err, PB_FULL, "%d calls wait for one of %d threads already", PB_ENGINE_JOBS,
                       PB_ENGINE_THREADS);
    append(engine, job);
    if (have_threads(engine)) {
        pthread_cond_signal(&engine->work);
        return 0;
    }
    engine->pending--;
    pop(engine)->state = PB_JOB_NEW; /* without threads it is the only one */
    return pb_fail(err, PB_FULL, "no thread can be started to wait on");
}

int pb_engine_submit(pb_job *job, pb_error *err) {
    pb_engine *engine = pb_engine_here();
    if (!engine)
        return pb_fail(err, PB_CLOSED, "the engine was not made in this process, or is closed");
    pthread_mutex_lock(&engine->lock);
    int failed = submit(engine, job, err);
    pthread_mutex_unlock(&engine->lock);
    return failed;
}

pb_job *pb_engine_take(void) {
    pb_engine *engine = pb_engine_here();
    if (!engine)
        return NULL;
    pthread_mutex_lock(&engine->lock);
    pb_job *job = engine->first_done;
    if (job) {
        engine->first_done = job->next;
        if (!engine->first_done)
            engine->last_done = NULL;
        engine->pending--;
    } else {
        engine->wake.signaled = false;
    }
    pthread_mutex_unlock(&engine->lock);
    return job;
}

int pb_engine_pending(void) {
    pb_engine *engine = pb_engine_here();
    if (!engine)
        return 0;
    pthread_mutex_lock(&engine->lock);
    int pending = engine->pending;
    pthread_mutex_unlock(&engine->lock);
    return pending;
}

void pb_engine_poke(void) {
    pb_engine *engine = pb_engine_here();
    if (!engine)
        return;
    pthread_mutex_lock(&engine->lock);
    pb_wake_send(&engine->wake);
    pthread_mutex_unlock(&engine->lock);
}

/* Waits until no job runs; false where the deadline came first. */
static bool wait_quiet(pb_engine *engine, double deadline) {
    struct timespec until = {(time_t)deadline, 0};
    until.tv_nsec = (long)((deadline - (double)until.tv_sec) * 1e9);
    int late = 0;
    while (engine->running > 0 && late != ETIMEDOUT)
        late = pthread_cond_timedwait(&engine->quiet, &engine->lock, &until);
    return engine->running == 0;
}

static void interrupt(pb_engine *engine) {
    uint64_t one = 1;
    if (write(engine->interrupt, &one, sizeof one) < 0)
        return; /* it is set already */
}

/* What is interrupted ends at once where it waits for PostgreSQL, else within its own deadline. */
static void stop(pb_engine *engine, double seconds) {
    pthread_mutex_lock(&engine->lock);
    engine->stopping = true;
    while (engine->first)
        pop(engine)->state = PB_JOB_NEW;
    pthread_cond_broadcast(&engine->work);
    if (!wait_quiet(engine, pb_now() + seconds))
        interrupt(engine);
    pthread_mutex_unlock(&engine->lock);
    for (int i = 0; i < engine->threads; i++)
        pthread_join(engine->ids[i], NULL);
}

void pb_engine_detach(const void *owner, double seconds) {
    pb_engine *engine = pb_engine_here();
    if (!engine || engine->owner != owner)
        return;
    stop(engine, seconds);
    pb_wake_close(&engine->wake);
    close(engine->interrupt);
    pthread_cond_destroy(&engine->work);
    pthread_cond_destroy(&engine->quiet);
    pthread_mutex_destroy(&engine->lock);
    only = engine->parents;
    free(engine);
}

void pb_engine_end(void) {
    pb_engine *engine = pb_engine_here();
    if (engine)
        pb_engine_detach(engine->owner, PB_ENGINE_STOP);
}

#include "thread.h"

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

static bool unpinned;
static cpu_set_t cores; /* where threads may run, once pb_thread_unpin was called */
static _Thread_local int interrupt = -1;

void pb_thread_unpin(void) {
    unpinned = sched_getaffinity(getppid(), sizeof cores, &cores) == 0;
}

void pb_thread_interrupted_by(int fd) {
    interrupt = fd;
}

int pb_thread_interrupt(void) {
    return interrupt;
}

int pb_thread_start(pthread_t *thread, void *(*work)(void *), void *arg) {
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    if (unpinned)
        pthread_attr_setaffinity_np(&attributes, sizeof cores, &cores);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, &attributes, work, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed;
}

void pb_condition_init(pthread_cond_t *condition) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

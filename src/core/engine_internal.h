/* The engine's own parts: the threads and queues (engine.c), the ways to wake a host (engine_wake.c). */
#ifndef PB_ENGINE_INTERNAL_H
#define PB_ENGINE_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>

#include "engine.h"

typedef struct pb_wake {
    int engine_fd; /* bytes are written here; -1: nobody is to be woken yet */
    int host_fd;   /* the other end, where the host polls it */
    int listener;
    char folder[PB_ENGINE_PATH - 8], path[PB_ENGINE_PATH];
    bool signaled; /* a byte is on its way, or was read and the jobs are being taken */
} pb_wake;

typedef struct pb_engine {
    struct pb_engine *parents; /* of the process that this one was forked from */
    pid_t process;
    const void *owner;
    pthread_mutex_t lock;
    pthread_cond_t work;  /* a job waits, or the end has come */
    pthread_cond_t quiet; /* a job has ended while the end has come */
    pb_job *first, *last; /* that wait for a thread */
    pb_job *first_done, *last_done;
    int queued, running, pending, idle, threads;
    pthread_t ids[PB_ENGINE_THREADS];
    bool stopping;
    int interrupt; /* becomes readable when jobs are to give up */
    pb_wake wake;
} pb_engine;

pb_engine *pb_engine_here(void); /* of this process; NULL: none */

void pb_wake_init(pb_wake *wake);
void pb_wake_send(pb_wake *wake); /* with the engine's lock held */
void pb_wake_close(pb_wake *wake);

#endif

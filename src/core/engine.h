/*
 * The engine: threads that run what waits (a statement, a commit, a poll), for hosts whose own
 * thread must not. One per process, made by the first host that needs it; plain Lua has none.
 *
 * A job is put in, run by some thread, and taken out by the host, which a byte on a socket has
 * woken. Many jobs that end before the host looks wake it once. All functions but those that a
 * job's `run` calls belong to the host's thread.
 */
#ifndef PB_ENGINE_H
#define PB_ENGINE_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

#define PB_ENGINE_THREADS 64   /* at most; started one by one, when a job finds none idle */
#define PB_ENGINE_JOBS 10000   /* that wait for a thread; more are refused with `full` */
#define PB_ENGINE_STOP 1.5     /* seconds for what runs at the process's end, then it is interrupted */
#define PB_ENGINE_PATH 108     /* bytes of a socket's path, with the final NUL */

typedef enum pb_job_state { PB_JOB_NEW, PB_JOB_QUEUED, PB_JOB_RUNNING, PB_JOB_DONE } pb_job_state;

typedef struct pb_job {
    void (*run)(struct pb_job *job); /* on a thread of the engine: may wait, knows no Lua */
    struct pb_job *next;
    pb_job_state state; /* the engine's until the job is taken */
} pb_job;

/*
 * Makes the engine, for `owner` (any address that tells one Lua state from another). One state in
 * a process may have it: -1 and config where another one does.
 */
int pb_engine_attach(const void *owner, pb_error *err);
/* Ends it: what waits is dropped, what runs has so many seconds. Nothing where it is not the owner's. */
void pb_engine_detach(const void *owner, double seconds);
/* The same, whoever owns it: an object that a job uses is about to go with its Lua state. */
void pb_engine_end(void);

/* Never waits: 0, or -1 and `full` or `closed`. The job must live until it is taken. */
int pb_engine_submit(pb_job *job, pb_error *err);
/* The next job that has ended, or NULL; after NULL the next end wakes the host again. */
pb_job *pb_engine_take(void);
int pb_engine_pending(void); /* jobs that were put in and not yet taken */
void pb_engine_poke(void);   /* wakes the host for nothing */

/* For hosts that poll descriptors: readable when pb_engine_take has something. -1 and `err`. */
int pb_engine_fd(pb_error *err);
void pb_engine_clear(void); /* takes the bytes that have woken such a host */

/*
 * For hosts that read only sockets which they have connected: a unix socket to connect to, in a
 * folder of its own that only this user may enter. Then pb_engine_accept, which takes this
 * process's connection and removes the name.
 */
int pb_engine_listen(char path[PB_ENGINE_PATH], pb_error *err);
int pb_engine_accept(pb_error *err);

#endif

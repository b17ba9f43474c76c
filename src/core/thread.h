/* Threads that take none of the host's signals, and conditions on the clock of pb_now(). */
#ifndef PB_THREAD_H
#define PB_THREAD_H

#include <pthread.h>

/* Starts work(arg) with all signals blocked. 0, or an errno. */
int pb_thread_start(pthread_t *thread, void *(*work)(void *), void *arg);
/*
 * Threads that are started from now on may run where this process's parent may: nginx pins its
 * workers to a core each (worker_cpu_affinity), where their threads would stand in each other's way.
 */
void pb_thread_unpin(void);
/* What this thread waits for is given up when the descriptor becomes readable; -1: never. */
void pb_thread_interrupted_by(int fd);
int pb_thread_interrupt(void);
/* For timed waits on the monotonic clock. */
void pb_condition_init(pthread_cond_t *condition);

#endif

/* Threads that take none of the host's signals, and conditions on the clock of pb_now(). */
#ifndef PB_THREAD_H
#define PB_THREAD_H

#include <pthread.h>

/* Starts work(arg) with all signals blocked. 0, or an errno. */
int pb_thread_start(pthread_t *thread, void *(*work)(void *), void *arg);
/* For timed waits on the monotonic clock. */
void pb_condition_init(pthread_cond_t *condition);

#endif

/*
 * Programs that tests and the demo start beside themselves: servers, their guards, and processes
 * that are killed on purpose.
 */
#ifndef PB_PROCESS_H
#define PB_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

typedef struct pb_process pb_process;

typedef struct pb_program {
    char *const *arguments;   /* argv, NULL at the end; the first is looked up in PATH */
    char *const *environment; /* NAME=value lines that are added, NULL at the end */
    const char *output;       /* file that gets its output and errors; NULL: where ours go */
    bool outlives;            /* ends by itself when its input ends; else it is killed with us */
} pb_program;

/*
 * Starts it in a process group of its own. Its standard input is a pipe that ends when this
 * process does, however that happens.
 */
pb_process *pb_process_start(const pb_program *program, pb_error *err);
pid_t pb_process_id(const pb_process *process);
/* False where it has ended already. `group`: also what it started. */
bool pb_process_kill(pb_process *process, int signal, bool group);
/* Waits for its end. False when it still runs; `status` is what a shell would say (128 + signal). */
bool pb_process_wait(pb_process *process, double seconds, int *status);
/* Ends its input, kills it unless it outlives us, and forgets it. */
void pb_process_free(pb_process *process);

/* A TCP port on loopback that nobody used a moment ago. -1 and `err`. */
int pb_free_port(pb_error *err);

#endif

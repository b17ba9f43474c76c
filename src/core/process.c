#include "process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

#define WAIT_STEP 0.005 /* seconds between two looks at a process */
#define NOT_FOUND 127   /* what a shell answers for a program that is not there */
#define LOWEST_PORT 20000
#define PORTS 12000
#define PORT_TRIES 100
#define OLD_DESCRIPTORS 1024 /* closed one by one where the kernel has no close_range */

struct pb_process {
    pid_t pid;
    int input; /* our end of its standard input */
    bool outlives;
    bool ended;
    int status;
};

extern char **environ;

static bool is_named(const char *line, char *const *others) {
    size_t name = strcspn(line, "=");
    for (; others && *others; others++)
        if (strncmp(line, *others, name) == 0 && (*others)[name] == '=')
            return true;
    return false;
}

/* The additions, and ours where no addition has the same name. */
static char **join_environment(char *const *added) {
    size_t count = 0, ours = 0;
    while (added && added[count])
        count++;
    while (environ[ours])
        ours++;
    char **joined = calloc(count + ours + 1, sizeof *joined);
    if (!joined)
        return NULL;
    for (size_t i = 0; i < count; i++)
        joined[i] = added[i];
    for (size_t i = 0; i < ours; i++)
        if (!is_named(environ[i], added))
            joined[count++] = environ[i];
    return joined;
}

/* A child that kept our sockets open would keep a broker reachable that is meant to be down. */
static void close_others(void) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) == 0)
        return;
#endif
    for (int fd = STDERR_FILENO + 1; fd < OLD_DESCRIPTORS; fd++)
        close(fd);
}

/* Between fork and exec: only calls that are allowed in a child of a process with threads. */
static void become(const pb_program *program, char **environment, int input, int output,
                   pid_t parent) {
    sigset_t none;
    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (!program->outlives) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(NOT_FOUND);
    }
    dup2(input, STDIN_FILENO);
    if (output >= 0) {
        dup2(output, STDOUT_FILENO);
        dup2(output, STDERR_FILENO);
    }
    close_others();
    execvpe(program->arguments[0], program->arguments, environment);
    _exit(NOT_FOUND);
}

static int open_output(const char *path, int *output, pb_error *err) {
    *output = -1;
    if (!path)
        return 0;
    *output = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (*output < 0)
        return pb_fail(err, PB_CONFIG, "cannot write to %s: %s", path, strerror(errno));
    return 0;
}

static int fork_program(pb_process *process, const pb_program *program, int output, pb_error *err) {
    int ends[2];
    pid_t parent = getpid();
    char **environment = join_environment(program->environment);
    if (!environment)
        return pb_fail_memory(err, "a process");
    if (pipe2(ends, O_CLOEXEC) != 0) {
        free(environment);
        return pb_fail(err, PB_CONFIG, "cannot make a pipe: %s", strerror(errno));
    }
    process->pid = fork();
    if (process->pid == 0)
        become(program, environment, ends[0], output, parent);
    if (process->pid > 0)
        setpgid(process->pid, process->pid); /* whichever of the two is first */
    close(ends[0]);
    free(environment);
    if (process->pid < 0) {
        close(ends[1]);
        return pb_fail(err, PB_CONFIG, "cannot start %s: %s", program->arguments[0], strerror(errno));
    }
    process->input = ends[1];
    process->outlives = program->outlives;
    return 0;
}

pb_process *pb_process_start(const pb_program *program, pb_error *err) {
    int output;
    pb_process *process = calloc(1, sizeof *process);
    if (!process) {
        pb_fail_memory(err, "a process");
        return NULL;
    }
    int failed = open_output(program->output, &output, err) ||
                 fork_program(process, program, output, err);
    if (output >= 0)
        close(output);
    if (failed) {
        free(process);
        return NULL;
    }
    return process;
}

pid_t pb_process_id(const pb_process *process) {
    return process->pid;
}

static bool has_ended(pb_process *process) {
    int status;
    if (process->ended || waitpid(process->pid, &status, WNOHANG) != process->pid)
        return process->ended;
    process->ended = true;
    process->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return true;
}

bool pb_process_kill(pb_process *process, int signal, bool group) {
    /* A group lives on when its first process has ended; a number alone may be somebody else's. */
    if (group)
        return kill(-process->pid, signal) == 0;
    return !has_ended(process) && kill(process->pid, signal) == 0;
}

bool pb_process_wait(pb_process *process, double seconds, int *status) {
    double deadline = pb_now() + seconds;
    while (!has_ended(process)) {
        if (pb_now() >= deadline)
            return false;
        pb_sleep(WAIT_STEP);
    }
    *status = process->status;
    return true;
}

void pb_process_free(pb_process *process) {
    int status;
    if (!process)
        return;
    close(process->input);
    if (!process->outlives && !has_ended(process)) {
        kill(-process->pid, SIGKILL);
        pb_process_wait(process, 1, &status);
    }
    free(process);
}

static bool is_port_free(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool is_free = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return is_free;
}

/* Not one that the kernel gives to connections: it would be taken before a server is up. */
int pb_free_port(pb_error *err) {
    for (int i = 0; i < PORT_TRIES; i++) {
        uint16_t number;
        if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
            break;
        int port = LOWEST_PORT + number % PORTS;
        if (is_port_free(port))
            return port;
    }
    return pb_fail(err, PB_CONNECTION, "cannot get a free port: %s", strerror(errno));
}

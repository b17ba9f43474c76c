#include "../../src/core/engine.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/core/clock.h"
#include "../../src/core/thread.h"
#include "test.h"

typedef struct task {
    pb_job job; /* first */
    double seconds;
    bool interrupted;
    int result;
} task;

static const int here; /* an address, as an owner */

/* Waits as a connection does: for something that does not come, or until it is to give up. */
static void run(pb_job *job) {
    task *t = (task *)job;
    struct pollfd fd = {pb_thread_interrupt(), POLLIN, 0};
    t->interrupted = t->seconds > 0 && poll(&fd, 1, (int)(t->seconds * 1000)) > 0;
    t->result = 42;
}

static task task_of(double seconds) {
    return (task){.job = {.run = run}, .seconds = seconds};
}

static pb_job *take_within(double seconds) {
    double deadline = pb_now() + seconds;
    pb_job *job = pb_engine_take();
    while (!job && pb_now() < deadline) {
        pb_sleep(0.001);
        job = pb_engine_take();
    }
    return job;
}

static bool is_readable(int fd) {
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, 0) > 0;
}

static void runs_jobs(void) {
    pb_error err;
    task t = task_of(0);
    CHECK(pb_engine_submit(&t.job, &err) != 0 && err.code == PB_CLOSED);
    CHECK(pb_engine_attach(&here, &err) == 0);
    CHECK(pb_engine_attach(&here, &err) == 0); /* the same again is no other */
    CHECK(pb_engine_attach(&err, &err) != 0 && err.code == PB_CONFIG);
    CHECK(pb_engine_submit(&t.job, &err) == 0);
    CHECK_INT(pb_engine_pending(), 1);
    CHECK(take_within(5) == &t.job);
    CHECK_INT(t.result, 42);
    CHECK_INT(pb_engine_pending(), 0);
    pb_engine_detach(&err, 1); /* not its owner */
    CHECK(pb_engine_attach(&err, &err) != 0);
    pb_engine_detach(&here, 1);
}

/* However many jobs end before the host looks, one byte wakes it; and again after it has looked. */
static void wakes_once(void) {
    pb_error err;
    task tasks[20];
    CHECK(pb_engine_attach(&here, &err) == 0);
    int fd = pb_engine_fd(&err);
    CHECK(fd >= 0 && !is_readable(fd));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++) {
            tasks[i] = task_of(0);
            CHECK(pb_engine_submit(&tasks[i].job, &err) == 0);
        }
        struct pollfd p = {fd, POLLIN, 0};
        CHECK(poll(&p, 1, 5000) == 1);
        pb_sleep(0.05);
        char bytes[64];
        CHECK_INT(recv(fd, bytes, sizeof bytes, MSG_DONTWAIT), 1);
        int taken = 0;
        while (pb_engine_take())
            taken++;
        CHECK_INT(taken, 20);
        CHECK(!is_readable(fd));
    }
    pb_engine_poke();
    CHECK(is_readable(fd));
    pb_engine_clear();
    CHECK(!is_readable(fd));
    pb_engine_detach(&here, 1);
}

/* A host that reads only what it has connected itself. */
static void listens(void) {
    pb_error err;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[PB_ENGINE_PATH];
    task t = task_of(0);
    CHECK(pb_engine_attach(&here, &err) == 0);
    CHECK(pb_engine_listen(path, &err) == 0);
    CHECK(pb_engine_accept(&err) != 0 && err.code == PB_FULL); /* nobody has connected */
    CHECK(access(path, F_OK) != 0);
    CHECK(pb_engine_listen(path, &err) == 0);
    memcpy(address.sun_path, path, sizeof address.sun_path);
    CHECK(pb_engine_submit(&t.job, &err) == 0); /* ends before the host can be woken */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(pb_engine_accept(&err) == 0);
    CHECK(access(path, F_OK) != 0);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, 5000) == 1);
    CHECK(take_within(5) == &t.job);
    close(fd);
    pb_engine_detach(&here, 1);
}

static void is_bounded(void) {
    pb_error err;
    int count = PB_ENGINE_THREADS + PB_ENGINE_JOBS, ended = 0;
    task *tasks = calloc((size_t)count + 1, sizeof *tasks);
    CHECK(tasks && pb_engine_attach(&here, &err) == 0);
    for (int i = 0; i < PB_ENGINE_THREADS; i++) {
        tasks[i] = task_of(30);
        CHECK(pb_engine_submit(&tasks[i].job, &err) == 0);
    }
    pb_sleep(0.3); /* all threads have one */
    for (int i = PB_ENGINE_THREADS; i < count; i++) {
        tasks[i] = task_of(0);
        if (pb_engine_submit(&tasks[i].job, &err) != 0)
            break;
        ended++;
    }
    CHECK_INT(ended, PB_ENGINE_JOBS);
    CHECK(pb_engine_submit(&tasks[count].job, &err) != 0 && err.code == PB_FULL);
    double before = pb_now();
    pb_engine_detach(&here, 0.1); /* what runs is interrupted, what waits is dropped */
    CHECK(pb_now() - before < 5);
    CHECK(tasks[0].interrupted);
    CHECK_INT(tasks[count - 1].result, 0);
    free(tasks);
}

static void waits_for_what_runs(void) {
    pb_error err;
    task t = task_of(0.2);
    CHECK(pb_engine_attach(&here, &err) == 0);
    CHECK(pb_engine_submit(&t.job, &err) == 0);
    pb_sleep(0.05);
    pb_engine_end();
    CHECK(!t.interrupted);
    CHECK_INT(t.result, 42);
}

/* A child has none of its parent's threads: it makes an engine of its own. */
static void survives_a_fork(void) {
    pb_error err;
    int status = 1;
    task t = task_of(0);
    CHECK(pb_engine_attach(&here, &err) == 0);
    CHECK(pb_engine_submit(&t.job, &err) == 0 && take_within(5) == &t.job);
    pid_t child = fork();
    if (child == 0) {
        task own = task_of(0);
        bool refused = pb_engine_submit(&own.job, &err) != 0 && err.code == PB_CLOSED;
        bool works = pb_engine_attach(&err, &err) == 0 && pb_engine_submit(&own.job, &err) == 0 &&
                     take_within(5) == &own.job;
        pb_engine_end();
        _exit(refused && works ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(pb_engine_submit(&t.job, &err) == 0 && take_within(5) == &t.job);
    pb_engine_detach(&here, 1);
}

int main(void) {
    runs_jobs();
    wakes_once();
    listens();
    is_bounded();
    waits_for_what_runs();
    survives_a_fork();
    return test_report();
}

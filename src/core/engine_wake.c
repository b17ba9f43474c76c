/* How the engine wakes its host: one byte on a stream socket, however many jobs have ended. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine_internal.h"

#define SOCKET_TYPE (SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
#define FOLDER "postbox-XXXXXX"

void pb_wake_init(pb_wake *wake) {
    wake->engine_fd = wake->host_fd = wake->listener = -1;
}

void pb_wake_send(pb_wake *wake) {
    if (wake->signaled || wake->engine_fd < 0)
        return;
    wake->signaled = true;
    /* A host that is gone, or has not read for 100 kB, needs no further byte. */
    (void)!send(wake->engine_fd, "w", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void close_one(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void remove_name(pb_wake *wake) {
    close_one(&wake->listener);
    if (wake->path[0]) {
        unlink(wake->path);
        rmdir(wake->folder);
        wake->path[0] = '\0';
    }
}

void pb_wake_close(pb_wake *wake) {
    close_one(&wake->engine_fd);
    close_one(&wake->host_fd);
    remove_name(wake);
}

/* A new way to wake the host. What ended before it was there is told at once. */
static void use(pb_engine *engine, int engine_fd, int host_fd) {
    pthread_mutex_lock(&engine->lock);
    close_one(&engine->wake.engine_fd);
    close_one(&engine->wake.host_fd);
    engine->wake.engine_fd = engine_fd;
    engine->wake.host_fd = host_fd;
    engine->wake.signaled = false;
    if (engine->first_done)
        pb_wake_send(&engine->wake);
    pthread_mutex_unlock(&engine->lock);
}

static int fail_socket(const char *doing, pb_error *err) {
    return pb_fail(err, PB_FULL, "the socket that wakes this process: %s: %s", doing,
                   strerror(errno));
}

static int fail_absent(pb_error *err) {
    return pb_fail(err, PB_CLOSED, "the engine was not made in this process, or is closed");
}

int pb_engine_fd(pb_error *err) {
    int pair[2];
    pb_engine *engine = pb_engine_here();
    if (!engine)
        return fail_absent(err);
    if (engine->wake.host_fd < 0) {
        if (socketpair(AF_UNIX, SOCKET_TYPE, 0, pair) != 0)
            return fail_socket("it cannot be made", err);
        use(engine, pair[0], pair[1]);
    }
    return engine->wake.host_fd;
}

void pb_engine_clear(void) {
    char bytes[64];
    pb_engine *engine = pb_engine_here();
    while (engine && recv(engine->wake.host_fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue;
}

static int make_folder(pb_wake *wake, pb_error *err) {
    const char *parent = getenv("TMPDIR");
    if (!parent || !parent[0] || strlen(parent) > sizeof wake->folder - sizeof "/" FOLDER)
        parent = "/tmp";
    snprintf(wake->folder, sizeof wake->folder, "%s/" FOLDER, parent);
    return mkdtemp(wake->folder) ? 0 : fail_socket("no folder for it can be made", err);
}

int pb_engine_listen(char path[PB_ENGINE_PATH], pb_error *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    pb_engine *engine = pb_engine_here();
    if (!engine)
        return fail_absent(err);
    pb_wake *wake = &engine->wake;
    remove_name(wake);
    if (make_folder(wake, err) != 0)
        return -1;
    snprintf(wake->path, sizeof wake->path, "%s/wake", wake->folder);
    memcpy(address.sun_path, wake->path, sizeof address.sun_path);
    wake->listener = socket(AF_UNIX, SOCKET_TYPE, 0);
    if (wake->listener < 0 ||
        bind(wake->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(wake->listener, 8) != 0) {
        fail_socket("it cannot listen", err);
        remove_name(wake);
        return -1;
    }
    memcpy(path, wake->path, PB_ENGINE_PATH);
    return 0;
}

/* The peer of a connection: another process could know the name. */
static bool is_ours(int fd) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == getpid();
}

int pb_engine_accept(pb_error *err) {
    pb_engine *engine = pb_engine_here();
    if (!engine)
        return fail_absent(err);
    int fd;
    while ((fd = accept4(engine->wake.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0 &&
           !is_ours(fd))
        close(fd);
    if (fd < 0)
        fail_socket("nobody has connected", err);
    remove_name(&engine->wake);
    if (fd < 0)
        return -1;
    use(engine, fd, -1);
    return 0;
}

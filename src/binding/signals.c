/*
 * Class postbox.signals: core.catch_signals() notes SIGTERM and SIGINT until :restore(), so that a
 * foreground loop can end in order. A second signal of the same kind ends the process at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "../core/clock.h"
#include "core.h"
#include "failure.h"

#define SIGNALS_CLASS "postbox.signals"

typedef struct handle {
    bool caught; /* the handlers are ours */
    struct sigaction term, interrupt;
} handle;

/* One for the process: handlers have no argument. */
static int channel[2] = {-1, -1};
static bool taken;

static void note(int number) {
    int before = errno;
    unsigned char byte = (unsigned char)number;
    if (write(channel[1], &byte, 1) < 0)
        errno = before; /* full of signals: one is enough */
    errno = before;
}

static int open_channel(void) {
    if (channel[0] >= 0)
        return 0;
    if (pipe(channel) != 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        fcntl(channel[i], F_SETFL, O_NONBLOCK);
        fcntl(channel[i], F_SETFD, FD_CLOEXEC);
    }
    return 0;
}

static int catch_signals(lua_State *L) {
    pb_error err;
    struct sigaction action = {.sa_handler = note, .sa_flags = (int)SA_RESETHAND};
    unsigned char old;
    handle *h = pb_new_object(L, sizeof *h, SIGNALS_CLASS);
    if (taken) {
        pb_fail(&err, PB_BUSY,
                "signals are caught already: one relay:run or consumer:run at a time");
        return pb_push_failure(L, &err);
    }
    if (open_channel() != 0) {
        pb_fail(&err, PB_FULL, "no descriptors left to catch signals with: %s", strerror(errno));
        return pb_push_failure(L, &err);
    }
    while (read(channel[0], &old, 1) == 1)
        continue;
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, &h->term);
    sigaction(SIGINT, &action, &h->interrupt);
    taken = h->caught = true;
    return 1;
}

static int wait_signal(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, SIGNALS_CLASS);
    double deadline = pb_now() + luaL_checknumber(L, 2);
    unsigned char number;
    while (h->caught) {
        struct pollfd fd = {channel[0], POLLIN, 0};
        if (read(channel[0], &number, 1) == 1) {
            lua_pushstring(L, number == SIGTERM ? "SIGTERM" : "SIGINT");
            return 1;
        }
        int left = pb_remaining_ms(deadline);
        if (left == 0)
            break;
        poll(&fd, 1, left);
    }
    lua_pushnil(L);
    return 1;
}

static int restore(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, SIGNALS_CLASS);
    if (h->caught) {
        sigaction(SIGTERM, &h->term, NULL);
        sigaction(SIGINT, &h->interrupt, NULL);
        taken = h->caught = false;
    }
    return 0;
}

static const luaL_Reg methods[] = {{"wait", wait_signal}, {"restore", restore}, {NULL, NULL}};
static const luaL_Reg metamethods[] = {{"__gc", restore}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"catch_signals", catch_signals}, {NULL, NULL}};

void pb_open_signals(lua_State *L) {
    pb_register_class(L, SIGNALS_CLASS, methods, metamethods);
    pb_set_functions(L, functions);
}

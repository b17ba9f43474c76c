/* Outcomes of a COMMIT, and what is left of a connection, against a server that breaks on purpose. */
#include "../../src/core/session.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

/* Just enough of PostgreSQL: every SELECT answers one row with "7". */
typedef struct server {
    int listener, peer;
    const char *cut;  /* the statement with which it goes away */
    bool with_answer; /* after its answer, before the transaction state */
    char sql[256];
    bool in_transaction;
    pb_buffer out;
    pthread_t thread;
} server;

static void say(server *s, char type, const void *body, size_t length) {
    pb_buffer_add_u8(&s->out, (uint8_t)type);
    pb_buffer_add_u32(&s->out, (uint32_t)length + 4);
    pb_buffer_add(&s->out, body, length);
}

static bool flush(server *s) {
    bool sent = send(s->peer, s->out.data, s->out.length, MSG_NOSIGNAL) == (ssize_t)s->out.length;
    pb_buffer_clear(&s->out);
    return sent;
}

static void ready(server *s) {
    say(s, 'Z', s->in_transaction ? "T" : "I", 1);
}

static void describe(server *s) {
    static const char column[] = "\0\1v\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
    if (strncmp(s->sql, "SELECT", 6) == 0)
        say(s, 'T', column, sizeof column - 1);
    else
        say(s, 'n', "", 0);
}

static void execute(server *s) {
    if (strncmp(s->sql, "SELECT", 6) == 0) {
        say(s, 'D', "\0\1\0\0\0\1" "7", 7);
        say(s, 'C', "SELECT 1", 9);
        return;
    }
    s->in_transaction = strncmp(s->sql, "BEGIN", 5) == 0 ||
                        (s->in_transaction && strcmp(s->sql, "COMMIT") && strcmp(s->sql, "ROLLBACK"));
    say(s, 'C', s->sql, strlen(s->sql) + 1);
}

/* false: it goes away */
static bool serve(server *s, char type, const char *body) {
    bool last = type == 'E' && s->cut && strcmp(s->sql, s->cut) == 0;
    if (last && !s->with_answer)
        return false;
    switch (type) {
    case 'P':
        snprintf(s->sql, sizeof s->sql, "%s", body + strlen(body) + 1);
        say(s, '1', "", 0);
        break;
    case 'B': say(s, '2', "", 0); break;
    case 'D': describe(s); break;
    case 'E': execute(s); break;
    case 'S': ready(s); return flush(s);
    case 'X': return false;
    default: break;
    }
    return !last || (flush(s), false);
}

static bool take(int fd, void *to, size_t length) {
    return length == 0 || recv(fd, to, length, MSG_WAITALL) == (ssize_t)length;
}

static void *run(void *arg) {
    server *s = arg;
    char head[5], body[4096];
    s->peer = accept(s->listener, NULL, NULL);
    if (take(s->peer, head, 4) && take(s->peer, body, pb_read_u32(head) - 4)) {
        say(s, 'R', "\0\0\0\0", 4);
        ready(s);
        flush(s);
    }
    while (take(s->peer, head, 5) && pb_read_u32(head + 1) - 4 <= sizeof body &&
           take(s->peer, body, pb_read_u32(head + 1) - 4) && serve(s, head[0], body))
        continue;
    shutdown(s->peer, SHUT_RDWR);
    close(s->peer);
    return NULL;
}

static pb_session *start(server *s) {
    char conninfo[160];
    pb_error err;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(s->listener, (struct sockaddr *)&at, length) || listen(s->listener, 1) ||
        getsockname(s->listener, (struct sockaddr *)&at, &length))
        exit(1);
    pthread_create(&s->thread, NULL, run, s);
    snprintf(conninfo, sizeof conninfo,
             "host=127.0.0.1 port=%d dbname=x user=x sslmode=disable gssencmode=disable",
             ntohs(at.sin_port));
    pb_config values = {.database = conninfo, .schema = "postbox", .connect_timeout = 5,
                        .statement_timeout = 5, .lock_timeout = 1, .log = pb_log_new(true)};
    pb_config *config = pb_config_new(&values, &err);
    pb_session *session = pb_session_open(config, "test", &err);
    pb_config_release(config);
    pb_log_release(values.log);
    return session;
}

static void stop(server *s, pb_session *session) {
    pb_session_close(session);
    pthread_join(s->thread, NULL);
    close(s->listener);
    pb_buffer_free(&s->out);
}

static int begin_and_query(pb_session *session, pb_error *err) {
    pb_begin begin = {0};
    PGresult *result;
    if (pb_session_begin(session, &begin, err) ||
        pb_session_query(session, "SELECT 1", NULL, 0, &result, err))
        return -1;
    PQclear(result);
    return 0;
}

static int commit(server *s, pb_error *err) {
    pb_commit nothing = {0};
    pb_session *session = start(s);
    CHECK(session != NULL);
    CHECK(begin_and_query(session, err) == 0);
    int failed = pb_session_commit(session, &nothing, err);
    stop(s, session);
    return failed;
}

/* the answer is there, and what breaks behind it takes nothing back */
static void test_commit_that_was_answered(void) {
    server s = {.cut = "COMMIT", .with_answer = true};
    pb_error err = {0};
    CHECK(commit(&s, &err) == 0);
}

static void test_commit_without_an_answer(void) {
    server s = {.cut = "COMMIT"};
    pb_error err = {0};
    CHECK(commit(&s, &err) == -1);
    CHECK_INT(err.code, PB_UNKNOWN);
    CHECK(strcmp(err.xid, "7") == 0);
}

/* What was queued before a statement that is refused here must not be answered to the next one. */
static void test_statement_that_is_not_sent(void) {
    for (int inside = 0; inside < 2; inside++) {
        server s = {0};
        pb_error err;
        pb_begin begin = {0};
        PGresult *result;
        pb_param huge = pb_param_text((pb_bytes){"x", 0x40000000});
        pb_session *session = start(&s);
        CHECK(session != NULL);
        CHECK(!inside || pb_session_begin(session, &begin, &err) == 0);
        CHECK(pb_session_query(session, "SELECT $1", &huge, 1, &result, &err) == -1);
        CHECK_INT(err.code, PB_TOO_LARGE);
        CHECK_INT(pb_session_status(session), PB_SESSION_LOST);
        stop(&s, session);
    }
}

int main(void) {
    test_commit_that_was_answered();
    test_commit_without_an_answer();
    test_statement_that_is_not_sent();
    return test_report();
}

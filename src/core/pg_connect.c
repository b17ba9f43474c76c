/* Opening a connection: TLS away from loopback, keep-alives, a deadline. */
#include "pg_internal.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "loopback.h"
#include "thread.h"

#define SYSTEM_CA_FILE "/etc/ssl/certs/ca-certificates.crt"
#define LIBPQ_DEFAULT "prefer" /* its sslmode where nobody chose one */
#define MAX_KEYWORDS 16

static const char *option_of(const PQconninfoOption *options, const char *keyword) {
    for (; options && options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0 && options->val && options->val[0])
            return options->val;
    return NULL;
}

/* A socket in the file system (or an abstract one, by @), or a loopback address. */
static bool is_local(const char *host, size_t length) {
    return length == 0 || host[0] == '/' || host[0] == '@' || pb_is_loopback(host, length);
}

/* `hosts` may be a list with commas; one host elsewhere is enough to leave the machine. */
static bool stays_on_this_machine(const char *hosts) {
    while (hosts) {
        size_t length = strcspn(hosts, ",");
        if (!is_local(hosts, length))
            return false;
        hosts = hosts[length] ? hosts + length + 1 : NULL;
    }
    return true;
}

/*
 * Which sslmode to add, by what libpq has made of the string, the environment and the service
 * file: NULL for the one that is there. -1 where that one is too weak.
 */
static int choose_tls(const pb_config *config, const PQconninfoOption *effective,
                      const char **sslmode, pb_error *err) {
    const char *hosts = option_of(effective, "hostaddr");
    const char *mode = option_of(effective, "sslmode");
    if (!hosts)
        hosts = option_of(effective, "host");
    *sslmode = NULL;
    if (config->insecure || stays_on_this_machine(hosts))
        return 0;
    if (!mode || strcmp(mode, LIBPQ_DEFAULT) == 0) {
        *sslmode = "verify-full";
        return 0;
    }
    if (strcmp(mode, "verify-full") == 0 || strcmp(mode, "verify-ca") == 0)
        return 0;
    return pb_fail(err, PB_CONFIG,
                   "database: sslmode=%s does not verify the server, and it is not on this machine: "
                   "use sslmode=verify-full, or say insecure = true",
                   mode);
}

static int wait_for_connection(PGconn *conn, double deadline) {
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED)
            return -1;
        struct pollfd fds[] = {{PQsocket(conn), POLLIN, 0}, {pb_thread_interrupt(), POLLIN, 0}};
        if (status == PGRES_POLLING_WRITING)
            fds[0].events = POLLOUT;
        int left = pb_remaining_ms(deadline);
        if (left == 0)
            return 1;
        int ready = poll(fds, 2, left);
        if (fds[1].revents)
            return 1;
        if (ready > 0)
            status = PQconnectPoll(conn);
    }
    return 0;
}

/* libpq's text on one line, without the final newline. */
static void first_line(const char *text, char *line, size_t size) {
    size_t length = strcspn(text, "\n");
    snprintf(line, size, "%.*s", (int)length, text);
}

static PGconn *start(const pb_config *config, const char *application_name, const char *sslmode,
                     bool has_ca) {
    const char *keywords[MAX_KEYWORDS], *values[MAX_KEYWORDS];
    int n = 0;
#define ADD(k, v) (keywords[n] = (k), values[n] = (v), n++)
    /* What stands before dbname is a default; what stands behind it wins. */
    ADD("fallback_application_name", application_name);
    ADD("keepalives_idle", "30");
    ADD("keepalives_interval", "10");
    ADD("keepalives_count", "3");
    ADD("tcp_user_timeout", "30000");
    if (sslmode && !has_ca)
        ADD("sslrootcert", SYSTEM_CA_FILE);
    ADD("dbname", config->database);
    ADD("client_encoding", "UTF8");
    if (sslmode)
        ADD("sslmode", sslmode);
#undef ADD
    keywords[n] = values[n] = NULL;
    return PQconnectStartParams(keywords, values, 1);
}

/* Begins the connection; a second time where the first look says that it needs verified TLS. */
static PGconn *begin(const pb_config *config, const char *application_name, pb_error *err) {
    const char *sslmode = NULL;
    PGconn *conn = start(config, application_name, NULL, true);
    PQconninfoOption *effective = conn ? PQconninfo(conn) : NULL;
    if (!effective) {
        PQfinish(conn);
        pb_fail_memory(err, "a database connection");
        return NULL;
    }
    int failed = choose_tls(config, effective, &sslmode, err);
    bool has_ca = option_of(effective, "sslrootcert") != NULL;
    PQconninfoFree(effective);
    if (!failed && !sslmode)
        return conn;
    PQfinish(conn);
    if (failed)
        return NULL;
    conn = start(config, application_name, sslmode, has_ca);
    if (!conn)
        pb_fail_memory(err, "a database connection");
    return conn;
}

static PGconn *connect_now(const pb_config *config, const char *application_name, pb_error *err) {
    char why[400];
    PGconn *conn = begin(config, application_name, err);
    if (!conn)
        return NULL;
    int waited = PQstatus(conn) == CONNECTION_BAD
                     ? -1
                     : wait_for_connection(conn, pb_now() + config->connect_timeout);
    if (waited == 0)
        return conn;
    if (waited > 0) {
        pb_fail(err, PB_TIMEOUT, "database: no connection within connect_timeout = %g s",
                config->connect_timeout);
    } else {
        first_line(PQerrorMessage(conn), why, sizeof why);
        pb_fail(err, PB_CONNECTION, "database: cannot connect: %s", why);
    }
    PQfinish(conn);
    return NULL;
}

PGconn *pb_pg_connect(const pb_config *config, const char *application_name, pb_error *err) {
    /* libpq's own text about a bad string may repeat a password that stands in it. */
    PQconninfoOption *given = PQconninfoParse(config->database, NULL);
    if (!given) {
        pb_fail(err, PB_CONFIG,
                "database: not a connection string that PostgreSQL understands; write "
                "postgresql://user@host/name or host=... dbname=...");
        return NULL;
    }
    PQconninfoFree(given);
    return connect_now(config, application_name, err);
}

/* Opening a connection: TLS away from loopback, keep-alives, a deadline. */
#include "pg_internal.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"

#define SYSTEM_CA_FILE "/etc/ssl/certs/ca-certificates.crt"
#define MAX_KEYWORDS 16

static const char *option_of(const PQconninfoOption *options, const char *keyword) {
    for (; options && options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0 && options->val && options->val[0])
            return options->val;
    return NULL;
}

static bool is_loopback(const char *host, size_t length) {
    static const char *const names[] = {"localhost", "::1"};
    if (length == 0 || host[0] == '/' || host[0] == '@' || strncmp(host, "127.", 4) == 0)
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (length == strlen(names[i]) && strncasecmp(host, names[i], length) == 0)
            return true;
    return false;
}

/* `hosts` may be a list with commas; one host elsewhere is enough to leave the machine. */
static bool stays_on_this_machine(const char *hosts) {
    while (hosts) {
        size_t length = strcspn(hosts, ",");
        if (!is_loopback(hosts, length))
            return false;
        hosts = hosts[length] ? hosts + length + 1 : NULL;
    }
    return true;
}

/* Which sslmode to add: NULL for the one that is there. -1 where it is too weak. */
static int choose_tls(const pb_config *config, const PQconninfoOption *given,
                      const char **sslmode, pb_error *err) {
    const char *hosts = option_of(given, "hostaddr");
    const char *mode = option_of(given, "sslmode");
    if (!hosts)
        hosts = option_of(given, "host");
    if (!hosts)
        hosts = getenv("PGHOST");
    if (!mode)
        mode = getenv("PGSSLMODE");
    *sslmode = NULL;
    if (config->insecure || stays_on_this_machine(hosts))
        return 0;
    if (!mode) {
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
        struct pollfd fd = {PQsocket(conn), POLLIN, 0};
        if (status == PGRES_POLLING_WRITING)
            fd.events = POLLOUT;
        int left = pb_remaining_ms(deadline);
        if (left == 0)
            return 1;
        if (poll(&fd, 1, left) > 0)
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

static PGconn *connect_now(const pb_config *config, const char *application_name,
                           const PQconninfoOption *given, pb_error *err) {
    const char *sslmode;
    char why[400];
    if (choose_tls(config, given, &sslmode, err) != 0)
        return NULL;
    bool has_ca = option_of(given, "sslrootcert") || getenv("PGSSLROOTCERT");
    PGconn *conn = start(config, application_name, sslmode, has_ca);
    if (!conn) {
        pb_fail_memory(err, "a database connection");
        return NULL;
    }
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
    PGconn *conn = connect_now(config, application_name, given, err);
    PQconninfoFree(given);
    return conn;
}

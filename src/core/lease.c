#include "lease.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "event.h"

#define FRESH_PART 0.7 /* of the term: afterwards nothing new is started */

static const char take_sql[] =
    "UPDATE postbox.lease SET holder = $1, epoch = epoch + 1,"
    " expires_at = clock_timestamp() + $2::bigint * interval '1 millisecond'"
    " WHERE expires_at < clock_timestamp() OR holder = $1 RETURNING epoch, low_water";
static const char renew_sql[] =
    "UPDATE postbox.lease SET low_water = $3::bigint,"
    " expires_at = clock_timestamp() + $2::bigint * interval '1 millisecond'"
    " WHERE epoch = $1::bigint RETURNING epoch";
static const char give_back_sql[] =
    "UPDATE postbox.lease SET low_water = $2::bigint, expires_at = '-infinity', holder = NULL"
    " WHERE epoch = $1::bigint";

void pb_lease_name(pb_lease *lease) {
    char host[64], text[PB_ID_TEXT + 1];
    uint8_t id[PB_ID_SIZE];
    if (gethostname(host, sizeof host) != 0)
        strcpy(host, "host");
    host[sizeof host - 1] = '\0';
    pb_id_new(id);
    pb_id_text(id, text);
    snprintf(lease->holder, sizeof lease->holder, "%s:%ld:%s", host, (long)getpid(), text);
}

static int64_t term_ms(const pb_lease *lease) {
    return (int64_t)(lease->term * 1000);
}

static int run(pb_pg *pg, const char *sql, const pb_param *params, int count, PGresult **result,
               pb_error *err) {
    char *text = pb_config_sql(pb_pg_config(pg), sql);
    if (!text)
        return pb_fail_memory(err, "a statement");
    int done = pb_pg_run(pg, text, params, count, PB_BINARY_RESULT, result, err);
    free(text);
    return done;
}

int pb_lease_take(pb_lease *lease, pb_pg *pg, pb_error *err) {
    PGresult *result = NULL;
    double asked_at = pb_now();
    pb_param params[] = {pb_param_text(pb_bytes_of(lease->holder)), pb_param_i64(term_ms(lease))};
    if (run(pg, take_sql, params, 2, &result, err) != 0)
        return -1;
    int ours = PQntuples(result) == 1;
    if (ours) {
        lease->epoch = (int64_t)pb_read_u64(PQgetvalue(result, 0, 0));
        lease->low_water = (int64_t)pb_read_u64(PQgetvalue(result, 0, 1));
        lease->asked_at = asked_at;
    }
    PQclear(result);
    return ours;
}

int pb_lease_send_renewal(const pb_lease *lease, pb_pg *pg, int64_t low_water, pb_error *err) {
    pb_param params[] = {pb_param_i64(lease->epoch), pb_param_i64(term_ms(lease)),
                         pb_param_i64(low_water)};
    char *text = pb_config_sql(pb_pg_config(pg), renew_sql);
    if (!text)
        return pb_fail_memory(err, "a statement");
    int sent = pb_pg_send(pg, text, params, 3, PB_BINARY_RESULT, err);
    free(text);
    return sent;
}

int pb_lease_renewed(pb_lease *lease, const PGresult *result, double asked_at, pb_error *err) {
    if (pb_pg_check(result, "renewing the relay's lease", err) != 0)
        return -1;
    if (PQntuples(result) != 1) {
        lease->epoch = 0;
        return pb_fail(err, PB_BUSY, "relay: another relay has taken the lease over");
    }
    lease->asked_at = asked_at;
    return 0;
}

int pb_lease_give_back(pb_lease *lease, pb_pg *pg, int64_t low_water, pb_error *err) {
    pb_param params[] = {pb_param_i64(lease->epoch), pb_param_i64(low_water)};
    lease->epoch = 0;
    return run(pg, give_back_sql, params, 2, NULL, err);
}

bool pb_lease_is_fresh(const pb_lease *lease) {
    return lease->epoch != 0 && pb_now() - lease->asked_at < lease->term * FRESH_PART;
}

bool pb_lease_is_over(const pb_lease *lease) {
    return lease->epoch == 0 || pb_now() - lease->asked_at >= lease->term;
}

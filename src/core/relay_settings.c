/* What all programs that share an outbox have agreed on, and the planner's settings for a turn. */
#include <stdlib.h>
#include <string.h>

#include "relay_internal.h"

/*
 * Set for one transaction only (a pooler may hand the connection to somebody else). The tables'
 * statistics are useless for a queue, and a wrong guess would read all of it.
 */
const char pb_relay_planner_sql[] =
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"
    " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
    " set_config('enable_material', 'off', true), set_config('jit', 'off', true),"
    " set_config('plan_cache_mode', 'force_generic_plan', true)";

static const char settings_sql[] =
    "SELECT outbox::text, confirm, delivery, refused, max_record_bytes FROM postbox.settings";

static bool is(const PGresult *result, int column, const char *text) {
    return strcmp(PQgetvalue(result, 0, column), text) == 0;
}

int pb_settings_load(pb_pg *pg, pb_settings *settings, pb_error *err) {
    PGresult *result = NULL;
    char *sql = pb_config_sql(pb_pg_config(pg), settings_sql);
    if (!sql)
        return pb_fail_memory(err, "a statement");
    int failed = pb_pg_run(pg, sql, NULL, 0, PB_TEXT_RESULT, &result, err);
    free(sql);
    if (failed)
        return -1;
    if (PQntuples(result) != 1) {
        PQclear(result);
        return pb_fail(err, PB_CONFIG, "relay: the table settings has no row: run the migration");
    }
    strncpy(settings->outbox, PQgetvalue(result, 0, 0), sizeof settings->outbox - 1);
    settings->readback = is(result, 1, "readback");
    settings->direct = is(result, 2, "direct");
    settings->skip_refused = is(result, 3, "skip");
    settings->max_record_bytes = strtoll(PQgetvalue(result, 0, 4), NULL, 10);
    PQclear(result);
    return 0;
}

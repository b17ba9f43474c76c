#include "inbox.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "event.h"

#define FIRST_TIME_MS INT64_C(1577836800000) /* 2020-01-01: no UUIDv7 is older */
#define DAY_MS INT64_C(86400000)
#define UNTIMED_PREFIX 0xff

#define CLAIM                                                                                  \
    "INSERT INTO postbox.inbox (event_id, consumer_group) SELECT unnest($1::uuid[]), $2 "       \
    "ON CONFLICT DO NOTHING RETURNING event_id"
#define MARK_DEAD                                                                              \
    "INSERT INTO postbox.inbox (event_id, consumer_group, state) VALUES ($1, $2, 'dead') "      \
    "ON CONFLICT DO NOTHING"
#define MAKE_DAYS "SELECT postbox.inbox_make_for($1::uuid[])"

/* One id that is asked for, and the first record that has it. */
typedef struct claimed {
    uint8_t key[PB_INBOX_KEY];
    uint32_t record;
} claimed;

struct pb_inbox {
    char *claim, *mark_dead, *make_days, *group;
    pb_array ids;
    claimed *sorted;
    size_t count, capacity; /* of `sorted` */
    bool queued;            /* a claim was sent and not received */
};

pb_inbox *pb_inbox_new(pb_config *config, const char *group, pb_error *err) {
    pb_inbox *inbox = calloc(1, sizeof *inbox);
    if (!inbox) {
        pb_fail_memory(err, "the inbox");
        return NULL;
    }
    inbox->claim = pb_config_sql(config, CLAIM);
    inbox->mark_dead = pb_config_sql(config, MARK_DEAD);
    inbox->make_days = pb_config_sql(config, MAKE_DAYS);
    inbox->group = strdup(group);
    if (!inbox->claim || !inbox->mark_dead || !inbox->make_days || !inbox->group) {
        pb_inbox_free(inbox);
        pb_fail_memory(err, "the inbox");
        return NULL;
    }
    return inbox;
}

void pb_inbox_free(pb_inbox *inbox) {
    if (!inbox)
        return;
    pb_array_free(&inbox->ids);
    free(inbox->sorted);
    free(inbox->claim);
    free(inbox->mark_dead);
    free(inbox->make_days);
    free(inbox->group);
    free(inbox);
}

static uint64_t mix(uint64_t h) {
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

/* 128 bits, well spread; whoever may write to the topic could as well reuse an id as it stands. */
static void hash(pb_bytes text, uint8_t out[16]) {
    uint64_t a = UINT64_C(0x9e3779b97f4a7c15) ^ text.length, b = UINT64_C(0xc2b2ae3d27d4eb4f);
    for (size_t i = 0; i < text.length; i += 8) {
        uint64_t word = 0;
        for (size_t j = 0; j < 8 && i + j < text.length; j++)
            word |= (uint64_t)(uint8_t)text.data[i + j] << (8 * j);
        a = mix(a ^ word) + b;
        b = mix(b + word) ^ a;
    }
    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(a >> (8 * i));
        out[8 + i] = (uint8_t)(b >> (8 * i));
    }
}

static bool has_usable_time(const uint8_t id[PB_ID_SIZE], int64_t seen_ms) {
    int64_t made = (int64_t)pb_read_u32(id) << 16 | pb_read_u16(id + 4);
    int64_t end_of_tomorrow = (seen_ms / DAY_MS + 2) * DAY_MS;
    return id[6] >> 4 == 7 && made >= FIRST_TIME_MS && made < end_of_tomorrow;
}

void pb_inbox_key(pb_bytes id, int64_t seen_ms, uint8_t key[PB_INBOX_KEY]) {
    if (pb_id_parse(id, key)) {
        if (has_usable_time(key, seen_ms))
            return;
        uint8_t bytes[PB_ID_SIZE]; /* either case of the text is the same id */
        memcpy(bytes, key, sizeof bytes);
        hash((pb_bytes){(const char *)bytes, sizeof bytes}, key);
    } else {
        hash(id, key);
    }
    key[0] = UNTIMED_PREFIX;
}

static int compare(const void *left, const void *right) {
    const claimed *a = left, *b = right;
    int order = memcmp(a->key, b->key, PB_INBOX_KEY);
    return order ? order : (a->record > b->record) - (a->record < b->record);
}

static int reserve(pb_inbox *inbox, size_t count, pb_error *err) {
    if (count <= inbox->capacity)
        return 0;
    claimed *grown = realloc(inbox->sorted, count * sizeof *grown);
    if (!grown)
        return pb_fail_memory(err, "the ids of a batch");
    inbox->sorted = grown;
    inbox->capacity = count;
    return 0;
}

/* Sorted, because two consumers that take the same ids in other orders would deadlock. */
int pb_inbox_collect(pb_inbox *inbox, pb_intake *intake, size_t first, size_t count, size_t *asked,
                     pb_error *err) {
    if (reserve(inbox, count, err) != 0)
        return -1;
    size_t n = 0;
    for (size_t i = first; i < first + count; i++) {
        pb_record *record = &intake->records[i];
        if (record->route < 0 || record->state == PB_RECORD_DONE)
            continue;
        record->state = PB_RECORD_REPEAT; /* until the inbox says otherwise */
        memcpy(inbox->sorted[n].key, record->key, PB_INBOX_KEY);
        inbox->sorted[n++].record = (uint32_t)i;
    }
    qsort(inbox->sorted, n, sizeof *inbox->sorted, compare);
    inbox->count = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || memcmp(inbox->sorted[i].key, inbox->sorted[inbox->count - 1].key,
                             PB_INBOX_KEY))
            inbox->sorted[inbox->count++] = inbox->sorted[i];
    *asked = inbox->count;
    return 0;
}

static pb_bytes key_bytes(const uint8_t key[PB_INBOX_KEY]) {
    return (pb_bytes){(const char *)key, PB_INBOX_KEY};
}

int pb_inbox_send(pb_inbox *inbox, pb_pg *pg, pb_error *err) {
    inbox->queued = false;
    if (inbox->count == 0)
        return 0;
    pb_array_open(&inbox->ids, PB_OID_UUID);
    for (size_t i = 0; i < inbox->count; i++)
        pb_array_add(&inbox->ids, key_bytes(inbox->sorted[i].key));
    if (inbox->ids.bytes.failed)
        return pb_fail_memory(err, "the ids of a batch");
    pb_param params[] = {pb_param_array(&inbox->ids), pb_param_text(pb_bytes_of(inbox->group))};
    if (pb_pg_send(pg, inbox->claim, params, 2, PB_BINARY_RESULT, err) != 0)
        return -1;
    inbox->queued = true;
    return 0;
}

static int by_key(const void *key, const void *element) {
    return memcmp(key, ((const claimed *)element)->key, PB_INBOX_KEY);
}

/* The rows come back in the order of insertion as a rule, but nothing promises it. */
static void mark_claimed(pb_inbox *inbox, const PGresult *result, pb_intake *intake) {
    size_t next = 0;
    for (int i = 0; i < PQntuples(result); i++) {
        const void *key = PQgetvalue(result, i, 0);
        claimed *found = next < inbox->count && by_key(key, &inbox->sorted[next]) == 0
                             ? &inbox->sorted[next]
                             : bsearch(key, inbox->sorted, inbox->count, sizeof *found, by_key);
        if (!found)
            continue;
        intake->records[found->record].state = PB_RECORD_CLAIMED;
        next = (size_t)(found - inbox->sorted) + 1;
    }
}

int pb_inbox_receive(pb_inbox *inbox, pb_pg *pg, double deadline, pb_intake *intake,
                     pb_error *err) {
    PGresult *result;
    if (!inbox->queued)
        return 0;
    inbox->queued = false;
    if (pb_pg_receive(pg, deadline, &result, err) != 0)
        return -1;
    int failed = pb_pg_check(result, "inbox", err);
    if (!failed)
        mark_claimed(inbox, result, intake);
    PQclear(result);
    return failed;
}

int pb_inbox_claim(pb_inbox *inbox, pb_session *session, pb_intake *intake, size_t first,
                   size_t count, pb_error *err) {
    int queued;
    size_t asked;
    pb_error later;
    pb_pg *pg = pb_session_pg(session);
    double deadline = pb_pg_deadline(pg);
    if (pb_inbox_collect(inbox, intake, first, count, &asked, err) != 0)
        return -1;
    if (asked == 0)
        return 0;
    if (pb_session_send_begin(session, &queued, err) != 0 || pb_inbox_send(inbox, pg, err) != 0) {
        pb_pg_abandon(pg);
        return -1;
    }
    if (pb_pg_sync(pg, deadline, err) != 0)
        return -1;
    int failed = pb_session_receive_begin(session, queued, deadline, err) ||
                 pb_inbox_receive(inbox, pg, deadline, intake, err);
    return pb_pg_finish(pg, deadline, failed ? &later : err) || failed ? -1 : 0;
}

int pb_inbox_mark_dead(pb_inbox *inbox, pb_session *session, const pb_record *record,
                       pb_error *err) {
    PGresult *result;
    pb_param params[] = {pb_param_uuid(record->key), pb_param_text(pb_bytes_of(inbox->group))};
    if (pb_session_query(session, inbox->mark_dead, params, 2, &result, err) != 0)
        return -1;
    PQclear(result);
    return 0;
}

int pb_inbox_make_days(pb_inbox *inbox, pb_session *session, const pb_intake *intake,
                       pb_error *err) {
    PGresult *result;
    pb_array_open(&inbox->ids, PB_OID_UUID);
    for (size_t i = 0; i < intake->count; i++)
        pb_array_add(&inbox->ids, key_bytes(intake->records[i].key));
    if (inbox->ids.bytes.failed)
        return pb_fail_memory(err, "the ids of a batch");
    pb_param params[] = {pb_param_array(&inbox->ids)};
    if (pb_session_query(session, inbox->make_days, params, 1, &result, err) != 0)
        return -1;
    PQclear(result);
    return 0;
}

/* The inbox: which events a consumer group has processed. */
#ifndef PB_INBOX_H
#define PB_INBOX_H

#include "intake.h"
#include "session.h"

#define PB_INBOX_KEY 16 /* bytes: a uuid */

typedef struct pb_inbox pb_inbox;

pb_inbox *pb_inbox_new(pb_config *config, const char *group, pb_error *err);
void pb_inbox_free(pb_inbox *inbox);

/*
 * Under which uuid the inbox holds an event. A UUIDv7 whose time is usable (2020 up to the end of
 * the day after `seen_ms`, the record's own timestamp or the clock) is its own; any other id
 * becomes a hash that begins with ff, above all times.
 */
void pb_inbox_key(pb_bytes id, int64_t seen_ms, uint8_t key[PB_INBOX_KEY]);

/*
 * Takes the events for this group in the session's open transaction. What another transaction has
 * taken and not yet committed is waited for. Each record that has a route becomes
 * PB_RECORD_CLAIMED, or PB_RECORD_REPEAT where the group has the event already (or it stands
 * twice in the intake, for the later ones).
 */
int pb_inbox_claim(pb_inbox *inbox, pb_session *session, pb_intake *intake, size_t first,
                   size_t count, pb_error *err);

/*
 * The same in parts, for a caller that puts other statements into the same round trip. First
 * which ids to ask for; *asked may be 0, then nothing is sent. After a failed receive the rest up
 * to the sync is still to be received.
 */
int pb_inbox_collect(pb_inbox *inbox, pb_intake *intake, size_t first, size_t count, size_t *asked,
                     pb_error *err);
int pb_inbox_send(pb_inbox *inbox, pb_pg *pg, pb_error *err);
int pb_inbox_receive(pb_inbox *inbox, pb_pg *pg, double deadline, pb_intake *intake, pb_error *err);

/* Marks one event as dead, in a transaction of its own; one that is there already stays. */
int pb_inbox_mark_dead(pb_inbox *inbox, pb_session *session, const pb_record *record,
                       pb_error *err);

/* Makes the partitions that the events of the intake need. */
int pb_inbox_make_days(pb_inbox *inbox, pb_session *session, const pb_intake *intake,
                       pb_error *err);

#endif

/* Shared by the files of direct delivery; nobody else includes it. */
#ifndef PB_DIRECT_INTERNAL_H
#define PB_DIRECT_INTERNAL_H

#include "direct.h"
#include "pg.h"
#include "producer.h"

typedef struct pb_destination pb_destination;

/* What a direct publisher's thread works with; zeroed but for the first three. */
typedef struct pb_sender {
    pb_config *config;
    int wake_fd;
    size_t max_record_bytes;
    bool readback;        /* the rows are deleted by who reads them back */
    pb_producer *producer;
    pb_destination *destinations;
    pb_pg *pg;
    pb_array ids, event_ids; /* of rows to be deleted */
    double since;         /* age of the oldest of them */
    double again_at;      /* after a failure: not before */
    size_t in_flight;
    pb_buffer scratch;
} pb_sender;

bool pb_sender_send(pb_sender *sender, const pb_batch *batch, int i); /* false: the relay's */
void pb_sender_serve(pb_sender *sender, pb_direct_stats *done); /* reports, then deletes */
bool pb_sender_is_idle(const pb_sender *sender);
void pb_sender_close(pb_sender *sender);

#endif

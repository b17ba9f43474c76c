/* A set of ids; those that were sent and are not yet seen again have the time of their reports. */
#ifndef PB_AWAITING_H
#define PB_AWAITING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pb_awaiting pb_awaiting;

pb_awaiting *pb_awaiting_new(void); /* NULL without memory */
void pb_awaiting_free(pb_awaiting *awaiting);
int pb_awaiting_add(pb_awaiting *awaiting, int64_t id); /* -1 without memory */
void pb_awaiting_reported(pb_awaiting *awaiting, int64_t id, double now);
bool pb_awaiting_has(const pb_awaiting *awaiting, int64_t id);
bool pb_awaiting_remove(pb_awaiting *awaiting, int64_t id);
size_t pb_awaiting_count(const pb_awaiting *awaiting);
int64_t pb_awaiting_lowest(const pb_awaiting *awaiting); /* INT64_MAX when empty */
/* How many were reported before `time` and are still not seen. */
size_t pb_awaiting_older(const pb_awaiting *awaiting, double time);

#endif

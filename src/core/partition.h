/* Which partition a key belongs to. Apart from kafka.h, because it needs nothing of librdkafka. */
#ifndef PB_PARTITION_H
#define PB_PARTITION_H

#include "buffer.h"

/* The partition that Java gives this key by default: murmur2, for a key that is there. */
int32_t pb_kafka_partition_of(pb_bytes key, int32_t partitions);

#endif

/* Which hosts are this machine, where connections may do without TLS. */
#ifndef PB_LOOPBACK_H
#define PB_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>

/* A host without its port: localhost, 127.0.0.0/8 or ::1. */
bool pb_is_loopback(const char *host, size_t length);

#endif

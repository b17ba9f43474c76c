#include "loopback.h"

#include <string.h>
#include <strings.h>

static bool is(const char *host, size_t length, const char *name) {
    return length == strlen(name) && strncasecmp(host, name, length) == 0;
}

bool pb_is_loopback(const char *host, size_t length) {
    if (is(host, length, "localhost") || is(host, length, "::1"))
        return true;
    /* `127.example.com` only begins like an address of this machine. */
    return length >= 4 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") >= length;
}

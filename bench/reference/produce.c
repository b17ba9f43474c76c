/* Records of the size and form of postbox's, by a producer alone: produce BOOTSTRAP TOPIC COUNT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "send.h"

#define LINGER_MS "5"
#define REPORTS_EVERY 1024

static void make_id(unsigned char id[16], int64_t number) {
    memset(id, 0x77, 16);
    memcpy(id + 8, &number, sizeof number);
}

int main(int count, char **arguments) {
    if (count != 4)
        fail("usage: produce BOOTSTRAP TOPIC COUNT");
    sender s;
    int64_t records = atoll(arguments[3]);
    char payload[PAYLOAD_BYTES], value[VALUE_BYTES], key[16];
    memset(payload, 'x', sizeof payload);
    open_sender(&s, arguments[1], arguments[2], LINGER_MS);
    double cpu = own_cpu(), start = now();
    for (int64_t i = 1; i <= records; i++) {
        unsigned char id[16];
        make_id(id, i);
        record r = {.key = key, .value = value, .headers = event_headers(id, i)};
        r.key_length = (size_t)snprintf(key, sizeof key, "k%d", (int)(i % KEYS));
        r.value_length = write_envelope(value, id, payload, sizeof payload);
        send_record(&s, &r);
        if (i % REPORTS_EVERY == 0)
            take_reports(&s, 0);
    }
    wait_for_reports(&s, records);
    printf("seconds %.6f\ncpu %.6f\n", now() - start, own_cpu() - cpu);
    return 0;
}

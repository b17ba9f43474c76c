/*
 * A plain producer at a fixed rate: pace BOOTSTRAP TOPIC RATE COUNT START
 * Record n is due at START + n / RATE, whatever became of those before it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "send.h"

#define LINGER_MS "0"

static size_t write_payload(char *out, int64_t number, double due) {
    int length = snprintf(out, PAYLOAD_BYTES, "{\"n\":%lld,\"due\":%.6f,\"note\":\"",
                          (long long)number, due);
    memset(out + length, 'x', PAYLOAD_BYTES - 2 - (size_t)length);
    memcpy(out + PAYLOAD_BYTES - 2, "\"}", 2);
    return PAYLOAD_BYTES;
}

int main(int count, char **arguments) {
    if (count != 6)
        fail("usage: pace BOOTSTRAP TOPIC RATE COUNT START");
    sender s;
    double rate = atof(arguments[3]), start = atof(arguments[5]);
    int64_t records = atoll(arguments[4]);
    open_sender(&s, arguments[1], arguments[2], LINGER_MS);
    if (now() > start)
        fail("the start was over before the producer was ready");
    for (int64_t n = 0; n < records; n++) {
        double due = start + (double)n / rate;
        char key[16], payload[PAYLOAD_BYTES], value[VALUE_BYTES];
        unsigned char id[16] = {1, 2, 3, 4, 5, 6, 0x77, 8, 0x89};
        memcpy(id + 10, &n, 6);
        record r = {.key = key, .value = value, .headers = event_headers(id, n)};
        r.key_length =
            (size_t)snprintf(key, sizeof key, "k%lld", (long long)(n * 7919 % KEYS));
        size_t length = write_payload(payload, n, due);
        r.value_length = write_envelope(value, id, payload, length);
        if (now() < due) {
            take_reports(&s, 0);
            sleep_until(due);
        }
        send_record(&s, &r);
    }
    wait_for_reports(&s, records);
    return 0;
}

#include "clock.h"

#include <limits.h>
#include <math.h>
#include <time.h>

static double seconds_of(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double pb_now(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

int64_t pb_wall_ms(void) {
    return (int64_t)(seconds_of(CLOCK_REALTIME) * 1000.0);
}

int pb_remaining_ms(double deadline) {
    double left = (deadline - pb_now()) * 1000.0;
    if (left <= 0)
        return 0;
    return left >= INT_MAX ? INT_MAX : (int)left + 1;
}

void pb_sleep(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
    nanosleep(&t, NULL);
}

/*
 * Event ids: UUIDv7 (RFC 9562). The first 60 bits that are not fixed are milliseconds and a
 * counter, kept as one number that only grows: ids increase within the process whatever the wall
 * clock does. The other 62 bits are random, so that processes and machines never meet.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "event.h"

#define COUNTER_BITS 12
#define COUNTER_START 0x7ff /* a millisecond starts in the lower half: room to count up */
#define TIME_MASK 0xffffffffffffu
#define POOL_WORDS 32 /* random words fetched at once; 256 bytes are never cut short */

/* Random words that wait to be used, of one thread and one process: a fork must not share them. */
typedef struct random_pool {
    pid_t process;
    unsigned left;
    uint64_t words[POOL_WORDS];
} random_pool;

static _Thread_local random_pool pool;
static _Atomic uint64_t last_tick; /* milliseconds << COUNTER_BITS | counter */

static bool read_urandom(void *to, size_t length) {
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, to, length);
    close(fd);
    return got == (ssize_t)length;
}

/* Where the kernel gives nothing (a sandbox without either): unique still, by time and place. */
static void mix_own(uint64_t *words, size_t count) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t state = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^ (uint64_t)getpid() << 40 ^
                     (uint64_t)(uintptr_t)words;
    for (size_t i = 0; i < count; i++) { /* splitmix64 */
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        words[i] = z ^ z >> 31;
    }
}

static void fill_pool(pid_t process) {
    ssize_t got;
    do
        got = getrandom(pool.words, sizeof pool.words, 0);
    while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof pool.words && !read_urandom(pool.words, sizeof pool.words))
        mix_own(pool.words, POOL_WORDS);
    pool.left = POOL_WORDS;
    pool.process = process;
}

static uint64_t random_word(void) {
    pid_t process = getpid();
    if (pool.left == 0 || pool.process != process)
        fill_pool(process);
    return pool.words[--pool.left];
}

/* The next tick: now with a counter that starts at random, or one above the last one given. */
static uint64_t next_tick(uint64_t random) {
    uint64_t now = ((uint64_t)pb_wall_ms() & TIME_MASK) << COUNTER_BITS | (random & COUNTER_START);
    uint64_t last = atomic_load_explicit(&last_tick, memory_order_relaxed), mine;
    do
        mine = now > last ? now : last + 1;
    while (!atomic_compare_exchange_weak(&last_tick, &last, mine));
    return mine;
}

static void put_u64(uint8_t *to, uint64_t value) {
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> (56 - 8 * i));
}

void pb_id_new(uint8_t id[PB_ID_SIZE]) {
    uint64_t tick = next_tick(random_word());
    uint64_t time_part = tick >> COUNTER_BITS, counter = tick & ((1u << COUNTER_BITS) - 1);
    put_u64(id, time_part << 16 | 0x7000 | counter);          /* version 7 */
    put_u64(id + 8, random_word() >> 2 | (uint64_t)0x2 << 62); /* variant 10 */
}

static bool hyphen_before(int byte) {
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void pb_id_text(const uint8_t id[PB_ID_SIZE], char text[PB_ID_TEXT + 1]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < PB_ID_SIZE; i++) {
        if (hyphen_before(i))
            *text++ = '-';
        *text++ = digits[id[i] >> 4];
        *text++ = digits[id[i] & 15];
    }
    *text = '\0';
}

static int digit_of(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20; /* lower case */
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool pb_id_parse(pb_bytes text, uint8_t id[PB_ID_SIZE]) {
    if (!text.data || text.length != PB_ID_TEXT)
        return false;
    const char *at = text.data;
    for (int i = 0; i < PB_ID_SIZE; i++) {
        if (hyphen_before(i) && *at++ != '-')
            return false;
        int high = digit_of(at[0]), low = digit_of(at[1]);
        if (high < 0 || low < 0)
            return false;
        id[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    return true;
}

#include "../../src/core/event.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../src/core/clock.h"
#include "test.h"

#define THREADS 4
#define IDS 20000

/* The wall clock of this program in milliseconds, so that it can be set back; 0: the real one. */
static int64_t set_clock;

/* In the place of libc's. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    if (clock != CLOCK_REALTIME || !set_clock)
        return (int)syscall(SYS_clock_gettime, clock, now);
    *now = (struct timespec){.tv_sec = set_clock / 1000, .tv_nsec = set_clock % 1000 * 1000000};
    return 0;
}

static int compare(const void *a, const void *b) {
    return memcmp(a, b, PB_ID_SIZE);
}

static int64_t time_of(const uint8_t *id) {
    return (int64_t)(pb_read_u64(id) >> 16);
}

static void is_version_7(void) {
    uint8_t id[PB_ID_SIZE];
    char text[PB_ID_TEXT + 1];
    int64_t before = pb_wall_ms();
    pb_id_new(id);
    CHECK(time_of(id) >= before && time_of(id) <= pb_wall_ms());
    CHECK_INT(id[6] >> 4, 7);
    CHECK_INT(id[8] >> 6, 2);
    pb_id_text(id, text);
    CHECK_INT(strlen(text), PB_ID_TEXT);
    CHECK(text[14] == '7' && strchr("89ab", text[19]) != NULL);
}

static void increases_when_the_clock_steps_back(void) {
    uint8_t last[PB_ID_SIZE], next[PB_ID_SIZE];
    int wrong = 0;
    pb_id_new(last);
    int64_t reached = time_of(last);
    for (int i = 0; i < IDS; i++) {
        set_clock = reached - 3600 * 1000 * (i % 3); /* an hour back, two hours back, the same */
        pb_id_new(next);
        wrong += memcmp(last, next, PB_ID_SIZE) >= 0;
        memcpy(last, next, PB_ID_SIZE);
    }
    CHECK_INT(wrong, 0);
    CHECK(time_of(last) - reached < 100); /* the counter borrows few milliseconds of the future */
    set_clock = 0;
}

static void *make_ids(void *to) {
    uint8_t *ids = to;
    for (int i = 0; i < IDS; i++)
        pb_id_new(ids + i * PB_ID_SIZE);
    return NULL;
}

static void is_unique_and_increasing_in_each_thread(void) {
    uint8_t *ids = malloc((size_t)THREADS * IDS * PB_ID_SIZE);
    pthread_t threads[THREADS];
    int wrong = 0;
    if (!CHECK(ids != NULL))
        return;
    for (int t = 0; t < THREADS; t++)
        CHECK(pthread_create(&threads[t], NULL, make_ids, ids + t * IDS * PB_ID_SIZE) == 0);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (int i = 1; i < THREADS * IDS; i++)
        if (i % IDS)
            wrong += compare(ids + (i - 1) * PB_ID_SIZE, ids + i * PB_ID_SIZE) >= 0;
    CHECK_INT(wrong, 0);
    qsort(ids, THREADS * IDS, PB_ID_SIZE, compare);
    for (int i = 1; i < THREADS * IDS; i++) /* the first 8 bytes alone: no tick is given twice */
        wrong += memcmp(ids + (i - 1) * PB_ID_SIZE, ids + i * PB_ID_SIZE, 8) == 0;
    CHECK_INT(wrong, 0);
    free(ids);
}

static void differs_in_a_forked_process(void) {
    uint8_t mine[PB_ID_SIZE], childs[PB_ID_SIZE] = {0};
    int ends[2], status = -1;
    CHECK(pipe(ends) == 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        pb_id_new(childs);
        _exit(write(ends[1], childs, sizeof childs) != sizeof childs);
    }
    pb_id_new(mine);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(read(ends[0], childs, sizeof childs) == sizeof childs);
    CHECK(memcmp(mine + 8, childs + 8, 8) != 0);
    close(ends[0]);
    close(ends[1]);
}

static void parses(void) {
    uint8_t id[PB_ID_SIZE];
    char text[PB_ID_TEXT + 1];
    CHECK(pb_id_parse(BYTES("01890a5d-ac96-774b-bcce-b302099a8057"), id));
    CHECK(memcmp(id, "\x01\x89\x0a\x5d\xac\x96\x77\x4b\xbc\xce\xb3\x02\x09\x9a\x80\x57", 16) == 0);
    pb_id_text(id, text);
    CHECK_BYTES(pb_bytes_of(text), "01890a5d-ac96-774b-bcce-b302099a8057");
    CHECK(pb_id_parse(BYTES("01890A5D-AC96-774B-BCCE-B302099A8057"), id));
    CHECK(id[15] == 0x57 && id[3] == 0x5d);
}

static void refuses(void) {
    uint8_t id[PB_ID_SIZE];
    CHECK(!pb_id_parse(PB_ABSENT, id));
    CHECK(!pb_id_parse(BYTES(""), id));
    CHECK(!pb_id_parse(BYTES("01890a5dac96774bbcceb302099a8057"), id));
    CHECK(!pb_id_parse(BYTES("{01890a5d-ac96-774b-bcce-b302099a8057}"), id));
    CHECK(!pb_id_parse(BYTES("01890a5d-ac96-774b-bcce-b302099a805"), id));
    CHECK(!pb_id_parse(BYTES("01890a5d-ac96-774b-bcce-b302099a805g"), id));
    CHECK(!pb_id_parse(BYTES("01890a5d-ac96-774b-bccee-302099a8057"), id));
    CHECK(!pb_id_parse(BYTES("01890a5d-ac96-774b-bcce-b302099a80\0" "5"), id));
}

int main(void) {
    is_version_7();
    increases_when_the_clock_steps_back();
    is_unique_and_increasing_in_each_thread();
    differs_in_a_forked_process();
    parses();
    refuses();
    return test_report();
}

#include "../../src/core/log.h"

#include <pthread.h>
#include <unistd.h>

#include "test.h"

static void comes_back_in_order(void) {
    pb_log *log = pb_log_new(true);
    pb_log_record record;
    CHECK(!pb_log_take(log, &record));
    pb_log_write(log, PB_INFO, "first %d", 1);
    pb_log_write(log, PB_WARNING, "second");
    CHECK(pb_log_take(log, &record));
    CHECK_BYTES(pb_bytes_of(record.text), "first 1");
    CHECK_BYTES(pb_bytes_of(pb_level_name(record.level)), "info");
    CHECK(pb_log_take(log, &record));
    CHECK_BYTES(pb_bytes_of(record.text), "second");
    CHECK(!pb_log_take(log, &record));
    pb_log_release(log);
}

static void is_bounded_and_says_what_it_dropped(void) {
    pb_log *log = pb_log_new(true);
    pb_log_record record;
    for (int i = 0; i < PB_LOG_LIMIT + 7; i++)
        pb_log_write(log, PB_INFO, "record %d", i);
    for (int i = 0; i < PB_LOG_LIMIT; i++)
        pb_log_take(log, &record);
    CHECK_BYTES(pb_bytes_of(record.text), "record 999");
    CHECK(pb_log_take(log, &record));
    test_contains(record.text, "7 log records were dropped", __FILE__, __LINE__);
    CHECK(!pb_log_take(log, &record));
    pb_log_release(log);
}

static void cuts_long_records(void) {
    pb_log *log = pb_log_new(true);
    pb_log_record record;
    char text[PB_LOG_TEXT * 2];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    pb_log_write(log, PB_INFO, "%s", text);
    CHECK(pb_log_take(log, &record));
    CHECK_INT(strlen(record.text), PB_LOG_TEXT - 1);
    pb_log_release(log);
}

static void goes_to_stderr_without_a_reader(void) {
    char text[256] = "";
    int ends[2], saved = dup(STDERR_FILENO);
    CHECK(pipe(ends) == 0);
    dup2(ends[1], STDERR_FILENO);
    pb_log *log = pb_log_new(false);
    pb_log_write(log, PB_INFO, "quiet");
    pb_log_write(log, PB_WARNING, "loud");
    pb_log_release(log);
    dup2(saved, STDERR_FILENO);
    CHECK(read(ends[0], text, sizeof text - 1) > 0);
    CHECK_BYTES(pb_bytes_of(text), "postbox: warning: loud\n");
    close(ends[0]);
    close(ends[1]);
    close(saved);
}

static void *write_many(void *log) {
    for (int i = 0; i < 200; i++)
        pb_log_write(log, PB_INFO, "x");
    pb_log_release(log);
    return NULL;
}

static void takes_records_of_threads(void) {
    pthread_t threads[4];
    pb_log *log = pb_log_new(true);
    pb_log_record record;
    int count = 0;
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, write_many, pb_log_share(log)) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    while (pb_log_take(log, &record))
        count++;
    CHECK_INT(count, 800);
    pb_log_release(log);
}

int main(void) {
    comes_back_in_order();
    is_bounded_and_says_what_it_dropped();
    cuts_long_records();
    goes_to_stderr_without_a_reader();
    takes_records_of_threads();
    return test_report();
}

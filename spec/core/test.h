/*
 * Checks for the unit tests in C. A *_test.c is a program: it calls its tests and returns
 * test_report(). One line for each failed check, `N passed, N failed` as the last line.
 */
#ifndef PB_TEST_H
#define PB_TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "../../src/core/buffer.h"
#include "../../src/core/error.h"

static int test_passed, test_failed;

static inline bool test_result(bool passed, const char *file, int line, const char *what) {
    if (passed)
        test_passed++;
    else
        test_failed++;
    if (!passed)
        printf("%s:%d: %s\n", file, line, what);
    return passed;
}

static inline void test_integers(long long actual, long long expected, const char *file, int line,
                                 const char *what) {
    char text[512];
    snprintf(text, sizeof text, "%s is %lld, not %lld", what, actual, expected);
    test_result(actual == expected, file, line, text);
}

static inline void test_bytes(pb_bytes actual, pb_bytes expected, const char *file, int line,
                              const char *what) {
    char text[1024];
    snprintf(text, sizeof text, "%.200s is `%.*s` (%zu bytes), not `%.*s` (%zu bytes)", what,
             (int)actual.length, actual.data ? actual.data : "absent", actual.length,
             (int)expected.length, expected.data ? expected.data : "absent", expected.length);
    test_result(pb_bytes_equal(actual, expected), file, line, text);
}

static inline void test_contains(const char *actual, const char *part, const char *file, int line) {
    char text[1024];
    snprintf(text, sizeof text, "`%.700s` does not contain `%.200s`", actual, part);
    test_result(strstr(actual, part) != NULL, file, line, text);
}

#define CHECK(condition) test_result((condition), __FILE__, __LINE__, #condition)
#define CHECK_INT(actual, expected)                                                                \
    test_integers((long long)(actual), (long long)(expected), __FILE__, __LINE__, #actual)
/* Against a literal, which may hold NUL bytes. */
#define CHECK_BYTES(actual, literal)                                                               \
    test_bytes((actual), (pb_bytes){literal, sizeof literal - 1}, __FILE__, __LINE__, #actual)
#define CHECK_ABSENT(actual) test_bytes((actual), PB_ABSENT, __FILE__, __LINE__, #actual)
/* The call failed with this code, and its message contains `part`. */
#define CHECK_FAILS(call, err, wanted, part)                                                       \
    do {                                                                                           \
        if (CHECK((call) == -1)) {                                                                 \
            CHECK_INT((err).code, wanted);                                                         \
            test_contains((err).message, part, __FILE__, __LINE__);                                \
        }                                                                                          \
    } while (0)

/* A literal as a slice, NUL bytes included. */
#define BYTES(literal) ((pb_bytes){literal, sizeof literal - 1})

static inline int test_report(void) {
    printf("%d passed, %d failed\n", test_passed, test_failed);
    return test_failed > 0;
}

#endif

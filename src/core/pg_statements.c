/*
 * The statements that a connection has prepared, found by their text and the types of their
 * parameters: with other types the same text may mean another function.
 */
#include "pg_internal.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATEMENT_LIMIT 128  /* prepared statements of one connection; more are sent unnamed */
#define BUCKETS 256
#define LONGEST_TEXT 16384   /* longer texts are not worth keeping */

typedef struct entry {
    struct entry *next;
    char name[16];
    bool prepared;
    int count;         /* of its parameters */
    char *sql;         /* behind the types */
    Oid types[];
} entry;

struct pb_statements {
    entry *buckets[BUCKETS];
    int count;
    unsigned serial;
};

/* Eight bytes at a step: it is asked for each statement that is sent, and some are long. */
static unsigned hash(const char *sql, size_t length) {
    uint64_t h = length, word;
    for (; length >= sizeof word; sql += sizeof word, length -= sizeof word) {
        memcpy(&word, sql, sizeof word);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    for (; length > 0; sql++, length--)
        h = (h ^ (unsigned char)*sql) * 0x9e3779b97f4a7c15u;
    return (unsigned)(h >> 32) % BUCKETS;
}

pb_statements *pb_statements_new(void) {
    return calloc(1, sizeof(pb_statements));
}

void pb_statements_forget_all(pb_statements *statements) {
    for (int i = 0; i < BUCKETS; i++) {
        for (entry *e = statements->buckets[i], *next; e; e = next) {
            next = e->next;
            free(e);
        }
        statements->buckets[i] = NULL;
    }
    statements->count = 0;
}

void pb_statements_free(pb_statements *statements) {
    if (!statements)
        return;
    pb_statements_forget_all(statements);
    free(statements);
}

static entry *add(pb_statements *statements, const char *sql, const Oid *types, int count,
                  unsigned bucket) {
    size_t length = strlen(sql), type_bytes = (size_t)count * sizeof *types;
    if (statements->count == STATEMENT_LIMIT || length > LONGEST_TEXT)
        return NULL;
    entry *e = malloc(sizeof *e + type_bytes + length + 1);
    if (!e)
        return NULL;
    e->count = count;
    memcpy(e->types, types, type_bytes);
    e->sql = (char *)e->types + type_bytes;
    memcpy(e->sql, sql, length + 1);
    snprintf(e->name, sizeof e->name, "pb_%u", statements->serial++);
    e->prepared = false;
    e->next = statements->buckets[bucket];
    statements->buckets[bucket] = e;
    statements->count++;
    return e;
}

static bool is_same(const entry *e, const char *sql, const Oid *types, int count) {
    return e->count == count && strcmp(e->sql, sql) == 0 &&
           memcmp(e->types, types, (size_t)count * sizeof *types) == 0;
}

const char *pb_statements_name(pb_statements *statements, const char *sql, const Oid *types,
                               int count, bool *is_new) {
    unsigned bucket = hash(sql, strlen(sql));
    entry *e = statements->buckets[bucket];
    while (e && !is_same(e, sql, types, count))
        e = e->next;
    if (!e)
        e = add(statements, sql, types, count, bucket);
    if (!e)
        return NULL;
    *is_new = !e->prepared;
    e->prepared = true;
    return e->name;
}

void pb_statements_forget(pb_statements *statements, const char *name) {
    for (int i = 0; i < BUCKETS; i++)
        for (entry *e = statements->buckets[i]; e; e = e->next)
            if (strcmp(e->name, name) == 0)
                e->prepared = false;
}

#include "awaiting.h"

#include <stdlib.h>

#define FIRST_SIZE 1024 /* a power of two */

typedef struct entry {
    int64_t id;      /* 0: free; ids of rows begin at 1 */
    double reported; /* 0: in flight */
} entry;

struct pb_awaiting {
    entry *table; /* open addressing, at most half full */
    size_t size, count;
};

pb_awaiting *pb_awaiting_new(void) {
    pb_awaiting *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->size = FIRST_SIZE;
    a->table = calloc(a->size, sizeof *a->table);
    if (!a->table) {
        free(a);
        return NULL;
    }
    return a;
}

void pb_awaiting_free(pb_awaiting *a) {
    if (a)
        free(a->table);
    free(a);
}

static size_t place(const pb_awaiting *a, int64_t id) {
    return (size_t)(((uint64_t)id * 0x9e3779b97f4a7c15u) >> 20) & (a->size - 1);
}

static entry *find(const pb_awaiting *a, int64_t id) {
    size_t at = place(a, id);
    while (a->table[at].id != 0 && a->table[at].id != id)
        at = (at + 1) & (a->size - 1);
    return &a->table[at];
}

static int grow(pb_awaiting *a) {
    pb_awaiting wider = {calloc(a->size * 2, sizeof(entry)), a->size * 2, a->count};
    if (!wider.table)
        return -1;
    for (size_t i = 0; i < a->size; i++)
        if (a->table[i].id != 0)
            *find(&wider, a->table[i].id) = a->table[i];
    free(a->table);
    *a = wider;
    return 0;
}

int pb_awaiting_add(pb_awaiting *a, int64_t id) {
    if (a->count * 2 >= a->size && grow(a) != 0)
        return -1;
    entry *e = find(a, id);
    if (e->id == 0)
        a->count++;
    *e = (entry){id, 0};
    return 0;
}

void pb_awaiting_reported(pb_awaiting *a, int64_t id, double now) {
    entry *e = find(a, id);
    if (e->id == id)
        e->reported = now;
}

bool pb_awaiting_has(const pb_awaiting *a, int64_t id) {
    return find(a, id)->id == id;
}

bool pb_awaiting_remove(pb_awaiting *a, int64_t id) {
    entry *e = find(a, id);
    if (e->id != id)
        return false;
    a->count--;
    /* Later entries of the same run move up, so that no search ends at the hole. */
    size_t hole = (size_t)(e - a->table), at = hole;
    for (;;) {
        at = (at + 1) & (a->size - 1);
        if (a->table[at].id == 0)
            break;
        size_t home = place(a, a->table[at].id);
        if (((at - home) & (a->size - 1)) >= ((at - hole) & (a->size - 1))) {
            a->table[hole] = a->table[at];
            hole = at;
        }
    }
    a->table[hole] = (entry){0, 0};
    return true;
}

size_t pb_awaiting_count(const pb_awaiting *a) {
    return a->count;
}

int64_t pb_awaiting_lowest(const pb_awaiting *a) {
    int64_t lowest = INT64_MAX;
    for (size_t i = 0; i < a->size; i++)
        if (a->table[i].id != 0 && a->table[i].id < lowest)
            lowest = a->table[i].id;
    return lowest;
}

size_t pb_awaiting_older(const pb_awaiting *a, double time) {
    size_t count = 0;
    for (size_t i = 0; i < a->size; i++)
        count += a->table[i].id != 0 && a->table[i].reported > 0 && a->table[i].reported < time;
    return count;
}

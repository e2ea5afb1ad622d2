/*
 * save_check.c: whether a loaded core is the saved one, word by word of their memory, so that a
 * field that save_records.c forgets is found by whoever runs both (the simulator).  Pointers are
 * the same where they point to the same place of the same table.
 */
#include "supervisor/core/internal.h"

struct table {
    const void *saved, *loaded;
    size_t bytes;
};

/* Pointers of a core point into these. */
enum { TABLES = 6 };

static void tables_of(const struct core *a, const struct core *b, struct table tables[TABLES])
{
    const struct core_limits *l = &a->limits;
    const struct table all[TABLES] = {
        {a, b, sizeof *a},
        {a->models, b->models, l->models * sizeof *a->models},
        {a->slots, b->slots, l->slots * sizeof *a->slots},
        {a->items, b->items, l->requests * sizeof *a->items},
        {a->entries.list, b->entries.list, l->entries * sizeof *a->entries.list},
        {a->bodies.list, b->bodies.list, a->bodies.limit * sizeof *a->bodies.list},
    };
    memcpy(tables, all, sizeof all);
}

static bool words_equal(const struct table tables[TABLES], uint64_t saved, uint64_t loaded)
{
    bool equal = saved == loaded;
    for (unsigned i = 0; i < TABLES && !equal; i++) {
        uint64_t offset = saved - (uint64_t)(uintptr_t)tables[i].saved;
        equal = offset < tables[i].bytes && tables[i].loaded &&
                loaded - (uint64_t)(uintptr_t)tables[i].loaded == offset;
    }
    return equal;
}

static void check_record(const struct table tables[TABLES], const void *saved, const void *loaded,
                         size_t bytes)
{
    for (size_t at = 0; at + sizeof(uint64_t) <= bytes; at += sizeof(uint64_t)) {
        uint64_t a, b;
        memcpy(&a, (const char *)saved + at, sizeof a);
        memcpy(&b, (const char *)loaded + at, sizeof b);
        assert(words_equal(tables, a, b));
    }
}

void core_check_loaded(const struct core *saved, const struct core *loaded)
{
    struct table tables[TABLES];
    tables_of(saved, loaded, tables);
    for (uint32_t i = 0; i < saved->limits.models; i++) {
        struct model a = saved->models[i], b = loaded->models[i];
        a.free = b.free = NULL; /* of a table with nothing of its own behind the heap's end */
        if (a.used || b.used)
            check_record(tables, &a, &b, sizeof a);
    }
    for (uint32_t i = 0; i < saved->slots_high; i++)
        check_record(tables, &saved->slots[i], &loaded->slots[i], sizeof(struct slot));
    for (uint32_t i = 0; i < saved->items_high; i++)
        if (saved->items[i].place != PLACE_NONE || loaded->items[i].place != PLACE_NONE)
            check_record(tables, &saved->items[i], &loaded->items[i], sizeof(struct item));
    for (uint32_t i = 0; i < saved->entries.high; i++)
        check_record(tables, &saved->entries.list[i], &loaded->entries.list[i],
                     sizeof(struct entry));
    for (uint32_t i = 0; i < saved->bodies.high; i++)
        check_record(tables, &saved->bodies.list[i], &loaded->bodies.list[i], sizeof(struct body));
    check_record(tables, saved->clients, loaded->clients, CLIENTS * sizeof *saved->clients);
}

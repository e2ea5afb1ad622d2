/*
 * entry.c: the memory of durable requests: found by record and by key, finished ones in the order
 * of their end.  Owns the table, which never grows.  Keys are hashes that the shell made with a
 * secret seed; the second word picks the chain, because the lowest bit of the first is always set.
 */
#include "supervisor/core/internal.h"

#include <stdlib.h>

int entries_init(struct entries *entries, uint32_t limit)
{
    size_t chains = 1;
    while (chains < limit)
        chains *= 2;
    *entries = (struct entries){.limit = limit, .mask = (uint32_t)chains - 1};
    if (!limit)
        return 0;
    entries->list = calloc(limit, sizeof *entries->list);
    entries->by_key = calloc(chains, sizeof *entries->by_key);
    entries->by_record = calloc(chains, sizeof *entries->by_record);
    return entries->list && entries->by_key && entries->by_record ? 0 : HASUP_ENOMEM;
}

void entries_fini(struct entries *entries)
{
    free(entries->list);
    free(entries->by_key);
    free(entries->by_record);
}

/* ---- finding ---- */

static bool key_is_none(const uint64_t key[2])
{
    return !key[0] && !key[1];
}

struct entry *entry_by_key(const struct entries *entries, const uint64_t key[2])
{
    if (!entries->limit || key_is_none(key))
        return NULL;
    struct entry *entry = entries->by_key[key[1] & entries->mask];
    while (entry && (entry->key[0] != key[0] || entry->key[1] != key[1]))
        entry = entry->next_by_key;
    return entry;
}

struct entry *entry_by_record(const struct entries *entries, uint64_t record)
{
    if (!entries->limit)
        return NULL;
    struct entry *entry = entries->by_record[record & entries->mask];
    while (entry && entry->record != record)
        entry = entry->next_by_record;
    return entry;
}

struct entry *entry_condemned(const struct entries *entries, const uint64_t hash[2])
{
    struct entry *entry = entries->oldest;
    while (entry && (entry->state != ENTRY_REFUSED || entry->why != REFUSED_QUARANTINED ||
                     entry->hash[0] != hash[0] || entry->hash[1] != hash[1]))
        entry = entry->newer;
    return entry;
}

/* ---- life ---- */

struct entry *entry_new(struct entries *entries, uint64_t record, const uint64_t key[2],
                        uint64_t body)
{
    struct entry *entry = entries->free;
    if (entry)
        entries->free = entry->newer;
    else if (entries->high < entries->limit)
        entry = &entries->list[entries->high++];
    else
        return NULL;
    *entry = (struct entry){.timer = {.kind = TIMER_ENTRY},
                            .record = record,
                            .key = {key[0], key[1]},
                            .body = body,
                            .state = ENTRY_RUNNING,
                            .keyed = !key_is_none(key)};
    entries->used++;
    struct entry **chain = &entries->by_record[record & entries->mask];
    entry->next_by_record = *chain;
    *chain = entry;
    if (entry->keyed) {
        chain = &entries->by_key[key[1] & entries->mask];
        entry->next_by_key = *chain;
        *chain = entry;
    }
    return entry;
}

void entry_unkey(struct entries *entries, struct entry *entry)
{
    if (!entry->keyed)
        return;
    struct entry **at = &entries->by_key[entry->key[1] & entries->mask];
    while (*at != entry)
        at = &(*at)->next_by_key;
    *at = entry->next_by_key;
    entry->next_by_key = NULL;
    entry->keyed = false;
}

void entry_finish(struct entries *entries, struct entry *entry, bool refused)
{
    entry->state = refused ? ENTRY_REFUSED : ENTRY_DONE;
    entries->finished++;
    entries->bytes += entry->size;
    entry->older = entries->newest;
    entry->newer = NULL;
    if (entries->newest)
        entries->newest->newer = entry;
    else
        entries->oldest = entry;
    entries->newest = entry;
}

static bool entry_is_finished(const struct entry *entry)
{
    return entry->state == ENTRY_DONE || entry->state == ENTRY_REFUSED;
}

void entry_free(struct entries *entries, struct entry *entry)
{
    struct entry **at = &entries->by_record[entry->record & entries->mask];
    assert(!timer_is_set(&entry->timer));
    while (*at != entry)
        at = &(*at)->next_by_record;
    *at = entry->next_by_record;
    entry_unkey(entries, entry);
    if (entry_is_finished(entry)) {
        entries->finished--;
        entries->bytes -= entry->size;
        *(entry->older ? &entry->older->newer : &entries->oldest) = entry->newer;
        *(entry->newer ? &entry->newer->older : &entries->newest) = entry->older;
    }
    entries->used--;
    *entry = (struct entry){.newer = entries->free};
    entries->free = entry;
}

/* ---- invariants ---- */

void entries_check(const struct entries *entries)
{
    uint32_t free_count = 0, finished = 0, used = 0, listed = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < entries->high; i++) {
        const struct entry *entry = &entries->list[i];
        free_count += entry->state == ENTRY_FREE;
        finished += entry_is_finished(entry);
        if (entry->state == ENTRY_FREE)
            continue;
        used++;
        assert(entry_by_record(entries, entry->record) == entry);
        assert(!entry->keyed || entry_by_key(entries, entry->key) == entry);
        assert(!timer_is_set(&entry->timer) || entry_is_finished(entry));
    }
    for (const struct entry *at = entries->oldest; at; at = at->newer) {
        assert(entry_is_finished(at) && (at->newer || entries->newest == at));
        assert(!at->newer || at->newer->older == at);
        listed++;
        bytes += at->size;
    }
    assert(free_count + used == entries->high && listed == finished);
    assert(bytes == entries->bytes && used == entries->used && finished == entries->finished);
}

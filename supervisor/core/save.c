/*
 * save.c: the core as bytes, and back: for a hasupd that hands over to another one.  What stands
 * here are the parts and the tables; the fields are in save_records.c, the timers in save_timers.c.
 *
 * Parts: head, core, models, slots, items, entries, bodies, clients, timers; then a sum over all.
 * The bytes are believed only so far that nothing outside of the tables is ever touched: whether
 * what they say makes sense is core_check()'s question.
 */
#include "supervisor/core/save_own.h"

#include <stdlib.h>

enum { FORMAT = 1, MAGIC = 0x68735550, SUM_BYTES = 8 };

enum part {
    PART_HEAD = 1,
    PART_CORE,
    PART_MODELS,
    PART_SLOTS,
    PART_ITEMS,
    PART_ENTRIES,
    PART_BODIES,
    PART_CLIENTS,
    PART_TIMERS
};

/* ---- tables: one record for each place, an empty one for what is not in use ---- */

static void models_code(struct core *core, struct codec *codec)
{
    for (uint32_t i = 0; i < core->limits.models; i++) {
        struct model *model = &core->models[i];
        codec_begin(codec);
        if (model->used || codec->loading)
            model_code(core, codec, model);
        codec_end(codec);
        if (codec->loading)
            model->free = core->free_slots + (size_t)i * core->limits.slots;
        for (uint32_t at = 0; model->used && at < model->free_count; at++) {
            codec_begin(codec);
            SLOT(model->free[at]);
            codec_end(codec);
            if (!model->free[at])
                codec_fail(codec);
        }
    }
}

/* An unused one, too: its worker's number goes on. */
static void slots_code(struct core *core, struct codec *codec)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        codec_begin(codec);
        slot_code(core, codec, &core->slots[i]);
        codec_end(codec);
    }
}

static void items_code(struct core *core, struct codec *codec)
{
    for (uint32_t i = 0; i < core->items_high; i++) {
        codec_begin(codec);
        if (core->items[i].place != PLACE_NONE || codec->loading)
            item_code(core, codec, &core->items[i]);
        codec_end(codec);
    }
}

/* The first of each chain is the one that no other has behind it. */
static void chains_join(struct entries *entries, struct codec *codec)
{
    enum { BEHIND_KEY = 1, BEHIND_RECORD = 2 };
    uint8_t *behind = calloc((size_t)entries->limit + 1, 1);
    if (!behind) {
        codec_fail(codec);
        return;
    }
    for (uint32_t i = 0; i < entries->high; i++) {
        const struct entry *entry = &entries->list[i];
        if (entry->next_by_key)
            behind[entry->next_by_key - entries->list] |= BEHIND_KEY;
        if (entry->next_by_record)
            behind[entry->next_by_record - entries->list] |= BEHIND_RECORD;
    }
    for (uint32_t i = 0; i < entries->high; i++) {
        struct entry *entry = &entries->list[i];
        if (entry->state == ENTRY_FREE)
            continue;
        if (entry->keyed && !(behind[i] & BEHIND_KEY))
            entries->by_key[entry->key[1] & entries->mask] = entry;
        if (!(behind[i] & BEHIND_RECORD))
            entries->by_record[entry->record & entries->mask] = entry;
    }
    free(behind);
}

static void entries_code(struct core *core, struct codec *codec)
{
    struct entries *entries = &core->entries;
    for (uint32_t i = 0; i < entries->high; i++) {
        codec_begin(codec);
        entry_code(core, codec, &entries->list[i]);
        codec_end(codec);
    }
    if (codec->loading && !codec->failed)
        chains_join(entries, codec);
}

static void bodies_code(struct core *core, struct codec *codec)
{
    struct bodies *bodies = &core->bodies;
    for (uint32_t i = 0; i < bodies->high; i++) {
        codec_begin(codec);
        body_code(core, codec, &bodies->list[i]);
        codec_end(codec);
    }
    for (uint32_t i = 0; i <= bodies->mask; i++) {
        codec_begin(codec);
        BODY(bodies->chains[i]);
        codec_end(codec);
    }
}

static void clients_code(struct core *core, struct codec *codec)
{
    for (uint32_t i = 0; i < CLIENTS; i++) {
        codec_begin(codec);
        V(core->clients[i].key);
        V(core->clients[i].due);
        codec_end(codec);
    }
}

/* ---- all of it ---- */

static void head_code(struct codec *codec, struct core_limits *limits)
{
    uint32_t magic = MAGIC, format = FORMAT;
    size_t part = codec_open(codec, PART_HEAD, "its version");
    codec_begin(codec);
    V(magic);
    V(format);
    if (magic != MAGIC || format != FORMAT)
        codec_fail(codec);
    codec->what = "its limits";
    SUB(limits_code(codec, limits));
    codec_end(codec);
    codec_close(codec, part);
}

static void parts_code(struct core *core, struct codec *codec)
{
    static const struct {
        const char *what;
        void (*code)(struct core *core, struct codec *codec);
    } PARTS[] = {
        {"its models", models_code},   {"its slots", slots_code},   {"its requests", items_code},
        {"its records", entries_code}, {"its bodies", bodies_code}, {"its clients", clients_code},
        {"its timers", timers_code},
    };
    size_t part = codec_open(codec, PART_CORE, "its counters");
    codec_begin(codec);
    core_code(core, codec);
    codec_end(codec);
    codec_close(codec, part);
    for (unsigned i = 0; i < HASUP_LEN(PARTS) && !codec->failed; i++) {
        part = codec_open(codec, PART_MODELS + i, PARTS[i].what);
        PARTS[i].code(core, codec);
        codec_close(codec, part);
    }
}

size_t core_save(const struct core *core, uint8_t *bytes, size_t room)
{
    struct core_limits limits = core->limits;
    struct codec codec;
    codec_save(&codec, bytes, room);
    head_code(&codec, &limits);
    parts_code((struct core *)(uintptr_t)core, &codec); /* which only reads it */
    if (codec.used + SUM_BYTES <= room) {
        uint64_t sum = codec_sum(bytes, codec.used);
        memcpy(bytes + codec.used, &sum, SUM_BYTES);
    }
    return codec.used + SUM_BYTES;
}

static bool limits_equal(const struct core_limits *a, const struct core_limits *b)
{
    return a->models == b->models && a->slots == b->slots && a->requests == b->requests &&
           a->loading == b->loading && a->entries == b->entries &&
           a->result_bytes == b->result_bytes && a->stream_bytes == b->stream_bytes &&
           a->durable_bytes == b->durable_bytes && a->bodies == b->bodies;
}

struct core *core_load(const struct core_limits *limits, const uint8_t *bytes, size_t len,
                       const char **why)
{
    struct core_limits theirs = {0};
    struct codec codec;
    uint64_t sum;
    *why = "it is cut off or damaged";
    if (len < SUM_BYTES)
        return NULL;
    memcpy(&sum, bytes + len - SUM_BYTES, SUM_BYTES);
    if (sum != codec_sum(bytes, len - SUM_BYTES))
        return NULL;
    codec_load(&codec, bytes, len - SUM_BYTES);
    head_code(&codec, &theirs);
    *why = codec.failed;
    if (!codec.failed && !limits_equal(&theirs, limits))
        *why = "limits that are not those of this configuration";
    if (*why)
        return NULL;
    struct core *core = core_new(limits, 0);
    *why = "out of memory";
    if (!core)
        return NULL;
    parts_code(core, &codec);
    if (codec.at != codec.len)
        codec_fail(&codec);
    *why = codec.failed;
    if (!codec.failed) {
        gate_loaded(core);
        order_loaded(core);
        return core;
    }
    core_free(core);
    return NULL;
}

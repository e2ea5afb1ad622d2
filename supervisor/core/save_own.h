/*
 * save_own.h: what the files share that make bytes of the core and a core of bytes: save_records.c
 * names the fields of each record, save_timers.c those of the timers, save.c goes through the tables.
 */
#ifndef HASUP_CORE_SAVE_OWN_H
#define HASUP_CORE_SAVE_OWN_H

#include "supervisor/core/codec.h"
#include "supervisor/core/internal.h"

/* A record inside of one. */
#define SUB(code)                                                                                  \
    do {                                                                                           \
        struct codec_outer outer_ = codec_enter(codec);                                            \
        code;                                                                                      \
        codec_leave(codec, outer_);                                                                \
    } while (0)

/* A pointer as a place in the core's table: 0 is none, n the table's entry n - 1. */
void slot_ref(struct core *core, struct codec *codec, struct slot **at);
void item_ref(struct core *core, struct codec *codec, struct item **at);
void entry_ref(struct core *core, struct codec *codec, struct entry **at);
void body_ref(struct core *core, struct codec *codec, struct body **at);

#define SLOT(field)  slot_ref(core, codec, &(field))
#define ITEM(field)  item_ref(core, codec, &(field))
#define ENTRY(field) entry_ref(core, codec, &(field))
#define BODY(field)  body_ref(core, codec, &(field))

/* ---- save_records.c: a record's fields, behind codec_begin() or codec_enter() ---- */
void limits_code(struct codec *codec, struct core_limits *limits);
void core_code(struct core *core, struct codec *codec);
void model_code(struct core *core, struct codec *codec, struct model *model);
void slot_code(struct core *core, struct codec *codec, struct slot *slot);
void item_code(struct core *core, struct codec *codec, struct item *item);
void entry_code(struct core *core, struct codec *codec, struct entry *entry);
void body_code(struct core *core, struct codec *codec, struct body *body);

/* ---- save_timers.c: which are set, in the order in which they are due ---- */
void timers_code(struct core *core, struct codec *codec);

#endif

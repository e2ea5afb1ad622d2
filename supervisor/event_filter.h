/*
 * event_filter.h: which events somebody wants to hear of, told from an event's JSON line as log.c
 * writes it.  hasupd asks it for who follows, hasupctl for what the journal keeps.
 */
#ifndef HASUP_SUPERVISOR_EVENT_FILTER_H
#define HASUP_SUPERVISOR_EVENT_FILTER_H

#include "ipc/base.h"

enum { EVENT_TARGET = 96, EVENT_NAME = 40, EVENT_NAMES = 16, EVENT_LEVELS = 4 };

/* All zero: every event. */
struct event_filter {
    char target[EVENT_TARGET];           /* model or slot; "": all, and hasupd's own */
    char names[EVENT_NAMES][EVENT_NAME]; /* "slot.exited", or all of a kind: "slot" */
    uint32_t name_count;                 /* 0: all */
    uint32_t level;                      /* at least: 0 debug, 1 info, 2 warning, 3 error */
};

bool event_filter_passes(const struct event_filter *filter, const char *json, size_t len);
/* One name more, "slot.*" being "slot"; false: it is too long, or they are too many. */
bool event_filter_add(struct event_filter *filter, const char *name);
extern const char *const EVENT_LEVEL_NAMES[EVENT_LEVELS];
/* -1: no such level. */
int event_filter_level(const char *name);

#endif

/* events.h: hasupctl events: what is asked for, live and of the past. */
#ifndef HASUP_HASUPCTL_EVENTS_H
#define HASUP_HASUPCTL_EVENTS_H

#include "hasupctl/hasupctl.h"
#include "supervisor/event_filter.h"

struct events_wanted {
    struct event_filter filter;
    bool follow, past; /* past: what the journal keeps, too */
    int64_t since_wall_ns;
    long most; /* -1: not said */
};

/* What hasupd is asked; `count`: of the last ones, negative: as it likes. */
json_t *events_command(const struct events_wanted *wanted, bool follow, long count);
/* One event, as JSON or for eyes, there with its `day` or without. */
void events_print(const struct ctl *ctl, const char *line, size_t len, bool day);
/* As events_print, with the day. */
void events_print_dated(const struct ctl *ctl, const char *line, size_t len);
/* Whether it is no event but says how many this reader has not got; then it is said. */
bool events_lost(const json_t *entry);
/* What the journal and a running hasupd have; then what comes, where it is followed. */
int events_past(const struct ctl *ctl, const struct events_wanted *wanted);

/* Names of events, NULL behind the last, in order; a name's kind is what stands before its dot. */
extern const char *const EVENT_NAMES_KNOWN[];
/* What may stand behind --event, of what begins so, by `offer`; behind a comma one more. */
void events_complete(void (*offer)(const char *word, const char *help, const char *begun),
                     const char *begun);
/* Adds names ("slot.exited,model") to the filter; CTL_USAGE where one is none, said so. */
int events_named(const struct ctl *ctl, struct event_filter *filter, const char *names);

#endif

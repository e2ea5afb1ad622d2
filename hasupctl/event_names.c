/*
 * event_names.c: the events that there are, so that a mistyped name is not waited for in vain.
 * tests/unit/test_event_names.py compares them with what hasupd logs.
 */
#include "hasupctl/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const EVENT_NAMES_KNOWN[] = {
    "checkpoint.damaged",
    "checkpoint.failed",
    "checkpoint.lost",
    "checkpoint.stored",
    "checkpoint.unreadable",
    "checkpoints.failing",
    "checkpoints.off",
    "checkpoints.recovered",
    "client.broke",
    "client.cut_off",
    "client.refused",
    "config.refused",
    "config.reloaded",
    "descriptors.few",
    "door.accept_failed",
    "hasupd.last_run",
    "hasupd.started",
    "hasupd.stopped",
    "hasupd.upgraded",
    "journal.damaged",
    "journal.failing",
    "journal.loaded",
    "journal.recovered",
    "journal.recovery_failed",
    "journal.result_lost",
    "journal.row_missing",
    "journal.strangers",
    "journal.too_large",
    "journal.unclean",
    "log.files_failing",
    "log.files_not_compressed",
    "log.files_recovered",
    "log.files_slow",
    "model.broken",
    "model.configured",
    "model.failed",
    "model.mended",
    "model.removed",
    "model.unforkable",
    "notes.failing",
    "notify.refused",
    "program.silent",
    "program.unwell",
    "program.well",
    "recycle.done",
    "recycle.put_off",
    "recycle.started",
    "request.body_not_kept",
    "request.diverged",
    "request.not_stored",
    "request.pardoned",
    "request.quarantined",
    "rollout.aborted",
    "rollout.canary",
    "rollout.done",
    "rollout.given_up",
    "rollout.promoted",
    "rollout.resumed",
    "rollout.rolled_back",
    "rollout.rolling_back",
    "rollout.started",
    "service.untold",
    "shutdown.hastened",
    "shutdown.killed",
    "shutdown.started",
    "shutdown.waiting",
    "signal",
    "slot.aborting",
    "slot.backoff",
    "slot.broke",
    "slot.broken",
    "slot.done",
    "slot.draining",
    "slot.exited",
    "slot.hung",
    "slot.killing",
    "slot.last_lines",
    "slot.loading",
    "slot.pre_start",
    "slot.pre_start_failed",
    "slot.pre_start_timeout",
    "slot.preparing",
    "slot.ready",
    "slot.recycled",
    "slot.replaying",
    "slot.start_failed",
    "slot.start_timeout",
    "slot.starting",
    "slot.state_left",
    "slot.state_lost",
    "slot.stopped",
    "slot.stopping",
    "slot.swapped",
    "slot.waiting",
    "socket.closed",
    "socket.failed",
    "socket.listens",
    "state_dir.shared",
    "upgrade.asked",
    "upgrade.failed",
    "versions.lost",
    NULL,
};

/* "slot" of "slot.exited". */
static size_t kind_len(const char *name)
{
    return strcspn(name, ".");
}

static bool is_kind(const char *kind, size_t len)
{
    for (const char *const *name = EVENT_NAMES_KNOWN; *name; name++)
        if (kind_len(*name) == len && strncmp(*name, kind, len) == 0)
            return true;
    return false;
}

static bool is_known(const char *word)
{
    size_t len = strlen(word);
    if (len > 2 && strcmp(word + len - 2, ".*") == 0)
        return is_kind(word, len - 2);
    for (const char *const *name = EVENT_NAMES_KNOWN; *name; name++)
        if (strcmp(*name, word) == 0)
            return true;
    return is_kind(word, len);
}

/* Of this kind all names, without it; of no kind ("") all kinds. */
static void print_names(FILE *to, const char *kind, size_t len)
{
    const char *last = "", *comma = "";
    for (const char *const *name = EVENT_NAMES_KNOWN; *name; last = *name++) {
        size_t own = kind_len(*name);
        const char *text = *name;
        if (len && (own != len || strncmp(*name, kind, len) != 0))
            continue;
        if (len)
            text += own + (text[own] == '.');
        else if (own == kind_len(last) && strncmp(last, *name, own) == 0)
            continue;
        fprintf(to, "%s%.*s", comma, len ? (int)strlen(text) : (int)own, text);
        comma = ", ";
    }
}

/* "exited" is the end of a name, "slot.exitd" near to one, "slots" to a kind. */
static const char *meant(const char *word, char kind[EVENT_NAME])
{
    struct ctl_near near = {0};
    for (const char *const *name = EVENT_NAMES_KNOWN; *name; name++) {
        char own[EVENT_NAME];
        size_t len = kind_len(*name);
        if ((*name)[len] && strcmp(*name + len + 1, word) == 0)
            return *name;
        snprintf(own, sizeof own, "%.*s", (int)len, *name);
        ctl_near(&near, word, own);
        if (near.name == own) {
            memcpy(kind, own, sizeof own);
            near.name = kind;
        }
        ctl_near(&near, word, *name);
    }
    return near.name;
}

static int unknown(const struct ctl *ctl, const char *word)
{
    char kind[EVENT_NAME];
    size_t len = kind_len(word);
    if (strncmp(word, "worker", len) == 0 && len == strlen("worker"))
        return ctl_usage(ctl, "what workers print is no event; hasupctl logs has it");
    const char *near = strcmp(word + len, ".") == 0 ? NULL : meant(word, kind);
    if (near)
        return ctl_usage(ctl, "there is no event \"%s\"; did you mean \"%s\"?", word, near);
    fprintf(stderr, "hasupctl: there is no event \"%s\"; ", word);
    if (is_kind(word, len)) {
        fprintf(stderr, "%.*s has ", (int)len, word);
        print_names(stderr, word, len);
    } else {
        fputs("kinds are ", stderr);
        print_names(stderr, "", 0);
    }
    fputs(" (docs/hasupd.md tells of each)\n", stderr);
    return CTL_USAGE;
}

int events_named(const struct ctl *ctl, struct event_filter *filter, const char *names)
{
    char *copy = strdup(names), *rest = copy;
    int code = copy ? CTL_OK : CTL_FAILED;
    for (const char *word; code == CTL_OK && (word = strsep(&rest, ","));) {
        if (!*word)
            code = ctl_usage(ctl, "--event wants a name such as slot.exited, or a kind: slot");
        else if (!is_known(word))
            code = unknown(ctl, word);
        else if (!event_filter_add(filter, word))
            code = ctl_usage(ctl, "--event takes %d names at most", EVENT_NAMES);
    }
    free(copy);
    return code;
}

void events_complete(void (*offer)(const char *word, const char *help, const char *begun),
                     const char *begun)
{
    const char *comma = strrchr(begun, ','), *last = "";
    int before = comma ? (int)(comma + 1 - begun) : 0;
    char word[EVENT_NAMES * EVENT_NAME];
    for (const char *const *name = EVENT_NAMES_KNOWN; *name; last = *name++) {
        size_t len = kind_len(*name);
        if ((*name)[len] && (kind_len(last) != len || strncmp(last, *name, len) != 0)) {
            snprintf(word, sizeof word, "%.*s%.*s", before, begun, (int)len, *name);
            offer(word, "all of this kind", begun);
        }
        snprintf(word, sizeof word, "%.*s%s", before, begun, *name);
        offer(word, "", begun);
    }
}

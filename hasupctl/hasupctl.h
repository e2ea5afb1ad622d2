/* hasupctl.h: what the verbs of hasupctl share. */
#ifndef HASUP_HASUPCTL_H
#define HASUP_HASUPCTL_H

#include "client/hasup_client.h"
#include "ipc/base.h"

#include <jansson.h>
#include <stdbool.h>

/* Exit codes; stable (docs/hasupctl.md). */
enum { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2, CTL_UNREACHABLE = 3, CTL_TIMEOUT = 4 };

struct ctl {
    const char *socket;
    const char
        *state_dir; /* of verbs that work on files; NULL: asked of hasupd, else the default */
    const char *key_file; /* NULL: as the configuration says that hasupd noted */
    bool json;
    bool colour;
    int width;         /* columns of the screen */
    const char *usage; /* of the verb */
    int argc;          /* what follows the verb */
    char **argv;
};

struct ctl_verb {
    const char *name;
    int (*run)(const struct ctl *ctl);
    bool options; /* reads its own options; else a word that begins with "-" is a mistake */
    const char *usage, *help;
};

/* One command and its answer.  The exit code; *answer is a new reference (NULL unless CTL_OK). Says
 * itself what went wrong. */
int ctl_call(const struct ctl *ctl, json_t *command, json_t **answer);
/* The same, for so long; negative: however long it takes.  CTL_TIMEOUT: it took longer, said by
 * whoever asked. */
int ctl_call_within(const struct ctl *ctl, json_t *command, int64_t limit_ms, json_t **answer);
/* The same, however long it takes. */
int ctl_await(const struct ctl *ctl, json_t *command, json_t **answer);
struct hasup_client *ctl_open(const struct ctl *ctl);
/* Says what is wrong and how the verb is used; gives CTL_USAGE. */
int ctl_usage(const struct ctl *ctl, const char *format, ...) HASUP_PRINTF(2, 3);
/* Prints hasupd's refusal; gives CTL_FAILED. */
int ctl_refused(const struct hasup_client_answer *answer);
void ctl_print_json(json_t *json);

int ctl_status(const struct ctl *ctl);
int ctl_top(const struct ctl *ctl);
int ctl_why(const struct ctl *ctl);
int ctl_wait(const struct ctl *ctl);
int ctl_shutdown(const struct ctl *ctl);
int ctl_infer(const struct ctl *ctl);
int ctl_restart(const struct ctl *ctl);
int ctl_reload(const struct ctl *ctl);
int ctl_upgrade(const struct ctl *ctl);
int ctl_canary(const struct ctl *ctl);
int ctl_promote(const struct ctl *ctl);
int ctl_abort(const struct ctl *ctl);
int ctl_logs(const struct ctl *ctl);
int ctl_events(const struct ctl *ctl);
int ctl_requests(const struct ctl *ctl);
int ctl_checkpoint(const struct ctl *ctl);
int ctl_audit(const struct ctl *ctl);
/* What --help says of a verb below its usage: options, or second words, one a line. */
extern const char CTL_AUDIT_OPTIONS[], CTL_LOGS_OPTIONS[], CTL_EVENTS_OPTIONS[];
extern const char CTL_CHECKPOINT_VERBS[], CTL_REQUESTS_VERBS[];
/* That of this verb, or "". */
const char *ctl_verb_more(const struct ctl_verb *verb);
/* What may stand where the last word of ctl->argv does; `globals` is the usage of what may stand
 * before a verb. */
int ctl_complete(struct ctl *ctl, const char *globals, const struct ctl_verb *verbs, size_t n);

/* A command whose answer comes in parts, each given to `print`; the exit code.  Takes `command`. */
int ctl_stream(const struct ctl *ctl, json_t *command,
               void (*print)(const struct ctl *ctl, const char *line, size_t len));
/* The parts of command `id` as they come, to its end. */
int ctl_stream_on(const struct ctl *ctl, struct hasup_client *client, uint64_t id,
                  void (*print)(const struct ctl *ctl, const char *line, size_t len));
/* The nearest of the names that were tried; NULL: none is near.  Zeroed before the first. */
struct ctl_near {
    const char *name;
    size_t far;
};
void ctl_near(struct ctl_near *near, const char *word, const char *name);
/* Prints the parts of an answer as they come, or all of it as JSON; the exit code. */
int ctl_print_answer(const struct ctl *ctl, struct hasup_client *client);
/* "3 min", "12 s", "450 ms". */
const char *ctl_duration(long long ms, char out[32]);
const char *ctl_bytes(unsigned long long bytes, char out[32]);
int64_t ctl_wall_now(void); /* ns since 1970 */
/* "90s", "24h", "7d"; false: no duration above 0. */
bool ctl_span(const char *text, hasup_ns *span);
/* "5m" (ago), "19:39" (the last one), "2026-11-25", "2026-11-25T19:39:35.5Z", "@1700000000", "today",
 * "yesterday"; UTC where no zone is named.  NULL, or what is wanted. */
const char *ctl_when(const char *text, int64_t *wall_ns);
/* The state directory that checkpoint list, show and audit read; the caller frees it. */
char *ctl_state_dir(const struct ctl *ctl);
extern const char CTL_KEEPS_NOTHING[];

#endif

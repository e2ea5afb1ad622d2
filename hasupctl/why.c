/* why.c: what somebody on call asks next: why it died, when it is well again, what a shutdown
 * would wait for. */
#include "hasupctl/hasupctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long long number(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* ---- why ---- */

static void print_requests(const json_t *death)
{
    json_t *ids = json_object_get(death, "requests"), *id;
    long long more = number(death, "request_count") - (long long)json_array_size(ids);
    size_t i;
    if (!json_array_size(ids)) {
        puts("  in hand   nothing");
        return;
    }
    json_array_foreach(ids, i, id)
        printf("  %-9s %s\n", i ? "" : "in hand", json_string_value(id));
    if (more > 0)
        printf("            and %lld more\n", more);
}

static void print_death(const json_t *death)
{
    char ago[32], lived[32], rss[32];
    long long now = (long long)(ctl_wall_now() / HASUP_MS) - number(death, "wall_ms");
    const json_t *exit = json_object_get(death, "exit");
    json_t *line;
    size_t i;
    printf("  died      %s\n", text(death, "reason"));
    printf("  when      %s ago%s%s\n", ctl_duration(now < 0 ? 0 : now, ago),
           *text(death, "cause") ? ", counted as " : "", text(death, "cause"));
    if (json_is_object(exit)) {
        printf("  process   pid %lld, lived %s\n", number(exit, "pid"),
               ctl_duration(number(exit, "lived_ms"), lived));
        printf("  used      %lld ms user, %lld ms system, at most %s, %lld major page faults, %lld "
               "context switches\n",
               number(exit, "user_ms"), number(exit, "system_ms"),
               ctl_bytes((unsigned long long)number(exit, "max_rss_kib") * 1024, rss),
               number(exit, "major_faults"), number(exit, "context_switches"));
        print_requests(death);
    }
    json_array_foreach(json_object_get(death, "stderr"), i, line)
        printf("    | %s\n", json_string_value(line));
}

static void print_why(const json_t *slot)
{
    char since[32], in[32];
    const json_t *death = json_object_get(slot, "death"), *next = json_object_get(slot, "next");
    const char *state = text(slot, "state");
    json_t *in_ms = json_object_get(next, "in_ms");
    printf("%s: %s for %s, %lld start%s, %lld crash%s\n", text(slot, "slot"), state,
           ctl_duration(number(slot, "since_ms"), since), number(slot, "starts"),
           number(slot, "starts") == 1 ? "" : "s", number(slot, "crashes"),
           number(slot, "crashes") == 1 ? "" : "es");
    if (json_is_object(death))
        print_death(death);
    else
        puts("  died      never");
    printf("  next      %s%s%s\n", text(next, "text"), json_is_integer(in_ms) ? ", in " : "",
           json_is_integer(in_ms) ? ctl_duration(json_integer_value(in_ms), in) : "");
    if (strcmp(state, "broken") == 0 || strcmp(state, "backoff") == 0)
        printf("  at once   hasupctl start %s\n", text(slot, "slot"));
    else if (strcmp(state, "stopped") == 0)
        printf("  to start  hasupctl start %s\n", text(slot, "slot"));
}

int ctl_why(const struct ctl *ctl)
{
    json_t *answer, *slot;
    size_t i;
    if (ctl->argc != 1)
        return ctl_usage(ctl, ctl->argc ? "one model or slot at a time" : "which model or slot?");
    int code =
        ctl_call(ctl, json_pack("{s:s, s:s}", "verb", "why", "target", ctl->argv[0]), &answer);
    if (code == CTL_OK && ctl->json)
        ctl_print_json(answer);
    else
        json_array_foreach(json_object_get(answer, "slots"), i, slot) print_why(slot);
    if (code == CTL_OK && !ctl->json && !json_array_size(json_object_get(answer, "slots")))
        printf("%s has no slots; hasupctl scale %s 1 gives it one\n", ctl->argv[0], ctl->argv[0]);
    json_decref(answer);
    return code;
}

/* ---- wait ---- */

/* "30s", "500ms", "5m", "2h"; -1: none of them. */
static int64_t duration_ms(const char *text_)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } UNITS[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}};
    char *end;
    long value = strtol(text_, &end, 10);
    if (end == text_ || value < 0 || value > 1000 * 1000)
        return -1;
    for (size_t i = 0; i < HASUP_LEN(UNITS); i++)
        if (strcmp(end, UNITS[i].unit) == 0)
            return value * UNITS[i].ms;
    return -1;
}

int ctl_wait(const struct ctl *ctl)
{
    const char *target = NULL, *what = NULL;
    int64_t limit = -1;
    json_t *answer;
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        if (strcmp(word, "--timeout") == 0) {
            limit = i + 1 < ctl->argc ? duration_ms(ctl->argv[++i]) : -1;
            if (limit < 0)
                return ctl_usage(ctl, "--timeout wants a duration such as 500ms, 30s, 5m");
        } else if (strcmp(word, "--ready") == 0 || strcmp(word, "--stopped") == 0 ||
                   strcmp(word, "--idle") == 0) {
            if (what)
                return ctl_usage(ctl, "one of --ready, --stopped, --idle");
            what = word + 2;
        } else if (word[0] == '-') {
            return ctl_usage(ctl, "unknown option %s", word);
        } else if (target) {
            return ctl_usage(ctl, "one model or slot at a time");
        } else {
            target = word;
        }
    }
    if (!target || !what)
        return ctl_usage(ctl, target ? "--ready, --stopped or --idle?" : "which model or slot?");
    int code = ctl_call_within(
        ctl, json_pack("{s:s, s:s, s:s}", "verb", "wait", "target", target, "for", what), limit,
        &answer);
    if (code == CTL_TIMEOUT)
        fprintf(stderr, "hasupctl: %s is not %s yet; hasupctl why %s says what it does\n", target,
                what, target);
    else if (code == CTL_OK && ctl->json)
        ctl_print_json(answer);
    json_decref(answer);
    return code;
}

/* ---- shutdown ---- */

static void print_leave(const json_t *leave)
{
    char most[32], age[32];
    json_t *one, *slots = json_object_get(leave, "slots");
    json_t *requests = json_object_get(leave, "requests");
    size_t i;
    const bool stops = json_is_true(json_object_get(leave, "shutting_down"));
    const long long count = number(leave, "request_count");
    const long long running = (long long)json_array_size(slots);
    const long long more = count - (long long)json_array_size(requests);
    printf("%s %lld slot%s and %s%lld request%s, %s%s at most\n",
           stops ? "hasupd stops, and waits for" : "a shutdown would end", running,
           running == 1 ? "" : "s", stops ? "" : "wait for ", count, count == 1 ? "" : "s",
           stops ? "from now on " : "", ctl_duration(number(leave, "at_most_ms"), most));
    json_array_foreach(slots, i, one)
        printf("  %s  %s, %lld running%s\n", text(one, "slot"), text(one, "state"),
               number(one, "inflight"),
               json_is_true(json_object_get(one, "unsaved")) ? ", a last checkpoint" : "");
    json_array_foreach(requests, i, one)
        printf("  request %s of %s, %s old\n", text(one, "id"),
               *text(one, "slot") ? text(one, "slot") : text(one, "model"),
               ctl_duration(number(one, "age_ms"), age));
    if (more > 0)
        printf("  and %lld requests more\n", more);
}

int ctl_shutdown(const struct ctl *ctl)
{
    json_t *answer;
    const char *word = ctl->argc ? ctl->argv[0] : "";
    bool explain = strcmp(word, "--explain") == 0, now = strcmp(word, "--now") == 0;
    if (ctl->argc > 1 || (ctl->argc && !explain && !now))
        return ctl_usage(ctl, "unexpected argument: %s", ctl->argv[ctl->argc - 1]);
    int code = ctl_call(
        ctl, json_pack("{s:s, s:b, s:b}", "verb", "shutdown", "explain", explain, "now", now),
        &answer);
    if (code == CTL_OK && ctl->json)
        ctl_print_json(answer);
    else if (code == CTL_OK && explain)
        print_leave(answer);
    else if (code == CTL_OK)
        puts("shutting down");
    json_decref(answer);
    return code;
}

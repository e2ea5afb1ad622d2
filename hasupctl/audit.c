/*
 * audit.c: the verb `audit`: its options, the check of the files, and what is shown of it.  Exit
 * codes: 0 sound, 1 findings, 2 could not check.
 */
#include "hasupctl/audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { STUCK_DEFAULT_S = 600 };

struct order {
    struct audit_options options;
    struct ctl ctl; /* with --state-dir */
    bool quiet;
};

const char CTL_AUDIT_OPTIONS[] =
    "  --state-dir DIR   the directory to look at\n"
    "  --deep            every checkpoint and every body, not the newest alone\n"
    "  --max-age 5m      changes of a slot that wait longer for a checkpoint\n"
    "  --stuck 10m       accepted requests that wait longer for their result\n"
    "  --quiet           print nothing where all is sound\n";

/* ---- findings ---- */

/* What a damaged file says of itself may be no UTF-8; it is shown all the same. */
static json_t *any_text(const char *text)
{
    json_t *json = json_string(text);
    if (json)
        return json;
    char plain[512];
    snprintf(plain, sizeof plain, "%s", text);
    for (char *at = plain; *at; at++)
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    return json_string(plain);
}

static void add_finding(void *context, const struct audit_finding *finding)
{
    json_t *json = json_pack("{s:s, s:s, s:o, s:o, s:o}", "code", audit_code_name(finding->code),
                             "severity", audit_severity_name(audit_code_severity(finding->code)),
                             "where", any_text(finding->where), "text", any_text(finding->text),
                             "advice", any_text(finding->advice));
    json_object_set_new(json, "since_wall_ms",
                        finding->since_wall_ns ? json_integer(finding->since_wall_ns / HASUP_MS)
                                               : json_null());
    json_array_append_new(context, json);
}

static void print_finding(json_t *one)
{
    char when[64] = "";
    json_t *since = json_object_get(one, "since_wall_ms");
    time_t seconds = (time_t)(json_integer_value(since) / 1000);
    struct tm local;
    if (json_is_integer(since) && localtime_r(&seconds, &local))
        strftime(when, sizeof when, "    since: %Y-%m-%d %H:%M:%S %z\n", &local);
    printf("%s: %s: %s\n%s    to do: %s\n", json_string_value(json_object_get(one, "code")),
           json_string_value(json_object_get(one, "where")),
           json_string_value(json_object_get(one, "text")), when,
           json_string_value(json_object_get(one, "advice")));
}

static bool is_note(json_t *finding)
{
    return strcmp(json_string_value(json_object_get(finding, "severity")), "note") == 0;
}

/* ---- what is shown ---- */

static json_t *summary_json(json_t *findings, const struct audit_summary *summary)
{
    return json_pack("{s:O, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:i}", "findings",
                     findings, "slots", (int)summary->slots, "checkpoints",
                     (int)summary->checkpoints, "verified", (int)summary->verified, "bytes",
                     (json_int_t)summary->bytes, "requests", (json_int_t)summary->requests,
                     "results", (json_int_t)summary->results, "logged", (json_int_t)summary->logged,
                     "quarantined", (json_int_t)summary->quarantined, "free_bytes",
                     (json_int_t)summary->free_bytes, "free_percent", (int)summary->free_percent);
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static void print_summary(const struct audit_summary *summary)
{
    char bytes[32];
    printf("%u slot%s, %u checkpoint%s of %s, %u read back", summary->slots, plural(summary->slots),
           summary->checkpoints, plural(summary->checkpoints), ctl_bytes(summary->bytes, bytes),
           summary->verified);
    if (summary->requests + summary->results)
        printf("; %llu request%s and %llu result%s in the journal",
               (unsigned long long)summary->requests, plural(summary->requests),
               (unsigned long long)summary->results, plural(summary->results));
    printf("; %s free: %u finding%s", ctl_bytes(summary->free_bytes, bytes), summary->findings,
           plural(summary->findings));
    if (summary->notes)
        printf(", %u note%s", summary->notes, plural(summary->notes));
    putchar('\n');
}

static void print_audit(const struct order *order, json_t *findings,
                        const struct audit_summary *summary)
{
    json_t *one;
    size_t i;
    if (order->quiet && !summary->findings)
        return;
    if (order->ctl.json) {
        json_t *json = summary_json(findings, summary);
        ctl_print_json(json);
        json_decref(json);
        return;
    }
    json_array_foreach(findings, i, one) if (!order->quiet || !is_note(one)) print_finding(one);
    if (!order->quiet)
        print_summary(summary);
}

/* ---- options ---- */

/* "90s", "5m", "2h"; false: not a duration. */
static bool parse_age(const char *text, hasup_ns *age)
{
    char *end;
    long long value = strtoll(text, &end, 10);
    hasup_ns unit = strcmp(end, "s") == 0   ? HASUP_S
                    : strcmp(end, "m") == 0 ? 60 * HASUP_S
                    : strcmp(end, "h") == 0 ? 3600 * HASUP_S
                    : strcmp(end, "d") == 0 ? 86400 * HASUP_S
                                            : 0;
    if (end == text || value <= 0 || !unit || value > HASUP_NEVER / unit)
        return false;
    *age = value * unit;
    return true;
}

/* An option with a value; false: it is another, or the value is wrong. */
static bool take_value(struct order *order, const char *word, const char *value)
{
    if (!value)
        return false;
    if (strcmp(word, "--state-dir") == 0) {
        order->ctl.state_dir = value;
        return true;
    }
    if (strcmp(word, "--max-age") == 0)
        return parse_age(value, &order->options.max_age);
    return strcmp(word, "--stuck") == 0 && parse_age(value, &order->options.stuck);
}

static int parse(struct order *order, const struct ctl *ctl)
{
    *order = (struct order){.options = {.stuck = STUCK_DEFAULT_S * HASUP_S}, .ctl = *ctl};
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        if (strcmp(word, "--deep") == 0)
            order->options.deep = true;
        else if (strcmp(word, "--quiet") == 0)
            order->quiet = true;
        else if (take_value(order, word, i + 1 < ctl->argc ? ctl->argv[i + 1] : NULL))
            i++;
        else
            return ctl_usage(ctl, "what is \"%s\"?", word);
    }
    return 0;
}

static void say_could_not(const struct order *order, const char *error)
{
    fprintf(stderr, "hasupctl: could not check: %s\n", error);
    json_t *json = order->ctl.json ? json_pack("{s:o}", "error", any_text(error)) : NULL;
    if (json)
        ctl_print_json(json);
    json_decref(json);
}

int ctl_audit(const struct ctl *ctl)
{
    struct order order;
    struct audit_summary summary;
    struct running running;
    char error[STORE_ERROR] = "";
    int wrong = parse(&order, ctl);
    if (wrong)
        return wrong;
    char *directory = ctl_state_dir(&order.ctl);
    json_t *findings = json_array();
    order.options.state_dir = directory ? directory : "";
    order.options.now_wall_ns = ctl_wall_now();
    running_read(order.options.state_dir, &running);
    order.options.running_wall_ns = running.pid ? running.began_wall_ns : 0;
    enum audit_result result = audit_run(&order.options, add_finding, findings, &summary, error);
    if (result == AUDIT_COULD_NOT)
        say_could_not(&order, error);
    else
        print_audit(&order, findings, &summary);
    running_free(&running);
    json_decref(findings);
    free(directory);
    return (int)result;
}

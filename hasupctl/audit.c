/*
 * audit.c: the verb `audit`: its options, the check of the files, and what is shown of it.  Exit
 * codes: 0 sound, 1 findings, 2 could not check.
 */
#include "hasupctl/audit.h"
#include "supervisor/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { STUCK_DEFAULT_S = 600, HISTORY_SHOWN = 20, FINDINGS_KEPT = 16 };

struct order {
    struct audit_options options;
    struct ctl ctl; /* with --state-dir */
    bool quiet, history, restore, network;
    const char *target;      /* of the restore test */
    const char *config_file; /* -c */
    hasup_ns restore_age;    /* --max-restore-age; 0: not looked at */
};

/* What one audit came to. */
struct outcome {
    struct audit_summary summary;
    json_t *findings, *restored; /* arrays */
    json_int_t last_restored;    /* wall ms of the last good restore test; 0: never */
    unsigned count, notes;
    char error[STORE_ERROR]; /* why it, or the restore test, could not check */
    bool checked;            /* the files were */
};

const char CTL_AUDIT_OPTIONS[] =
    "  --state-dir DIR   the directory to look at\n"
    "  -c FILE           the configuration; else the one that hasupd left there\n"
    "  --deep            every checkpoint and every body, not the newest alone\n"
    "  --max-age 5m      changes of a slot that wait longer for a checkpoint\n"
    "  --stuck 10m       accepted requests that wait longer for their result\n"
    "  --quiet           print nothing where all is sound\n"
    "  --restore-test [MODEL[/SLOT]]\n"
    "                    start a worker from its newest checkpoint, and compare\n"
    "  --with-network    the worker of the restore test may have the network\n"
    "  --max-restore-age 8d   a good restore test is not older\n"
    "  --history         the audits so far\n";

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
    struct outcome *outcome = context;
    enum audit_severity severity = audit_code_severity(finding->code);
    json_t *json =
        json_pack("{s:s, s:s, s:o, s:o, s:o}", "code", audit_code_name(finding->code), "severity",
                  audit_severity_name(severity), "where", any_text(finding->where), "text",
                  any_text(finding->text), "advice", any_text(finding->advice));
    json_object_set_new(json, "since_wall_ms",
                        finding->since_wall_ns ? json_integer(finding->since_wall_ns / HASUP_MS)
                                               : json_null());
    json_array_append_new(outcome->findings, json);
    if (severity == AUDIT_NOTE)
        outcome->notes++;
    else
        outcome->count++;
}

static const char *time_text(json_int_t wall_ms, char out[64])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm local;
    if (!localtime_r(&seconds, &local) || !strftime(out, 64, "%Y-%m-%d %H:%M:%S %z", &local))
        snprintf(out, 64, "?");
    return out;
}

static const char *word(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static json_int_t number(json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_finding(json_t *one, json_int_t now_wall_ms)
{
    char when[64];
    printf("%s: %s: %s\n", word(one, "code"), word(one, "where"), word(one, "text"));
    if (number(one, "since_wall_ms"))
        printf("    since: %s\n", time_text(number(one, "since_wall_ms"), when));
    else if (number(one, "seen_wall_ms") < now_wall_ms)
        printf("    found since: %s\n", time_text(number(one, "seen_wall_ms"), when));
    printf("    to do: %s\n", word(one, "advice"));
}

static bool is_note(json_t *finding)
{
    return strcmp(word(finding, "severity"), "note") == 0;
}

/* ---- what is shown ---- */

static json_t *outcome_json(const struct outcome *outcome)
{
    const struct audit_summary *summary = &outcome->summary;
    json_t *json = json_pack(
        "{s:O, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:O}", "findings",
        outcome->findings, "slots", (int)summary->slots, "checkpoints", (int)summary->checkpoints,
        "verified", (int)summary->verified, "bytes", (json_int_t)summary->bytes, "requests",
        (json_int_t)summary->requests, "results", (json_int_t)summary->results, "logged",
        (json_int_t)summary->logged, "quarantined", (json_int_t)summary->quarantined, "free_bytes",
        (json_int_t)summary->free_bytes, "free_percent", (int)summary->free_percent, "restored",
        outcome->restored);
    json_object_set_new(json, "last_restored_wall_ms",
                        outcome->last_restored ? json_integer(outcome->last_restored)
                                               : json_null());
    if (outcome->error[0])
        json_object_set_new(json, "error", any_text(outcome->error));
    return json;
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static void print_summary(const struct order *order, const struct outcome *outcome)
{
    char bytes[32];
    const struct audit_summary *summary = &outcome->summary;
    json_int_t now_wall_ms = order->options.now_wall_ns / HASUP_MS;
    json_t *test;
    size_t i;
    json_array_foreach(outcome->restored, i, test) printf(
        "%s: checkpoint %lld (position %lld, %s) restored by a worker in %lld ms: %s\n",
        word(test, "slot"), (long long)number(test, "id"), (long long)number(test, "position"),
        ctl_bytes((unsigned long long)number(test, "bytes"), bytes), (long long)number(test, "ms"),
        word(test, "result"));
    if (order->restore && !summary->checkpoints && !outcome->error[0])
        puts("no restore was tested: there is no checkpoint yet");
    printf("%u slot%s, %u checkpoint%s of %s, %u read back", summary->slots, plural(summary->slots),
           summary->checkpoints, plural(summary->checkpoints), ctl_bytes(summary->bytes, bytes),
           summary->verified);
    if (summary->requests + summary->results)
        printf("; %llu request%s and %llu result%s in the journal",
               (unsigned long long)summary->requests, plural(summary->requests),
               (unsigned long long)summary->results, plural(summary->results));
    if (outcome->last_restored && !json_array_size(outcome->restored))
        printf("; restore tested %s ago",
               ctl_duration(now_wall_ms - outcome->last_restored, bytes));
    printf("; %s free: %u finding%s", ctl_bytes(summary->free_bytes, bytes), outcome->count,
           plural(outcome->count));
    if (outcome->notes)
        printf(", %u note%s", outcome->notes, plural(outcome->notes));
    putchar('\n');
}

static void print_outcome(const struct order *order, const struct outcome *outcome)
{
    json_t *one;
    size_t i;
    json_int_t now = order->options.now_wall_ns / HASUP_MS;
    if (outcome->error[0])
        fprintf(stderr, "hasupctl: could not check: %s\n", outcome->error);
    if (order->quiet && !outcome->count && !outcome->error[0])
        return;
    if (order->ctl.json) {
        json_t *json = outcome->checked ? outcome_json(outcome)
                                        : json_pack("{s:o}", "error", any_text(outcome->error));
        ctl_print_json(json);
        json_decref(json);
        return;
    }
    json_array_foreach(outcome->findings, i, one) if (!order->quiet || !is_note(one))
        print_finding(one, now);
    if (!order->quiet && outcome->checked)
        print_summary(order, outcome);
}

/* ---- the history ---- */

static const char *verdict_name(const struct outcome *outcome)
{
    return outcome->error[0] ? "could_not" : outcome->count ? "findings" : "sound";
}

static json_t *entry_json(const struct order *order, const struct outcome *outcome, json_int_t ms)
{
    json_t *kept = json_array(), *one;
    size_t i;
    json_t *entry = json_pack("{s:I, s:I, s:s, s:b}", "wall_ms",
                              (json_int_t)(order->options.now_wall_ns / HASUP_MS), "ms", ms,
                              "verdict", verdict_name(outcome), "deep", order->options.deep);
    if (outcome->error[0])
        json_object_set_new(entry, "error", any_text(outcome->error));
    json_array_foreach(outcome->findings, i, one) if (json_array_size(kept) < FINDINGS_KEPT)
        json_array_append_new(kept, json_pack("{s:O, s:O}", "code", json_object_get(one, "code"),
                                              "where", json_object_get(one, "where")));
    if (outcome->checked) {
        json_object_set_new(entry, "count", json_integer(outcome->count));
        json_object_set_new(entry, "notes", json_integer(outcome->notes));
        json_object_set(entry, "findings", kept);
        json_object_set(entry, "restored", outcome->restored);
    }
    json_decref(kept);
    return entry;
}

static const char *restored_text(json_t *entry, char out[64])
{
    json_t *tests = json_object_get(entry, "restored"), *one;
    size_t i, good = 0, count = json_array_size(tests);
    json_array_foreach(tests, i, one) good += strcmp(word(one, "result"), "failed") != 0;
    snprintf(out, 64, count ? "%zu of %zu" : "-", good, count);
    return out;
}

static int show_history(const struct order *order, json_t *entries)
{
    char when[64], restored[64];
    size_t count = json_array_size(entries);
    if (order->ctl.json) {
        ctl_print_json(entries);
        return CTL_OK;
    }
    if (!count)
        puts("no audit was made here");
    else
        printf("%-25s  %-9s %8s %6s %9s\n", "WHEN", "VERDICT", "FINDINGS", "NOTES", "RESTORED");
    for (size_t i = count > HISTORY_SHOWN ? count - HISTORY_SHOWN : 0; i < count; i++) {
        json_t *entry = json_array_get(entries, i);
        printf("%-25s  %-9s %8lld %6lld %9s\n", time_text(number(entry, "wall_ms"), when),
               word(entry, "verdict"), (long long)number(entry, "count"),
               (long long)number(entry, "notes"), restored_text(entry, restored));
    }
    return CTL_OK;
}

/* ---- options ---- */

static int wrong_age(const struct ctl *ctl, const char *name, const char *value)
{
    if (*value && value[strspn(value, "0123456789")] == '\0')
        return ctl_usage(ctl, "%s %s: a unit is missing; s, m, h or d, such as %s %sm", name, value,
                         name, value);
    return ctl_usage(ctl, "%s wants a duration such as 90s, 5m, 2h, 7d; not \"%s\"", name, value);
}

/* An option with a value: 0, or the exit code of what is wrong with it, which was said. */
static int take_value(struct order *order, const char *name, const char *value)
{
    const struct {
        const char *name, **text; /* one of these */
        hasup_ns *age;
    } VALUES[] = {{"--state-dir", &order->ctl.state_dir, NULL},
                  {"-c", &order->config_file, NULL},
                  {"--max-age", NULL, &order->options.max_age},
                  {"--max-restore-age", NULL, &order->restore_age},
                  {"--stuck", NULL, &order->options.stuck}};
    for (size_t i = 0; i < HASUP_LEN(VALUES); i++) {
        if (strcmp(VALUES[i].name, name) != 0)
            continue;
        if (!value)
            return ctl_usage(&order->ctl, "%s wants a value", name);
        if (VALUES[i].text)
            *VALUES[i].text = value;
        else if (!ctl_span(value, VALUES[i].age))
            return wrong_age(&order->ctl, name, value);
        return 0;
    }
    return ctl_usage(&order->ctl, "unknown option %s; hasupctl audit --help lists them", name);
}

static bool take_flag(struct order *order, const char *name)
{
    const struct {
        const char *name;
        bool *flag;
    } FLAGS[] = {{"--deep", &order->options.deep},
                 {"--quiet", &order->quiet},
                 {"--history", &order->history},
                 {"--restore-test", &order->restore},
                 {"--with-network", &order->network}};
    for (size_t i = 0; i < HASUP_LEN(FLAGS); i++)
        if (strcmp(FLAGS[i].name, name) == 0)
            return *FLAGS[i].flag = true;
    return false;
}

static int parse(struct order *order, const struct ctl *ctl)
{
    *order = (struct order){.options = {.stuck = STUCK_DEFAULT_S * HASUP_S}, .ctl = *ctl};
    for (int i = 0; i < ctl->argc; i++) {
        const char *name = ctl->argv[i], *next = i + 1 < ctl->argc ? ctl->argv[i + 1] : NULL;
        if (take_flag(order, name)) {
            if (strcmp(name, "--restore-test") == 0 && next && next[0] != '-')
                order->target = ctl->argv[++i];
        } else {
            int wrong = take_value(order, name, next);
            if (wrong)
                return wrong;
            i++;
        }
    }
    order->options.now_wall_ns = ctl_wall_now();
    return 0;
}

/* ---- the whole of it ---- */

/* The configuration file as JSON; NULL: it is wrong, and that was said. */
static json_t *config_of(const char *file)
{
    char error[CONFIG_ERROR_MAX];
    struct config *config = config_load(file, error);
    char *text = config ? config_json(config) : NULL;
    json_t *json = text ? json_loads(text, 0, NULL) : NULL;
    if (!config)
        fprintf(stderr, "hasupctl: could not check: %s\n", error);
    free(text);
    config_free(config);
    return json;
}

static void test_restore(const struct order *order, struct outcome *outcome, json_t *config,
                         const struct running *running, json_t *entries)
{
    const struct restore_order restore = {
        .state_dir = order->options.state_dir,
        .target = order->target,
        .config = config ? config : running->config,
        .path = json_string_value(json_object_get(running->json, "path")),
        .hasupd = running->pid,
        .keys = order->options.keys,
        .network = order->network,
        .entries = entries};
    char error[STORE_ERROR] = "";
    if (restore_test(&restore, outcome->restored, add_finding, outcome, error))
        snprintf(outcome->error, sizeof outcome->error, "%s", error);
}

static void check_tested(const struct order *order, struct outcome *outcome, json_t *entries)
{
    char age[32];
    json_int_t now = order->options.now_wall_ns / HASUP_MS;
    json_t *self = json_pack("[{s:I, s:O}]", "wall_ms", now, "restored", outcome->restored);
    outcome->last_restored = audits_restored(self);
    json_decref(self);
    if (!outcome->last_restored)
        outcome->last_restored = audits_restored(entries);
    if (!order->restore_age || !outcome->summary.checkpoints ||
        (outcome->last_restored && now - outcome->last_restored <= order->restore_age / HASUP_MS))
        return;
    struct audit_finding finding = {.code = AUDIT_CODE_UNTESTED,
                                    .since_wall_ns = outcome->last_restored * HASUP_MS,
                                    .advice = "hasupctl audit --restore-test"};
    snprintf(finding.where, sizeof finding.where, "%s", order->options.state_dir);
    if (outcome->last_restored)
        snprintf(finding.text, sizeof finding.text, "the last good restore test is %s old",
                 ctl_duration(now - outcome->last_restored, age));
    else
        snprintf(finding.text, sizeof finding.text, "no restore test was ever good here");
    add_finding(outcome, &finding);
}

static int audit(struct order *order, json_t *config, json_t *entries)
{
    struct outcome outcome = {.findings = json_array(), .restored = json_array()};
    struct running running;
    struct audit_options options = order->options;
    struct keys *keys;
    running_read(options.state_dir, &running);
    bool keyed =
        running_keys(&order->ctl, config ? config : running.config, &keys, outcome.error) == 0;
    options.keys = order->options.keys = keys;
    options.running_wall_ns = running.pid ? running.began_wall_ns : 0;
    outcome.checked = keyed && audit_run(&options, add_finding, &outcome, &outcome.summary,
                                         outcome.error) != AUDIT_COULD_NOT;
    if (outcome.checked) {
        outcome.error[0] = '\0';
        if (order->restore)
            test_restore(order, &outcome, config, &running, entries);
        check_tested(order, &outcome, entries);
    }
    audits_seen(entries, outcome.findings, options.now_wall_ns / HASUP_MS);
    json_t *entry = entry_json(order, &outcome, (ctl_wall_now() - options.now_wall_ns) / HASUP_MS);
    (void)audits_append(options.state_dir, entry); /* where it may not, nobody asked it to */
    json_decref(entry);
    print_outcome(order, &outcome);
    running_free(&running);
    keys_free(keys);
    json_decref(outcome.findings);
    json_decref(outcome.restored);
    return outcome.error[0] ? AUDIT_COULD_NOT : outcome.count ? AUDIT_FINDINGS : AUDIT_SOUND;
}

int ctl_audit(const struct ctl *ctl)
{
    struct order order;
    json_t *config = NULL;
    int code = parse(&order, ctl);
    if (code)
        return code;
    if (order.config_file && !(config = config_of(order.config_file)))
        return AUDIT_COULD_NOT;
    if (!order.ctl.state_dir)
        order.ctl.state_dir = json_string_value(json_object_get(config, "state_dir"));
    const bool off = order.ctl.state_dir && strcmp(order.ctl.state_dir, "off") == 0;
    char *directory = off ? NULL : ctl_state_dir(&order.ctl);
    if (!directory) {
        fprintf(stderr, "hasupctl: could not check: %s\n", CTL_KEEPS_NOTHING);
        json_decref(config);
        return AUDIT_COULD_NOT;
    }
    order.options.state_dir = directory;
    json_t *entries = audits_read(order.options.state_dir);
    code = order.history ? show_history(&order, entries) : audit(&order, config, entries);
    json_decref(entries);
    json_decref(config);
    free(directory);
    return code;
}

/*
 * rollout.c: hasupctl restart, reload, canary, promote and abort: workers replaced, and versions
 * tried beside each other.  With --wait the exit code says how it ended.
 */
#include "hasupctl/hasupctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    bool wait;
    const char *weight; /* NULL: not said */
    const char *target;
};

/* --wait, --weight N and one target, in any order; CTL_OK, or it said what is wrong. */
static int read_options(const struct ctl *ctl, bool may_wait, bool weighs, struct options *options)
{
    *options = (struct options){0};
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        if (may_wait && strcmp(word, "--wait") == 0)
            options->wait = true;
        else if (weighs && strcmp(word, "--weight") == 0 && i + 1 < ctl->argc)
            options->weight = ctl->argv[++i];
        else if (weighs && strncmp(word, "--weight=", 9) == 0)
            options->weight = word + 9;
        else if (word[0] == '-' && word[1])
            return ctl_usage(ctl, "unknown option %s", word);
        else if (options->target)
            return ctl_usage(ctl, "unexpected argument: %s", word);
        else
            options->target = word;
    }
    return CTL_OK;
}

/* What became of each, or that it has begun. */
static void print_outcome(json_t *answer, const struct options *options, const char *begun)
{
    const char *name;
    json_t *result, *rollouts = json_object_get(answer, "rollouts");
    json_object_foreach(rollouts, name, result)
        printf("%s: %s\n", name, json_string_value(json_object_get(result, "text")));
    if (json_object_size(rollouts))
        return;
    printf("%s%s%s\n", options->target ? options->target : "", options->target ? ": " : "", begun);
}

static int order_take(const struct ctl *ctl, json_t *command, const struct options *options,
                      const char *begun)
{
    json_t *answer;
    if (options->target)
        json_object_set_new(command, "target", json_string(options->target));
    if (options->wait)
        json_object_set_new(command, "wait", json_true());
    int code = options->wait ? ctl_await(ctl, command, &answer) : ctl_call(ctl, command, &answer);
    if (code == CTL_OK && ctl->json)
        ctl_print_json(answer);
    else if (code == CTL_OK)
        print_outcome(answer, options, begun);
    json_decref(answer);
    return code;
}

static int order_model(const struct ctl *ctl, const char *verb, bool may_wait, const char *begun)
{
    struct options options;
    int wrong = read_options(ctl, may_wait, false, &options);
    if (wrong)
        return wrong;
    if (!options.target)
        return ctl_usage(ctl, "which model?");
    return order_take(ctl, json_pack("{s:s}", "verb", verb), &options, begun);
}

int ctl_restart(const struct ctl *ctl)
{
    return order_model(ctl, "restart", true, "restarting, one worker at a time");
}

int ctl_promote(const struct ctl *ctl)
{
    return order_model(ctl, "promote", true, "promoting the canary, one worker at a time");
}

int ctl_abort(const struct ctl *ctl)
{
    return order_model(ctl, "abort", false,
                       "going back; put the file back, too: the next reload applies what it says");
}

int ctl_reload(const struct ctl *ctl)
{
    struct options options;
    int wrong = read_options(ctl, true, false, &options);
    if (!wrong && options.target)
        wrong = ctl_usage(ctl, "unexpected argument: %s", options.target);
    if (wrong)
        return wrong;
    return order_take(ctl, json_pack("{s:s}", "verb", "reload"), &options, "reloaded");
}

int ctl_canary(const struct ctl *ctl)
{
    struct options options;
    char *end = NULL, begun[96];
    int wrong = read_options(ctl, false, true, &options);
    if (wrong)
        return wrong;
    if (!options.target || !options.weight)
        return ctl_usage(ctl, "which model, and --weight of how many percent of its requests?");
    long weight = strtol(options.weight, &end, 10);
    if (*end || end == options.weight || weight < 1 || weight > 99)
        return ctl_usage(ctl, "the weight is a whole number from 1 to 99 (percent), not \"%s\"",
                         options.weight);
    snprintf(begun, sizeof begun, "trying what the file says with %ld %% of the requests", weight);
    return order_take(ctl, json_pack("{s:s, s:i}", "verb", "canary", "weight", (int)weight),
                      &options, begun);
}

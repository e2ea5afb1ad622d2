/*
 * restore.c: the restore test: which slots, with which command and environment, and what came of
 * it. Reads checkpoints.db read-only; hasupd, if there is one, notices nothing but the work that
 * the machine has with one more worker for a while.
 */
#include "checkpoints/store.h"
#include "hasupctl/audit.h"
#include "hasupctl/rehearse.h"
#include "supervisor/config_envfile.h"
#include "supervisor/config_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* Where the configuration says never. */
#define LIMIT_DEFAULT (600 * HASUP_S)

struct candidate {
    char model[STORE_MODEL];
    uint32_t ordinal;
    json_int_t tested; /* wall ms; 0: never */
};

struct tester {
    const struct restore_order *order;
    struct store *store;
    json_t *results;
    audit_report *report;
    void *context;
    struct candidate *list;
    size_t count;
    bool no_memory;
};

/* ---- which slots ---- */

static json_int_t last_tested(const struct tester *tester, const struct candidate *one)
{
    char name[STORE_MODEL + 16];
    snprintf(name, sizeof name, "%s/%u", one->model, one->ordinal);
    for (size_t i = json_array_size(tester->order->entries); i-- > 0;) {
        json_t *entry = json_array_get(tester->order->entries, i), *test;
        size_t k;
        json_array_foreach(
            json_object_get(entry, "restored"), k,
            test) if (strcmp(json_string_value(json_object_get(test, "slot")), name) ==
                      0) return json_integer_value(json_object_get(entry, "wall_ms"));
    }
    return 0;
}

/* Checkpoints come by model and slot, so that those of one stand together. */
static bool add_candidate(void *context, const struct checkpoint_info *info)
{
    struct tester *tester = context;
    struct candidate one = {.ordinal = info->ordinal};
    struct candidate *last = tester->count ? &tester->list[tester->count - 1] : NULL;
    snprintf(one.model, sizeof one.model, "%s", info->model);
    if (last && last->ordinal == one.ordinal && strcmp(last->model, one.model) == 0)
        return true;
    one.tested = last_tested(tester, &one);
    if (!tester->order->target && last && strcmp(last->model, one.model) == 0) {
        if (one.tested < last->tested)
            *last = one;
        return true;
    }
    struct candidate *list = realloc(tester->list, (tester->count + 1) * sizeof *list);
    if (!list) {
        tester->no_memory = true;
        return false;
    }
    tester->list = list;
    list[tester->count++] = one;
    return true;
}

static void no_checkpoint(const char *target, char error[STORE_ERROR])
{
    snprintf(error, STORE_ERROR,
             "there is no checkpoint of %.100s to restore; hasupctl checkpoint list shows those "
             "that there are",
             target);
}

static int find_candidates(struct tester *tester, char error[STORE_ERROR])
{
    char model[STORE_MODEL];
    struct checkpoint_key key;
    const char *target = tester->order->target;
    if (target && !ctl_parse_target(target, model, &key)) {
        snprintf(error, STORE_ERROR, "\"%.100s\" is neither a model nor a slot", target);
        return HASUP_EINVAL;
    }
    int code = store_list(tester->store, target ? &key : NULL, add_candidate, tester, error);
    if (!code && tester->no_memory) {
        snprintf(error, STORE_ERROR, "out of memory");
        code = HASUP_ENOMEM;
    }
    if (!code && target && !tester->count) {
        no_checkpoint(target, error);
        code = HASUP_ENOTFOUND;
    }
    return code;
}

/* ---- with what ---- */

/* The environment of a running hasupd, NULL-terminated, in one block; NULL: not to be had. */
static char **environment_of(int64_t pid)
{
    char path[64], *block = NULL;
    size_t len = 0, count = 0;
    snprintf(path, sizeof path, "/proc/%lld/environ", (long long)pid);
    FILE *file = pid ? fopen(path, "re") : NULL;
    if (file && getdelim(&block, &len, EOF, file) < 0) {
        free(block);
        block = NULL;
    }
    long end = file ? ftell(file) : 0;
    if (file)
        fclose(file);
    for (const char *at = block; at && at < block + end; at += strlen(at) + 1)
        count++;
    char **list = block ? calloc(count + 2, sizeof *list) : NULL;
    if (!list) {
        free(block);
        return NULL;
    }
    count = 0;
    for (char *at = block; at < block + end; at += strlen(at) + 1)
        list[count++] = at;
    list[count + 1] = block; /* behind the NULL: to be freed */
    return list;
}

static void environment_free(char **list)
{
    size_t count = 0;
    while (list && list[count])
        count++;
    if (list)
        free(list[count + 1]);
    free(list);
}

/* "NAME=value" in place of another of that name. */
static void put(char **list, size_t *count, const char *name, const char *value)
{
    size_t len = strlen(name), at = 0;
    char *text;
    if (asprintf(&text, "%s=%s", name, value) < 0)
        return;
    while (at < *count && (strncmp(list[at], name, len) || list[at][len] != '='))
        at++;
    if (at < *count)
        free(list[at]);
    else
        ++*count;
    list[at] = text;
}

/* What is replaced in the texts of its model. */
static struct template_values values_of(const struct candidate *one)
{
    return (struct template_values){.model = one->model, .slot = one->ordinal};
}

static void put_own(char **list, size_t *used, json_t *model, const struct envfiles *files,
                    const struct candidate *one)
{
    const struct template_values values = values_of(one);
    const char *name;
    json_t *value;
    for (size_t i = 0; i < files->count; i++) {
        char *equals = strchr(files->list[i], '=');
        *equals = '\0';
        put(list, used, files->list[i], equals + 1);
    }
    json_object_foreach(json_object_get(model, "environment"), name, value)
    {
        char *filled = template_fill(json_string_value(value), &values);
        if (filled)
            put(list, used, name, filled);
        free(filled);
    }
}

/* hasupd's, then the model's, then where the worker is; every text malloc'ed. */
static char **worker_environment(const struct tester *tester, json_t *model,
                                 const struct envfiles *files, const struct candidate *one)
{
    char **hasupd = environment_of(tester->order->hasupd), **base = hasupd ? hasupd : environ;
    json_t *own = json_object_get(model, "environment");
    char ordinal[16];
    size_t count = 0, used = 0;
    while (base[count])
        count++;
    char **list = calloc(count + files->count + json_object_size(own) + 6, sizeof *list);
    for (size_t i = 0; list && i < count; i++)
        if ((list[used] = strdup(base[i])))
            used++;
    if (list) {
        if (!hasupd && tester->order->path && *tester->order->path)
            put(list, &used, "PATH", tester->order->path);
        put_own(list, &used, model, files, one);
        snprintf(ordinal, sizeof ordinal, "%u", one->ordinal);
        put(list, &used, "HASUP_MODEL", one->model);
        put(list, &used, "HASUP_SLOT", ordinal);
        put(list, &used, "HASUP_RESTORE_TEST", "1");
    }
    environment_free(hasupd);
    return list;
}

/* A list of texts of the configuration, malloc'ed for config_strings_free(); NULL: none. */
static char **texts_of(json_t *model, const char *key)
{
    json_t *list = json_object_get(model, key), *word;
    char **texts = json_array_size(list) ? calloc(json_array_size(list) + 1, sizeof *texts) : NULL;
    size_t i;
    json_array_foreach(list, i, word) if (texts && !(texts[i] = strdup(json_string_value(word))))
    {
        config_strings_free(texts);
        return NULL;
    }
    return texts;
}

static int files_read(json_t *model, const struct candidate *one, struct envfiles *files,
                      char *text, size_t room)
{
    const struct template_values values = values_of(one);
    char why[ENVFILE_ERROR];
    char **paths = texts_of(model, "environment_files");
    int failed = envfiles_read(paths, &values, files, why);
    config_strings_free(paths);
    if (failed)
        snprintf(text, room, "has no environment: environment_files: %s", why);
    return failed;
}

static char **command_of(json_t *model, const struct candidate *one)
{
    const struct template_values values = values_of(one);
    char **texts = texts_of(model, "command");
    char **argv = texts ? template_fill_all(texts, &values) : NULL;
    config_strings_free(texts);
    return argv;
}

static hasup_ns limit_of(json_t *model, const char *name)
{
    const char *text = json_string_value(json_object_get(json_object_get(model, "timeouts"), name));
    hasup_ns limit = 0;
    return text && config_duration(text, &limit) == 0 && limit > 0 ? limit : LIMIT_DEFAULT;
}

/* ---- one test ---- */

static void found(const struct tester *tester, const struct candidate *one,
                  const struct checkpoint_info *info, enum audit_code code, const char *text)
{
    struct audit_finding finding = {.code = code};
    snprintf(finding.where, sizeof finding.where, "%s/%u", one->model, one->ordinal);
    if (code == AUDIT_CODE_RESTORE) {
        snprintf(finding.text, sizeof finding.text,
                 "checkpoint %lld (position %llu) was not restored: the worker %.400s",
                 (long long)info->id, (unsigned long long)info->position, text);
        snprintf(
            finding.advice, sizeof finding.advice,
            "a crash would find the same: mend the worker, or go back to the one that saved it");
    } else {
        snprintf(
            finding.text, sizeof finding.text,
            "checkpoint %lld (position %llu) was restored, but saved again it is not the same: "
            "%.300s",
            (long long)info->id, (unsigned long long)info->position, text);
        snprintf(finding.advice, sizeof finding.advice,
                 "none, where the worker's save need not give the same bytes for the same state");
    }
    tester->report(tester->context, &finding);
}

/* "exited with code 3", "was killed by signal 9", and what it said last, behind what failed. */
static void add_end(char *text, size_t room, const struct isolated *worker, int how, bool gone)
{
    char tail[ISOLATE_TAIL + 1];
    size_t used = strlen(text), len = worker->tail_len;
    if (how >= 0 && WIFEXITED(how))
        used +=
            (size_t)snprintf(text + used, room - used, "; exited with code %d", WEXITSTATUS(how));
    else if (how >= 0 && WIFSIGNALED(how))
        used +=
            (size_t)snprintf(text + used, room - used, "; was killed by signal %d", WTERMSIG(how));
    if (!gone && used < room)
        used += (size_t)snprintf(text + used, room - used,
                                 "; something of it is left that SIGKILL does not end");
    memcpy(tail, worker->tail, len);
    while (len && (tail[len - 1] == '\n' || tail[len - 1] == ' '))
        len--;
    tail[len] = '\0';
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)tail[i] < 0x20)
            tail[i] = ' ';
    /* The end of what it printed says why. */
    if (len && used < room)
        snprintf(text + used, room - used, "; its last words: %.160s",
                 len > 160 ? tail + len - 160 : tail);
}

static hasup_ns clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec;
}

static enum rehearsed run_worker(const struct tester *tester, const struct candidate *one,
                                 json_t *model, const struct rehearsal *rehearsal, char *text,
                                 size_t room)
{
    struct stat owner;
    struct isolated worker;
    int how;
    const struct template_values values = values_of(one);
    const char *configured = json_string_value(json_object_get(model, "directory"));
    struct envfiles files;
    if (files_read(model, one, &files, text, room))
        return REHEARSED_FAILED;
    char **argv = command_of(model, one);
    char **environment = worker_environment(tester, model, &files, one);
    char *directory = configured ? template_fill(configured, &values) : NULL;
    envfiles_free(&files);
    enum rehearsed result = REHEARSED_FAILED;
    const struct isolate_order order = {
        .command = argv,
        .environment = environment,
        .directory = directory,
        .user = stat(tester->order->state_dir, &owner) ? geteuid() : owner.st_uid,
        .network = tester->order->network};
    if (!argv || !environment) {
        snprintf(text, room, "has no command");
    } else if (isolate_start(&order, &worker, text) == 0) {
        result = rehearse(rehearsal, &worker, text);
        bool gone = isolate_end(&worker, &how);
        if (result == REHEARSED_FAILED || !gone)
            add_end(text, room, &worker, how, gone);
        if (!gone)
            result = REHEARSED_FAILED;
    }
    config_strings_free(environment);
    config_strings_free(argv);
    free(directory);
    return result;
}

static void test_one(struct tester *tester, const struct candidate *one, json_t *model)
{
    static const char *const RESULTS[] = {"good", "differs", "failed"};
    char text[512] = "", error[STORE_ERROR] = "", name[STORE_MODEL + 16];
    const struct checkpoint_key key = {one->model, one->ordinal};
    struct checkpoint_info info = {0};
    uint8_t *state = NULL;
    hasup_ns began = clock_now();
    enum rehearsed result = REHEARSED_FAILED;
    if (store_load(tester->store, &key, &info, &state, NULL, NULL, error)) {
        snprintf(text, sizeof text, "got none: %s", error);
    } else {
        const struct rehearsal rehearsal = {.model = one->model,
                                            .ordinal = one->ordinal,
                                            .position = info.position,
                                            .state = state,
                                            .len = info.len,
                                            .start_limit = limit_of(model, "start"),
                                            .save_limit = limit_of(model, "attempt")};
        result = run_worker(tester, one, model, &rehearsal, text, sizeof text);
    }
    free(state);
    snprintf(name, sizeof name, "%s/%u", one->model, one->ordinal);
    json_array_append_new(tester->results,
                          json_pack("{s:s, s:I, s:I, s:I, s:s, s:I}", "slot", name, "id",
                                    (json_int_t)info.id, "position", (json_int_t)info.position,
                                    "bytes", (json_int_t)info.len, "result", RESULTS[result], "ms",
                                    (json_int_t)((clock_now() - began) / HASUP_MS)));
    if (result != REHEARSED_GOOD)
        found(tester, one, &info,
              result == REHEARSED_FAILED ? AUDIT_CODE_RESTORE : AUDIT_CODE_DIFFERS, text);
}

static void unknown_model(const struct tester *tester, const struct candidate *one)
{
    struct audit_finding finding = {.code = AUDIT_CODE_UNKNOWN};
    snprintf(finding.where, sizeof finding.where, "%s/%u", one->model, one->ordinal);
    snprintf(finding.text, sizeof finding.text,
             "its restore was not tested: the configuration does not name its model");
    snprintf(finding.advice, sizeof finding.advice,
             "none, where the model was removed; its checkpoints stay");
    tester->report(tester->context, &finding);
}

static int run_tests(struct tester *tester, char error[STORE_ERROR])
{
    int code = find_candidates(tester, error);
    for (size_t i = 0; i < tester->count && !code; i++) {
        const struct candidate *one = &tester->list[i];
        json_t *model =
            json_object_get(json_object_get(tester->order->config, "models"), one->model);
        if (model)
            test_one(tester, one, model);
        else
            unknown_model(tester, one);
    }
    free(tester->list);
    return code;
}

int restore_test(const struct restore_order *order, json_t *results, audit_report *report,
                 void *context, char error[STORE_ERROR])
{
    char path[4096];
    struct tester tester = {
        .order = order, .results = results, .report = report, .context = context};
    if (!order->config) {
        snprintf(error, STORE_ERROR,
                 "no configuration for the restore test: give -c FILE (hasupd left none in %.120s)",
                 order->state_dir);
        return HASUP_ECONFIG;
    }
    snprintf(path, sizeof path, "%s/checkpoints.db", order->state_dir);
    int code = store_open(path, STORE_READ, &tester.store, error);
    if (code == HASUP_ENOTFOUND && !order->target)
        return 0;
    if (code == HASUP_ENOTFOUND)
        no_checkpoint(order->target, error);
    if (!code) {
        store_set(tester.store, &(struct store_options){.keys = order->keys});
        code = run_tests(&tester, error);
    }
    store_close(tester.store);
    return code;
}

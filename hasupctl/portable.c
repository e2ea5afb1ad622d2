/*
 * portable.c: checkpoint export, import and prune: the verbs that write files of the state
 * directory or beside it.  export and prune work while hasupd runs, too; import does not, because
 * a running slot would go on from the state that it has.
 */
#include "hasupctl/audit.h"

#include "checkpoints/journal.h"
#include "checkpoints/portable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int say(const char *what, const char *error)
{
    fprintf(stderr, "hasupctl: %s%s%s\n", what, *what ? ": " : "", error);
    return CTL_FAILED;
}

/* The first word that is no option, and the next; false: there are more, or unknown options. */
struct words {
    const char *first, *second;
    bool plain, force, all;
    struct store_keep keep;
};

static bool parse_count(const char *text, uint32_t *count)
{
    char *end;
    unsigned long value = text ? strtoul(text, &end, 10) : 0;
    if (!text || *text < '0' || *text > '9' || *end || value > 100000)
        return false;
    *count = (uint32_t)value;
    return true;
}

static bool parse_words(const struct ctl *ctl, struct words *words)
{
    *words = (struct words){0};
    for (int i = 1; i < ctl->argc; i++) {
        const char *word = ctl->argv[i], *next = i + 1 < ctl->argc ? ctl->argv[i + 1] : NULL;
        uint32_t *count = strcmp(word, "--keep") == 0     ? &words->keep.last
                          : strcmp(word, "--hourly") == 0 ? &words->keep.hourly
                          : strcmp(word, "--daily") == 0  ? &words->keep.daily
                                                          : NULL;
        if (count) {
            if (!parse_count(next, count))
                return false;
            i++;
        } else if (strcmp(word, "--plain") == 0) {
            words->plain = true;
        } else if (strcmp(word, "--force") == 0) {
            words->force = true;
        } else if (strcmp(word, "--all") == 0) {
            words->all = true;
        } else if ((word[0] == '-' && word[1]) || words->second) {
            return false;
        } else {
            *(words->first ? &words->second : &words->first) = word;
        }
    }
    return true;
}

/* ---- export ---- */

static void say_bad(void *context, const struct checkpoint_info *info, const char *reason)
{
    (void)context;
    (void)info;
    fprintf(stderr, "hasupctl: passed over: %s\n", reason);
}

/* By an id, or the newest good one of a slot. */
static int read_wanted(struct store *store, const char *wanted, struct checkpoint_info *info,
                       uint8_t **bytes, char error[STORE_ERROR])
{
    char model[STORE_MODEL], *end;
    struct checkpoint_key key;
    long long id = strtoll(wanted, &end, 10);
    if (!*end && id > 0)
        return store_read(store, id, info, bytes, error);
    if (!ctl_parse_target(wanted, model, &key) || key.ordinal == UINT32_MAX) {
        snprintf(error, STORE_ERROR, "\"%.60s\" is neither an id nor MODEL/SLOT", wanted);
        return HASUP_EINVAL;
    }
    return store_load(store, &key, info, bytes, say_bad, NULL, error);
}

/* Beside, then renamed: a file of that name is whole, or the one before. */
static int write_file(const char *path, const struct checkpoint_info *info, const uint8_t *bytes,
                      const struct keys *keys, char error[STORE_ERROR])
{
    char beside[4096];
    snprintf(beside, sizeof beside, "%.4000s.new", path);
    unlink(beside);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int code = fd < 0 ? HASUP_EIO : portable_write(fd, info, bytes, keys, error);
    if (fd < 0)
        snprintf(error, STORE_ERROR, "cannot write it: %s", strerror(errno));
    if (!code && (fsync(fd) || rename(beside, path))) {
        snprintf(error, STORE_ERROR, "cannot write it: %s", strerror(errno));
        code = HASUP_EIO;
    }
    if (fd >= 0)
        close(fd);
    if (code && fd >= 0)
        unlink(beside);
    return code;
}

/* A state that goes to standard output is alone there. */
static void tell_exported(const struct ctl *ctl, const struct checkpoint_info *info, bool sealed,
                          const char *file)
{
    char slot[STORE_MODEL + 16];
    snprintf(slot, sizeof slot, "%s/%u", info->model, info->ordinal);
    if (ctl->json && file) {
        json_t *json = json_pack("{s:s, s:I, s:I, s:b, s:s}", "slot", slot, "position",
                                 (json_int_t)info->position, "bytes", (json_int_t)info->len,
                                 "encrypted", sealed, "file", file);
        ctl_print_json(json);
        json_decref(json);
        return;
    }
    fprintf(stderr, "%s at position %llu: %llu bytes%s\n", slot,
            (unsigned long long)info->position, (unsigned long long)info->len,
            sealed ? ", encrypted" : "");
}

int checkpoint_export(const struct ctl *ctl)
{
    char error[STORE_ERROR];
    struct ctl_store store;
    struct words words;
    struct checkpoint_info info;
    uint8_t *bytes = NULL;
    if (!parse_words(ctl, &words) || !words.second || words.force || words.all)
        return ctl_usage(ctl, "export which one to which file?  - is standard output");
    int code = ctl_store_open(ctl, STORE_READ, &store, error);
    if (!code)
        code = read_wanted(store.store, words.first, &info, &bytes, error);
    const char *what = "";
    if (!code) {
        const struct keys *keys = words.plain ? NULL : store.keys;
        bool out = strcmp(words.second, "-") == 0;
        what = words.second;
        code = out ? portable_write(STDOUT_FILENO, &info, bytes, keys, error)
                   : write_file(words.second, &info, bytes, keys, error);
        if (!code)
            tell_exported(ctl, &info, keys != NULL, out ? NULL : words.second);
    }
    free(bytes);
    ctl_store_close(&store);
    return code ? say(what, error) : CTL_OK;
}

/* ---- import ---- */

/* Where a state is put: behind all that its slot has. */
struct place {
    uint64_t position;
    int64_t wall_ns;
    bool others; /* the slot has checkpoints */
};

static bool note_place(void *context, const struct checkpoint_info *info)
{
    struct place *place = context;
    place->others = true;
    if (info->position > place->position)
        place->position = info->position;
    if (info->created_wall_ns > place->wall_ns)
        place->wall_ns = info->created_wall_ns;
    return true;
}

/* By force without the log, where nobody can tell where that ends. */
static int note_log(const struct ctl *ctl, const struct checkpoint_key *key, bool force,
                    struct place *place, char error[STORE_ERROR])
{
    char path[4096], why[STORE_ERROR];
    uint64_t end;
    char *directory = ctl_state_dir(ctl);
    snprintf(path, sizeof path, "%s/journal.db", directory ? directory : ".");
    free(directory);
    int code = journal_past_log_end(path, key->model, key->ordinal, &end, why);
    if (code == HASUP_ENOTFOUND)
        return 0;
    if (code && force) {
        fprintf(stderr,
                "hasupctl: %s\nhasupctl: it goes behind the slot's checkpoints alone; what "
                "the journal has of later requests, if it can be read again, is run on it\n",
                why);
        return 0;
    }
    if (code) {
        snprintf(error, STORE_ERROR,
                 "where the log of %.60s/%u ends cannot be read: %.110s; --force takes it without",
                 key->model, key->ordinal, why);
        return code;
    }
    if (end > place->position)
        place->position = end;
    return 0;
}

/* Whether the state may go to this slot; "" or what is against it. */
static void object(const struct ctl_store *store, const struct checkpoint_info *info,
                   const char *model, char error[STORE_ERROR])
{
    const json_t *models = json_object_get(store->running.config, "models");
    error[0] = '\0';
    if (strcmp(info->model, model) != 0)
        snprintf(error, STORE_ERROR,
                 "it is of the model %.60s; --force takes it for %.60s all the same", info->model,
                 model);
    else if (models && !json_object_get(models, model))
        snprintf(error, STORE_ERROR,
                 "no model here is called %.60s; --force takes it all the same, MODEL/SLOT behind "
                 "the file names another",
                 model);
}

/* The state is where the slot goes on from: at its own position, or where the slot's checkpoints
 * and its log are by now, so that nothing of that log is run again on it.  Where the slot's
 * checkpoints are lost, it is the log alone that can bring back what came after the state: so it is
 * run. */
static int import_into(const struct ctl *ctl, struct ctl_store *store,
                       const struct checkpoint_key *key, const struct checkpoint_info *info,
                       const uint8_t *bytes, bool force, uint64_t *position,
                       char error[STORE_ERROR])
{
    const struct store_keep all = {.last = UINT32_MAX};
    struct place place = {.position = info->position, .wall_ns = info->created_wall_ns};
    int code = store_list(store->store, key, note_place, &place, error);
    if (!code && place.others)
        code = note_log(ctl, key, force, &place, error);
    *position = place.position;
    return code ? code
                : store_save(store->store, key, place.position, place.wall_ns, bytes, info->len,
                             &all, error);
}

static void tell_imported(const struct ctl *ctl, const struct checkpoint_key *key,
                          uint64_t position)
{
    char slot[STORE_MODEL + 16];
    snprintf(slot, sizeof slot, "%s/%u", key->model, key->ordinal);
    if (ctl->json) {
        json_t *json = json_pack("{s:s, s:I}", "slot", slot, "position", (json_int_t)position);
        ctl_print_json(json);
        json_decref(json);
    } else {
        printf("%s goes on from it at position %llu\n", slot, (unsigned long long)position);
    }
}

int checkpoint_import(const struct ctl *ctl)
{
    char error[STORE_ERROR], model[STORE_MODEL];
    struct ctl_store store;
    struct words words;
    struct checkpoint_info info = {0};
    struct checkpoint_key key = {0};
    uint8_t *bytes = NULL;
    uint64_t position = 0;
    if (!parse_words(ctl, &words) || !words.first || words.plain || words.all ||
        (words.second &&
         (!ctl_parse_target(words.second, model, &key) || key.ordinal == UINT32_MAX)))
        return ctl_usage(ctl, "import which file?  MODEL/SLOT behind it names another slot");
    bool in = strcmp(words.first, "-") == 0;
    int fd = in ? STDIN_FILENO : open(words.first, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return say(words.first, strerror(errno));
    int code = ctl_store_open(ctl, STORE_WRITE, &store, error);
    if (!code && store.running.pid) {
        snprintf(error, STORE_ERROR,
                 "hasupd runs (pid %lld), and its slots go on from the states "
                 "that they have: stop it first",
                 (long long)store.running.pid);
        code = HASUP_EDENIED;
    }
    if (!code)
        code = portable_read(fd, store.keys, &info, &bytes, error);
    if (!code && !words.second)
        key = (struct checkpoint_key){info.model, info.ordinal};
    if (!code && !words.force) {
        object(&store, &info, key.model, error);
        code = *error ? HASUP_EDENIED : 0;
    }
    if (!code)
        code = import_into(ctl, &store, &key, &info, bytes, words.force, &position, error);
    if (!code)
        tell_imported(ctl, &key, position);
    if (!in)
        close(fd);
    free(bytes);
    ctl_store_close(&store);
    return code ? say(words.first, error) : CTL_OK;
}

/* ---- prune ---- */

int checkpoint_prune(const struct ctl *ctl)
{
    char error[STORE_ERROR], model[STORE_MODEL];
    struct ctl_store store;
    struct words words;
    struct checkpoint_key key;
    uint32_t gone = 0;
    if (!parse_words(ctl, &words) || !words.first || words.second || words.plain || words.force ||
        !ctl_parse_target(words.first, model, &key) || words.all == (words.keep.last > 0))
        return ctl_usage(ctl, "prune which model or slot, and --keep how many, or --all?");
    int code = ctl_store_open(ctl, STORE_WRITE, &store, error);
    if (!code && words.all && store.running.pid) {
        snprintf(error, STORE_ERROR, "hasupd runs (pid %lld): stop it before its states go",
                 (long long)store.running.pid);
        code = HASUP_EDENIED;
    }
    if (!code)
        code = store_prune(store.store, &key, words.all ? NULL : &words.keep, &gone, error);
    while (!code && store_tidy(store.store))
        continue;
    ctl_store_close(&store);
    if (code)
        return say("", error);
    if (ctl->json) {
        json_t *json = json_pack("{s:I}", "gone", (json_int_t)gone);
        ctl_print_json(json);
        json_decref(json);
    } else {
        printf("%u checkpoints are gone\n", gone);
    }
    return CTL_OK;
}

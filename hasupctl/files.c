/*
 * files.c: the verbs that read the state directory alone: checkpoint list and show.
 * `checkpoint now` asks hasupd.  The directory is --state-dir, else what hasupd says, else the
 * default.
 */
#include "hasupctl/audit.h"

#include "checkpoints/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char CTL_KEEPS_NOTHING[] =
    "hasupd keeps nothing: its configuration has state_dir: off, so there are no checkpoints, no "
    "journal and nothing to audit; --state-dir names the directory of another one";

/* What a running hasupd says its directory is; NULL: none runs, or it is `off`. */
static char *ask_state_dir(const struct ctl *ctl, bool *off)
{
    char path[108], error[256];
    struct hasup_client_answer answer;
    uint64_t id;
    char *found = NULL;
    const char *socket = ctl->socket ? ctl->socket : hasup_client_default_path(path);
    struct hasup_client *client = hasup_client_open(socket, error);
    if (client && hasup_client_control(client, "{\"verb\":\"status\"}", &id) == 0 &&
        hasup_client_wait(client, 5000, &answer) == 1) {
        json_t *json = json_loadb((const char *)answer.body, answer.len, 0, NULL);
        const char *text = json_string_value(json_object_get(json, "state_dir"));
        *off = json_is_null(json_object_get(json, "state_dir"));
        found = text ? strdup(text) : NULL;
        json_decref(json);
    }
    hasup_client_close(client);
    return found;
}

char *ctl_state_dir(const struct ctl *ctl)
{
    const char *home = getenv("HOME"), *state = getenv("XDG_STATE_HOME");
    char path[4096];
    if (ctl->state_dir)
        return strdup(ctl->state_dir);
    bool off = false;
    char *asked = ask_state_dir(ctl, &off);
    if (asked || off)
        return asked;
    if (geteuid() == 0)
        snprintf(path, sizeof path, "/var/lib/hasup");
    else if (state && *state == '/')
        snprintf(path, sizeof path, "%s/hasup", state);
    else if (home && *home == '/')
        snprintf(path, sizeof path, "%s/.local/state/hasup", home);
    else
        snprintf(path, sizeof path, "/var/tmp/hasup-%u", (unsigned)getuid());
    if (access(path, F_OK))
        fprintf(stderr,
                "hasupctl: no hasupd was reached that says where its states are (-s names its "
                "socket), and the default directory %s is not there; --state-dir names another\n",
                path);
    return strdup(path);
}

/* ---- checkpoint ---- */

static json_t *info_json(const struct checkpoint_info *info)
{
    char hash[2 * STORE_HASH + 1] = "", key[KEY_ID_TEXT], slot[STORE_MODEL + 16];
    for (uint32_t i = 0; i < info->hash_len; i++)
        snprintf(hash + i * 2, 3, "%02x", info->hash[i]);
    snprintf(slot, sizeof slot, "%s/%u", info->model, info->ordinal);
    json_t *json =
        json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:I}", "id", (json_int_t)info->id, "model",
                  info->model, "slot", slot, "position", (json_int_t)info->position,
                  "created_wall_ms", (json_int_t)(info->created_wall_ns / HASUP_MS), "bytes",
                  (json_int_t)info->len, "age_ms",
                  (json_int_t)((ctl_wall_now() - info->created_wall_ns) / HASUP_MS));
    json_object_set_new(json, "hash", hash[0] ? json_string(hash) : json_null());
    json_object_set_new(json, "written_bytes", json_integer((json_int_t)info->written));
    json_object_set_new(json, "shared_bytes", json_integer((json_int_t)(info->len - info->fresh)));
    json_object_set_new(json, "key",
                        info->sealed ? json_string(key_id_text(info->key, key)) : json_null());
    return json;
}

static bool add_info(void *context, const struct checkpoint_info *info)
{
    json_array_append_new(context, info_json(info));
    return true;
}

static const char *slot_name(json_t *one)
{
    return json_string_value(json_object_get(one, "slot"));
}

static const char *age_text(json_t *one, char out[64])
{
    char age[32];
    long long ms = (long long)json_integer_value(json_object_get(one, "age_ms"));
    snprintf(out, 64, "%s%s", ctl_duration(ms < 0 ? -ms : ms, age), ms < 0 ? " in the future" : "");
    return out;
}

static const char *size_text(json_t *one, const char *key, char out[32])
{
    return ctl_bytes((unsigned long long)json_integer_value(json_object_get(one, key)), out);
}

static void print_list(json_t *list)
{
    char age[64], bytes[32], written[32], shared[32];
    json_t *one;
    size_t i;
    int wide = 4;
    json_array_foreach(list, i, one)
    {
        int len = (int)strlen(slot_name(one));
        wide = len > wide ? len : wide;
    }
    if (!json_array_size(list))
        puts("no checkpoints");
    else
        printf("%-*s %8s %12s %9s %9s %9s  %s\n", wide, "SLOT", "ID", "POSITION", "SIZE", "WRITTEN",
               "SHARED", "AGE");
    json_array_foreach(list, i, one)
        printf("%-*s %8lld %12lld %9s %9s %9s  %s\n", wide, slot_name(one),
               (long long)json_integer_value(json_object_get(one, "id")),
               (long long)json_integer_value(json_object_get(one, "position")),
               size_text(one, "bytes", bytes), size_text(one, "written_bytes", written),
               size_text(one, "shared_bytes", shared), age_text(one, age));
}

static void print_one(json_t *one, const char *damage)
{
    char age[64], bytes[32], when[64] = "?";
    const char *hash = json_string_value(json_object_get(one, "hash"));
    time_t created = (time_t)(json_integer_value(json_object_get(one, "created_wall_ms")) / 1000);
    struct tm local;
    if (localtime_r(&created, &local))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S %z", &local);
    long long len = (long long)json_integer_value(json_object_get(one, "bytes"));
    printf("checkpoint %lld of %s\n", (long long)json_integer_value(json_object_get(one, "id")),
           slot_name(one));
    printf("  position  %lld\n", (long long)json_integer_value(json_object_get(one, "position")));
    printf("  saved     %s (%s%s)\n", when, age_text(one, age),
           json_integer_value(json_object_get(one, "age_ms")) < 0 ? "" : " ago");
    printf("  size      %s (%lld bytes)\n", ctl_bytes((unsigned long long)len, bytes), len);
    if (json_is_string(json_object_get(one, "key")))
        printf("  key       %s\n", json_string_value(json_object_get(one, "key")));
    printf("  hash      %s\n", hash ? hash : "none");
    printf("  state     %s%s\n", damage ? "DAMAGED: " : "good: every part was read and matches",
           damage ? damage : "");
}

int ctl_store_open(const struct ctl *ctl, enum store_mode mode, struct ctl_store *store,
                   char error[STORE_ERROR])
{
    char path[4096];
    struct stat st;
    char *directory = ctl_state_dir(ctl);
    *store = (struct ctl_store){0};
    if (!directory) {
        snprintf(error, STORE_ERROR, "%s", CTL_KEEPS_NOTHING);
        return HASUP_EIO;
    }
    snprintf(path, sizeof path, "%s/checkpoints.db", directory);
    int code = stat(directory, &st) == 0 ? 0 : HASUP_EIO;
    if (code)
        snprintf(error, STORE_ERROR, "%.200s: %s", directory, strerror(errno));
    if (!code)
        running_read(directory, &store->running);
    free(directory);
    if (!code)
        code = running_keys(ctl, store->running.config, &store->keys, error);
    if (!code)
        code = store_open(path, mode, &store->store, error);
    if (!code)
        store_set(store->store, &(struct store_options){.keys = store->keys, .compress = true});
    return code;
}

void ctl_store_close(struct ctl_store *store)
{
    store_close(store->store);
    keys_free(store->keys);
    running_free(&store->running);
}

/* "MODEL" or "MODEL/SLOT"; false: neither. */
bool ctl_parse_target(const char *target, char model[STORE_MODEL], struct checkpoint_key *key)
{
    size_t len = strcspn(target, "/");
    char *end;
    *key = (struct checkpoint_key){model, UINT32_MAX};
    if (!len || len >= STORE_MODEL)
        return false;
    memcpy(model, target, len);
    model[len] = '\0';
    if (!target[len])
        return true;
    unsigned long ordinal = strtoul(target + len + 1, &end, 10);
    key->ordinal = (uint32_t)ordinal;
    return target[len + 1] >= '0' && target[len + 1] <= '9' && !*end && ordinal < UINT32_MAX;
}

static int checkpoint_list(const struct ctl *ctl)
{
    char error[STORE_ERROR], model[STORE_MODEL];
    struct checkpoint_key key;
    struct ctl_store store;
    const char *target = ctl->argc > 1 ? ctl->argv[1] : NULL;
    if (target && !ctl_parse_target(target, model, &key))
        return ctl_usage(ctl, "\"%s\" is neither a model nor a slot", target);
    json_t *list = json_array();
    int code = ctl_store_open(ctl, STORE_READ, &store, error);
    if (!code)
        code = store_list(store.store, target ? &key : NULL, add_info, list, error);
    if (code == HASUP_ENOTFOUND)
        code = 0;
    if (code)
        fprintf(stderr, "hasupctl: %s\n", error);
    else if (ctl->json)
        ctl_print_json(list);
    else if (!json_array_size(list))
        fprintf(stderr, "no checkpoints%s%s are stored\n", target ? " of " : "",
                target ? target : "");
    else
        print_list(list);
    json_decref(list);
    ctl_store_close(&store);
    return code ? CTL_FAILED : CTL_OK;
}

static int checkpoint_show(const struct ctl *ctl)
{
    char error[STORE_ERROR], *end;
    struct checkpoint_info info = {0};
    struct ctl_store store;
    long long id = ctl->argc == 2 ? strtoll(ctl->argv[1], &end, 10) : 0;
    if (ctl->argc != 2 || *end || id <= 0)
        return ctl_usage(ctl, "show which one?  checkpoint list names their ids");
    int code = ctl_store_open(ctl, STORE_READ, &store, error);
    if (!code)
        code = store_read(store.store, id, &info, NULL, error);
    ctl_store_close(&store);
    if (code && !info.id) {
        fprintf(stderr, "hasupctl: %s\n", error);
        return CTL_FAILED;
    }
    json_t *json = info_json(&info);
    json_object_set_new(json, "sound", json_boolean(!code));
    json_object_set_new(json, "damage", code ? json_string(error) : json_null());
    if (ctl->json)
        ctl_print_json(json);
    else
        print_one(json, code ? error : NULL);
    json_decref(json);
    return code ? CTL_FAILED : CTL_OK;
}

static int checkpoint_now(const struct ctl *ctl)
{
    json_t *answer, *one;
    const char *slot;
    int failures = 0;
    if (ctl->argc != 2)
        return ctl_usage(ctl, "which model or slot?");
    int code = ctl_call(ctl, json_pack("{s:s, s:s}", "verb", "checkpoint", "target", ctl->argv[1]),
                        &answer);
    if (code == CTL_OK && ctl->json)
        ctl_print_json(answer);
    json_object_foreach(json_object_get(answer, "checkpoints"), slot, one)
    {
        const char *error = json_string_value(json_object_get(one, "error"));
        failures += error != NULL;
        if (ctl->json)
            continue;
        if (error)
            printf("%s: not stored: %s\n", slot, error);
        else
            printf("%s: stored at position %lld\n", slot,
                   (long long)json_integer_value(json_object_get(one, "position")));
    }
    json_decref(answer);
    return code == CTL_OK && failures ? CTL_FAILED : code;
}

const char CTL_CHECKPOINT_VERBS[] =
    "  now MODEL[/SLOT]      take one, and wait until it is stored\n"
    "  list [MODEL[/SLOT]]   what is stored\n"
    "  show ID               one of them; verifies its hashes\n"
    "  export MODEL/SLOT|ID FILE [--plain]\n"
    "                        as one file, or - for standard output\n"
    "  import FILE [MODEL/SLOT] [--force]\n"
    "                        take it up; hasupd must be stopped\n"
    "  prune MODEL[/SLOT] --keep N [--hourly N] [--daily N]\n"
    "  prune MODEL[/SLOT] --all\n"
    "                        let go of all others, or of all\n";

int ctl_checkpoint(const struct ctl *ctl)
{
    const char *what = ctl->argc ? ctl->argv[0] : "";
    if (strcmp(what, "export") == 0)
        return checkpoint_export(ctl);
    if (strcmp(what, "import") == 0)
        return checkpoint_import(ctl);
    if (strcmp(what, "prune") == 0)
        return checkpoint_prune(ctl);
    for (int i = 0; i < ctl->argc; i++)
        if (ctl->argv[i][0] == '-')
            return ctl_usage(ctl, "unknown option %s", ctl->argv[i]);
    if (strcmp(what, "now") == 0)
        return checkpoint_now(ctl);
    if (strcmp(what, "list") == 0 && ctl->argc <= 2)
        return checkpoint_list(ctl);
    if (strcmp(what, "show") == 0)
        return checkpoint_show(ctl);
    return ctl_usage(ctl, "now, list, show, export, import or prune?");
}

/*
 * config_keys.c: what reads, defaults and frees an object by a table of keys (config_top_keys.c,
 * config_model_keys.c).
 *
 * Must not touch a file or decide what two keys mean together (config.c does).
 * Failure modes: each wrong key or value is one error with its place, and reading goes on, so that
 * one run shows several.
 */
#include "supervisor/config_probe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* What is being read: one key, at one place. */
struct place {
    struct config_reader *reader;
    const struct config_key *key;
    const struct node *node;
    const char *path;
};

#define COMPLAIN(place_, ...)                                                                      \
    config_error((place_)->reader->errors, (place_)->node->line, (place_)->node->column,           \
                 (place_)->path, __VA_ARGS__)

enum { FOUND_MAX = 64 };

static const char *found(const struct node *node, char out[FOUND_MAX])
{
    if (config_tree_is_nothing(node))
        return "nothing";
    if (node->kind != NODE_SCALAR)
        return node->kind == NODE_LIST ? "a list" : "keys";
    snprintf(out, FOUND_MAX, "\"%.40s\"%s", node->text, strlen(node->text) > 40 ? "..." : "");
    return out;
}

/* {slot} without quotes is a map with one key to YAML. */
static bool is_placeholder(const struct node *node)
{
    return node->kind == NODE_MAP && node->count == 1 && config_tree_is_nothing(node->first);
}

static void expected(const struct place *p, const char *what)
{
    char buffer[FOUND_MAX];
    if (is_placeholder(p->node))
        COMPLAIN(p, "expected %s; found keys: in quotes it is text, \"{%.40s}\"", what,
                 p->node->first->key);
    else
        COMPLAIN(p, "expected %s; found %s", what, found(p->node, buffer));
}

static void write_number(enum config_type type, uint64_t value, char out[CONFIG_VALUE_MAX])
{
    if (type == CONFIG_DURATION)
        config_duration_text((hasup_ns)value, out);
    else if (type == CONFIG_SIZE)
        config_size_text(value, out);
    else
        snprintf(out, CONFIG_VALUE_MAX, "%" PRIu64, value);
}

static bool in_range(const struct place *p, uint64_t value)
{
    const struct config_key *key = p->key;
    char low[CONFIG_VALUE_MAX], high[CONFIG_VALUE_MAX];
    if ((value >= key->min && value <= key->max) || (key->never && value == 0))
        return true;
    write_number(key->type, key->min, low);
    write_number(key->type, key->max, high);
    COMPLAIN(p, "%.40s is out of range: %s to %s%s", p->node->text, low, high,
             key->never ? ", or never" : "");
    return false;
}

static bool is_word(const struct node *node)
{
    return node->kind == NODE_SCALAR && !config_tree_is_nothing(node);
}

static void read_number(const struct place *p, void *target)
{
    uint64_t value = 0;
    uint32_t count;
    hasup_ns span = 0;
    const char *text = is_word(p->node) ? p->node->text : "";
    switch ((int)p->key->type) {
    case CONFIG_DURATION:
        if (!(p->key->never && strcmp(text, "never") == 0) && config_duration(text, &span) != 0)
            expected(p, p->key->never ? "a duration such as 250ms, 30s, 5m, or never"
                                      : "a duration such as 250ms, 30s, 5m");
        else if (in_range(p, (uint64_t)span))
            memcpy(target, &span, sizeof(span));
        return;
    case CONFIG_SIZE:
        if (config_size(text, &value) != 0)
            expected(p, "a size such as 64KiB, 1GiB");
        else if (in_range(p, value))
            memcpy(target, &value, sizeof(value));
        return;
    default:
        if (config_count(text, &value) != 0 || !p->node->plain)
            expected(p, "a whole number");
        else if (in_range(p, value)) {
            count = (uint32_t)value;
            memcpy(target, &count, sizeof(count));
        }
    }
}

static void read_counts(const struct place *p, uint32_t *target)
{
    uint32_t counts[CORE_WEIGHTS > CORE_PREFERRED ? CORE_WEIGHTS : CORE_PREFERRED] = {0};
    size_t count = 0;
    if (p->node->kind != NODE_LIST) {
        expected(p, "a list of whole numbers such as [1, 2]");
        return;
    }
    for (const struct node *node = p->node->first; node; node = node->next) {
        struct place item = {p->reader, p->key, node, p->path};
        struct config_key one = *p->key;
        one.type = CONFIG_COUNT;
        item.key = &one;
        if (count == p->key->room) {
            COMPLAIN(&item, "the list is too long: at most %zu numbers", p->key->room);
            return;
        }
        read_number(&item, &counts[count++]);
    }
    memcpy(target, counts, p->key->room * sizeof *counts);
}

static void read_bool(const struct place *p, bool *target)
{
    bool yes = is_word(p->node) && strcmp(p->node->text, "true") == 0;
    if (!p->node->plain || (!yes && strcmp(p->node->text, "false") != 0))
        expected(p, "true or false");
    else
        *target = yes;
}

/* A word is meant for another where a third of it, or less, has to change. */
static bool is_near(const char *written, const char *meant, unsigned *best)
{
    unsigned distance = config_distance(written, meant);
    if (distance * 3 > strlen(meant) + 1 || distance >= *best)
        return false;
    *best = distance;
    return true;
}

static void read_choice(const struct place *p, void *target)
{
    char list[128] = "", guess[64] = "";
    unsigned best = UINT32_MAX;
    const char *text = is_word(p->node) ? p->node->text : "";
    for (int i = 0; p->key->choices[i]; i++) {
        const char *name = p->key->choices[i];
        if (strcmp(text, name) == 0) {
            memcpy(target, &i, sizeof(i));
            return;
        }
        size_t len = strlen(list);
        snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "one of ", name);
        if (is_near(text, name, &best))
            snprintf(guess, sizeof(guess), "; did you mean \"%s\"?", name);
    }
    char buffer[FOUND_MAX];
    COMPLAIN(p, "expected %s; found %s%s", list, found(p->node, buffer), guess);
}

static void out_of_memory(const struct place *p)
{
    COMPLAIN(p, "out of memory");
}

char *config_absolute(const char *directory, const char *path)
{
    char *out = NULL;
    if (path[0] == '/')
        return strdup(path);
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    if (strcmp(path, ".") == 0 || *path == '\0')
        return strdup(directory);
    return asprintf(&out, "%s%s%s", directory, strcmp(directory, "/") == 0 ? "" : "/", path) < 0
               ? NULL
               : out;
}

static void read_text(const struct place *p, char **target)
{
    bool file = p->key->type == CONFIG_FILE_PATH;
    if (!is_word(p->node) || p->node->text[0] == '\0') {
        expected(p, file ? "a path" : "text");
        return;
    }
    if (p->key->off && strcmp(p->node->text, "off") == 0) {
        free(*target);
        *target = NULL;
        return;
    }
    char *value =
        file ? config_absolute(p->reader->directory, p->node->text) : strdup(p->node->text);
    if (!value) {
        out_of_memory(p);
        return;
    }
    free(*target);
    *target = value;
}

bool config_is_strings(enum config_type type)
{
    return type == CONFIG_COMMAND || type == CONFIG_WORDS || type == CONFIG_PATTERNS ||
           type == CONFIG_VARIABLES || type == CONFIG_FILE_PATHS;
}

void config_strings_free(char **strings)
{
    for (char **s = strings; s && *s; s++)
        free(*s);
    free(strings);
}

/* The list that a command written as one text stands for: [python3, worker.py]. */
static void suggest_list(const char *text, char *out, size_t room)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+";
    size_t len = 0;
    const char *comma = "";
    out[0] = '\0';
    while (*(text += strspn(text, " \t\n")) && len + 1 < room) {
        size_t word = strcspn(text, " \t\n");
        const char *quote = strspn(text, safe) >= word ? "" : "'";
        int more =
            snprintf(out + len, room - len, "%s%s%.*s%s", comma, quote, (int)word, text, quote);
        len += more > 0 ? (size_t)more : 0;
        text += word;
        comma = ", ";
    }
}

/* A path, where a "-" in front of it stays. */
static char *absolute_of(const char *directory, const char *text)
{
    bool optional = *text == '-';
    char *path = config_absolute(directory, text + optional), *out = NULL;
    if (!optional || !path)
        return path;
    if (asprintf(&out, "-%s", path) < 0)
        out = NULL;
    free(path);
    return out;
}

/* The words of a list, each as it stands; of a command the first may be a path.  NULL: an error. */
static char **read_list(const struct place *p)
{
    bool command = p->key->type == CONFIG_COMMAND, paths = p->key->type == CONFIG_FILE_PATHS;
    char **words = calloc(p->node->count + 1, sizeof(*words));
    size_t count = 0;
    bool fine = words != NULL;
    for (const struct node *word = p->node->first; word && fine; word = word->next) {
        struct place item = {p->reader, p->key, word, p->path};
        if (!is_word(word) || ((count == 0 || !command) && word->text[0] == '\0')) {
            expected(&item, "a word");
            config_strings_free(words);
            return NULL;
        }
        bool path = paths || (command && count == 0 && strchr(word->text, '/'));
        words[count] = path ? absolute_of(p->reader->directory, word->text) : strdup(word->text);
        fine = words[count++] != NULL;
    }
    if (fine)
        return words;
    out_of_memory(p);
    config_strings_free(words);
    return NULL;
}

static void read_words(const struct place *p, char ***target)
{
    bool command = p->key->type == CONFIG_COMMAND;
    char list[160];
    if (is_word(p->node) && p->node->text[0]) {
        suggest_list(p->node->text, list, sizeof(list));
        COMPLAIN(p, "expected a list of words; found text: write [%s]", list);
        return;
    }
    const char *such = command ? "a list of words such as [python3, worker.py]"
                       : p->key->type == CONFIG_FILE_PATHS ? "a list of paths such as [some/file]"
                                                           : "a list of words such as [0, 1]";
    if (p->node->kind == NODE_LIST && p->node->count == 0) {
        COMPLAIN(p, "expected %s; found an empty list", such);
        return;
    }
    if (p->node->kind != NODE_LIST) {
        expected(p, such);
        return;
    }
    char **words = read_list(p);
    if (!words)
        return;
    config_strings_free(*target);
    *target = words;
}

/* A default is one text: its words stand between blanks. */
static char **split_words(const char *text)
{
    char **words = calloc(strlen(text) / 2 + 2, sizeof(*words));
    size_t count = 0;
    bool fine = words != NULL;
    for (; fine && *text; text += *text == ' ') {
        size_t len = strcspn(text, " ");
        fine = (words[count++] = strndup(text, len)) != NULL;
        text += len;
    }
    if (fine)
        return words;
    config_strings_free(words);
    return NULL;
}

static void read_patterns(const struct place *p, char ***target)
{
    bool is_default = is_word(p->node) && !p->node->line;
    if (p->node->kind != NODE_LIST && !is_default) {
        expected(p, "a list such as [/predict, POST /score]");
        return;
    }
    char **words = is_default ? split_words(p->node->text) : read_list(p);
    if (!words)
        return;
    config_strings_free(*target);
    *target = words;
}

static void read_variables(const struct place *p, char ***target)
{
    if (p->node->kind != NODE_MAP) {
        expected(p, "names and values such as {OMP_NUM_THREADS: 1}");
        return;
    }
    char **words = calloc(p->node->count + 1, sizeof(*words));
    size_t count = 0;
    bool fine = words != NULL;
    for (const struct node *item = p->node->first; item && fine; item = item->next) {
        char path[CONFIG_PATH_MAX];
        snprintf(path, sizeof(path), "%.120s.%.120s", p->path, item->key);
        struct place place = {p->reader, p->key, item, path};
        if (!is_word(item))
            expected(&place, "text");
        else if (item->key[0] == '\0' || strchr(item->key, '='))
            COMPLAIN(&place, "a variable's name is not empty and holds no =");
        else if (strncmp(item->key, "HASUP_", 6) == 0)
            COMPLAIN(&place, "names that begin with HASUP_ are set by hasupd");
        else
            fine = asprintf(&words[count++], "%s=%s", item->key, item->text) >= 0;
    }
    if (!fine) {
        if (count > 0)
            words[count - 1] = NULL;
        out_of_memory(p);
        config_strings_free(words);
        return;
    }
    config_strings_free(*target);
    *target = words;
}

static void read_value(const struct place *p, void *object)
{
    void *target = (char *)object + p->key->offset;
    switch (p->key->type) {
    case CONFIG_TEXT:
    case CONFIG_FILE_PATH: read_text(p, target); break;
    case CONFIG_BOOL: read_bool(p, target); break;
    case CONFIG_COUNT:
    case CONFIG_SIZE:
    case CONFIG_DURATION: read_number(p, target); break;
    case CONFIG_COUNTS: read_counts(p, target); break;
    case CONFIG_CHOICE: read_choice(p, target); break;
    case CONFIG_COMMAND:
    case CONFIG_FILE_PATHS:
    case CONFIG_WORDS: read_words(p, target); break;
    case CONFIG_VARIABLES: read_variables(p, target); break;
    case CONFIG_PATTERNS: read_patterns(p, target); break;
    case CONFIG_SOCKETS: config_sockets_read(p->reader, p->node, p->path, target); break;
    case CONFIG_PROBE: config_probe_read(p->reader, p->node, p->path, target); break;
    case CONFIG_READY: config_ready_read(p->reader, p->node, p->path, target); break;
    case CONFIG_MODELS:
    case CONFIG_PROGRAMS: break; /* each has a table of its own: config_models.c */
    }
}

/* A group and the table that knows it. */
struct group {
    const struct config_key *keys;
    size_t count;
    const char *prefix; /* of the messages: "models.digits", or "" */
    const char *name;   /* "restart", or "" */
};

/* Where `path` stands in the group: the rest after the group's name, or NULL. */
static const char *within(const struct group *group, const char *path)
{
    size_t len = strlen(group->name);
    if (len == 0)
        return path;
    return strncmp(path, group->name, len) == 0 && path[len] == '.' ? path + len + 1 : NULL;
}

/* Into a list, unless it is there. */
static void add_word(char *list, size_t room, const char *word)
{
    size_t len = strlen(list);
    for (const char *at = list; *at; at += strspn(at, ", ")) {
        size_t word_len = strcspn(at, ",");
        if (strlen(word) == word_len && strncmp(at, word, word_len) == 0)
            return;
        at += word_len;
    }
    snprintf(list + len, room - len, "%s%s", len ? ", " : "", word);
}

/* What others call it. */
static const char *also_called(const struct group *group, const char *written)
{
    static const struct {
        const char *other, *ours;
    } NAMES[] = {
        {"depends_on", "requires"}, {"env", "environment"},    {"env_file", "environment_files"},
        {"workers", "slots"},       {"slots", "workers"},      {"replicas", "slots"},
        {"replicas", "workers"},    {"healthcheck", "live"},   {"cmd", "command"},
        {"cwd", "directory"},       {"working_dir", "directory"},
    };
    for (size_t i = 0; i < HASUP_LEN(NAMES); i++)
        for (size_t k = 0; strcmp(NAMES[i].other, written) == 0 && k < group->count; k++)
            if (strcmp(group->keys[k].path, NAMES[i].ours) == 0)
                return NAMES[i].ours;
    return NULL;
}

static void unknown_key(struct config_reader *reader, const struct group *group,
                        const struct node *child, const char *path)
{
    char guess[CONFIG_PATH_MAX] = "", known[512] = "", name[64];
    char elsewhere[CONFIG_PATH_MAX] = "";
    unsigned best = UINT32_MAX;
    const char *ours = *group->name ? NULL : also_called(group, child->key);
    if (ours) {
        config_error(reader->errors, child->key_line, child->key_column, path,
                     "unknown key; here it is called \"%s\"", ours);
        return;
    }
    for (size_t i = 0; i < group->count; i++) {
        const char *rest = within(group, group->keys[i].path);
        if (!rest)
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(rest, "."), rest);
        if (is_near(child->key, name, &best))
            snprintf(guess, sizeof(guess), "%s", name);
        add_word(known, sizeof known, name);
    }
    /* A key of another group is a key in the wrong place. */
    for (size_t i = 0; i < group->count && best > 0; i++) {
        const char *dot = strrchr(group->keys[i].path, '.');
        if (is_near(child->key, dot ? dot + 1 : group->keys[i].path, &best))
            snprintf(elsewhere, sizeof(elsewhere), "%s", group->keys[i].path);
    }
    if (!guess[0] && strlen(child->key) < 3 * best) /* a short word is near to many */
        elsewhere[0] = '\0';
    if (guess[0] || elsewhere[0])
        config_error(reader->errors, child->key_line, child->key_column, path,
                     "unknown key; did you mean \"%s%s%s\"?", guess,
                     guess[0] && elsewhere[0] ? "\" or \"" : "", elsewhere);
    else
        config_error(reader->errors, child->key_line, child->key_column, path,
                     "unknown key; known here: %s", known);
}

/* Whether what is written where keys are expected is the value of one of them: its name. */
static bool choice_within(const struct group *group, const struct node *node, char name[64])
{
    for (size_t i = 0; is_word(node) && i < group->count; i++) {
        const char *rest = within(group, group->keys[i].path);
        const char *const *choice = group->keys[i].choices;
        for (; rest && choice && *choice; choice++)
            if (strcmp(*choice, node->text) == 0)
                return snprintf(name, 64, "%s", rest) > 0;
    }
    return false;
}

static void read_group(struct config_reader *reader, const struct group *group,
                       const struct node *map, void *object)
{
    for (const struct node *child = map->first; child; child = child->next) {
        char rel[CONFIG_PATH_MAX], path[CONFIG_PATH_MAX];
        snprintf(rel, sizeof(rel), "%.80s%s%.80s", group->name, *group->name ? "." : "",
                 child->key);
        snprintf(path, sizeof(path), "%.80s%s%.170s", group->prefix, *group->prefix ? "." : "",
                 rel);
        struct group inner = {group->keys, group->count, group->prefix, rel};
        const struct config_key *key = NULL, *member = NULL;
        for (size_t i = 0; i < group->count && !key; i++) {
            if (strcmp(group->keys[i].path, rel) == 0)
                key = &group->keys[i];
            else if (!member && within(&inner, group->keys[i].path))
                member = &group->keys[i];
        }
        struct place place = {reader, key, child, path};
        char buffer[FOUND_MAX], name[64];
        if (key)
            read_value(&place, object);
        else if (!member)
            unknown_key(reader, group, child, path);
        else if (child->kind == NODE_MAP)
            read_group(reader, &inner, child, object);
        else if (choice_within(&inner, child, name))
            COMPLAIN(&place, "expected keys; write {%s: %s}", name, child->text);
        else if (!config_tree_is_nothing(child))
            COMPLAIN(&place, "expected keys such as %s:; found %s", within(&inner, member->path),
                     found(child, buffer));
    }
}

void config_read(struct config_reader *reader, const struct config_key *keys, size_t count,
                 const struct node *node, const char *prefix, void *object)
{
    struct group whole = {keys, count, prefix, ""};
    read_group(reader, &whole, node, object);
}

/* The defaults go through the same reader as the file: a default that it refuses is our bug. */
bool config_defaults(const struct config_key *keys, size_t count, void *object)
{
    char message[CONFIG_ERROR_MAX];
    struct config_errors errors;
    struct config_reader reader = {.errors = &errors, .directory = "/"};
    config_errors_init(&errors, "default", message);
    for (size_t i = 0; i < count; i++) {
        char text[CONFIG_PATH_MAX];
        if (!keys[i].fallback)
            continue;
        snprintf(text, sizeof(text), "%s", keys[i].fallback);
        struct node node = {.kind = NODE_SCALAR, .plain = true, .text = text};
        struct place place = {&reader, &keys[i], &node, keys[i].path};
        read_value(&place, object);
    }
    return errors.count == 0;
}

void config_keys_free(const struct config_key *keys, size_t count, void *object)
{
    for (size_t i = 0; i < count; i++) {
        void *target = (char *)object + keys[i].offset;
        if (keys[i].type == CONFIG_TEXT || keys[i].type == CONFIG_FILE_PATH)
            free(*(char **)target);
        else if (config_is_strings(keys[i].type))
            config_strings_free(*(char ***)target);
        else if (keys[i].type == CONFIG_SOCKETS)
            config_sockets_free(*(struct config_socket **)target);
        else if (keys[i].type == CONFIG_PROBE)
            config_probe_free(target);
        else if (keys[i].type == CONFIG_READY)
            config_probe_free(&((struct config_ready *)target)->probe);
    }
}

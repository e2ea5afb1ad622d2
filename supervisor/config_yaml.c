/*
 * config_yaml.c: a YAML text becomes a tree of maps, lists and scalars that know where they stand.
 *
 * The only file that knows libyaml.  It must not know any key.  What makes YAML surprising is
 * refused: anchors and aliases, tags, merge keys by that, several documents, a key twice.
 * Failure modes: one error with its place; depth, nodes and keys are bounded, so that no file makes
 * reading it expensive.
 */
#include "supervisor/config_tree.h"

#include <stdlib.h>
#include <yaml.h>

struct reading {
    yaml_parser_t parser;
    struct config_errors *errors;
    const char *text;
    size_t len, nodes;
};

enum { BRACES_MAX = 80 };

void config_tree_free(struct node *node)
{
    if (!node)
        return;
    for (struct node *child = node->first, *next; child; child = next) {
        next = child->next;
        config_tree_free(child);
    }
    free(node->text);
    free(node->key);
    free(node);
}

struct node *config_tree_find(const struct node *map, const char *key)
{
    for (struct node *child = map->first; child; child = child->next)
        if (child->key && strcmp(child->key, key) == 0)
            return child;
    return NULL;
}

bool config_tree_is_nothing(const struct node *node)
{
    return node->kind == NODE_SCALAR && node->plain &&
           (strcmp(node->text, "") == 0 || strcmp(node->text, "~") == 0 ||
            strcmp(node->text, "null") == 0);
}

static void refuse(struct reading *r, const yaml_mark_t *mark, const char *what)
{
    config_error(r->errors, (unsigned)mark->line + 1, (unsigned)mark->column + 1, NULL, "%s", what);
}

/* The reader's errors (encoding, control characters) know an offset, not a line. */
static void refuse_bytes(struct reading *r)
{
    unsigned line = 1, column = 1;
    for (size_t i = 0; i < r->parser.problem_offset; i++) {
        column = r->text[i] == '\n' ? 1 : column + 1;
        line += r->text[i] == '\n';
    }
    config_error(r->errors, line, column, NULL, "%s", r->parser.problem);
}

/* The byte at a mark, whose column counts characters. */
static size_t byte_at(const struct reading *r, const yaml_mark_t *mark)
{
    size_t at = 0, line = 0, column = 0;
    for (; at < r->len && line < mark->line; at++)
        line += r->text[at] == '\n';
    for (; at < r->len && column < mark->column; column++)
        for (at++; at < r->len && (r->text[at] & 0xc0) == 0x80;)
            at++;
    return at;
}

/* A word whose braces YAML takes for a map's: "--port={slot}", at any place in it.  "": none. */
static void find_braces(const struct reading *r, size_t at, char word[BRACES_MAX])
{
    static const char ENDS[] = " \t\n\r,[]\"'";
    const char *text = r->text;
    size_t from = at, to;
    int depth = 0;
    word[0] = '\0';
    while (from > 0 && !strchr(ENDS, text[from - 1]))
        from--;
    for (to = from; to < r->len && !strchr(ENDS, text[to]) && depth >= 0; to++)
        depth += (text[to] == '{') - (text[to] == '}');
    to -= depth < 0;
    if (depth <= 0 && to - from < BRACES_MAX)
        snprintf(word, BRACES_MAX, "%.*s", (int)(to - from), text + from);
    if (!strstr(word, "{slot") && !strstr(word, "{model"))
        word[0] = '\0';
}

static void refuse_syntax(struct reading *r)
{
    const yaml_mark_t *mark = &r->parser.problem_mark;
    const char *problem = r->parser.problem ? r->parser.problem : "this is not YAML";
    char word[BRACES_MAX], text[BRACES_MAX + 160];
    if (r->parser.error == YAML_MEMORY_ERROR) {
        config_error(r->errors, 0, 0, NULL, "out of memory");
        return;
    }
    if (r->parser.error == YAML_READER_ERROR) {
        refuse_bytes(r);
        return;
    }
    find_braces(r, byte_at(r, mark), word);
    snprintf(text, sizeof text, "%.100s%s%s%s", problem,
             word[0] ? "; with braces in it, this needs quotes: \"" : "", word,
             word[0] ? "\"" : "");
    refuse(r, mark, text);
}

static bool next_event(struct reading *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return true;
    refuse_syntax(r);
    return false;
}

/* What an event has that this configuration does not take; NULL: nothing. */
static const char *surprise(const yaml_event_t *event)
{
    static const char anchors[] = "anchors and aliases are not taken: write the value out";
    static const char tags[] = "tags are not taken: write the value alone";
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_ALIAS_EVENT)
        return anchors;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
            return "a text must not hold a NUL byte";
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    return anchor ? anchors : tag ? tags : NULL;
}

static struct node *new_node(struct reading *r, const yaml_event_t *event, enum node_kind kind)
{
    struct node *node = NULL;
    if (r->nodes++ >= CONFIG_NODES_MAX) {
        refuse(r, &event->start_mark, "the file holds too many values");
        return NULL;
    }
    node = calloc(1, sizeof(*node));
    if (!node) {
        config_error(r->errors, 0, 0, NULL, "out of memory");
        return NULL;
    }
    node->kind = kind;
    node->line = (unsigned)event->start_mark.line + 1;
    node->column = (unsigned)event->start_mark.column + 1;
    return node;
}

static void append(struct node *parent, struct node *child)
{
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->count++;
}

static struct node *read_node(struct reading *r, const yaml_event_t *event, unsigned depth);

static struct node *read_scalar(struct reading *r, const yaml_event_t *event)
{
    struct node *node = new_node(r, event, NODE_SCALAR);
    if (!node)
        return NULL;
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text = strdup((const char *)event->data.scalar.value);
    if (!node->text) {
        config_error(r->errors, 0, 0, NULL, "out of memory");
        config_tree_free(node);
        return NULL;
    }
    return node;
}

static bool read_list(struct reading *r, struct node *list, unsigned depth)
{
    yaml_event_t event;
    while (next_event(r, &event)) {
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        struct node *child = end ? NULL : read_node(r, &event, depth);
        yaml_event_delete(&event);
        if (child)
            append(list, child);
        else
            return end;
    }
    return false;
}

/* The key that `event` is, or NULL after saying why it is none. */
static char *read_key(struct reading *r, const struct node *map, const yaml_event_t *event)
{
    const char *what = surprise(event);
    if (!what && event->type != YAML_SCALAR_EVENT)
        what = "a key must be a word";
    if (!what && map->count >= CONFIG_MAP_MAX)
        what = "too many keys";
    if (what) {
        refuse(r, &event->start_mark, what);
        return NULL;
    }
    const char *key = (const char *)event->data.scalar.value;
    const struct node *twin = config_tree_find(map, key);
    if (twin) {
        config_error(r->errors, (unsigned)event->start_mark.line + 1,
                     (unsigned)event->start_mark.column + 1, NULL,
                     "\"%.64s\" stands here twice; first in line %u", key, twin->key_line);
        return NULL;
    }
    char *copy = strdup(key);
    if (!copy)
        config_error(r->errors, 0, 0, NULL, "out of memory");
    return copy;
}

static bool read_map(struct reading *r, struct node *map, unsigned depth)
{
    yaml_event_t event;
    while (next_event(r, &event)) {
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return true;
        }
        yaml_mark_t mark = event.start_mark;
        char *key = read_key(r, map, &event);
        yaml_event_delete(&event);
        if (!key)
            return false;
        struct node *child = NULL;
        if (next_event(r, &event)) {
            child = read_node(r, &event, depth);
            yaml_event_delete(&event);
        }
        if (!child) {
            free(key);
            return false;
        }
        child->key = key;
        child->key_line = (unsigned)mark.line + 1;
        child->key_column = (unsigned)mark.column + 1;
        append(map, child);
    }
    return false;
}

/* The node that begins with `event`; NULL: an error was reported. */
static struct node *read_node(struct reading *r, const yaml_event_t *event, unsigned depth)
{
    const char *what = surprise(event);
    if (!what && depth > CONFIG_DEPTH_MAX)
        what = "nested too deep";
    if (what) {
        refuse(r, &event->start_mark, what);
        return NULL;
    }
    if (event->type == YAML_SCALAR_EVENT)
        return read_scalar(r, event);
    bool list = event->type == YAML_SEQUENCE_START_EVENT;
    struct node *node = new_node(r, event, list ? NODE_LIST : NODE_MAP);
    if (node && !(list ? read_list(r, node, depth + 1) : read_map(r, node, depth + 1))) {
        config_tree_free(node);
        return NULL;
    }
    return node;
}

static struct node *read_document(struct reading *r)
{
    yaml_event_t event;
    struct node *root = NULL;
    while (next_event(r, &event)) {
        yaml_event_type_t type = event.type;
        bool bad = false;
        if (type == YAML_STREAM_END_EVENT && !root) {
            root = new_node(r, &event, NODE_MAP); /* comments alone */
        } else if (type == YAML_DOCUMENT_START_EVENT && root) {
            refuse(r, &event.start_mark, "one document a file: this is the second");
            bad = true;
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT &&
                   type != YAML_DOCUMENT_END_EVENT && type != YAML_STREAM_END_EVENT) {
            root = read_node(r, &event, 1);
            bad = !root;
        }
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT)
            return root;
        if (bad)
            break;
    }
    config_tree_free(root);
    return NULL;
}

struct node *config_tree_parse(const char *text, size_t len, struct config_errors *errors)
{
    struct reading r = {.errors = errors, .text = text, .len = len};
    if (!yaml_parser_initialize(&r.parser)) {
        config_error(errors, 0, 0, NULL, "out of memory");
        return NULL;
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    struct node *root = read_document(&r);
    yaml_parser_delete(&r.parser);
    if (root && config_tree_is_nothing(root)) {
        root->kind = NODE_MAP;
    } else if (root && root->kind != NODE_MAP) {
        config_error(errors, root->line, root->column, NULL,
                     "expected keys such as models:; found %s",
                     root->kind == NODE_LIST ? "a list" : "text");
        config_tree_free(root);
        return NULL;
    }
    return root;
}

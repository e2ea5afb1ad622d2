/*
 * config_tree.h: what a configuration file says, as a tree with places, and the errors it earns.
 * Between the files of the configuration; everything else includes config.h.
 */
#ifndef HASUP_SUPERVISOR_CONFIG_TREE_H
#define HASUP_SUPERVISOR_CONFIG_TREE_H

#include "supervisor/config.h"

enum {
    CONFIG_PATH_MAX = 256, /* "models.digits.restart.backoff_min" with its NUL */
    CONFIG_DEPTH_MAX = 16,
    CONFIG_NODES_MAX = 65536,
    CONFIG_MAP_MAX = 1024, /* keys of one map: duplicates are looked for one by one */
    CONFIG_FILE_MAX = 1024 * 1024,
    CONFIG_ERRORS_SHOWN = 5,
};

struct config_errors {
    const char *file;
    char *out; /* CONFIG_ERROR_MAX bytes */
    size_t len;
    unsigned count;
};

void config_errors_init(struct config_errors *errors, const char *file, char *out);
/* One line "FILE:LINE:COLUMN: PATH: what".  `path` may be NULL; `line` 0: of the file as a whole.
 */
HASUP_PRINTF(5, 6)
void config_error(struct config_errors *errors, unsigned line, unsigned column, const char *path,
                  const char *format, ...);
void config_no_memory(struct config_errors *errors);
/* Closes the message: says how many errors are not shown. */
void config_errors_end(struct config_errors *errors);

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
    enum node_kind kind;
    unsigned line, column; /* both from 1 */
    bool plain;            /* a scalar without quotes */
    char *text;            /* of a scalar; never NULL there */
    char *key;             /* where the parent is a map */
    unsigned key_line, key_column;
    size_t count;
    struct node *first, *last, *next; /* children; siblings */
};

/* The tree of a text.  NULL: `errors` says why.  An empty text is an empty map. */
struct node *config_tree_parse(const char *text, size_t len, struct config_errors *errors);
void config_tree_free(struct node *node);
struct node *config_tree_find(const struct node *map, const char *key);
/* Where an error about `path` ("limits.slots") is shown: its node, or the nearest group there is.
 */
const struct node *config_place(const struct node *node, const char *path);
/* A map of the file whose keys are looked at, and whom its errors are told to. */
struct config_section {
    struct config_errors *errors;
    const struct node *node;
    const char *prefix; /* its own path: "models.digits" */
};

/* One error about a key of it ("process.nice"), where that stands; "": about the map itself. */
HASUP_PRINTF(3, 4)
void config_complain(const struct config_section *section, const char *key, const char *format,
                     ...);
/* Nothing stands there: "key:" alone, or null. */
bool config_tree_is_nothing(const struct node *node);

/* Values as they are written.  0, or HASUP_EINVAL where the text is no such value. */
int config_duration(const char *text, hasup_ns *value) HASUP_NODISCARD;
int config_size(const char *text, uint64_t *value) HASUP_NODISCARD;
int config_count(const char *text, uint64_t *value) HASUP_NODISCARD;
enum { CONFIG_VALUE_MAX = 32 };
void config_duration_text(hasup_ns value, char out[CONFIG_VALUE_MAX]);
void config_size_text(uint64_t value, char out[CONFIG_VALUE_MAX]);

enum config_type {
    CONFIG_TEXT,
    CONFIG_FILE_PATH, /* relative to the configuration file's directory */
    CONFIG_BOOL,
    CONFIG_COUNT,     /* uint32_t */
    CONFIG_COUNTS,    /* uint32_t[room]: a list; what is not said is 0 */
    CONFIG_SIZE,      /* uint64_t, bytes */
    CONFIG_DURATION,  /* hasup_ns */
    CONFIG_CHOICE,    /* an enum */
    CONFIG_COMMAND,   /* char **: a list of words, the first a program */
    CONFIG_WORDS,     /* char **: a list of words */
    CONFIG_FILE_PATHS, /* char **: a list of paths, as CONFIG_FILE_PATH; a "-" in front stays */
    CONFIG_VARIABLES, /* char **: a map */
    CONFIG_PATTERNS,  /* char **: a list of words that may be empty, and has a default */
    CONFIG_SOCKETS,   /* struct config_socket * */
    CONFIG_PROBE,     /* struct config_probe */
    CONFIG_READY,     /* struct config_ready */
    CONFIG_MODELS,
    CONFIG_PROGRAMS,
};

/* One row of the reference: what supervisor.yaml.example shows, what is read, what is printed. */
struct config_key {
    const char *path; /* "restart.backoff_min" */
    enum config_type type;
    size_t offset;        /* in struct config or struct config_model */
    const char *fallback; /* as it would be written; NULL: worked out, or required */
    uint64_t min, max;
    size_t room; /* of a list */
    const char *const *choices; /* by number, NULL-terminated */
    bool never;                 /* "never" may stand there; it is 0 */
    bool off;                   /* "off" may stand there; it is NULL */
    bool restarts;              /* a worker that runs is stale when this changes */
};

/* For the bounds in tables of keys. */
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define DAY    ((uint64_t)(24 * 3600) * HASUP_S)

extern const struct config_key config_top_keys[];
extern const size_t config_top_key_count;
extern const struct config_key config_model_keys[];
extern const size_t config_model_key_count;
extern const struct config_key config_program_keys[];
extern const size_t config_program_key_count;

/* The keys of a model, or of a program. */
struct config_table {
    const struct config_key *keys;
    size_t count;
};
struct config_table config_table_of(const struct config_model *model);

struct config_reader {
    struct config_errors *errors;
    const char *directory; /* absolute */
    bool part;             /* whom it names may stand elsewhere */
};

/* Puts the defaults of a table into `object`; false where there is no memory. */
bool config_defaults(const struct config_key *keys, size_t count, void *object);
/* Reads the map `node` into `object`; `prefix` is the path of the map itself, "" or "models.m". */
void config_read(struct config_reader *reader, const struct config_key *keys, size_t count,
                 const struct node *node, const char *prefix, void *object);
/* What the table owns in `object` goes. */
void config_keys_free(const struct config_key *keys, size_t count, void *object);
/* Whether its value is a char **, NULL-terminated. */
bool config_is_strings(enum config_type type);
/* `models` and `programs` of the file. */
void config_models_read(struct config_reader *reader, struct config *config,
                        const struct node *root);
void config_adapter_check(const struct config_model *model, const struct config_section *section);
/* Placeholders in what a process is started with, and the files of its variables. */
void config_start_check(const struct config_model *model, const struct config_section *section);
/* A model's sockets; `path` is the key's. */
void config_sockets_read(struct config_reader *reader, const struct node *node, const char *path,
                         struct config_socket **target);
void config_sockets_free(struct config_socket *sockets);
/* What those of a model mean beside those of the models before it. */
void config_sockets_check(const struct config *config, const struct config_model *model,
                          const struct config_section *section);
/* What the strings of `process` say; `prefix` as in config_read. */
void config_process_read(struct config_process *process, const struct config_section *section);
void config_strings_free(char **strings);
/* `path` made absolute by `directory`; NULL where there is no memory. */
char *config_absolute(const char *directory, const char *path);

#endif

/* top.h: what hasupctl top shows, line by line, apart from how a terminal is written to. */
#ifndef HASUP_CTL_TOP_H
#define HASUP_CTL_TOP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum top_sort { TOP_NAME, TOP_MEMORY, TOP_RATE, TOP_CRASHES, TOP_QUEUE };

/* A model, or under it one of its slots.  Texts belong to the status; numbers below 0: there is
 * none. */
struct top_row {
    const char *name, *model, *state;
    bool is_model;
    bool is_program; /* or one of its slots */
    unsigned ready, workers; /* of a model */
    double rate, key, model_key;
    long long up_ms, starts, crashes, running, queued, memory;
    long long p50_us, p99_us, checkpoint_ms, next_ms;
};

struct top_rows {
    struct top_row *rows;
    size_t count;
};

enum top_style { TOP_PLAIN, TOP_MODEL, TOP_TITLE, TOP_DIM, TOP_GOOD, TOP_BUSY, TOP_BAD };

/* One line of the screen: never longer than the screen is wide, and plain ASCII. */
enum { TOP_LINE_MAX = 512 };
struct top_line {
    char text[TOP_LINE_MAX + 1];
    enum top_style style;
    int state_at, state_len; /* columns of a style of their own; len 0: none */
    enum top_style state;
};

struct top_view {
    json_t *status;      /* NULL: none came yet */
    const char *trouble; /* why what is shown is old; NULL: it is not */
    enum top_sort sort;
    int width, height;
    int scroll; /* rows that are above the screen */
    bool help;
};

/* The key chooses an order: true, and *sort. */
bool top_sort_key(int key, enum top_sort *sort);
/* Models in order, each with its slots in order behind it.  The caller frees rows. */
struct top_rows top_rows(json_t *status, enum top_sort sort);
/* Gives each line of the screen to `put`, and moves view->scroll to where rows are. */
void top_draw(struct top_view *view, void (*put)(void *to, int y, const struct top_line *line),
              void *to);

#endif

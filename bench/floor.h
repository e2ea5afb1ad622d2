/* floor.h: what the parts of the minimal loop share: its journal and its HTTP. */
#ifndef HASUP_BENCH_FLOOR_H
#define HASUP_BENCH_FLOOR_H

#include "bench/bench.h"

/* ---- floor_journal.c ---- */

enum floor_write { FLOOR_ACCEPT, FLOOR_ANSWER, FLOOR_DELETE };

struct floor_op {
    struct floor_op *next;
    enum floor_write write;
    uint32_t request; /* whose */
    uint64_t record;
    const uint8_t *bytes; /* borrowed until the operation is taken back */
    size_t len;
};

/* `wake` is called from the journal's thread when something is done. */
void floor_journal_open(const char *path, void (*wake)(void *context), void *context);
void floor_journal_add(struct floor_op *op);
/* At a turn's end: commits what was added, or hands it to the thread.  Deletes alone wait. */
void floor_journal_flush(void);
/* What is done, in order; NULL: nothing. */
struct floor_op *floor_journal_take(void);

/* ---- floor_http.c ---- */

struct floor_http;

struct floor_http *floor_http_new(void (*request)(void *client, const uint8_t *body, size_t len),
                                  void *client);
void floor_http_free(struct floor_http *http);
void floor_http_read(struct floor_http *http, const uint8_t *bytes, size_t len);
/* Writes a whole response to `out`; its length. */
size_t floor_http_response(uint8_t *out, const uint8_t *body, size_t len);

#endif

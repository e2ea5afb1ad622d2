/*
 * random.h: the core's only source of chance, a seeded integer generator (xorshift64*, Vigna 2014).
 * The same seed gives the same run on every machine, which is what makes a failing seed a bug report.
 */
#ifndef HASUP_CORE_RANDOM_H
#define HASUP_CORE_RANDOM_H

#include "ipc/base.h"

struct random {
    uint64_t state; /* never 0 */
};

/* Any seed will do, 0 too. */
void random_init(struct random *random, uint64_t seed);
uint64_t random_next(struct random *random);
/* A number below `bound`, which must not be 0; its bias is below 2^-32. */
uint32_t random_below(struct random *random, uint32_t bound);
/* `span` moved by up to a quarter of itself either way: the jitter of every backoff. */
hasup_ns random_jitter(struct random *random, hasup_ns span);
/* `least` doubled so many times, at most `most`, with jitter. */
hasup_ns random_backoff(struct random *random, hasup_ns least, hasup_ns most, uint32_t doublings);

#endif

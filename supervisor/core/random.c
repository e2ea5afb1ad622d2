/* random.c: integer arithmetic alone, so that a replayed run cannot differ. */
#include "supervisor/core/random.h"

/* Spreads a seed such as 1, 2, 3 over all bits (the finaliser of splitmix64). */
static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

void random_init(struct random *random, uint64_t seed)
{
    random->state = mix(seed);
    if (random->state == 0)
        random->state = 1;
}

uint64_t random_next(struct random *random)
{
    uint64_t x = random->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * 0x2545F4914F6CDD1Du;
}

uint32_t random_below(struct random *random, uint32_t bound)
{
    return (uint32_t)((random_next(random) >> 32) * bound >> 32);
}

hasup_ns random_jitter(struct random *random, hasup_ns span)
{
    /* Steps of 1/4096 of the span keep the product within 64 bits for spans of up to 25 days. */
    int64_t step = (int64_t)random_below(random, 2049) - 1024;
    return span + span / 4096 * step;
}

hasup_ns random_backoff(struct random *random, hasup_ns least, hasup_ns most, uint32_t doublings)
{
    hasup_ns delay = least < most ? least : most;
    for (uint32_t i = 0; i < doublings && delay && delay < most; i++)
        delay = delay < most - delay ? delay * 2 : most;
    return random_jitter(random, delay);
}

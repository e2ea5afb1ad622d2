/* latency.c: how long single requests of one run took. */
#include "bench/bench.h"

#include <stdlib.h>

enum { SAMPLES = 1 << 20 };

void latency_start(struct latency *latency)
{
    latency->count = 0;
    if (!latency->ns && !(latency->ns = malloc(SAMPLES * sizeof *latency->ns)))
        bench_fail("out of memory");
}

void latency_add(struct latency *latency, hasup_ns took)
{
    if (latency->ns && latency->count < SAMPLES)
        latency->ns[latency->count++] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
}

static int by_value(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double latency_at_us(struct latency *latency, double quantile)
{
    if (!latency->count)
        return 0;
    qsort(latency->ns, latency->count, sizeof *latency->ns, by_value);
    return latency->ns[(size_t)(quantile * (double)(latency->count - 1) + 0.5)] / 1e3;
}

void latency_free(struct latency *latency)
{
    free(latency->ns);
    *latency = (struct latency){0};
}

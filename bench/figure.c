/* figure.c: the rounds of one measurement, and what is said of them. */
#include "bench/bench.h"

#include <stdlib.h>

void figure_add(struct figure *figure, double value)
{
    if (figure->count < ROUNDS_MAX)
        figure->rounds[figure->count++] = value;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double figure_at(const struct figure *figure, double quantile)
{
    struct figure sorted = *figure;
    if (!sorted.count)
        return 0;
    qsort(sorted.rounds, sorted.count, sizeof *sorted.rounds, by_value);
    return sorted.rounds[(unsigned)(quantile * (sorted.count - 1) + 0.5)];
}

struct figure figure_ratio(const struct figure *a, const struct figure *b)
{
    struct figure ratio = {0};
    for (unsigned i = 0; i < a->count && i < b->count; i++)
        if (b->rounds[i] > 0)
            figure_add(&ratio, a->rounds[i] / b->rounds[i]);
    return ratio;
}

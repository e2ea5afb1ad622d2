/* pages.h: what every receiver of a large body does with it. */
#ifndef HASUP_BENCH_PAGES_H
#define HASUP_BENCH_PAGES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t pages_sum(const void *bytes, size_t len)
{
    uint64_t sum = 0, word;
    for (size_t at = 0; at + sizeof word <= len; at += 4096) {
        memcpy(&word, (const uint8_t *)bytes + at, sizeof word);
        sum += word;
    }
    return sum;
}

#endif

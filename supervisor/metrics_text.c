/*
 * metrics_text.c: lines of Prometheus' text format.  printf would be most of a scrape's time, so
 * numbers and seconds are written by hand.  Failure mode: no memory is remembered, and what is put
 * after it is dropped.
 */
#include "supervisor/metrics_text.h"

#include <stdio.h>
#include <stdlib.h>

/* Room for so many bytes more; NULL: no memory, now or before. */
static char *out_room(struct out *out, size_t len)
{
    if (out->failed)
        return NULL;
    if (out->len + len > out->room) {
        size_t room = out->room ? out->room * 2 : 64 * 1024;
        while (room < out->len + len)
            room *= 2;
        char *text = realloc(out->text, room);
        out->failed = !text;
        if (!text)
            return NULL;
        out->text = text;
        out->room = room;
    }
    return out->text + out->len;
}

static void put_bytes(struct out *out, const char *bytes, size_t len)
{
    char *at = out_room(out, len);
    if (at)
        memcpy(at, bytes, len);
    out->len += at ? len : 0;
}

static void put(struct out *out, const char *text)
{
    put_bytes(out, text, strlen(text));
}

static void put_whole(struct out *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    put_bytes(out, digits + at, sizeof digits - at);
}

/* Nanoseconds as seconds, without zeros at the end. */
static void put_seconds(struct out *out, uint64_t ns)
{
    char text[24];
    put_whole(out, ns / (uint64_t)HASUP_S);
    if (!(ns %= (uint64_t)HASUP_S))
        return;
    int len = snprintf(text, sizeof text, ".%09llu", (unsigned long long)ns);
    while (text[len - 1] == '0')
        len--;
    put_bytes(out, text, (size_t)len);
}

static void put_value(struct out *out, int64_t value, enum unit unit)
{
    if (value < 0)
        put(out, "-");
    uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;
    if (unit == SECONDS)
        put_seconds(out, size);
    else
        put_whole(out, size);
}

void put_family(struct out *out, const struct family *family)
{
    static const char *const kinds[] = {
        [GAUGE] = " gauge\n", [COUNTER] = " counter\n", [HISTOGRAM] = " histogram\n"};
    put(out, "# HELP ");
    put(out, family->name);
    put(out, " ");
    put(out, family->help);
    put(out, "\n# TYPE ");
    put(out, family->name);
    put(out, kinds[family->kind]);
}

void put_line(struct out *out, const char *name, const char *suffix, const char *labels,
              int64_t value, enum unit unit)
{
    if (value == METRIC_ABSENT)
        return;
    put(out, name);
    put(out, suffix);
    if (*labels) {
        put(out, "{");
        put(out, labels);
        put(out, "}");
    }
    put(out, " ");
    put_value(out, value, unit);
    put(out, "\n");
}

void label(char labels[METRIC_LABELS], const char *name, const char *value)
{
    size_t len = strlen(labels), start = len;
    len += (size_t)snprintf(labels + len, METRIC_LABELS - len, "%s%s=\"", len ? "," : "", name);
    for (; *value && len + 3 < METRIC_LABELS; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n')
            labels[len++] = '\\';
        labels[len++] = *value == '\n' ? 'n' : *value;
    }
    if (*value || len + 2 > METRIC_LABELS) {
        labels[start] = '\0';
        return;
    }
    labels[len++] = '"';
    labels[len] = '\0';
}

void put_labelled(struct out *out, const char *name, const char *labels, const char *key,
                  const char *word, int64_t value)
{
    char all[METRIC_LABELS];
    snprintf(all, sizeof all, "%s", labels);
    label(all, key, word);
    put_line(out, name, "", all, value, WHOLE);
}

void put_one(struct out *out, const char *name, enum kind kind, enum unit unit, int64_t value,
             const char *help)
{
    put_family(out, &(struct family){name, kind, help});
    put_line(out, name, "", "", value, unit);
}

/* ---- histograms ---- */

/* Every 1, 2 and 5 from 100 us to 500 s. */
static bool is_shown(unsigned bucket)
{
    unsigned step = bucket % HISTOGRAM_STEPS;
    return bucket >= HISTOGRAM_STEPS && bucket < HISTOGRAM_BUCKETS - 1 &&
           (step == 0 || step == 2 || step == 5);
}

static void put_bucket(struct out *out, const char *name, const char *labels, hasup_ns bound,
                       uint64_t count)
{
    put(out, name);
    put(out, "_bucket{");
    put(out, labels);
    put(out, *labels ? ",le=\"" : "le=\"");
    if (bound == HASUP_NEVER)
        put(out, "+Inf");
    else
        put_seconds(out, (uint64_t)bound);
    put(out, "\"} ");
    put_whole(out, count);
    put(out, "\n");
}

void put_histogram(struct out *out, const char *name, const char *labels,
                   const struct histogram *histogram)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        count += histogram->buckets[i];
        if (is_shown(i))
            put_bucket(out, name, labels, histogram_bound(i), count);
    }
    put_bucket(out, name, labels, HASUP_NEVER, count);
    put_line(out, name, "_sum", labels, (int64_t)histogram->sum_ns, SECONDS);
    put_line(out, name, "_count", labels, (int64_t)histogram->count, WHOLE);
}

void put_sizes(struct out *out, const char *name, const char *labels,
               const struct model_stats *stats)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < STATS_SIZES; i++) {
        char all[METRIC_LABELS], bound[16];
        count += stats->batches.sizes[i];
        snprintf(all, sizeof all, "%s", labels);
        snprintf(bound, sizeof bound, "%u", 1U << i);
        label(all, "le", i < STATS_SIZES - 1 ? bound : "+Inf");
        put_line(out, name, "_bucket", all, (int64_t)count, WHOLE);
    }
    put_line(out, name, "_sum", labels, (int64_t)stats->batches.sum, WHOLE);
    put_line(out, name, "_count", labels, (int64_t)stats->batches.count, WHOLE);
}

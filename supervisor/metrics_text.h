/*
 * metrics_text.h: a text in Prometheus' format, written family by family.  Used by metrics.c.
 */
#ifndef HASUP_SUPERVISOR_METRICS_TEXT_H
#define HASUP_SUPERVISOR_METRICS_TEXT_H

#include "supervisor/stats.h"

enum { METRIC_LABELS = 256 };

#define METRIC_ABSENT INT64_MIN /* of a value: its line is left out */

enum unit { WHOLE, SECONDS /* given in ns */ };
enum kind { GAUGE, COUNTER, HISTOGRAM };

struct family {
    const char *name;
    enum kind kind;
    const char *help;
};

struct out {
    char *text; /* malloc'ed */
    size_t len, room;
    bool failed; /* no memory: the text is not whole */
};

void put_family(struct out *out, const struct family *family);
/* `labels` without braces; "": none. */
void put_line(struct out *out, const char *name, const char *suffix, const char *labels,
              int64_t value, enum unit unit);
/* With one label more. */
void put_labelled(struct out *out, const char *name, const char *labels, const char *key,
                  const char *word, int64_t value);
/* A family of one value without labels. */
void put_one(struct out *out, const char *name, enum kind kind, enum unit unit, int64_t value,
             const char *help);
void put_histogram(struct out *out, const char *name, const char *labels,
                   const struct histogram *histogram);
void put_sizes(struct out *out, const char *name, const char *labels,
               const struct model_stats *stats);
/* Adds name="value", escaped; what does not fit is left out whole. */
void label(char labels[METRIC_LABELS], const char *name, const char *value);

#endif

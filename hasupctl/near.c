/* near.c: what somebody may have meant who mistyped a word. */
#include "hasupctl/hasupctl.h"

#include <string.h>

/* Letters that differ, roughly. */
static size_t distance(const char *a, const char *b)
{
    size_t row[40], m = strlen(b);
    if (m >= HASUP_LEN(row))
        return m;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

void ctl_near(struct ctl_near *near, const char *word, const char *name)
{
    /* A beginning of a name is nearer to it than any other. */
    bool begins = strlen(word) > 2 && strncmp(name, word, strlen(word)) == 0;
    size_t far = begins ? 0 : distance(word, name);
    if (far >= (near->name ? near->far : 3))
        return;
    near->name = name;
    near->far = far;
}

/* report.c: the table: hasup's median, what stands beside it, the ratio, the aim. */
#include "bench/bench.h"

#include <stdarg.h>
#include <stdio.h>

static unsigned missed;

void report_head(void)
{
    printf("%-40s %-26s %-42s %-22s %s\n", "what", "hasup (least..most)", "beside (least..most)",
           "ratio (least..most)", "aim");
}

static void print_figure(char *text, size_t room, const struct figure *figure, const char *unit)
{
    double middle = figure_at(figure, 0.5);
    int digits = middle < 10 ? 2 : middle < 100 ? 1 : 0;
    snprintf(text, room, "%.*f %s (%.*f..%.*f)", digits, middle, unit, digits, figure_at(figure, 0),
             digits, figure_at(figure, 1));
}

void report_row(const struct row *row)
{
    char own[64], other[64] = "", beside[128] = "", ratio[64] = "", aim[64] = "";
    double judged = figure_at(row->hasup, 0.5);
    print_figure(own, sizeof own, row->hasup, row->unit);
    if (row->other && row->other->count) {
        struct figure ratios = figure_ratio(row->hasup, row->other);
        print_figure(other, sizeof other, row->other, row->unit);
        snprintf(beside, sizeof beside, "%s %s", row->beside, other);
        print_figure(ratio, sizeof ratio, &ratios, "x");
        if (!row->absolute)
            judged = figure_at(&ratios, 0.5);
    }
    if (row->aim != AIM_NONE) {
        bool reached = row->aim == AIM_AT_LEAST ? judged >= row->limit : judged <= row->limit;
        missed += !reached;
        snprintf(aim, sizeof aim, "%s %.4g %s: %s",
                 row->aim == AIM_AT_LEAST ? ">=" : "<=", row->limit,
                 row->absolute ? row->unit : "x", reached ? "ok" : "MISSED");
    }
    printf("%-40s %-26s %-42s %-22s %s\n", row->what, own, beside, ratio, aim);
    fflush(stdout);
}

void report_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("  (", stdout);
    vprintf(format, args);
    puts(")");
    va_end(args);
    fflush(stdout);
}

unsigned report_missed(void)
{
    return missed;
}

/*
 * when.c: points in time as a person writes them.  Times without a zone are UTC, as hasupctl shows
 * them.  Owns nothing.
 */
#include "hasupctl/hasupctl.h"

#include "supervisor/config_tree.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const int DAY_S = 24 * 60 * 60;
enum { ZONE_MOST = 14 /* hours */ };

int64_t ctl_wall_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * HASUP_S + now.tv_nsec;
}

/* "", "Z", "+01:00", "+0100" */
static bool read_zone(const char *text, int *seconds)
{
    char digits[5] = "";
    *seconds = 0;
    if (!*text || strcmp(text, "Z") == 0)
        return true;
    if (*text != '+' && *text != '-')
        return false;
    for (const char *at = text + 1; *at; at++) {
        if (*at == ':' && at == text + 3)
            continue;
        if (*at < '0' || *at > '9' || strlen(digits) == 4)
            return false;
        digits[strlen(digits)] = *at;
    }
    int hours = atoi(digits) / 100, minutes = atoi(digits) % 100;
    *seconds = (hours * 60 + minutes) * 60 * (*text == '-' ? -1 : 1);
    return strlen(digits) == 4 && hours <= ZONE_MOST && minutes < 60;
}

/* What follows the seconds, ".677": in ns. */
static const char *read_fraction(const char *text, int64_t *ns)
{
    *ns = 0;
    if (*text != '.')
        return text;
    int64_t unit = HASUP_S;
    for (text++; *text >= '0' && *text <= '9'; text++) {
        unit /= 10;
        *ns += unit * (*text - '0');
    }
    return text;
}

/* The 31st of February is no day, though timegm() finds one. */
static bool seconds_of(const struct tm *tm, int64_t *seconds)
{
    struct tm made = *tm;
    *seconds = timegm(&made);
    return made.tm_mday == tm->tm_mday && made.tm_mon == tm->tm_mon;
}

static bool read_stamp(const char *text, int64_t now, int64_t *wall_ns)
{
    static const struct {
        const char *format;
        bool seconds, today;
    } FORMATS[] = {{"%Y-%m-%dT%H:%M:%S", true, false}, {"%Y-%m-%d %H:%M:%S", true, false},
                   {"%Y-%m-%dT%H:%M", false, false},   {"%Y-%m-%d %H:%M", false, false},
                   {"%Y-%m-%d", false, false},         {"%H:%M:%S", true, true},
                   {"%H:%M", false, true}};
    for (size_t i = 0; i < HASUP_LEN(FORMATS); i++) {
        struct tm tm = {0};
        time_t day = (time_t)(now / HASUP_S);
        int64_t fraction = 0, seconds;
        int zone;
        if (FORMATS[i].today)
            gmtime_r(&day, &tm);
        tm.tm_sec = 0;
        const char *end = strptime(text, FORMATS[i].format, &tm);
        if (end && FORMATS[i].seconds)
            end = read_fraction(end, &fraction);
        if (!end || !read_zone(end, &zone) || !seconds_of(&tm, &seconds))
            continue;
        *wall_ns = (seconds - zone) * (int64_t)HASUP_S + fraction;
        /* The latest that was: at 00:05, 23:50 was yesterday; in a zone it may be another day. */
        const int64_t a_day = DAY_S * (int64_t)HASUP_S;
        if (FORMATS[i].today)
            *wall_ns = now - ((now - *wall_ns) % a_day + a_day) % a_day;
        return true;
    }
    return false;
}

bool ctl_span(const char *text, hasup_ns *span)
{
    const size_t digits = strspn(text, "0123456789");
    const long long days = digits && strcmp(text + digits, "d") == 0 ? strtoll(text, NULL, 10) : 0;
    if (days > 0 && days <= HASUP_NEVER / (DAY_S * HASUP_S)) {
        *span = days * DAY_S * HASUP_S;
        return true;
    }
    return !config_duration(text, span) && *span > 0;
}

const char *ctl_when(const char *text, int64_t *wall_ns)
{
    const int64_t now = ctl_wall_now();
    int64_t today = now / HASUP_S / DAY_S * DAY_S;
    char *end = NULL;
    hasup_ns span;
    if (strcmp(text, "today") == 0 || strcmp(text, "yesterday") == 0) {
        *wall_ns = (today - (*text == 'y' ? DAY_S : 0)) * (int64_t)HASUP_S;
        return NULL;
    }
    if (*text == '@') {
        long long seconds = strtoll(text + 1, &end, 10);
        *wall_ns = seconds * (int64_t)HASUP_S;
        if (end != text + 1 && !*end && seconds > 0 && seconds < INT64_MAX / (int64_t)HASUP_S)
            return NULL;
    }
    if (read_stamp(text, now, wall_ns) && *wall_ns > 0)
        return NULL;
    if (ctl_span(text, &span)) {
        *wall_ns = now - span;
        return NULL;
    }
    return "wants a duration such as 90s, 24h or 7d, or a time: 19:39, 2026-11-25, "
           "2026-11-25T19:39:35Z";
}

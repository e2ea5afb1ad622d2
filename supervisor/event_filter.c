/*
 * event_filter.c: looks for what is asked for in the text of a line, without parsing it: a quote
 * inside of a JSON text is escaped, so what is found is a key and its value.  Owns nothing.
 */
#include "supervisor/event_filter.h"

#include <stdio.h>

const char *const EVENT_LEVEL_NAMES[EVENT_LEVELS] = {"debug", "info", "warning", "error"};

int event_filter_level(const char *name)
{
    for (size_t i = 0; i < EVENT_LEVELS; i++)
        if (strcmp(EVENT_LEVEL_NAMES[i], name) == 0)
            return (int)i;
    return -1;
}

bool event_filter_add(struct event_filter *filter, const char *name)
{
    size_t len = strlen(name);
    if (len > 2 && strcmp(name + len - 2, ".*") == 0)
        len -= 2;
    if (!len || len >= EVENT_NAME || filter->name_count == EVENT_NAMES)
        return false;
    char *to = filter->names[filter->name_count++];
    memcpy(to, name, len);
    to[len] = '\0';
    return true;
}

/* The value of `key`, and how long it is; NULL: it has none. */
static const char *value_of(const char *json, size_t len, const char *key, size_t *value_len)
{
    const size_t key_len = strlen(key);
    const char *found = memmem(json, len, key, key_len);
    if (!found)
        return NULL;
    found += key_len;
    const char *end = memchr(found, '"', len - (size_t)(found - json));
    *value_len = end ? (size_t)(end - found) : 0;
    return end ? found : NULL;
}

static bool is_of(const char *json, size_t len, const char *target)
{
    const size_t want = strlen(target);
    size_t got = 0;
    const char *slot = value_of(json, len, "\"slot\":\"", &got);
    if (slot && got >= want && memcmp(slot, target, want) == 0 &&
        (got == want || (slot[want] == '/' && !memchr(target, '/', want))))
        return true;
    const char *model = value_of(json, len, "\"model\":\"", &got);
    return model && got == want && memcmp(model, target, want) == 0;
}

static bool is_named(const struct event_filter *filter, const char *name, size_t len)
{
    for (uint32_t i = 0; i < filter->name_count; i++) {
        const size_t want = strlen(filter->names[i]);
        if (len >= want && memcmp(name, filter->names[i], want) == 0 &&
            (len == want || name[want] == '.'))
            return true;
    }
    return false;
}

static bool is_grave(const char *json, size_t len, uint32_t least)
{
    size_t got = 0;
    const char *level = value_of(json, len, "\"level\":\"", &got);
    for (uint32_t i = least; level && i < EVENT_LEVELS; i++)
        if (strlen(EVENT_LEVEL_NAMES[i]) == got && memcmp(EVENT_LEVEL_NAMES[i], level, got) == 0)
            return true;
    return false;
}

bool event_filter_passes(const struct event_filter *filter, const char *json, size_t len)
{
    size_t got = 0;
    if (filter->target[0] && !is_of(json, len, filter->target))
        return false;
    if (filter->level && !is_grave(json, len, filter->level))
        return false;
    if (!filter->name_count)
        return true;
    const char *name = value_of(json, len, "\"event\":\"", &got);
    return name && is_named(filter, name, got);
}

/* names.c: the core's words as text, from the same lists as the enums. */
#include "supervisor/core/core.h"

const char *slot_state_name(enum slot_state state)
{
    switch (state) {
#define CORE_SLOT_TEXT(name, text)                                                                 \
    case SLOT_##name: return text;
        CORE_SLOT_STATES(CORE_SLOT_TEXT)
#undef CORE_SLOT_TEXT
    }
    return "unknown";
}

const char *event_name(enum event_type type)
{
    switch (type) {
#define CORE_EVENT_TEXT(name)                                                                      \
    case EVENT_##name: return #name;
        CORE_EVENTS(CORE_EVENT_TEXT)
#undef CORE_EVENT_TEXT
    }
    return "unknown";
}

const char *action_name(enum action_type type)
{
    switch (type) {
#define CORE_ACTION_TEXT(name)                                                                     \
    case ACTION_##name: return #name;
        CORE_ACTIONS(CORE_ACTION_TEXT)
#undef CORE_ACTION_TEXT
    }
    return "unknown";
}

/* base.c: the texts of the error codes, and lists that grow. */
#include "ipc/base.h"

#include <stdlib.h>

const char *hasup_strerror(int error)
{
    switch (error) {
#define HASUP_ERROR_TEXT(number, name, text)                                                       \
    case name:                                                                                     \
        return text;
        HASUP_ERRORS(HASUP_ERROR_TEXT)
#undef HASUP_ERROR_TEXT
    }
    return error == 0 ? "success" : "unknown error";
}

void *hasup_grow(void *list, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return list;
    size_t wanted = *room ? *room * 2 : 16;
    void *more = realloc(list, wanted * size);
    if (more)
        *room = wanted;
    return more;
}

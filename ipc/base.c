/* base.c: the texts of the error codes. */
#include "ipc/base.h"

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

/*
 * base.h: the few words that every part of hasup shares: time, errors, attributes, little-endian
 * access.  Depends on libc only.  Everything here is safe in any thread.
 */
#ifndef HASUP_IPC_BASE_H
#define HASUP_IPC_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASUP_VERSION "0.1.0"

#define HASUP_NODISCARD __attribute__((warn_unused_result))
#define HASUP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define HASUP_LEN(array) (sizeof(array) / sizeof((array)[0]))

/* A point or span of monotonic time in nanoseconds. */
typedef int64_t hasup_ns;

#define HASUP_US ((hasup_ns)1000)
#define HASUP_MS ((hasup_ns)1000000)
#define HASUP_S ((hasup_ns)1000000000)
#define HASUP_NEVER INT64_MAX /* a deadline that does not come */

/* Every function that can fail returns 0 (or a count) or one of these, which are negative. */
#define HASUP_ERRORS(X)                                                                            \
    X(1, HASUP_ENOMEM, "out of memory")                                                            \
    X(2, HASUP_EINVAL, "invalid argument")                                                         \
    X(3, HASUP_EPROTO, "the peer broke the protocol")                                              \
    X(4, HASUP_ETOOBIG, "larger than the limit")                                                   \
    X(5, HASUP_ECLOSED, "the peer closed the connection")                                          \
    X(6, HASUP_EAGAIN, "nothing to do now, try again when the descriptor is ready")                \
    X(7, HASUP_ENOTFOUND, "not found")                                                             \
    X(8, HASUP_ECORRUPT, "the stored data is damaged")                                             \
    X(9, HASUP_EIO, "input or output failed")                                                      \
    X(10, HASUP_EFULL, "a configured limit is reached")                                            \
    X(11, HASUP_EDENIED, "not allowed")                                                            \
    X(12, HASUP_ECONFIG, "the configuration is wrong")                                             \
    X(13, HASUP_ETIMEDOUT, "the time limit passed")                                                \
    X(14, HASUP_ESYS, "a system call failed, errno says why")                                      \
    X(15, HASUP_EWORKER, "the worker reported an error")

enum hasup_error {
#define HASUP_ERROR_ENUM(number, name, text) name = -(number),
    HASUP_ERRORS(HASUP_ERROR_ENUM)
#undef HASUP_ERROR_ENUM
};

/* The text of a negative HASUP_E* code; a fixed string, never NULL. */
const char *hasup_strerror(int error);

/* The list of `count` entries of `size` with room for one more; NULL: out of memory, and it is as it
 * was. */
void *hasup_grow(void *list, size_t count, size_t *room, size_t size) HASUP_NODISCARD;

/* Little-endian access to unaligned bytes. */
static inline uint16_t hasup_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t hasup_get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t hasup_get64(const uint8_t *p)
{
    return (uint64_t)hasup_get32(p) | (uint64_t)hasup_get32(p + 4) << 32;
}

static inline void hasup_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void hasup_put32(uint8_t *p, uint32_t v)
{
    hasup_put16(p, (uint16_t)v);
    hasup_put16(p + 2, (uint16_t)(v >> 16));
}

static inline void hasup_put64(uint8_t *p, uint64_t v)
{
    hasup_put32(p, (uint32_t)v);
    hasup_put32(p + 4, (uint32_t)(v >> 32));
}

#endif

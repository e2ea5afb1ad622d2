/*
 * datatype.c: the datatypes of the Open Inference Protocol: their names, and one element of each
 * from and to JSON.  Exact: a number that does not fit is refused, never wrapped or cut.
 */
#include "worker/oip.h"

/* ---- halves: IEEE binary16 and bfloat16 ---- */

/* Rounds to the nearest, ties to even; too large becomes infinite. */
static uint16_t narrow(double value, unsigned exponent_bits, unsigned fraction_bits)
{
    uint64_t bits, full, top = (1u << exponent_bits) - 1;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 63 << 15);
    int exponent = (int)(bits >> 52 & 0x7FF);
    full = bits & (((uint64_t)1 << 52) - 1);
    if (exponent == 0x7FF)
        return (uint16_t)(sign | top << fraction_bits | (full ? 1u << (fraction_bits - 1) : 0));
    if (!exponent)
        return sign; /* below the smallest of either by far */
    full |= (uint64_t)1 << 52;
    exponent += (int)(top >> 1) - 1023;
    unsigned shift = 52 - fraction_bits;
    if (exponent <= 0) {
        shift += (unsigned)(1 - exponent);
        exponent = 1; /* its first bit is then 0 */
    }
    if (shift > 63)
        return sign;
    uint64_t kept = full >> shift, rest = full & (((uint64_t)1 << shift) - 1);
    uint64_t half = (uint64_t)1 << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1));
    kept += (uint64_t)(exponent - 1) << fraction_bits;
    return (uint16_t)(sign | (kept < top << fraction_bits ? kept : top << fraction_bits));
}

static double widen(uint16_t half, unsigned exponent_bits, unsigned fraction_bits)
{
    uint64_t top = (1u << exponent_bits) - 1, sign = (uint64_t)(half >> 15) << 63;
    uint64_t exponent = (uint64_t)half >> fraction_bits & top;
    uint64_t fraction = half & ((1u << fraction_bits) - 1), bits;
    double value;
    if (!exponent) { /* a multiple of the smallest */
        bits = (uint64_t)(1023 + 1 - (int)(top >> 1) - (int)fraction_bits) << 52;
        memcpy(&value, &bits, sizeof value);
        value *= (double)fraction;
        return sign ? -value : value;
    }
    bits = exponent == top ? 0x7FF : exponent - (top >> 1) + 1023;
    bits = sign | bits << 52 | fraction << (52 - fraction_bits);
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t hasup_fp16(double value)
{
    return narrow(value, 5, 10);
}

double hasup_fp16_value(uint16_t fp16)
{
    return widen(fp16, 5, 10);
}

uint16_t hasup_bf16(double value)
{
    return narrow(value, 8, 7);
}

double hasup_bf16_value(uint16_t bf16)
{
    return widen(bf16, 8, 7);
}

/* ---- elements ---- */

static bool read_bool(struct hasup_json *json, void *to)
{
    struct hasup_json_text text;
    uint64_t number;
    bool value;
    if (hasup_json_number(json, &text)) {
        if (hasup_json_uint64(&text, &number) || number > 1)
            return false;
        value = number;
    } else if (!hasup_json_bool(json, &value)) {
        return false;
    }
    *(uint8_t *)to = value;
    return true;
}

static bool write_bool(struct hasup_writer *w, const void *from)
{
    hasup_write_text(w, *(const uint8_t *)from ? "true" : "false");
    return true;
}

#define INTEGER(name, type, wide, outside)                                                         \
    static bool read_##name(struct hasup_json *json, void *to)                                     \
    {                                                                                              \
        struct hasup_json_text text;                                                               \
        wide##_t value;                                                                            \
        if (!hasup_json_number(json, &text) || hasup_json_##wide(&text, &value) || (outside))      \
            return false;                                                                          \
        *(type *)to = (type)value;                                                                 \
        return true;                                                                               \
    }                                                                                              \
    static bool write_##name(struct hasup_writer *w, const void *from)                             \
    {                                                                                              \
        hasup_write_##wide(w, *(const type *)from);                                                \
        return true;                                                                               \
    }

INTEGER(int8, int8_t, int64, value<INT8_MIN || value> INT8_MAX)
INTEGER(int16, int16_t, int64, value<INT16_MIN || value> INT16_MAX)
INTEGER(int32, int32_t, int64, value<INT32_MIN || value> INT32_MAX)
INTEGER(int64, int64_t, int64, false)
INTEGER(uint8, uint8_t, int64, value<0 || value> UINT8_MAX)
INTEGER(uint16, uint16_t, int64, value<0 || value> UINT16_MAX)
INTEGER(uint32, uint32_t, int64, value<0 || value> UINT32_MAX)
INTEGER(uint64, uint64_t, uint64, false)

static bool finite(double value)
{
    return value - value == 0;
}

#define REAL(name, type, narrow, widen, write)                                                     \
    static bool read_##name(struct hasup_json *json, void *to)                                     \
    {                                                                                              \
        struct hasup_json_text text;                                                               \
        if (!hasup_json_number(json, &text))                                                       \
            return false;                                                                          \
        type value = narrow(hasup_json_double(&text));                                             \
        memcpy(to, &value, sizeof value);                                                          \
        return finite(widen(value));                                                               \
    }                                                                                              \
    static bool write_##name(struct hasup_writer *w, const void *from)                             \
    {                                                                                              \
        type value;                                                                                \
        memcpy(&value, from, sizeof value);                                                        \
        if (finite(widen(value)))                                                                  \
            write(w, widen(value));                                                                \
        return finite(widen(value));                                                               \
    }

#define SINGLE(w, value) hasup_write_float(w, (float)(value))

REAL(fp16, uint16_t, hasup_fp16, hasup_fp16_value, SINGLE)
REAL(bf16, uint16_t, hasup_bf16, hasup_bf16_value, SINGLE)
REAL(fp32, float, (float), (double), SINGLE)
REAL(fp64, double, (double), (double), hasup_write_double)

static const struct datatype TYPES[] = {
    [HASUP_BOOL] = {"BOOL", 1, read_bool, write_bool},
    [HASUP_UINT8] = {"UINT8", 1, read_uint8, write_uint8},
    [HASUP_UINT16] = {"UINT16", 2, read_uint16, write_uint16},
    [HASUP_UINT32] = {"UINT32", 4, read_uint32, write_uint32},
    [HASUP_UINT64] = {"UINT64", 8, read_uint64, write_uint64},
    [HASUP_INT8] = {"INT8", 1, read_int8, write_int8},
    [HASUP_INT16] = {"INT16", 2, read_int16, write_int16},
    [HASUP_INT32] = {"INT32", 4, read_int32, write_int32},
    [HASUP_INT64] = {"INT64", 8, read_int64, write_int64},
    [HASUP_FP16] = {"FP16", 2, read_fp16, write_fp16},
    [HASUP_BF16] = {"BF16", 2, read_bf16, write_bf16},
    [HASUP_FP32] = {"FP32", 4, read_fp32, write_fp32},
    [HASUP_FP64] = {"FP64", 8, read_fp64, write_fp64},
    [HASUP_BYTES] = {"BYTES", sizeof(struct hasup_string), NULL, NULL},
};

const struct datatype *hasup_datatype_of(enum hasup_datatype datatype)
{
    size_t i = (size_t)datatype;
    return i < HASUP_LEN(TYPES) && TYPES[i].name ? &TYPES[i] : NULL;
}

enum hasup_datatype hasup_datatype_named(const struct hasup_json_text *name)
{
    for (size_t i = 1; i < HASUP_LEN(TYPES); i++)
        if (hasup_json_is(name, TYPES[i].name))
            return (enum hasup_datatype)i;
    return (enum hasup_datatype)0;
}

/* oip.h: what oip_read.c and oip_write.c share: one request of the Open Inference Protocol, its
 * datatypes, and the answer that gathers.  All sizes in bytes. */
#ifndef HASUP_WORKER_OIP_H
#define HASUP_WORKER_OIP_H

#include "ipc/json.h"
#include "worker/write.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensors are passed on as they come, which is little-endian");

/* ---- datatype.c ---- */

struct datatype {
    const char *name;
    size_t size; /* of an element in memory */
    /* Reads one element from JSON; false: it is none of this type, or does not fit. */
    bool (*read)(struct hasup_json *json, void *to);
    /* Writes one; false: JSON has no way to say it.  NULL, and `read` too: BYTES. */
    bool (*write)(struct hasup_writer *w, const void *from);
};

const struct datatype *hasup_datatype_of(enum hasup_datatype datatype);       /* NULL: none */
enum hasup_datatype hasup_datatype_named(const struct hasup_json_text *name); /* 0: none */

/* ---- the request ---- */

struct slice {
    const char *at; /* NULL: it is not there */
    size_t len;
};

struct oip_input {
    struct hasup_tensor tensor; /* first: what the worker sees */
    struct slice data, parameters;
    bool shaped;
    bool binary;
    uint64_t binary_size;
    void *owned; /* the elements, where they do not stand in the body */
};

struct oip_wanted {
    const char *name;
    bool binary;
};

struct oip_output {
    const char *name;
    const struct datatype *type;
    enum hasup_datatype datatype;
    size_t rank, count;
    int64_t shape[HASUP_RANK_MAX];
    void *data;
};

struct hasup_infer {
    const struct hasup_request *request;
    struct hasup_response *response;
    const struct hasup_signature *signature; /* NULL: whatever comes */
    struct hasup_text *texts;
    struct hasup_json json;
    struct slice id, parameters;
    bool binary_output; /* where an output does not say */
    struct oip_input *inputs;
    struct oip_wanted *wanted;
    struct oip_output *outputs;
    size_t input_count, wanted_count, output_count;
    const char *said;    /* parameters of the answer */
    const uint8_t *tail; /* binary data that no tensor has taken */
    size_t tail_len;
    unsigned status; /* of `why` */
    char why[512];   /* "": nothing is wrong so far */
};

/* Notes what is wrong, the first time; false, always. */
bool hasup_oip_refuse(struct hasup_infer *infer, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The elements of a shape; false: negative, or too many to count. */
bool hasup_oip_count(const int64_t *shape, size_t rank, size_t *count);
/* "[-1, 64]" */
const char *hasup_oip_shape_text(const int64_t *shape, size_t rank, char text[256]);
const struct hasup_tensor_spec *hasup_oip_spec(const struct hasup_tensor_spec *specs,
                                               const char *name);
/* Whether a shape is one that a spec allows. */
bool hasup_oip_fits(const struct hasup_tensor_spec *spec, const int64_t *shape, size_t rank);
/* Room for one more of `count` things; false: refused. */
bool hasup_oip_grow(struct hasup_infer *infer, void **list, size_t count, size_t size);

/* The JSON is broken; false, always. */
bool hasup_oip_malformed(struct hasup_infer *infer);
/* Memory for `len` bytes and a zero that lives as long as the request; NULL: refused. */
char *hasup_oip_room(struct hasup_infer *infer, size_t len);
/* A string that is a name, with a zero at its end; false: refused. */
bool hasup_oip_read_name(struct hasup_infer *infer, const char *where, const char **to);

/* ---- oip_parameters.c ---- */

/* Stands at the value of that parameter; false: it is not there, or null. */
bool hasup_oip_parameter(const struct slice *parameters, const char *name, struct hasup_json *json);
/* Sets the flag where that parameter is there; false: it is none, which is refused. */
bool hasup_oip_read_flag(struct hasup_infer *infer, const struct slice *parameters,
                         const char *name, bool *flag);

/* ---- oip_data.c: the elements of an input whose shape and datatype are known; false: refused ----
 */

bool hasup_oip_read_json_data(struct hasup_infer *infer, struct oip_input *in);
bool hasup_oip_read_binary_data(struct hasup_infer *infer, struct oip_input *in);

/* ---- oip_write.c ---- */

/* The metadata of a worker's hello. */
void hasup_oip_write_metadata(struct hasup_writer *w, const struct hasup_signature *signature);

#endif

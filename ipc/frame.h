/*
 * frame.h: the frame, the unit of every hasup socket: a fixed little-endian header, then the meta
 * (typed fields), then the body.  docs/protocol.md is the normative text.
 *
 *   offset size  field
 *        0    1  magic 0xA7
 *        1    1  version 1
 *        2    1  type      (enum hasup_frame_type)
 *        3    1  flags     (HASUP_FLAG_*)
 *        4    4  meta_len  bytes of meta that follow the header
 *        8    8  id        the request, where the frame is about one; else 0
 *       16    8  body_len  bytes of body: after the meta, or in a buffer (HASUP_FLAG_BUFFER)
 *       24    4  seq       attempt (REQUEST), count (CHUNK), status (REPLY); else 0
 *       28    4  reserved  0
 *
 * Meta is a run of fields: u16 tag, u16 zero, u32 length, value.  A field that is absent has its
 * default.  A reader skips tags that it does not know, unless HASUP_TAG_CRITICAL is set in the tag.
 */
#ifndef HASUP_IPC_FRAME_H
#define HASUP_IPC_FRAME_H

#include "ipc/base.h"

enum {
    HASUP_FRAME_MAGIC = 0xA7,
    HASUP_FRAME_VERSION = 1,
    HASUP_FRAME_HEADER = 32,
    HASUP_META_MAX = 256 * 1024,     /* longest meta */
    HASUP_INLINE_MAX = 1024 * 1024,  /* longest body inside a frame; above it travels in a buffer */
    HASUP_BUFFERS_MAX = 256,         /* buffers that one end may have announced and not withdrawn */
    HASUP_PROGRESS_MAX = 128 * 1024, /* longest PROGRESS_BLOB */
    HASUP_DELIVERED_MAX = 64 * 1024, /* longest DELIVERED; of longer ones only length and digest */
};

/* number, name: S = sent by the supervisor, W = by a worker, C = by a local client */
#define HASUP_FRAME_TYPES(X)                                                                       \
    X(1, HELLO)        /* W: version and abilities; the first frame of a worker */                 \
    X(2, WELCOME)      /* S: slot, model, limits; a RESTORE follows where RESTORING is set */      \
    X(3, RESTORE)      /* S: the state to restore and its position */                              \
    X(4, READY)        /* W: loaded (and restored); ERROR field: it could not */                   \
    X(5, REQUEST)      /* S, C: run this */                                                        \
    X(6, REPLY)        /* W, S: the end of a request: status in seq */                             \
    X(7, CHUNK)        /* W, S: the next part of a streamed answer; sequence in seq */             \
    X(8, PROGRESS)     /* W: a blob from which this request can go on */                           \
    X(9, CANCEL)       /* S, C: nobody waits for this request any more */                          \
    X(10, CHECKPOINT)  /* S: send STATE as of now: after all before this frame, nothing after */   \
    X(11, STATE)       /* W: the state at the position that CHECKPOINT named */                    \
    X(12, PING)        /* S */                                                                     \
    X(13, PONG)        /* W */                                                                     \
    X(14, DRAIN)       /* S: finish what you have, then exit 0 */                                  \
    X(15, SPAWN)       /* S, to a zygote: fork a worker */                                         \
    X(16, SPAWNED)     /* W, a zygote's answer: the new worker's pid and pidfd */                  \
    X(17, BUFFER)      /* all: announces a memfd (passed with this frame) under a number */        \
    X(18, BUFFER_GONE) /* all: the sender withdraws its buffer; unmap it */                        \
    X(19, RELEASE)     /* all: the receiver has done with a buffer's body; it may be reused */     \
    X(20, CONTROL)     /* C: a control verb, JSON body; answered by REPLY, or CHUNKs and REPLY */  \
    X(21, DESCRIPTOR)  /* S, to a forked worker: take this descriptor as number FD_NUMBER */       \
    X(22, UNBEGUN)     /* W: it has not begun this request, and another may, should it die now */

enum hasup_frame_type {
#define HASUP_FRAME_ENUM(number, name) HASUP_##name = (number),
    HASUP_FRAME_TYPES(HASUP_FRAME_ENUM)
#undef HASUP_FRAME_ENUM
};

enum {
    HASUP_FLAG_BUFFER = 1 << 0,    /* the body is in the buffer that the BUFFER_ID field names */
    HASUP_FLAG_REPLAY = 1 << 1,    /* REQUEST: answered before; the reply is compared, not sent */
    HASUP_FLAG_MORE = 1 << 2,      /* REQUEST: the next REQUEST belongs to the same batch */
    HASUP_FLAG_RESUME = 1 << 3,    /* REQUEST: PROGRESS and DELIVERED fields say where to go on */
    HASUP_FLAG_RESTORING = 1 << 4, /* WELCOME: a RESTORE frame follows */
    HASUP_FLAG_FD = 1 << 5,        /* a descriptor comes with this frame's first byte */
    HASUP_FLAG_ONCE = 1 << 6,      /* REQUEST: it is not run again when its worker dies */
};

/* number, name, type of the value */
#define HASUP_TAGS(X)                                                                              \
    X(1, PROTOCOL, u32)    /* HELLO: highest protocol version spoken */                            \
    X(2, CONCURRENCY, u32) /* HELLO: requests it takes at once; default 1 */                       \
    X(3, MAX_BATCH, u32)   /* HELLO: longest batch; default 1 */                                   \
    X(4, ABILITIES, u64)   /* HELLO: HASUP_CAN_* bits */                                           \
    X(5, METADATA, bytes)  /* HELLO: JSON object: platform, inputs, outputs (OIP v2) */            \
    X(6, MODEL, bytes)     /* WELCOME, client's REQUEST: the model's name */                       \
    X(7, SLOT, u32)        /* WELCOME: the slot's number within its model */                       \
    X(8, GRANTED, u64)     /* WELCOME: the HASUP_CAN_* bits that will be used */                   \
    X(9, POSITION, u64)    /* RESTORE, CHECKPOINT, STATE, REQUEST of a stateful slot */            \
    X(10, DEADLINE, u64)   /* REQUEST: CLOCK_MONOTONIC ns; a client sends ns from now */           \
    X(11, CONTENT_TYPE, bytes)                                                                     \
    X(12, ROUTE, bytes)      /* REQUEST: infer, generate, generate_stream, invoke, … */          \
    X(13, HEADER, bytes)     /* REQUEST, REPLY, repeated: name, one zero byte, value */            \
    X(14, REQUEST_ID, bytes) /* the client's X-Request-Id, or the one hasupd made */               \
    X(15, PRIORITY, u32)     /* 1 highest … 9 lowest, default 5 */                               \
    X(16, SESSION, bytes)                                                                          \
    X(17, ERROR, bytes)         /* READY, STATE, REPLY: what went wrong, for a person */           \
    X(18, CODE, bytes)          /* REPLY from hasupd: of a refusal; SPAWNED: unforkable */         \
    X(19, RETRY_AFTER, u32)     /* REPLY from hasupd: milliseconds */                              \
    X(20, ATTEMPTS, u32)        /* REPLY from hasupd */                                            \
    X(21, PROGRESS_BLOB, bytes) /* PROGRESS, resumed REQUEST */                                    \
    X(22, DELIVERED, bytes)     /* resumed REQUEST: what the client has, where that is short */    \
    X(23, BUFFER_ID, u32)     /* BUFFER, BUFFER_GONE, RELEASE, and every frame with FLAG_BUFFER */ \
    X(24, BUFFER_SIZE, u64)   /* BUFFER: its length in bytes */                                    \
    X(25, BUFFER_OFFSET, u64) /* frames with FLAG_BUFFER: where the body starts; default 0 */      \
    X(26, BATCH_KEY, bytes)   /* REQUEST: only like keys share a batch */                          \
    X(27, INLINE_MAX, u32)    /* WELCOME: longest inline body */                                   \
    X(28, IDEMPOTENCY_KEY, bytes) /* client's REQUEST */                                           \
    X(29, TRACEPARENT, bytes)                                                                      \
    X(30, FD_NUMBER, u32)        /* DESCRIPTOR: 1 stdout, 2 stderr */                              \
    X(31, PID, u32)              /* SPAWNED */                                                     \
    X(32, STREAM_OFFSET, u64)    /* resumed REQUEST: where PROGRESS_BLOB stands in the answer;     \
                                    its first CHUNK or REPLY: where that one starts */             \
    X(33, DELIVERED_LEN, u64)    /* resumed REQUEST: how many bytes the client has */              \
    X(34, DELIVERED_DIGEST, u64) /* resumed REQUEST: XXH3-64 of those bytes */                     \
    X(35, RECORD, bytes) /* client's REQUEST: ask for this durable request's answer; REPLY 202     \
                            from hasupd: the number to ask by */                                   \
    X(36, PREFER, u32)   /* client's REQUEST: HASUP_PREFER_* bits */                               \
    X(37, METHOD, bytes) /* REQUEST of route proxy: GET, POST, … */                              \
    X(38, PATH, bytes)   /* and what follows upon /models/M/proxy, with its query */               \
    X(39, STATUS, u32)   /* first CHUNK: of the answer, where it is not 200 */                     \
    X(40, LOG_MARK, bytes) /* WELCOME: the word of the marks on what it prints */

enum hasup_tag {
#define HASUP_TAG_ENUM(number, name, type) HASUP_TAG_##name = (number),
    HASUP_TAGS(HASUP_TAG_ENUM)
#undef HASUP_TAG_ENUM
        HASUP_TAG_CRITICAL = 0x8000,
};

/* What a client wants (PREFER). */
enum {
    HASUP_PREFER_ASYNC = 1 << 0,   /* a REPLY 202 with a RECORD, once the request is durable */
    HASUP_PREFER_NO_WAIT = 1 << 1, /* 409 where its key's request still runs; with RECORD: 202 */
};

/* What a worker can do beyond plain requests (ABILITIES); only what is GRANTED is used. */
enum {
    HASUP_CAN_STATE = 1 << 0,    /* stateful: CHECKPOINT, STATE, RESTORE */
    HASUP_CAN_SNAPSHOT = 1 << 1, /* goes on serving while its state is taken */
    HASUP_CAN_RESUME = 1 << 2,   /* PROGRESS and resumed requests */
    HASUP_CAN_BATCH = 1 << 3,    /* takes MORE runs as one batch */
    HASUP_CAN_ZYGOTE = 1 << 4,   /* SPAWN, SPAWNED */
    HASUP_CAN_CANCEL = 1 << 5,   /* looks at CANCEL while a request runs */
};

/* One frame, decoded: meta and body point into the channel's buffer, valid until the next read. */
struct hasup_frame {
    uint8_t type; /* enum hasup_frame_type */
    uint8_t flags;
    uint32_t seq;
    uint64_t id;
    uint32_t meta_len;
    uint64_t body_len;
    const uint8_t *meta;
    const uint8_t *body; /* NULL where the body is in a buffer or empty */
    int fd;              /* the passed descriptor, owned by who took the frame; else -1 */
};

/* Writes the 32 bytes of `frame`'s header. */
void hasup_frame_encode(const struct hasup_frame *frame, uint8_t header[HASUP_FRAME_HEADER]);

/* Reads and checks a header (magic, version, known type, lengths within the limits, reserved zero).
 * Sets all but meta, body and fd.  HASUP_EPROTO or HASUP_ETOOBIG. */
int hasup_frame_decode(struct hasup_frame *frame,
                       const uint8_t header[HASUP_FRAME_HEADER]) HASUP_NODISCARD;

/* The name of a frame type ("REQUEST"), or "unknown". */
const char *hasup_frame_name(unsigned type);

#endif

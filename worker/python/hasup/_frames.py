"""Frames over a Unix stream socket: headers, fields, descriptors (docs/protocol.md)."""
from __future__ import annotations

import array
import socket
import struct
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

MAGIC, VERSION = 0xA7, 1
META_MAX, INLINE_MAX = 256 * 1024, 1024 * 1024
DESCRIPTORS_MAX = 16  # that may wait for their frames
BUFFERS_MAX = 256  # that one side may have announced

(HELLO, WELCOME, RESTORE, READY, REQUEST, REPLY, CHUNK, PROGRESS, CANCEL, CHECKPOINT, STATE, PING, PONG,
 DRAIN, SPAWN, SPAWNED, BUFFER, BUFFER_GONE, RELEASE, CONTROL, DESCRIPTOR, UNBEGUN) = range(1, 23)

FLAG_BUFFER, FLAG_REPLAY, FLAG_MORE, FLAG_RESUME, FLAG_RESTORING, FLAG_FD, FLAG_ONCE = (1 << n for n in range(7))

(TAG_PROTOCOL, TAG_CONCURRENCY, TAG_MAX_BATCH, TAG_ABILITIES, TAG_METADATA, TAG_MODEL, TAG_SLOT, TAG_GRANTED,
 TAG_POSITION, TAG_DEADLINE, TAG_CONTENT_TYPE, TAG_ROUTE, TAG_HEADER, TAG_REQUEST_ID, TAG_PRIORITY,
 TAG_SESSION, TAG_ERROR, TAG_CODE, TAG_RETRY_AFTER, TAG_ATTEMPTS, TAG_PROGRESS_BLOB, TAG_DELIVERED,
 TAG_BUFFER_ID, TAG_BUFFER_SIZE, TAG_BUFFER_OFFSET, TAG_BATCH_KEY, TAG_INLINE_MAX, TAG_IDEMPOTENCY_KEY,
 TAG_TRACEPARENT, TAG_FD_NUMBER, TAG_PID, TAG_STREAM_OFFSET, TAG_DELIVERED_LEN, TAG_DELIVERED_DIGEST, TAG_RECORD,
 TAG_PREFER, TAG_METHOD, TAG_PATH, TAG_STATUS, TAG_LOG_MARK) = range(1, 41)
CRITICAL = 0x8000

#: length of a number field, by tag; every other known tag holds bytes
LENGTHS: Dict[int, int] = {
    **dict.fromkeys((TAG_PROTOCOL, TAG_CONCURRENCY, TAG_MAX_BATCH, TAG_SLOT, TAG_PRIORITY, TAG_RETRY_AFTER,
                     TAG_ATTEMPTS, TAG_BUFFER_ID, TAG_INLINE_MAX, TAG_FD_NUMBER, TAG_PID, TAG_PREFER,
                     TAG_STATUS), 4),
    **dict.fromkeys((TAG_ABILITIES, TAG_GRANTED, TAG_POSITION, TAG_DEADLINE, TAG_BUFFER_SIZE, TAG_BUFFER_OFFSET,
                     TAG_STREAM_OFFSET, TAG_DELIVERED_LEN, TAG_DELIVERED_DIGEST), 8)}

CAN_STATE, CAN_SNAPSHOT, CAN_RESUME, CAN_BATCH, CAN_ZYGOTE, CAN_CANCEL = (1 << n for n in range(6))

HEADER = struct.Struct("<BBBBIQQII")
FIELD = struct.Struct("<HHI")
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")

Bytes = Union[bytes, bytearray, memoryview]


class ProtocolError(Exception):
    """The other end said what no frame says."""


class Frame(NamedTuple):
    type: int
    flags: int
    seq: int
    id: int
    meta: bytes
    body_len: int
    body: bytes  # empty where the body stands in a buffer
    descriptor: int = -1  # came with the frame; belongs to who took it


def field(tag: int, value: Union[int, str, Bytes], wide: bool = False) -> bytes:
    """One encoded field; an int is a u32, or a u64 where `wide`."""
    if isinstance(value, int):
        data: Bytes = (U64 if wide else U32).pack(value)
    else:
        data = value.encode() if isinstance(value, str) else value
    return FIELD.pack(tag, 0, len(data)) + bytes(data)


def fields(meta: Bytes) -> Iterator[Tuple[int, bytes]]:
    """(tag, value) in the order they stand, each checked; the tag without its CRITICAL bit."""
    at, end = 0, len(meta)
    while at < end:
        if end - at < FIELD.size:
            raise ProtocolError("a field is cut off")
        tag, zero, length = FIELD.unpack_from(meta, at)
        at += FIELD.size
        if zero or length > end - at:
            raise ProtocolError("a field runs past the end of its frame")
        critical, tag = tag & CRITICAL, tag & ~CRITICAL
        if critical and not TAG_PROTOCOL <= tag <= TAG_STATUS:
            raise ProtocolError(f"a field that must be understood has the unknown tag {tag}")
        if LENGTHS.get(tag, length) != length:
            raise ProtocolError(f"a field with tag {tag} has {length} bytes")
        yield tag, bytes(meta[at:at + length])
        at += length


def decode_header(data: Bytes) -> Tuple[int, int, int, int, int, int]:
    """(type, flags, seq, id, meta_len, body_len) of 32 bytes, checked."""
    magic, version, kind, flags, meta_len, number, body_len, seq, reserved = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or reserved or not HELLO <= kind <= UNBEGUN:
        raise ProtocolError("this is no frame of version 1")
    if meta_len > META_MAX or (body_len > INLINE_MAX and not flags & FLAG_BUFFER):
        raise ProtocolError("a frame is larger than the protocol allows")
    return kind, flags, seq, number, meta_len, body_len


def encode(kind: int, number: int = 0, meta: Bytes = b"", body: Bytes = b"", flags: int = 0, seq: int = 0,
           body_len: Optional[int] = None) -> List[Bytes]:
    """A frame as parts to be written one after the other; `body_len` where the body stands in a buffer."""
    length = len(body) if body_len is None else body_len
    return [HEADER.pack(MAGIC, VERSION, kind, flags, len(meta), number, length, seq, 0), meta, body]


class Channel:
    """Frames in and out of a socket.  Reads block unless asked not to; writes are gathered until flush()."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.buffer = bytearray()
        self.descriptors: List[int] = []
        self.out: List[Bytes] = []
        self.out_bytes = 0

    def fill(self, block: bool = True) -> bool:
        """Reads what is there; False where nothing was (not blocking).  EOFError at the end."""
        fds = array.array("i")
        try:
            data, ancillary, flags, _ = self.socket.recvmsg(
                1 << 18, socket.CMSG_SPACE(16 * fds.itemsize),
                socket.MSG_CMSG_CLOEXEC | (0 if block else socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        except ConnectionResetError:
            raise EOFError from None
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(value[:len(value) - len(value) % fds.itemsize])
        self.descriptors += fds
        if flags & socket.MSG_CTRUNC or len(self.descriptors) > DESCRIPTORS_MAX:
            raise ProtocolError("more descriptors came than frames that they belong to")
        if not data:
            raise EOFError
        self.buffer += data
        return True

    def frames(self) -> Iterator[Frame]:
        """The whole frames that have been read."""
        while len(self.buffer) >= HEADER.size:
            kind, flags, seq, number, meta_len, body_len = decode_header(self.buffer)
            inline = 0 if flags & FLAG_BUFFER else body_len
            end = HEADER.size + meta_len + inline
            if len(self.buffer) < end:
                return
            with memoryview(self.buffer) as view:
                meta = bytes(view[HEADER.size:HEADER.size + meta_len])
                body = bytes(view[HEADER.size + meta_len:end])
            del self.buffer[:end]
            for _ in fields(meta):
                pass  # each is checked
            descriptor = self.take_descriptor() if flags & FLAG_FD else -1
            yield Frame(kind, flags, seq, number, meta, body_len, body, descriptor)

    def take_descriptor(self) -> int:
        if not self.descriptors:
            raise ProtocolError("a frame promises a descriptor that did not come")
        return self.descriptors.pop(0)

    def send(self, parts: List[Bytes]) -> None:
        self.out += parts
        self.out_bytes += sum(map(len, parts))
        if self.out_bytes > 1 << 17:
            self.flush()

    def send_descriptor(self, parts: List[Bytes], descriptor: int) -> None:
        """The descriptor goes with the first byte of this frame."""
        self.flush()
        data = b"".join(parts)
        sent = self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                             array.array("i", [descriptor]))])
        if sent < len(data):
            self.socket.sendall(data[sent:])

    def flush(self) -> None:
        if self.out:
            data, self.out, self.out_bytes = b"".join(self.out), [], 0
            self.socket.sendall(data)


def header_fields(meta: Bytes) -> Dict[str, str]:
    """The forwarded headers, by lower-case name."""
    found: Dict[str, str] = {}
    for tag, value in fields(meta):
        if tag == TAG_HEADER:
            name, _, text = value.partition(b"\0")
            found[name.decode("latin-1")] = text.decode("latin-1")
    return found

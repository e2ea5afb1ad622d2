"""hasupd's side of the worker protocol, for tests: one worker process, driven frame by frame."""
import json
import os
import socket
import struct
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HELLO, WELCOME, RESTORE, READY, REQUEST, REPLY, CHUNK, PROGRESS, CHECKPOINT, STATE = 1, 2, 3, 4, 5, 6, 7, 8, 10, 11
DRAIN = 14
TAG_ABILITIES, TAG_METADATA, TAG_MODEL, TAG_SLOT, TAG_GRANTED, TAG_POSITION, TAG_TYPE, TAG_ROUTE, TAG_HEADER = 4, 5, 6, 7, 8, 9, 11, 12, 13
TAG_BLOB, TAG_OFFSET, TAG_DELIVERED_LEN = 21, 32, 33
IN_BUFFER, MORE, RESUME, RESTORING = 1 << 0, 1 << 2, 1 << 3, 1 << 4
HEADER = struct.Struct("<BBBBIQQII")


def field(tag, value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<HHI", tag, 0, len(value)) + value


def fields(meta):
    found = {}
    while meta:
        tag, _, length = struct.unpack_from("<HHI", meta)
        found[tag] = meta[8:8 + length]
        meta = meta[8 + length:]
    return found


class Peer:
    """The other end of a socket on which frames go."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.settimeout(60)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the peer is gone"
            data += more
        return data

    def receive(self):
        """Kind, number, seq, meta, body; a body in a buffer is left there."""
        _, _, kind, flags, meta, number, body, seq, _ = HEADER.unpack(self.exactly(HEADER.size))
        meta = self.exactly(meta)
        return kind, number, seq, meta, b"" if flags & IN_BUFFER else self.exactly(body)

    @staticmethod
    def frame(kind, number=0, meta=b"", body=b"", flags=0, seq=0):
        return HEADER.pack(0xA7, 1, kind, flags, len(meta), number, len(body), seq, 0) + meta + body

    def send(self, *args, **fields):
        self.socket.sendall(self.frame(*args, **fields))


class Worker(Peer):
    """One process, greeted and made ready as hasupd would."""

    def __init__(self, command, state=None, position=0, stderr=None):
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, stderr=stderr,
                                        env=dict(os.environ, HASUP_FD=str(theirs.fileno())))
        theirs.close()
        kind, _, _, meta, _ = self.receive()
        assert kind == HELLO
        granted, self.metadata = fields(meta).get(TAG_ABILITIES, bytes(8)), fields(meta).get(TAG_METADATA)
        meta = field(TAG_MODEL, "m") + field(TAG_SLOT, struct.pack("<I", 0)) + field(TAG_GRANTED, granted)
        self.send(WELCOME, meta=meta, flags=RESTORING if state is not None else 0)
        if state is not None:
            self.send(RESTORE, meta=field(TAG_POSITION, struct.pack("<Q", position)), body=state)
        kind, _, _, meta, _ = self.receive()
        assert kind == READY, kind
        assert not meta, meta
        self.position = position
        self.progress = []  # of the last request: how many bytes stood before it, and the blob

    def ask(self, route, body, resume=None, headers=None):
        """Status, parts of the answer.  `resume`: one of another worker's progress."""
        self.position += 1
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        meta = field(TAG_ROUTE, route) + field(TAG_POSITION, struct.pack("<Q", self.position))
        for name, value in (headers or {}).items():
            meta += field(TAG_HEADER, f"{name}\0{value}")
        if resume:
            at = struct.pack("<Q", resume[0])
            meta += field(TAG_BLOB, resume[1]) + field(TAG_OFFSET, at) + field(TAG_DELIVERED_LEN, at)
        self.send(REQUEST, self.position, meta, body, flags=RESUME if resume else 0, seq=2 if resume else 1)
        parts, self.progress = [], []
        while True:
            kind, number, seq, meta, part = self.receive()
            assert number == self.position
            if kind == PROGRESS:
                self.progress.append((sum(map(len, parts)), fields(meta)[TAG_BLOB]))
                continue
            if resume and not parts:
                assert fields(meta)[TAG_OFFSET] == at
            parts += [part] if part else []
            if kind == REPLY:
                return seq or 200, parts
            assert kind == CHUNK

    def ask_together(self, asked):
        """Status, body of each (route, body), which come as one batch."""
        first = self.position + 1
        for route, body in asked:
            self.position += 1
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            more = MORE if self.position - first + 1 < len(asked) else 0
            self.send(REQUEST, self.position, field(TAG_ROUTE, route), body, flags=more, seq=1)
        answers = {}
        while len(answers) < len(asked):
            kind, number, seq, _, body = self.receive()
            assert kind == REPLY and number not in answers
            answers[number] = (seq or 200, body)
        return [answers[first + i] for i in range(len(asked))]

    def state(self):
        self.send(CHECKPOINT, meta=field(TAG_POSITION, struct.pack("<Q", self.position)))
        kind, _, _, _, body = self.receive()
        assert kind == STATE
        return body

    def end(self):
        """However its test went, the process does not outlive it."""
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def close(self):
        self.send(DRAIN)
        code = self.process.wait(timeout=60)
        self.socket.close()
        return code

"""A worker that speaks frames by hand, and breaks the protocol as a request's body says.

`echo` answers; every other verb is a way to lie (LIES).  After the lie it waits to be killed.
"""
import fcntl
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
from hasup import _frames as f  # noqa: E402

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
BIG = 2 << 20


def whole(*args, **fields):
    return b"".join(f.encode(*args, **fields))


def header(magic=f.MAGIC, version=f.VERSION, kind=f.REPLY, meta=0, number=1, body=0, seq=200, reserved=0):
    return f.HEADER.pack(magic, version, kind, 0, meta, number, body, seq, reserved)


def in_buffer(number, buffer, length, offset=0):
    meta = f.field(f.TAG_BUFFER_ID, buffer) + f.field(f.TAG_BUFFER_OFFSET, offset, wide=True)
    return whole(f.REPLY, number, meta, flags=f.FLAG_BUFFER, seq=200, body_len=length)


class Liar:
    def __init__(self, sock):
        self.socket, self.channel = sock, f.Channel(sock)

    def announce(self, buffer, size=BIG, seals=SEALS, real=BIG):
        memory = os.memfd_create("lie", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, real)
        if seals:
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
        meta = f.field(f.TAG_BUFFER_ID, buffer) + f.field(f.TAG_BUFFER_SIZE, size, wide=True)
        self.channel.send_descriptor(f.encode(f.BUFFER, meta=meta, flags=f.FLAG_FD), memory)
        os.close(memory)

    def say(self, data):
        self.socket.sendall(data)

    # ---- lies, each about request `n` ----

    def bad_magic(self, n): self.say(header(magic=0xA8))
    def other_version(self, n): self.say(header(version=2))
    def unknown_type(self, n): self.say(header(kind=200))
    def reserved(self, n): self.say(header(reserved=1))
    def long_meta(self, n): self.say(header(meta=f.META_MAX + 1))
    def long_body(self, n): self.say(header(body=f.INLINE_MAX + 1))
    def endless_body(self, n): self.say(header(body=(1 << 64) - 1))
    def cut_field(self, n): self.say(whole(f.REPLY, n, f.FIELD.pack(f.TAG_ERROR, 0, 99) + b"short", seq=200))
    def critical_stranger(self, n): self.say(whole(f.REPLY, n, f.field(999 | f.CRITICAL, b""), seq=200))
    def short_number(self, n): self.say(whole(f.REPLY, n, f.field(f.TAG_POSITION, 5), seq=200))
    def reply_to_nobody(self, n): self.say(whole(f.REPLY, n + 12345, body=b"x", seq=200))
    def chunk_to_nobody(self, n): self.say(whole(f.CHUNK, n + 12345, body=b"x"))
    def status_700(self, n): self.say(whole(f.REPLY, n, body=b"x", seq=700))
    def status_100(self, n): self.say(whole(f.REPLY, n, body=b"x", seq=100))
    def chunk_gap(self, n): self.say(whole(f.CHUNK, n, body=b"x", seq=1))
    def state_unasked(self, n): self.say(whole(f.STATE, meta=f.field(f.TAG_POSITION, 1, wide=True)))
    def unbegun_nobodys(self, n): self.say(whole(f.UNBEGUN, n + 12345))
    def progress_ungranted(self, n): self.say(whole(f.PROGRESS, n, f.field(f.TAG_PROGRESS_BLOB, b"x")))
    def spawned_ungranted(self, n): self.say(whole(f.SPAWNED, 1, f.field(f.TAG_PID, 1)))
    def hello_again(self, n): self.say(whole(f.HELLO, meta=f.field(f.TAG_PROTOCOL, 1)))
    def a_request_of_its_own(self, n): self.say(whole(f.REQUEST, 1, body=b"x", seq=1))
    def a_command(self, n): self.say(whole(f.CONTROL, 1, body=b'{"verb":"shutdown"}'))
    def buffer_unannounced(self, n): self.say(in_buffer(n, 77, BIG))
    def buffer_unnamed(self, n): self.say(whole(f.REPLY, n, flags=f.FLAG_BUFFER, seq=200, body_len=BIG))
    def buffer_without_descriptor(self, n): self.say(whole(f.BUFFER, meta=f.field(f.TAG_BUFFER_ID, 1), flags=f.FLAG_FD))
    def buffer_without_flag(self, n): self.say(whole(f.BUFFER, meta=f.field(f.TAG_BUFFER_ID, 1)))
    def buffer_unsealed(self, n): self.announce(1, seals=0)
    def buffer_half_sealed(self, n): self.announce(1, seals=fcntl.F_SEAL_GROW)
    def buffer_smaller_than_it_says(self, n): self.announce(1, size=BIG + 1)
    def buffer_of_nothing(self, n): self.announce(1, size=0)
    def withdraws_nothing(self, n): self.say(whole(f.BUFFER_GONE, meta=f.field(f.TAG_BUFFER_ID, 77)))
    def releases_nothing(self, n): self.say(whole(f.RELEASE, meta=f.field(f.TAG_BUFFER_ID, 77)))

    def buffer_number_twice(self, n):
        self.announce(1)
        self.announce(1)

    def buffer_outrun(self, n):
        self.announce(1)
        self.say(in_buffer(n, 1, BIG, 1))

    def buffer_offset_wraps(self, n):
        self.announce(1)
        self.say(in_buffer(n, 1, 2, (1 << 64) - 1))

    def buffers_without_end(self, n):
        for buffer in range(300):
            self.announce(buffer, size=4096, real=4096)

    def buffer_that_is_a_pipe(self, n):
        ends = os.pipe()
        meta = f.field(f.TAG_BUFFER_ID, 1) + f.field(f.TAG_BUFFER_SIZE, BIG, wide=True)
        self.channel.send_descriptor(f.encode(f.BUFFER, meta=meta, flags=f.FLAG_FD), ends[0])

    def descriptor_flood(self, n):
        self.say(header(number=n, body=1000))
        for _ in range(f.DESCRIPTORS_MAX + 1):
            socket.send_fds(self.socket, [b"x"], [0])

    def descriptors_at_once(self, n):
        socket.send_fds(self.socket, [b"x"], [0] * 100)

    def half_a_frame_and_leaves(self, n):
        self.say(header(number=n, body=1000) + b"half")
        os._exit(0)

    def closes_its_socket(self, n):
        self.socket.close()

    # ---- life ----

    def serve(self, gate=None):
        """`gate`: takes two requests at once, and waits for that FIFO before it is ready."""
        meta = f.field(f.TAG_PROTOCOL, f.VERSION)
        if gate:
            meta += f.field(f.TAG_MAX_BATCH, 2) + f.field(f.TAG_ABILITIES, f.CAN_RESUME | f.CAN_BATCH, wide=True)
        self.say(whole(f.HELLO, meta=meta))
        while True:
            for frame in self.channel.frames():
                if frame.type == f.WELCOME:
                    if gate:
                        open(gate).read()
                    self.say(whole(f.READY))
                elif frame.type == f.PING:
                    self.say(whole(f.PONG, frame.id))
                elif frame.type == f.DRAIN:
                    return
                elif frame.type == f.REQUEST:
                    self.run(frame)
            self.channel.fill()

    def run(self, frame):
        verb = frame.body.decode()
        if verb == "echo":
            self.say(whole(f.REPLY, frame.id, body=b"echo", seq=200))
            return
        try:
            LIES[verb](self, frame.id)
        except (BrokenPipeError, ConnectionResetError):
            pass  # hasupd hung up in the middle
        while True:
            os.read(0, 1) or os.kill(os.getpid(), 19)  # stops itself: only a kill ends it


LIES = {name: value for name, value in vars(Liar).items()
        if callable(value) and not name.startswith("_") and name not in ("announce", "say", "serve", "run")}

if __name__ == "__main__":
    if "--fail-load" in sys.argv:  # said before the WELCOME can be there
        os.write(int(os.environ["HASUP_FD"]), whole(f.HELLO, meta=f.field(f.TAG_PROTOCOL, f.VERSION)) +
                 whole(f.READY, meta=f.field(f.TAG_ERROR, "no weights")))
        sys.exit(1)
    try:
        Liar(socket.socket(fileno=int(os.environ["HASUP_FD"]))).serve(*sys.argv[1:])
    except EOFError:
        pass  # hasupd is gone

"""The life of a worker: hello, load, restore, ready, then requests in the order they come."""
from __future__ import annotations

import faulthandler
import fcntl
import os
import select
import signal
import socket
import sys
import threading
import traceback
from typing import Any, Optional

from . import _frames as f
from . import _log
from . import _snapshot
from . import _zygote
from ._answer import Answering
from ._worker import Worker, what_is_wrong

PAUSE = 0.1  # nothing to do for so long: memory is given back


class _Leave(Exception):
    """Time to go: DRAIN, TERM, or hasupd is gone."""


class _Runtime(Answering):
    def __init__(self, worker: Worker, concurrency: int, sock: socket.socket) -> None:
        super().__init__(worker, concurrency, sock)
        self.snapshots = False  # granted
        self.snapshot: Optional[_snapshot.Snapshot] = None  # a child that takes the state
        self.terminated = self.blocking = False
        self.zygote = self.forked = False  # it forks workers and does nothing else; it is one of those

    # ---- state ----

    def take_state(self, frame: f.Frame) -> None:
        if not self.stateful or self.snapshot:
            raise f.ProtocolError("a state is asked for that there is not, or a second one")
        self.flush()  # no answer waits for a save, or a fork
        if self.snapshots:
            try:
                self.snapshot = _snapshot.Snapshot(self.worker.save, frame.meta, self.channel.socket.fileno())
                return
            except OSError:
                traceback.print_exc()  # then here
        self.send_state(frame.meta, _snapshot.take(self.worker.save))

    def end_snapshot(self, wait: bool) -> None:
        """Sends the state where a child has taken it."""
        if self.snapshot and (wait or select.select([self.snapshot.result], [], [], 0)[0]):
            snapshot, self.snapshot = self.snapshot, None
            self.send_state(snapshot.meta, snapshot.end())

    def send_state(self, meta: bytes, taken: _snapshot.Taken) -> None:
        if taken.descriptor < 0:
            self.send(f.STATE, meta=meta + f.field(f.TAG_ERROR, taken.why))
            return
        try:
            if taken.length <= self.inline_max:
                self.send(f.STATE, meta=meta, body=os.pread(taken.descriptor, taken.length, 0))
                return
            # In a buffer of its own, which is hasupd's alone from here on.
            fcntl.fcntl(taken.descriptor, fcntl.F_ADD_SEALS, _snapshot.SEALS)
            self.numbers += 1
            number = f.field(f.TAG_BUFFER_ID, self.numbers)
            self.announce(self.numbers, taken.length, taken.descriptor)
            self.channel.send(f.encode(f.STATE, 0, meta + number, b"", f.FLAG_BUFFER, 0, taken.length))
            self.channel.send(f.encode(f.BUFFER_GONE, meta=number))
        finally:
            os.close(taken.descriptor)

    def restore(self, frame: f.Frame) -> None:
        try:
            self.worker.restore(bytes(self.body_of(frame)))
        except f.ProtocolError:
            raise
        except Exception as error:
            self.fail(f"restore: {type(error).__name__}: {error}")
        if frame.flags & f.FLAG_BUFFER:
            number = dict(f.fields(frame.meta))[f.TAG_BUFFER_ID]
            self.send(f.RELEASE, meta=f.field(f.TAG_BUFFER_ID, number))
        self.become_ready()

    def become_ready(self) -> None:
        self.send(f.READY)
        self.flush()

    def welcome(self, frame: f.Frame) -> None:
        values = dict(f.fields(frame.meta))
        most = values.get(f.TAG_INLINE_MAX)
        if most:
            self.inline_max = min(f.INLINE_MAX, f.U32.unpack(most)[0])
        _log.learn(values.get(f.TAG_LOG_MARK, b""))
        granted = f.U64.unpack(values.get(f.TAG_GRANTED, bytes(8)))[0]
        self.batch.granted = bool(granted & f.CAN_BATCH)
        self.snapshots, self.resumes = bool(granted & f.CAN_SNAPSHOT), bool(granted & f.CAN_RESUME)
        self.zygote = bool(granted & f.CAN_ZYGOTE)
        if self.zygote:
            _zygote.prepare()
        else:
            self.begin()
        if not frame.flags & f.FLAG_RESTORING:
            self.become_ready()

    def begin(self) -> None:
        if self.forked:
            try:
                self.worker.forked()
            except Exception as error:
                self.fail(f"forked: {type(error).__name__}: {error}")
        if self.concurrency > 1 and not self.stateful:
            for _ in range(self.concurrency):
                thread = threading.Thread(target=self.thread_main, daemon=True)
                thread.start()
                self.threads.append(thread)

    # ---- zygote ----

    def spawn(self, frame: f.Frame) -> int:
        """Forks a worker, which comes back here, too: it has said hello on a socket of its own.  Gives the descriptor
        that is still to be closed."""
        if not self.zygote or frame.descriptor < 0:
            raise f.ProtocolError("a worker is to be forked by who is no zygote")
        why = _zygote.obstacle()
        if why:
            self.send(f.SPAWNED, frame.id, f.field(f.TAG_ERROR, why) + f.field(f.TAG_CODE, _zygote.UNFORKABLE))
            return frame.descriptor
        self.flush()
        try:
            birth = _zygote.Birth()
        except OSError as error:
            self.send(f.SPAWNED, frame.id, f.field(f.TAG_ERROR, f"fork: {error.strerror or error}"))
            return frame.descriptor
        if birth.pid == 0:
            self.become_worker(frame)
            return -1
        self.tell(frame, birth)
        return frame.descriptor

    def tell(self, frame: f.Frame, birth: "_zygote.Birth") -> None:
        """The worker goes on only once it is known for sure which one it is."""
        try:
            pidfd = os.pidfd_open(birth.pid)
        except OSError as error:
            self.send(f.SPAWNED, frame.id, f.field(f.TAG_ERROR, f"pidfd_open: {error.strerror}"))
        else:
            meta = f.field(f.TAG_PID, birth.pid)
            self.channel.send_descriptor(f.encode(f.SPAWNED, frame.id, meta, flags=f.FLAG_FD), pidfd)
            os.close(pidfd)
            birth.known()
        finally:
            birth.close()

    def become_worker(self, frame: f.Frame) -> None:
        self.channel.buffer = bytearray()  # what else was read is the zygote's to do
        self.channel.socket.close()
        for descriptor in self.channel.descriptors:
            os.close(descriptor)
        self.channel = f.Channel(socket.socket(fileno=frame.descriptor))
        _zygote.set_environment(frame.body)
        for memory in list(self.theirs.values()) + self.ours:
            memory.close()
        self.theirs, self.ours, self.waiting = {}, [], []
        self.zygote, self.forked = False, True
        self.hello()

    def take_descriptor(self, frame: f.Frame) -> None:
        """Of a forked worker, whose output is its zygote's until then."""
        number = f.U32.unpack(dict(f.fields(frame.meta)).get(f.TAG_FD_NUMBER, bytes(4)))[0]
        if not self.forked or number not in (1, 2) or frame.descriptor < 0:
            raise f.ProtocolError("a descriptor that nobody has a use for")
        os.dup2(frame.descriptor, number)

    def fail(self, text: str) -> None:
        traceback.print_exc()
        self.send(f.READY, meta=f.field(f.TAG_ERROR, text))
        self.flush()
        sys.exit(1)

    # ---- life ----

    def take(self, frame: f.Frame) -> None:
        descriptor = frame.descriptor
        try:
            if frame.type == f.SPAWN:
                descriptor = self.spawn(frame)
            else:
                self.take_kind(frame)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def take_kind(self, frame: f.Frame) -> None:
        kind = frame.type
        if self.batch.members and kind not in (f.REQUEST, f.BUFFER, f.BUFFER_GONE, f.RELEASE):
            raise f.ProtocolError(f"a frame of type {kind} stands within a batch")
        if kind == f.REQUEST and not self.zygote:
            self.take_request(frame)
        elif kind == f.PING:
            self.send(f.PONG, frame.id)
            self.flush()  # hasupd waits for it, and the next request may take long
        elif kind == f.CHECKPOINT:
            self.take_state(frame)
        elif kind == f.CANCEL:
            self.cancel(frame.id)
        elif kind in (f.BUFFER, f.BUFFER_GONE, f.RELEASE):
            self.buffer_frame(frame)
        elif kind == f.WELCOME:
            self.welcome(frame)
        elif kind == f.RESTORE:
            self.restore(frame)
        elif kind == f.DESCRIPTOR:
            self.take_descriptor(frame)
        elif kind == f.DRAIN:
            raise _Leave
        else:
            raise f.ProtocolError(f"a frame of type {kind} is not for a worker")

    def hello(self) -> None:
        abilities = f.CAN_CANCEL | (f.CAN_RESUME if self.worker.resumable and not self.stateful else 0)
        if self.stateful:
            abilities |= f.CAN_STATE | (f.CAN_SNAPSHOT if self.worker.snapshot else 0)
        if os.environ.get("HASUP_ZYGOTE") == "1":  # what it is to be
            abilities |= f.CAN_ZYGOTE
        meta = f.field(f.TAG_PROTOCOL, f.VERSION) + f.field(f.TAG_CONCURRENCY, self.concurrency)
        if self.batch.most > 1:
            abilities |= f.CAN_BATCH
            meta += f.field(f.TAG_MAX_BATCH, self.batch.most)
        meta += f.field(f.TAG_ABILITIES, abilities, wide=True)
        metadata = self.worker.metadata or (self.worker.signature and self.worker.signature.metadata())
        if metadata and len(metadata.encode()) > f.META_MAX - len(meta) - f.FIELD.size:
            print("hasup: the model's metadata is too long to be told", file=sys.stderr)
        elif metadata:
            meta += f.field(f.TAG_METADATA, metadata)
        self.send(f.HELLO, meta=meta)
        self.flush()

    def loop(self) -> None:
        while True:
            while self.waiting:
                self.take(self.waiting.pop(0))
            for frame in self.channel.frames():
                self.take(frame)
                while self.waiting:
                    self.take(self.waiting.pop(0))
            self.end_snapshot(wait=False)
            self.flush()
            if self.may_rest() and not select.select([self.channel.socket], [], [], PAUSE)[0]:
                self.rest()
            self.blocking = True
            if self.terminated:
                raise _Leave
            if self.snapshot and self.channel.socket not in select.select(
                    [self.channel.socket, self.snapshot.result], [], [])[0]:
                self.blocking = False
                continue  # its end is there
            self.channel.fill()
            self.blocking = False

    def serve(self) -> int:
        signal.signal(signal.SIGTERM, self.on_term)
        self.hello()
        try:
            self.worker.load()
        except Exception as error:
            self.fail(f"load: {type(error).__name__}: {error}")
        try:
            self.loop()
        except _Leave:
            self.wait_idle()
            self.end_snapshot(wait=True)
            self.flush()
            self.worker.unload()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass  # hasupd is gone, and with it whoever waits
        except f.ProtocolError as error:
            print(f"hasup: hasupd broke the protocol: {error}", file=sys.stderr)
            return 1
        return 0

    def on_term(self, _signo: int, _frame: Any) -> None:
        # A request that runs is finished first; a worker that waits for one leaves at once.
        self.terminated = True
        if self.blocking:
            self.blocking = False
            raise _Leave


def serve(worker: Worker, concurrency: int = 1) -> None:
    """Serves until hasupd says to stop, then ends the process.

    `concurrency` above 1 runs infer() in that many threads; a stateful worker always runs one at a time, in order.
    """
    number = os.environ.get("HASUP_FD", "")
    if not number.isdigit():
        print("this is a hasup worker: it serves when hasupd starts it.\n"
              "Name it as a model's command in a configuration and run: hasupd -c FILE", file=sys.stderr)
        sys.exit(2)
    wrong = what_is_wrong(worker)
    if wrong:
        print(f"hasup: a worker needs {wrong}", file=sys.stderr)
        sys.exit(2)
    faulthandler.enable()  # what crashes in native code leaves its Python stack in the log
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    _log.install()
    runtime = _Runtime(worker, max(1, concurrency), socket.socket(fileno=int(number)))
    os.set_inheritable(int(number), False)
    code = runtime.serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads in the model's libraries must not keep a drained worker

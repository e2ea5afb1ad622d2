"""The life of a worker: hello, load, restore, ready, then requests in the order they come."""
from __future__ import annotations

import faulthandler
import fcntl
import os
import queue
import select
import signal
import socket
import sys
import threading
import traceback
from typing import Any, Dict, Iterable, List, Optional, Set, Union, cast

from . import _batch
from . import _frames as f
from . import _snapshot
from . import _zygote
from ._memory import Memory
from ._worker import (Answer, Body, Error, Part, Progress, Reply, Request, ResumeAt, Worker, overrides,
                      what_is_wrong)

PAUSE = 0.1  # nothing to do for so long: memory is given back


def _data(body: Body) -> Union[bytes, bytearray, memoryview]:
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, memoryview):
        return body.cast("B") if body.contiguous else bytes(body)
    if isinstance(body, (bytes, bytearray)):
        return body
    raise TypeError(f"an answer is bytes, str, Reply or a generator of those, not {type(body).__name__}")


_END = object()  # of a stream


class _Stream:
    """An answer that is told part by part; `mates`: by turns with those of its batch."""

    def __init__(self, request: Request, parts: Iterable[Part], mates: bool) -> None:
        self.request, self.parts, self.mates = request, iter(parts), mates
        self.chunks, self.begun = 0, False


class _Leave(Exception):
    """Time to go: DRAIN, TERM, or hasupd is gone."""


class _Runtime:
    def __init__(self, worker: Worker, concurrency: int, sock: socket.socket) -> None:
        self.worker, self.concurrency = worker, concurrency
        self.batch = _batch.Gathering(worker.max_batch)
        self.infers_one = overrides(worker, "infer")
        self.channel = f.Channel(sock)
        self.theirs: Dict[int, Memory] = {}
        self.ours: List[Memory] = []
        self.gone: Optional[Memory] = None  # the last one withdrawn: given back in a pause, as it takes long
        self.numbers = 0  # of buffers that were announced
        self.snapshots = self.resumes = False  # granted
        self.snapshot: Optional[_snapshot.Snapshot] = None  # a child that takes the state
        self.lock = threading.RLock()  # of the channel's sending side
        self.released = threading.Condition(self.lock)  # a buffer of the worker's own was
        self.waiting: List[f.Frame] = []  # read ahead while a request runs
        self.cancels: Set[int] = set()  # of requests that run or wait here
        self.active: Set[int] = set()  # running, or handed to the threads
        self.inline_max = f.INLINE_MAX
        kind = type(worker)
        self.stateful = kind.save is not Worker.save and kind.restore is not Worker.restore
        self.threads: List[threading.Thread] = []
        self.jobs: "queue.SimpleQueue[Optional[List[Request]]]" = queue.SimpleQueue()
        self.idle = threading.Condition()
        self.running = 0
        self.leaving = False  # nobody reads but who waits for a buffer
        self.terminated = self.blocking = False
        self.zygote = self.forked = False  # it forks workers and does nothing else; it is one of those

    # ---- sending ----

    def send(self, kind: int, number: int = 0, meta: bytes = b"", body: Body = b"", seq: int = 0) -> None:
        data = _data(body)
        with self.lock:
            if len(data) <= self.inline_max:
                self.channel.send(f.encode(kind, number, meta, data, seq=seq))
                return
            memory = self.take_memory(len(data))
            memory.map[:len(data)] = data
            memory.busy = True
            meta += f.field(f.TAG_BUFFER_ID, memory.number)
            self.channel.send(f.encode(kind, number, meta, b"", f.FLAG_BUFFER, seq, len(data)))

    def take_memory(self, length: int) -> Memory:
        while True:
            idle = [memory for memory in self.ours if not memory.busy]
            for memory in idle:
                if memory.size >= length:
                    return memory
            if len(self.ours) < f.BUFFERS_MAX - 1:  # one is for a state, which goes as soon as it came
                break
            if idle:
                self.withdraw(idle[0])
            else:
                self.await_release()
        self.numbers += 1
        memory = Memory.make(self.numbers, length)
        self.ours.append(memory)
        self.announce(memory.number, memory.size, memory.descriptor)
        return memory

    def await_release(self) -> None:
        self.flush()
        if self.threads and not self.leaving:
            self.released.wait()  # the main thread reads
        else:
            self.channel.fill()
            self.look_ahead()

    def withdraw(self, memory: Memory) -> None:
        self.ours.remove(memory)
        memory.close()
        self.send(f.BUFFER_GONE, meta=f.field(f.TAG_BUFFER_ID, memory.number))

    def rest(self) -> None:
        """Gives back what memory the next answer does not need; one buffer is kept."""
        self.free_gone()
        with self.lock:
            for memory in [memory for memory in self.ours if not memory.busy][1:]:
                self.withdraw(memory)
            self.flush()

    def may_rest(self) -> bool:
        return bool(self.gone) or sum(not memory.busy for memory in self.ours) > 1

    def announce(self, number: int, size: int, descriptor: int) -> None:
        meta = f.field(f.TAG_BUFFER_ID, number) + f.field(f.TAG_BUFFER_SIZE, size, wide=True)
        self.channel.send_descriptor(f.encode(f.BUFFER, meta=meta, flags=f.FLAG_FD), descriptor)

    def flush(self) -> None:
        with self.lock:
            self.channel.flush()

    # ---- buffers of hasupd ----

    def buffer_frame(self, frame: f.Frame) -> None:
        values = dict(f.fields(frame.meta))
        number = f.U32.unpack(values.get(f.TAG_BUFFER_ID, b"\0" * 4))[0]
        if frame.type == f.RELEASE:
            with self.released:
                for memory in self.ours:
                    if memory.number == number:
                        memory.busy = False
                self.released.notify_all()
        elif frame.type == f.BUFFER_GONE:
            gone = self.theirs.pop(number, None)
            if gone:
                self.free_gone()
                self.gone = gone
        else:
            size = f.U64.unpack(values.get(f.TAG_BUFFER_SIZE, b"\0" * 8))[0]
            if frame.descriptor < 0 or not size or os.fstat(frame.descriptor).st_size < size:
                raise f.ProtocolError("a buffer is smaller than it says")
            self.theirs[number] = Memory(number, os.dup(frame.descriptor), size, False)

    def free_gone(self) -> None:
        if self.gone:
            self.gone.close()
        self.gone = None

    def body_of(self, frame: f.Frame) -> Union[bytes, memoryview]:
        if not frame.flags & f.FLAG_BUFFER:
            return frame.body
        values = dict(f.fields(frame.meta))
        memory = self.theirs.get(f.U32.unpack(values.get(f.TAG_BUFFER_ID, b"\0" * 4))[0])
        offset = f.U64.unpack(values.get(f.TAG_BUFFER_OFFSET, b"\0" * 8))[0]
        if memory is None or offset + frame.body_len > memory.size:
            raise f.ProtocolError("a body stands in a buffer that was never announced")
        return memoryview(memory.map)[offset:offset + frame.body_len]

    # ---- requests ----

    def is_cancelled(self, number: int) -> bool:
        if self.stateful:
            return False
        if not self.threads:  # nobody else reads meanwhile
            self.look_ahead()
            while self.channel.fill(block=False):
                self.look_ahead()
        return number in self.cancels

    def look_ahead(self) -> None:
        for frame in self.channel.frames():
            if frame.type == f.CANCEL:
                self.cancel(frame.id)
            elif frame.type == f.RELEASE:
                self.buffer_frame(frame)
            else:
                self.waiting.append(frame)

    def cancel(self, number: int) -> None:
        """Notes it where the request runs or waits here; one that is answered already has no cancel."""
        if number in self.active or any(w.type == f.REQUEST and w.id == number for w in self.waiting):
            self.cancels.add(number)

    def answer(self, request: Request, answer: Answer) -> None:
        """Of what is no stream."""
        if isinstance(answer, Reply):
            meta = f.field(f.TAG_CONTENT_TYPE, answer.content_type) if answer.content_type else b""
            for name, value in answer.headers.items():
                meta += f.field(f.TAG_HEADER, name.lower().encode("latin-1") + b"\0" + value.encode("latin-1"))
            self.send(f.REPLY, request.id, meta, answer.body, answer.status)
        else:
            self.send(f.REPLY, request.id, body=b"" if answer is None else cast(Body, answer), seq=200)

    def step(self, stream: "_Stream") -> bool:
        """Tells the next part; False: it was the last one."""
        part, begins = cast(Part, next(stream.parts, _END)), b""
        if isinstance(part, ResumeAt):
            if stream.begun or not stream.request.resumed:
                raise ValueError("ResumeAt is the first part of the answer to a resumed request")
            begins = f.field(f.TAG_STREAM_OFFSET, part.at, wide=True)
            part = cast(Part, next(stream.parts, b""))
        if part is _END:
            return False
        stream.begun = True
        if not isinstance(part, Progress):
            self.send(f.CHUNK, stream.request.id, begins, cast(Body, part), seq=stream.chunks)
            stream.chunks += 1
        elif self.resumes and not stream.mates:
            self.send(f.PROGRESS, stream.request.id, begins + f.field(f.TAG_PROGRESS_BLOB, bytes(part.blob)))
        return True
    def advance(self, stream: "_Stream") -> bool:
        """The same, with what comes of it; False: all is told."""
        request = stream.request
        try:
            if not (stream.begun and self.is_cancelled(request.id)) and self.step(stream):
                return True
            self.send(f.REPLY, request.id, seq=200)
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            self.refuse(request, error, tell=True)
        self.forget(request)
        return False

    def refuse(self, request: Request, error: Exception, tell: bool) -> None:
        """The model's fault is the request's answer, not the worker's end."""
        known = isinstance(error, Error)
        if tell and not known:
            traceback.print_exception(type(error), error, error.__traceback__)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        self.send(f.REPLY, request.id, f.field(f.TAG_ERROR, text), seq=getattr(error, "status") if known else 500)

    def forget(self, request: Request) -> None:
        self.active.discard(request.id)
        self.cancels.discard(request.id)

    def begin_answer(self, request: Request, outcome: Any, mates: bool) -> Optional["_Stream"]:
        """Answers, unless a stream is to be told."""
        try:
            if isinstance(outcome, Exception):
                self.refuse(request, outcome, tell=False)
            elif outcome is None or isinstance(outcome, (bytes, bytearray, memoryview, str, Reply)):
                self.answer(request, outcome)
            else:
                return _Stream(request, outcome, mates)
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            self.refuse(request, error, tell=True)
        self.forget(request)
        return None

    def infer(self, batch: List[Request]) -> Optional[List[Any]]:
        """For each its answer or an exception; None: it failed as a whole, and each is to run alone."""
        try:
            if len(batch) == 1 and self.infers_one:
                return [self.worker.infer(batch[0])]
            answers = self.worker.infer_batch(batch)
        except Exception as error:
            if not isinstance(error, Error):
                traceback.print_exc()
            return None if len(batch) > 1 and not self.stateful else [error] * len(batch)
        if not isinstance(answers, (list, tuple)):
            wrong = f"infer_batch gives a list with an answer to each request, not {type(answers).__name__}"
        elif len(answers) != len(batch):
            wrong = f"infer_batch gave {len(answers)} answers to {len(batch)} requests"
        else:
            for answer in answers:
                if isinstance(answer, Exception) and not isinstance(answer, Error):
                    traceback.print_exception(type(answer), answer, answer.__traceback__)
            return list(answers)
        print(f"hasup: {wrong}", file=sys.stderr)
        return [Error(500, wrong)] * len(batch)

    def run(self, batch: List[Request]) -> None:
        outcomes = self.infer(batch)
        if outcomes is None:
            for request in batch:
                self.flush()  # an answer must not wait for the next one, nor die with it
                self.run([request])
            return
        begun = [self.begin_answer(*pair, len(batch) > 1) for pair in zip(batch, outcomes)]
        streams = [stream for stream in begun if stream]
        while streams:
            self.flush()  # nor wait for a stream's next part
            streams = [stream for stream in streams if self.advance(stream)]

    def thread_main(self) -> None:
        while True:
            batch = self.jobs.get()
            if batch is None:
                return
            try:
                self.run(batch)
                self.flush()
            except (EOFError, BrokenPipeError):
                pass  # hasupd is gone; the main thread hears it too
            with self.idle:
                self.running -= 1
                self.idle.notify_all()

    def take_request(self, frame: f.Frame) -> None:
        request = Request(frame, self.body_of(frame), self)
        self.active.add(request.id)
        batch = self.batch.add(request, frame)
        if not batch:
            return
        if not self.threads:
            self.flush()  # the answers before it must not wait for this one, nor die with it
            self.run(batch)
            return
        with self.idle:
            self.running += 1
        self.jobs.put(batch)

    def wait_idle(self) -> None:
        with self.released:
            self.leaving = True
            self.released.notify_all()
        with self.idle:
            while self.running:
                self.idle.wait()

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
    runtime = _Runtime(worker, max(1, concurrency), socket.socket(fileno=int(number)))
    os.set_inheritable(int(number), False)
    code = runtime.serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads in the model's libraries must not keep a drained worker

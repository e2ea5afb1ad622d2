"""Requests that run, one after the other, in batches or in threads, and are answered."""
from __future__ import annotations

import queue
import socket
import sys
import threading
import traceback
from typing import Any, Iterable, List, Optional, Set, cast

from . import _batch
from . import _frames as f
from . import _log
from ._wire import Wire
from ._worker import Answer, Body, Error, Part, Progress, Reply, Request, ResumeAt, Worker, overrides

_END = object()  # of a stream


class _Stream:
    """An answer that is told part by part; `mates`: by turns with those of its batch."""

    def __init__(self, request: Request, parts: Iterable[Part], mates: bool) -> None:
        self.request, self.parts, self.mates = request, iter(parts), mates
        self.chunks, self.begun = 0, False


class Answering(Wire):
    def __init__(self, worker: Worker, concurrency: int, sock: socket.socket) -> None:
        super().__init__(sock)
        self.worker, self.concurrency = worker, concurrency
        self.batch = _batch.Gathering(worker.max_batch)
        self.infers_one = overrides(worker, "infer")
        self.resumes = False  # granted
        self.waiting: List[f.Frame] = []  # read ahead while a request runs
        self.cancels: Set[int] = set()  # of requests that run or wait here
        self.active: Set[int] = set()  # running, or handed to the threads
        kind = type(worker)
        self.stateful = kind.save is not Worker.save and kind.restore is not Worker.restore
        self.threads: List[threading.Thread] = []
        self.jobs: "queue.SimpleQueue[Optional[List[Request]]]" = queue.SimpleQueue()
        self.idle = threading.Condition()
        self.running = 0
        self.leaving = False  # nobody reads but who waits for a buffer

    def await_release(self) -> None:
        self.flush()
        if self.threads and not self.leaving:
            self.released.wait()  # the main thread reads
        else:
            self.channel.fill()
            self.look_ahead()

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

    def step(self, stream: _Stream) -> bool:
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

    def advance(self, stream: _Stream) -> bool:
        """The same, with what comes of it; False: all is told."""
        request = stream.request
        with _log.running(request):
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
        _log.done(request)
        self.active.discard(request.id)
        self.cancels.discard(request.id)

    def begin_answer(self, request: Request, outcome: Any, mates: bool) -> Optional[_Stream]:
        with _log.running(request):
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
            for request, answer in zip(batch, answers):
                if isinstance(answer, Exception) and not isinstance(answer, Error):
                    with _log.about(request):
                        traceback.print_exception(type(answer), answer, answer.__traceback__)
            return list(answers)
        print(f"hasup: {wrong}", file=sys.stderr)
        return [Error(500, wrong)] * len(batch)

    def run(self, batch: List[Request]) -> None:
        with _log.running(batch[0] if len(batch) == 1 else None):
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

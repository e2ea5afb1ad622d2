"""Which request a line is about: what infer() prints or logs is marked (docs/protocol.md, "What it prints"), so that
hasupd knows it however many requests are in hand."""
from __future__ import annotations

import contextlib
import contextvars
import os
import re
import select
import sys
import threading
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import _frames as f

_NAME = re.compile(rb"[!-~]{1,128}")
_KEPT = 4096  # characters of a line without its end
_about: "contextvars.ContextVar[Any]" = contextvars.ContextVar("hasup_request", default=None)
_word = ""  # what hasupd knows the marks by; "": it gave none


def learn(word: bytes) -> None:
    """Of a WELCOME."""
    global _word
    _word = word.decode("latin-1")


def name_of(frame: f.Frame) -> str:
    """As hasupd names it: the client's name, where it has one that can be shown, else the number."""
    given = dict(f.fields(frame.meta)).get(f.TAG_REQUEST_ID, b"")
    return given.decode() if _NAME.fullmatch(given) else str(frame.id)


@contextlib.contextmanager
def running(request: Any) -> Iterator[None]:
    """A part of it runs; its lines may go on in the next part."""
    token = _about.set(request)
    try:
        yield
    finally:
        _about.reset(token)


@contextlib.contextmanager
def about(request: Any) -> Iterator[None]:
    """What is printed or logged within is about this request.  What infer() says is so by itself; this is for
    infer_batch(), and for other threads."""
    with running(request):
        try:
            yield
        finally:
            for lines in _installed:
                lines.end(request, threading.get_ident())


def done(request: Any) -> None:
    for lines in _installed:
        lines.end(request)


class Lines:
    """A text stream whose lines are marked.  What is printed in pieces is put together for each request and thread,
    so that those that print at the same time do not mix their lines."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._begun: Dict[Tuple[Any, int], str] = {}  # lines without their ends, by request and thread
        self._open: Any = None  # the request whose line without its end is on the stream already
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        request = _about.get() if _word else None
        with self._lock:
            if request is None:
                self._end_others(None)
                self._stream.write(text)
                return len(text)
            key = request, threading.get_ident()
            *lines, rest = (self._begun.pop(key, "") + text).split("\n")
            for line in lines:
                self._put(request, line, "\n")
            if len(rest) > _KEPT:
                self._put(request, rest, "", goes_on=True)
            elif rest:
                self._begun[key] = rest
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """What is there of a line is to be seen, should the process die."""
        request = _about.get()
        with self._lock:
            begun = self._begun.pop((request, threading.get_ident()), "")
            if begun:
                self._put(request, begun, "")
        self._stream.flush()

    def end(self, request: Any, thread: Optional[int] = None) -> None:
        """It says no more, or this thread does not: so its lines end."""
        if not self._begun and self._open is not request:
            return
        with self._lock:
            for key in [key for key in self._begun if key[0] is request and thread in (None, key[1])]:
                self._put(request, self._begun.pop(key), "\n")
            if self._open is request:
                self._end_others(None)

    def _end_others(self, request: Any) -> None:
        if self._open is not None and self._open is not request:
            self._stream.write("\n")
            self._open = None

    def _put(self, request: Any, line: str, end: str, goes_on: bool = False) -> None:
        """Each write has PIPE_BUF bytes at most: nobody else's line stands in it."""
        self._end_others(request)
        name = request.log_name
        room = select.PIPE_BUF - len(_word) - len(name) - 6
        parts = _cut(line, room, self._stream.encoding or "utf-8")
        last = [] if goes_on else [parts.pop()]
        for part in parts:
            self._write(f"\033_{_word}+{name}\033\\", request, part + "\n")
        for part in last:
            self._write(f"\033_{_word}={name}\033\\", request, part + end)

    def _write(self, mark: str, request: Any, text: str) -> None:
        self._stream.write(text if self._open is request else mark + text)
        self._stream.flush()
        self._open = None if text.endswith("\n") else request


def _cut(line: str, room: int, encoding: str) -> List[str]:
    """Into parts that have so many bytes at most."""
    if len(line) * 4 <= room or len(line.encode(encoding, "replace")) <= room:
        return [line]
    step = room // 4
    return [line[at:at + step] for at in range(0, len(line), step)]


_installed: List[Lines] = []


def install() -> None:
    """Standard output and error are marked from now on, and so are handlers of logging that write there."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, Lines):
            continue
        lines = Lines(stream)
        _installed.append(lines)
        setattr(sys, name, lines)
        _redirect(stream, lines)
    os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    for lines in _installed:
        lines._renew()  # the thread that held it is not here


def _redirect(stream: Any, lines: Lines) -> None:
    logging = sys.modules.get("logging")
    if not logging:
        return
    for logger in [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                handler.setStream(lines)

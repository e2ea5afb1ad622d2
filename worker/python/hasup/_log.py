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
_Key = Tuple[Any, int]  # a request, and the thread that prints
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
        self._begun: Dict[_Key, str] = {}  # lines without their ends
        self._open: Optional[_Key] = None  # whose line without its end is on the stream already
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
            self._encode(text)  # what cannot be written fails here, and not when its line ends
            key = request, threading.get_ident()
            *lines, rest = (self._begun.pop(key, "") + text).split("\n")
            for line in lines:
                self._put(key, line, "\n")
            if len(rest) > _KEPT:
                *parts, rest = self._cut(rest, self._room(key))
                for part in parts:
                    self._put_part(key, part)
            if rest:
                self._begun[key] = rest
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """What is there of a line is to be seen, should the process die."""
        key = _about.get(), threading.get_ident()
        with self._lock:
            begun = self._begun.pop(key, "")
            if begun:
                self._put(key, begun, "")
        self._stream.flush()

    def end(self, request: Any, thread: Optional[int] = None) -> None:
        """It says no more, or this thread does not: so its lines end."""
        def its(key: _Key) -> bool:
            return key[0] is request and thread in (None, key[1])

        if not self._begun and self._open is None:
            return
        with self._lock:
            for key in filter(its, list(self._begun)):
                self._put(key, self._begun.pop(key), "\n")
            if self._open is not None and its(self._open):
                self._end_others(None)

    def _end_others(self, key: Optional[_Key]) -> None:
        if self._open is not None and self._open != key:
            self._stream.write("\n")
            self._open = None

    def _put(self, key: _Key, line: str, end: str) -> None:
        """Each write has PIPE_BUF bytes at most: nobody else's line stands in it."""
        *parts, last = self._cut(line, self._room(key))
        for part in parts:
            self._put_part(key, part)
        self._end_others(key)
        self._write(key, "=", last + end)

    def _put_part(self, key: _Key, part: str) -> None:
        """The line has more, which follows a mark of its own; or right behind, where its begin is on the stream."""
        self._end_others(key)
        self._write(key, "+", part if self._open else part + "\n")

    def _write(self, key: _Key, kind: str, text: str) -> None:
        mark = "" if self._open else f"\033_{_word}{kind}{key[0].log_name}\033\\"
        self._stream.write(mark + text)
        self._stream.flush()
        self._open = None if text.endswith("\n") else key

    @staticmethod
    def _room(key: _Key) -> int:
        return select.PIPE_BUF - len(_word) - len(key[0].log_name) - 6

    def _encode(self, text: str) -> bytes:
        """As the stream does it; one that does not takes everything."""
        encoding, errors = getattr(self._stream, "encoding", None), getattr(self._stream, "errors", None)
        return text.encode(encoding, errors or "strict") if encoding else text.encode("utf-8", "surrogatepass")

    def _cut(self, line: str, room: int) -> List[str]:
        """Into parts that have so many bytes at most."""
        if len(line) < 2 or len(self._encode(line)) <= room:
            return [line]
        half = len(line) // 2
        return self._cut(line[:half], room) + self._cut(line[half:], room)


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

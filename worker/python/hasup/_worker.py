"""What a model's author writes and is given: Worker, Request, and what an answer may be."""
from __future__ import annotations

import sys
from typing import Any, Dict, Iterable, List, Optional, Union

from . import _frames as f
from . import _log

Body = Union[bytes, bytearray, memoryview, str]
Part = Union[Body, "Progress", "ResumeAt"]
Answer = Union[Body, "Reply", Iterable[Part], None]


def _status(status: int) -> int:
    if not 200 <= status <= 599:
        raise ValueError(f"the status of an answer is 200 to 599, not {status}")
    return status


class Error(Exception):
    """An answer that is an error: a status of 400 to 599 and a text for a person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = _status(status)


class Reply:
    """An answer with a status, a content type or headers."""

    def __init__(self, body: Body = b"", status: int = 200, content_type: Optional[str] = None,
                 headers: Optional[Dict[str, str]] = None) -> None:
        self.body, self.status = body, _status(status)
        self.content_type, self.headers = content_type, headers or {}


class Progress:
    """A part of a streamed answer that its client never sees: with this blob (128 KiB at most) any worker of the
    model can go on right behind the parts before it, should this one die.  Of a resumable worker."""

    def __init__(self, blob: Union[bytes, bytearray, memoryview]) -> None:
        self.blob = blob


class ResumeAt:
    """The first part of a resumed answer, where it does not begin at its start: the parts behind it are the bytes
    from here, which is request.progress_at or request.sent_len.  `tokens`: of a Completion, how many were told before."""

    def __init__(self, at: int, tokens: int = 0) -> None:
        self.at, self.tokens = at, tokens


class Request:
    """One request.  `body` is bytes, or a memoryview of shared memory that is valid until the answer."""

    def __init__(self, frame: f.Frame, body: Union[bytes, memoryview], runtime: Any) -> None:
        self._frame, self._runtime = frame, runtime
        self._texts: Optional[Dict[int, bytes]] = None
        self._log_name = ""
        self.body = body
        self.id: int = frame.id
        self.attempt: int = frame.seq
        self.replay: bool = bool(frame.flags & f.FLAG_REPLAY)

    def _text(self, tag: int) -> bytes:
        if self._texts is None:
            self._texts = dict(f.fields(self._frame.meta))
        return self._texts.get(tag, b"")

    @property
    def route(self) -> str:
        """"infer", "generate", "generate_stream", "invoke", …"""
        return self._text(f.TAG_ROUTE).decode()

    @property
    def content_type(self) -> str:
        return self._text(f.TAG_CONTENT_TYPE).decode("latin-1")

    @property
    def request_id(self) -> str:
        return self._text(f.TAG_REQUEST_ID).decode("latin-1")

    @property
    def log_name(self) -> str:
        """As hasupd names it in its logs."""
        if not self._log_name:
            self._log_name = _log.name_of(self._frame)
        return self._log_name

    def log(self, text: str, *args: Any) -> None:
        """Prints `text % args` on standard error, as a line about this request: from any thread, or of a batch."""
        with _log.about(self):
            print(text % args if args else text, file=sys.stderr)

    @property
    def session(self) -> str:
        """The client's X-Session-Id, or "".  Requests of one session run in one slot."""
        return self._text(f.TAG_SESSION).decode("latin-1")

    @property
    def batch_key(self) -> str:
        """The client's X-Batch-Key, or "".  The requests of a batch have the same one."""
        return self._text(f.TAG_BATCH_KEY).decode("latin-1")

    @property
    def headers(self) -> Dict[str, str]:
        """Forwarded headers, by lower-case name."""
        return f.header_fields(self._frame.meta)

    @property
    def deadline(self) -> Optional[float]:
        """In time.monotonic() seconds; None: there is none."""
        value = self._text(f.TAG_DEADLINE)
        return f.U64.unpack(value)[0] / 1e9 if value else None

    @property
    def position(self) -> int:
        """Of a stateful worker: where the request stands in its slot's log, from 1."""
        return self._number(f.TAG_POSITION)

    def _number(self, tag: int) -> int:
        value = self._text(tag)
        return int(f.U64.unpack(value)[0]) if value else 0

    @property
    def signature(self) -> Any:
        """The worker's."""
        return self._runtime.worker.signature

    @property
    def resumed(self) -> bool:
        """Of a resumable worker: another one died with it, and this one may go on in the middle."""
        return bool(self._frame.flags & f.FLAG_RESUME)

    @property
    def progress(self) -> Optional[bytes]:
        """The blob of the last Progress; None: there was none."""
        self._text(f.TAG_PROGRESS_BLOB)
        return (self._texts or {}).get(f.TAG_PROGRESS_BLOB)

    @property
    def progress_at(self) -> int:
        """So many bytes of the answer stand before it."""
        return self._number(f.TAG_STREAM_OFFSET)

    @property
    def sent_len(self) -> int:
        """So many bytes of the answer its client has, at least progress_at."""
        return self._number(f.TAG_DELIVERED_LEN)

    @property
    def sent(self) -> Optional[bytes]:
        """Those bytes; None where hasupd did not keep them."""
        self._text(f.TAG_DELIVERED)
        return (self._texts or {}).get(f.TAG_DELIVERED)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for it any more; never true for a stateful worker."""
        return bool(self._runtime.is_cancelled(self.id))


class Worker:
    """Subclass it and override what the model does.  A worker with `save` and `restore` is stateful."""

    #: What the model takes and gives (hasup.Signature): hasup.Infer checks against it, and GET /v2/models/M tells it.
    signature: Any = None

    #: for GET /v2/models/M, in place of the signature: a JSON object with "platform", "versions", "inputs", "outputs"
    metadata: Optional[str] = None

    #: Whether save() runs in a forked child, which has the model as it was at the fork, while this process goes on
    #: serving.  The child has only the serving thread, no use of a GPU, and changes nothing here: for models whose
    #: state lies in plain memory and whose save() takes no lock that another thread may hold.
    snapshot = False

    #: Whether streams can go on in the middle, by Progress or from their own text.  Not of a stateful worker.
    resumable = False

    def load(self) -> None:
        """Loads the model; called once in each process."""

    def infer(self, request: Request) -> Answer:
        """Answers: bytes or str, a Reply, or a generator whose parts are streamed."""
        raise NotImplementedError("a worker needs infer()")

    #: how many requests infer_batch takes at once; hasupd makes no batch longer than 1024
    max_batch = 0

    def infer_batch(self, requests: List[Request]) -> List[Union[Answer, Exception]]:
        """Answers several at once, 1 to max_batch: a list with what infer() may give for each, in order, or an
        exception that is that one's error.  Streams are told by turns, a part of each.

        The requests are as many as wait when the worker is free, all of one X-Batch-Key, all replays or none.  In a
        stateful worker the state and the answers must be as if they had run one by one, in this order.  Where it
        raises, it failed as a whole: then each request runs once more, alone, so that what one did wrong is not its
        mates' error; of a stateful worker it is the error of all.  With infer() as well, that answers what comes alone.
        """
        raise NotImplementedError("a worker needs infer_batch()")

    def save(self) -> Union[bytes, bytearray, memoryview]:
        """The whole state; anything that gives its bytes, such as an array, will do."""
        raise NotImplementedError

    def restore(self, state: bytes) -> None:
        """Brings back exactly what save() gave, in a fresh process, after load()."""
        raise NotImplementedError

    def unload(self) -> None:
        """Called before a clean exit."""

    def forked(self) -> None:
        """Of a model with `preload`: called in each worker that was forked after load(), before anything else.  What a
        fork does not bear belongs here: threads, a GPU, the seeds of other generators than random's."""


def overrides(worker: Worker, name: str) -> bool:
    return getattr(getattr(worker, name), "__func__", None) is not getattr(Worker, name)


def what_is_wrong(worker: Worker) -> str:
    if not overrides(worker, "infer") and not overrides(worker, "infer_batch"):
        return "infer or infer_batch"
    if overrides(worker, "infer_batch") != (worker.max_batch > 0):
        return "infer_batch and max_batch, how many it takes, together or not at all"
    return ""

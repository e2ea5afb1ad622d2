"""The bodies of /v1/chat/completions and /v1/completions, read and told in the words of OpenAI's clients."""
from __future__ import annotations

import json
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

from ._worker import Error, Progress, Reply, Request, ResumeAt

Told = Union[str, Tuple[str, int], Progress, ResumeAt]


class Message(NamedTuple):
    role: str
    text: str  # its parts of text in one; "" where it has none


def _wrong(name: str, expected: str) -> Error:
    return Error(400, f"{name}: {expected}")


def _load(body: Union[bytes, memoryview]) -> Dict[str, Any]:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number")
    try:
        found = json.loads(bytes(body), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Error(400, f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Error(400, "the body is not a JSON object")
    return found


def _string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "expected a string")
    return value


def _content(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise _wrong(name, "expected a string or a list of parts of text")
    if not all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in value):
        raise _wrong(name, 'this model reads parts of type "text" only')
    return "".join(part["text"] for part in value)


def _messages(value: Any) -> List[Message]:
    if not isinstance(value, list):
        raise _wrong("messages", "expected a list")
    found = []
    for index, message in enumerate(value):
        if not isinstance(message, dict):
            raise _wrong(f"messages[{index}]", "expected an object")
        if "role" not in message:
            raise _wrong(f"messages[{index}]", "there is no role")
        found.append(Message(_string(f"messages[{index}].role", message["role"]),
                             _content(f"messages[{index}].content", message.get("content"))))
    if not found:
        raise _wrong("messages", "there are none")
    return found


def _prompt(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise _wrong("prompt", "expected a string, or a list of one string")
    return value


class Completion:
    """One request of a chat, or of a text to go on with.

        def infer(self, request):
            asked = hasup.Completion(request)
            return asked.answer(self.generate(asked.prompt), prompt_tokens=…)

    Raises hasup.Error(400) with the field that is wrong.  What changes an answer and is not done here (n, best_of,
    logprobs, echo, parts other than text) is refused; other fields stand in `body`.
    """

    def __init__(self, request: Request) -> None:
        if request.route not in ("chat_completions", "completions"):
            raise Error(400, "this is no request of /v1/chat/completions or /v1/completions")
        self._request = request
        self.chat: bool = request.route == "chat_completions"
        self.body = body = _load(request.body)
        self.model = _string("model", body.get("model", ""))
        self.messages = _messages(body.get("messages")) if self.chat else []
        self.prompt = "" if self.chat else _prompt(body.get("prompt"))
        self.stream = bool(self._bool("stream"))
        self.temperature = self._number("temperature")
        self.top_p = self._number("top_p")
        self.seed = self._integer("seed", None)
        self.max_tokens = self._integer("max_completion_tokens", 1) if self.chat else None
        if self.max_tokens is None:
            self.max_tokens = self._integer("max_tokens", 1)
        stop = body.get("stop")
        self.stop: Tuple[str, ...] = tuple(_string("stop", word) for word in (
            stop if isinstance(stop, list) else [] if stop is None else [stop]))
        options = body.get("stream_options") or {}
        if not isinstance(options, dict):
            raise _wrong("stream_options", "expected an object")
        self.usage = bool(options.get("include_usage"))
        for name in ("n", "best_of"):
            if (self._integer(name, 1) or 1) != 1:
                raise _wrong(name, "a request has one answer here")
        for name in ("logprobs", "echo"):
            if body.get(name):
                raise _wrong(name, "not supported here")

    def _bool(self, name: str) -> Optional[bool]:
        value = self.body.get(name)
        if value is not None and not isinstance(value, bool):
            raise _wrong(name, "expected true or false")
        return value

    def _number(self, name: str) -> Optional[float]:
        value = self.body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise _wrong(name, "expected a number")
        return value

    def _integer(self, name: str, least: Optional[int]) -> Optional[int]:
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
            raise _wrong(name, "expected an integer" + ("" if least is None else f" of at least {least}, got {value}"))
        return value

    # ---- telling ----

    def answer(self, texts: Iterable[Told], prompt_tokens: int = 0) -> Union[Reply, Iterator[Any]]:
        """What infer() returns.  `texts` gives strings, which count as a token each, or (string, tokens); between
        them Progress, and ResumeAt(request.progress_at, tokens) as the first of a resumed one.  What a generator
        returns is the finish reason: "stop" (or None), "length", "content_filter"."""
        told = self._told(texts)
        if self.stream:
            return self._events(told, prompt_tokens)
        parts, tokens, reason = [], 0, "stop"
        for part in told:
            if isinstance(part, tuple) and part[0] is not None:
                parts.append(part[0])
                tokens += part[1]
            elif isinstance(part, tuple):
                reason = part[1]
        text = "".join(parts)
        choice: Dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return Reply(self._object(choice, reason, prompt_tokens, tokens), content_type="application/json")

    @staticmethod
    def _told(texts: Iterable[Told]) -> Iterator[Any]:
        """(text, tokens), Progress and ResumeAt; last (None, finish reason)."""
        each = iter(texts)
        while True:
            try:
                part = next(each)
            except StopIteration as end:
                yield None, end.value or "stop"
                return
            yield (part, 1) if isinstance(part, str) else part

    def _events(self, told: Iterator[Any], prompt_tokens: int) -> Iterator[Any]:
        begun, tokens = not self.chat, 0
        for part in told:
            if isinstance(part, ResumeAt):
                begun, tokens = True, part.tokens
            if not isinstance(part, tuple):
                yield part
                continue
            if not begun:  # a chat's first event says who speaks
                begun = True
                yield self._object({"delta": {"role": "assistant", "content": ""}}, None)
            text, count = part
            if text is None:
                yield self._object({"delta": {}} if self.chat else {"text": ""}, count)
            else:
                tokens += count
                yield self._object({"delta": {"content": text}} if self.chat else {"text": text}, None)
        if self.usage:
            yield self._object(None, None, prompt_tokens, tokens)
        yield "[DONE]"

    def _object(self, choice: Optional[Dict[str, Any]], reason: Optional[str], prompt_tokens: int = 0,
                tokens: Optional[int] = None) -> bytes:
        kind = "text_completion" if not self.chat else "chat.completion.chunk" if self.stream else "chat.completion"
        received = self._request.headers.get("received", "0")
        told: Dict[str, Any] = {"id": ("chatcmpl-" if self.chat else "cmpl-") + self._request.request_id,
                                "object": kind, "created": int(received), "model": self.model, "choices": []}
        if choice is not None:
            told["choices"] = [{"index": 0, **choice, "logprobs": None, "finish_reason": reason}]
        if tokens is not None:
            told["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens,
                             "total_tokens": prompt_tokens + tokens}
        elif self.usage:
            told["usage"] = None
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

"""The helpers for OpenAI's clients say the same in C and in Python, byte for byte."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fake_hasupd as f  # noqa: E402

OBJECTS = os.path.join(f.ROOT, os.environ.get("HASUP_OBJECTS", "build/release"))
C = [f"{OBJECTS}/tests/e2e/helped"]
PYTHON = ["/usr/bin/python3", "-B", os.path.join(f.ROOT, "tests/unit/helped.py")]
TAG_HEADER, TAG_REQUEST_ID, TAG_ERROR = 13, 14, 17
TEXT = {"model": "m", "prompt": "one two thr\u00e9e"}
CHAT = {"model": "m \"x\"", "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "one two"}]}


def ask(worker, route, body, resume=None):
    """Status, the parts of the answer, the error's text, and each progress."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    meta = f.field(f.TAG_ROUTE, route) + f.field(TAG_REQUEST_ID, "r-1") + f.field(TAG_HEADER, "received\x001700000000")
    if resume:
        at = resume[0].to_bytes(8, "little")
        meta += f.field(f.TAG_BLOB, resume[1]) + f.field(f.TAG_OFFSET, at) + f.field(f.TAG_DELIVERED_LEN, at)
    worker.send(f.REQUEST, 7, meta, body, flags=f.RESUME if resume else 0, seq=2 if resume else 1)
    parts, progress = [], []
    while True:
        kind, _, seq, meta, part = worker.receive()
        if kind == f.PROGRESS:
            progress.append((sum(map(len, parts)), f.fields(meta)[f.TAG_BLOB]))
            continue
        parts += [part] if part else []
        if kind == f.REPLY:
            return seq or 200, parts, f.fields(meta).get(TAG_ERROR, b"").decode(), progress


class Case:
    @classmethod
    def setUpClass(cls):
        cls.worker = f.Worker(cls.command)

    @classmethod
    def tearDownClass(cls):
        assert cls.worker.close() == 0

    def whole(self, route, body):
        status, parts, error, _ = ask(self.worker, route, body)
        self.assertEqual((status, error), (200, ""))
        return json.loads(b"".join(parts))

    def test_a_text_as_a_whole(self):
        self.assertEqual(self.whole("completions", TEXT), {
            "id": "cmpl-r-1", "object": "text_completion", "created": 1700000000, "model": "m",
            "choices": [{"index": 0, "text": "onetwothr\u00e9e", "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}})

    def test_a_chat_as_a_whole(self):
        self.assertEqual(self.whole("chat_completions", dict(CHAT, max_completion_tokens=1, max_tokens=2)), {
            "id": "chatcmpl-r-1", "object": "chat.completion", "created": 1700000000, "model": "m \"x\"",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "one"}, "logprobs": None,
                         "finish_reason": "length"}],
            "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}})

    def events(self, route, body):
        status, parts, error, progress = ask(self.worker, route, dict(body, stream=True))
        self.assertEqual((status, error), (200, ""))
        self.assertEqual(parts[-1], b"[DONE]")
        return [json.loads(part) for part in parts[:-1]], progress

    def test_a_text_as_a_stream(self):
        events, _ = self.events("completions", TEXT)
        self.assertEqual([e["choices"][0]["text"] for e in events], ["one", "two", "thr\u00e9e", ""])
        self.assertEqual([e["choices"][0]["finish_reason"] for e in events], [None, None, None, "stop"])
        for event in events:
            self.assertEqual(list(event), ["id", "object", "created", "model", "choices"])
            self.assertEqual((event["id"], event["object"]), ("cmpl-r-1", "text_completion"))

    def test_a_chat_as_a_stream_with_its_usage(self):
        events, _ = self.events("chat_completions", dict(CHAT, stream_options={"include_usage": True}))
        self.assertEqual([e["choices"][0]["delta"] for e in events[:-1]], [
            {"role": "assistant", "content": ""}, {"content": "one"}, {"content": "two"}, {}])
        self.assertEqual([e["usage"] for e in events[:-1]], [None] * 4)
        self.assertEqual(events[-1]["choices"], [])
        self.assertEqual(events[-1]["usage"], {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4})
        self.assertEqual({e["object"] for e in events}, {"chat.completion.chunk"})
        self.assertEqual({(e["id"], e["created"], e["model"]) for e in events}, {("chatcmpl-r-1", 1700000000, "m \"x\"")})

    def test_nothing_to_say_is_a_whole_stream(self):
        events, _ = self.events("chat_completions", dict(CHAT, messages=[{"role": "user", "content": None}]))
        self.assertEqual([e["choices"][0]["delta"] for e in events], [{"role": "assistant", "content": ""}, {}])

    def test_promise_5_another_worker_goes_on_byte_for_byte(self):
        for route, body in (("completions", TEXT), ("chat_completions", CHAT)):
            body = dict(body, stream=True, stream_options={"include_usage": True})
            _, parts, _, progress = ask(self.worker, route, body)
            self.assertEqual(len(progress), 3 if route == "completions" else 2)
            for resume in progress:
                status, rest, _, _ = ask(self.worker, route, body, resume)
                self.assertEqual(status, 200)
                self.assertEqual(b"".join(rest), b"".join(parts)[resume[0]:])

    def test_an_error_in_the_middle_is_the_answer_s(self):
        status, parts, error, _ = ask(self.worker, "completions", dict(TEXT, stream=True, prompt="one fail! two"))
        self.assertEqual((status, len(parts), error), (500, 1, "it failed"))
        status, parts, error, _ = ask(self.worker, "completions", dict(TEXT, prompt="one fail! two"))
        self.assertEqual((status, parts, error), (500, [], "it failed"))

    def test_what_a_message_may_be(self):
        for content, text in (("a \U0001f600\t\"\\", "a\U0001f600\t\"\\"), ([], ""), (None, ""),
                              ([{"type": "text", "text": "a "}, {"text": "b\u00e9", "type": "text"}], "ab\u00e9")):
            body = dict(CHAT, messages=[{"content": content, "role": "user", "name": "x"}])
            self.assertEqual(self.whole("chat_completions", body)["choices"][0]["message"]["content"], text)

    def test_what_is_not_said_has_its_default(self):
        body = {"prompt": None, "stream": None, "n": None, "temperature": None, "max_tokens": None, "stop": None,
                "stream_options": None, "logprobs": None, "echo": False, "seed": None, "user": {"x": [1]}}
        self.assertEqual(self.whole("completions", body)["model"], "")
        self.assertEqual(self.whole("completions", dict(TEXT, prompt=["one"], stop=["x", "y"], seed=-5, top_p=1, n=1))
                         ["choices"][0]["text"], "one")

    def test_what_is_wrong_is_400_and_named(self):
        chat = [(dict(CHAT, messages=value), why) for value, why in (
            (None, "messages"), ("hi", "messages: expected a list"), ([], "messages: there are none"),
            (["hi"], "messages[0]: expected an object"), ([{"content": "x"}], "messages[0]: there is no role"),
            ([{"role": 1}], "messages[0].role: expected a string"),
            ([{"role": "user", "content": 1}], "messages[0].content: expected a string or a list of parts of text"),
            ([{"role": "user", "content": ["x"]}], "messages[0].content: expected a string or a list of parts of text"),
            ([{"role": "user"}, {"role": "user", "content": [{"type": "image_url"}]}],
             "messages[1].content: this model reads parts of type \"text\" only"))]
        text = [(dict(TEXT, **{name: value}), why) for name, value, why in (
            ("prompt", 1, "prompt: expected a string"), ("prompt", ["a", "b"], "prompt: expected a string, or"),
            ("prompt", [1, 2], "prompt: expected a string, or"), ("model", 1, "model: expected a string"),
            ("stream", 1, "stream: expected true or false"), ("temperature", "x", "temperature: expected a number"),
            ("max_tokens", 0, "max_tokens: expected an integer of at least 1, got 0"), ("seed", "x", "seed: expected an integer"),
            ("max_tokens", 1.5, "max_tokens: expected an integer"), ("stop", 1, "stop: expected a string"),
            ("n", 2, "n: a request has one answer here"), ("best_of", 3, "best_of: a request has one answer here"),
            ("logprobs", 1, "logprobs: not supported here"), ("echo", True, "echo: not supported here"),
            ("stream_options", 1, "stream_options: expected an object"))]
        text += [(body, why) for body, why in (
            (b"", "the body is not"), (b"[]", "the body is not a JSON object"), (b"{", "the body is not JSON"),
            (b'{"prompt": "x",}', "the body is not JSON"), (b'{"prompt": NaN}', ""))]
        for route, cases in (("chat_completions", chat), ("completions", text)):
            for body, why in cases:
                with self.subTest(body=body):
                    status, parts, error, _ = ask(self.worker, route, body)
                    self.assertEqual((status, parts), (400, []))
                    self.assertIn(why, error)
        self.assertEqual(ask(self.worker, "invoke", TEXT)[0], 400)


class InC(Case, unittest.TestCase):
    command = C


class InPython(Case, unittest.TestCase):
    command = PYTHON


class Alike(unittest.TestCase):
    def test_both_say_the_same_bytes(self):
        workers = [f.Worker(C), f.Worker(PYTHON)]
        for route, body in (("completions", TEXT), ("chat_completions", CHAT)):
            for more in ({}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}):
                said = [ask(worker, route, dict(body, **more)) for worker in workers]
                self.assertEqual(said[0], said[1])
        self.assertEqual([worker.close() for worker in workers], [0, 0])


if __name__ == "__main__":
    unittest.main()

"""Workers of both SDKs take batches: docs/protocol.md, section 8."""
import os
import socket
import subprocess
import sys
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "worker", "python"))
from hasup import _frames as f  # noqa: E402

WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
import hasup
class Batches(hasup.Worker):
    max_batch = 3
    def infer_batch(self, requests):
        if bytes(requests[0].body) == b"short":
            return []
        if bytes(requests[0].body) == b"stream":
            return [[b"x", b"y"] for _ in requests]
        return [hasup.Error(422, "no") if r.body == b"bad" else b"%d:%s" % (len(requests), r.body) for r in requests]
class Both(Batches):
    def infer(self, request):
        return b"alone"
hasup.serve(getattr(sys.modules["__main__"], sys.argv[2])())
"""


def request(number, body, more=False):
    return f.encode(f.REQUEST, number, body=body, flags=f.FLAG_MORE if more else 0, seq=1)


IN_C = [os.path.join(ROOT, os.environ.get("HASUP_OBJECTS", "build/release"), "tests/e2e/batched")]  # at most 8


def talk(frames, granted=f.CAN_BATCH, kind="Batches", command=None, most=3):
    """(what it answers after READY, its exit code, the last line that it says) until the end of input, or DRAIN."""
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen(
            command or [sys.executable, "-B", "-c", WORKER, os.path.join(ROOT, "worker", "python"), kind],
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()], env={**os.environ, "HASUP_FD": str(theirs.fileno())}) as process:
        theirs.close()
        channel = f.Channel(ours)
        channel.send(f.encode(f.WELCOME, meta=f.field(f.TAG_GRANTED, granted, wide=True)))
        for frame in frames:
            channel.send(frame)
        channel.flush()
        if frames[-1][0][2] != f.DRAIN:  # type
            ours.shutdown(socket.SHUT_WR)
        try:
            while channel.fill():
                pass
        except EOFError:
            pass
        hello, _, *got = channel.frames()
        assert dict(f.fields(hello.meta))[f.TAG_MAX_BATCH] == f.U32.pack(most)
        said = process.stderr.read().decode().splitlines()
        answers = [(frame.type, frame.id, frame.seq, frame.body or dict(f.fields(frame.meta)).get(f.TAG_ERROR, b""))
                   for frame in got]
        return answers, process.wait(30), said[-1] if said else ""


class Batches(unittest.TestCase):
    def test_each_member_has_its_own_answer_or_error(self):
        got = talk([request(1, b"a", True), request(2, b"bad", True), request(3, b"c"), request(4, b"d")])
        self.assertEqual(got, ([(f.REPLY, 1, 200, b"3:a"), (f.REPLY, 2, 422, b"no"), (f.REPLY, 3, 200, b"3:c"),
                                (f.REPLY, 4, 200, b"1:d")], 0, ""))

    def test_who_has_infer_too_runs_a_single_request_there(self):
        got = talk([request(1, b"a"), request(2, b"b", True), request(3, b"c")], kind="Both")
        self.assertEqual([answer[3] for answer in got[0]], [b"alone", b"2:b", b"2:c"])

    def test_members_may_stream(self):
        got = talk([request(1, b"stream", True), request(2, b"b"), f.encode(f.DRAIN)])
        self.assertEqual([answer[:2] + answer[3:] for answer in got[0]],
                         [(kind, n, body) for kind, body in ((f.CHUNK, b"x"), (f.CHUNK, b"y"), (f.REPLY, b""))
                          for n in (1, 2)])

    def test_too_few_answers_are_every_members_error(self):
        text = b"infer_batch gave 0 answers to 2 requests"
        self.assertEqual(talk([request(1, b"short", True), request(2, b"b")]),
                         ([(f.REPLY, 1, 500, text), (f.REPLY, 2, 500, text)], 0, f"hasup: {text.decode()}"))

    def test_a_breach_of_the_protocol_is_told_and_ends_the_worker(self):
        many = [request(i, b"a", True) for i in range(4)]
        for frames, granted, why in ((many[:1], 0, "batches were not granted"), (many, f.CAN_BATCH, "more members"),
                                     ([many[0], f.encode(f.PING, 7)], f.CAN_BATCH, "type 12 stands within a batch")):
            answers, code, said = talk(frames, granted)
            self.assertEqual((answers, code), ([], 1), why)
            self.assertIn(why, said)


class BatchesInC(unittest.TestCase):
    def talk(self, frames, granted=f.CAN_BATCH):
        return talk(frames, granted, command=IN_C, most=8)

    def test_each_member_has_its_own_answer_or_error(self):
        got = self.talk([request(1, b"count", True), request(2, b"fail", True), request(3, b"sum a"), request(4, b"count")])
        self.assertEqual(got, ([(f.REPLY, 1, 200, b"3"), (f.REPLY, 2, 418, b"this one fails"),
                                (f.REPLY, 3, 200, str(sum(b"sum a")).encode()), (f.REPLY, 4, 200, b"1")], 0, ""))

    def test_where_a_batch_fails_as_a_whole_each_member_runs_alone(self):
        answers, code, _ = self.talk([request(1, b"count", True), request(2, b"all")])
        self.assertEqual(([answer[:3] for answer in answers], code), ([(f.REPLY, 1, 200), (f.REPLY, 2, 500)], 0))

    def test_a_breach_of_the_protocol_ends_the_worker(self):
        many = [request(i, b"count", True) for i in range(9)]
        for frames, granted in ((many[:1], 0), (many, f.CAN_BATCH), ([many[0], f.encode(f.PING, 7)], f.CAN_BATCH)):
            answers, code, said = self.talk(frames, granted)
            self.assertEqual((answers, code), ([], 1))
            self.assertIn("protocol", said)


if __name__ == "__main__":
    unittest.main()

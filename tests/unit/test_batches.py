"""Workers of both SDKs take batches: docs/protocol.md, section 8.  tests/vectors has what they say byte for byte."""
import collections
import mmap
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "worker", "python"))
from hasup import _frames as f  # noqa: E402

IN_C = [os.path.join(ROOT, os.environ.get("HASUP_OBJECTS", "build/release"), "tests/e2e/batched")]
IN_PYTHON = ["/usr/bin/python3", "-B", os.path.join(ROOT, "tests/e2e/batched.py")]


def member(number, body, more=True, meta=b"", flags=0):
    return f.encode(f.REQUEST, number, meta, body, flags=flags | (f.FLAG_MORE if more else 0), seq=1)


def batch(*bodies):
    return [member(i + 1, body, more=i + 1 < len(bodies)) for i, body in enumerate(bodies)]


class Worker:
    """A process, greeted and made ready as hasupd would."""

    def __init__(self, command, granted=f.CAN_BATCH, inline_max=f.INLINE_MAX, kind=socket.SOCK_STREAM):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        ours.settimeout(60)
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, pass_fds=[theirs.fileno()],
                                        env={**os.environ, "HASUP_FD": str(theirs.fileno())})
        theirs.close()
        self.channel, self.got = f.Channel(ours), collections.deque()
        self.offered = dict(f.fields(self.receive().meta))
        self.send([f.encode(f.WELCOME, meta=f.field(f.TAG_GRANTED, granted, wide=True) +
                            f.field(f.TAG_INLINE_MAX, inline_max))])
        assert self.receive().type == f.READY

    def send(self, frames):
        for frame in frames:
            self.channel.send(frame)
        self.channel.flush()

    def receive(self):
        while not self.got:
            self.channel.fill()
            self.got.extend(self.channel.frames())
        return self.got.popleft()

    def ask(self, *bodies):
        """(status, body or error) of each."""
        self.send(batch(*bodies))
        answers = {}
        while len(answers) < len(bodies):
            frame = self.receive()
            assert frame.type == f.REPLY and frame.id not in answers
            answers[frame.id] = (frame.seq, frame.body or dict(f.fields(frame.meta)).get(f.TAG_ERROR, b""))
        return [answers[i + 1] for i in range(len(bodies))]

    def end(self):
        self.channel.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.stderr.close()
        self.process.wait()

    def close(self):
        """Its exit code after DRAIN, and what it has said."""
        self.send([f.encode(f.DRAIN)])
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said.decode()


class Case(unittest.TestCase):
    def start(self, command, **options):
        worker = Worker(command, **options)
        self.addCleanup(worker.end)
        return worker


class Both:
    """What every SDK does."""
    command = None

    def test_each_member_has_its_own_answer_or_error(self):
        worker = self.start(self.command)
        self.assertEqual(worker.offered[f.TAG_MAX_BATCH], f.U32.pack(8))
        self.assertEqual(worker.ask(b"count", b"fail", b"order"), [(200, b"3"), (418, b"this one fails"), (200, b"3")])
        self.assertEqual(worker.ask(b"count"), [(200, b"1")])
        self.assertEqual(worker.ask(*[b"order"] * 8), [(200, b"%d" % i) for i in range(1, 9)])
        self.assertEqual(worker.close()[0], 0)

    def test_the_answers_of_a_batch_leave_in_one_write(self):
        worker = self.start(self.command, kind=socket.SOCK_SEQPACKET)  # which keeps writes apart
        for count in 1, 2, 8:
            worker.send(batch(*[b"count"] * count))
            worker.channel.fill()
            self.assertEqual([(frame.type, frame.id) for frame in worker.channel.frames()],
                             [(f.REPLY, number) for number in range(1, count + 1)])
        self.assertEqual(worker.close()[0], 0)

    def test_where_a_batch_fails_as_a_whole_each_member_runs_alone(self):
        worker = self.start(self.command)
        answers = worker.ask(b"count", b"all", b"count", b"fail")
        self.assertEqual([answers[i] for i in (0, 2, 3)], [(200, b"1"), (200, b"1"), (418, b"this one fails")])
        self.assertEqual(answers[1][0], 500)
        self.assertEqual(worker.close()[0], 0)

    def test_where_a_stateful_one_fails_as_a_whole_it_is_the_error_of_all(self):
        worker = self.start(self.command + ["--stateful"], granted=f.CAN_BATCH | f.CAN_STATE)
        self.assertEqual([status for status, _ in worker.ask(b"count", b"all", b"count")], [500] * 3)
        self.assertEqual(worker.ask(b"count", b"count"), [(200, b"1 of 2"), (200, b"2 of 2")])
        self.assertEqual(worker.close()[0], 0)

    def test_a_batch_may_come_in_many_reads(self):
        worker = self.start(self.command)
        bodies = [b"sum " + bytes([65 + i]) * 250_000 for i in range(8)]
        data = b"".join(part for frame in batch(*bodies) for part in frame)
        for at in range(0, len(data), 99_991):
            worker.channel.socket.sendall(data[at:at + 99_991])
        self.assertEqual([worker.receive().body for _ in bodies], [b"%d" % sum(body) for body in bodies])
        self.assertEqual(worker.close()[0], 0)

    def test_a_cancel_is_its_members_own_whoever_reads_it_first(self):
        worker = self.start(self.command)
        worker.send(batch(b"until-cancelled", b"count", b"until-cancelled") +
                    [f.encode(f.CANCEL, 3), f.encode(f.CANCEL, 2), f.encode(f.CANCEL, 1)] + [member(4, b"count", False)])
        got = [(frame.id, frame.body) for frame in (worker.receive() for _ in range(4))]
        self.assertEqual(got, [(1, b"cancelled"), (2, b"3"), (3, b"cancelled"), (4, b"1")])
        self.assertEqual(worker.close()[0], 0)

    def test_a_thousand_come_together_where_so_many_may(self):
        worker = self.start(self.command + ["--most", "1024"])
        self.assertEqual(worker.ask(*[b"order"] * 1024), [(200, b"%d" % i) for i in range(1, 1025)])
        self.assertEqual(worker.close()[0], 0)

    def large_answers(self, worker, count):
        """Takes the answers of as many, and gives the buffers back when no more may come without."""
        most = f.BUFFERS_MAX - 1
        worker.send(batch(*[b"big %d" % (9 + i) for i in range(count)]))
        buffers, unread, answered = {}, [], 0
        while answered < count:
            frame = worker.receive()
            number = f.U32.unpack(dict(f.fields(frame.meta))[f.TAG_BUFFER_ID])[0]
            if frame.type == f.BUFFER:
                buffers[number] = mmap.mmap(frame.descriptor, 1 << 20, mmap.MAP_SHARED, mmap.PROT_READ)
                os.close(frame.descriptor)
                self.assertLessEqual(len(buffers), most)
            else:
                answered += 1
                self.assertEqual((frame.type, frame.id, frame.body_len), (f.REPLY, answered, 8 + answered))
                self.assertEqual(buffers[number][:frame.body_len], bytes(i * 31 & 255 for i in range(frame.body_len)))
                unread.append(number)
            if len(unread) == most or answered == count:
                worker.send([f.encode(f.RELEASE, meta=f.field(f.TAG_BUFFER_ID, number)) for number in unread])
                unread = []
        return buffers

    def test_more_large_answers_than_there_may_be_buffers(self):
        worker = self.start(self.command + ["--most", "600"], inline_max=8)
        buffers = self.large_answers(worker, 600)
        self.assertEqual(len(buffers), f.BUFFERS_MAX - 1)
        for _ in range(len(buffers) - 1):  # in a pause it keeps one
            frame = worker.receive()
            self.assertEqual(frame.type, f.BUFFER_GONE)
            buffers.pop(f.U32.unpack(dict(f.fields(frame.meta))[f.TAG_BUFFER_ID])[0]).close()
        worker.send([member(1, b"big 20", False)])
        frame = worker.receive()
        self.assertEqual(frame.type, f.REPLY)
        self.assertIn(f.U32.unpack(dict(f.fields(frame.meta))[f.TAG_BUFFER_ID])[0], buffers)
        self.assertEqual(worker.close()[0], 0)

    def test_a_breach_of_the_protocol_is_told_and_ends_the_worker(self):
        key = [f.field(f.TAG_BATCH_KEY, text) for text in ("a", "b")]
        first = member(1, b"count")
        for granted, frames, why in (
                (0, [first], "a batch came, and batches were not granted"),
                (f.CAN_BATCH, [member(i, b"count") for i in range(9)], "more members than this worker's max_batch"),
                (f.CAN_BATCH, [first, f.encode(f.PING, 7)], "stands within a batch"),
                (f.CAN_BATCH, [first, member(2, b"count", flags=f.FLAG_RESUME)], "a resumed request stands in a batch"),
                (f.CAN_BATCH, [first, member(2, b"count", flags=f.FLAG_REPLAY)], "replayed requests and others"),
                (f.CAN_BATCH, [member(i, b"count", meta=key[i]) for i in (0, 1)], "several batch keys")):
            with self.subTest(why):
                worker = self.start(self.command, granted=granted)
                worker.send(frames)
                _, said = worker.process.communicate(timeout=60)
                self.assertEqual(worker.process.returncode, 1)
                self.assertIn("hasup: hasupd broke the protocol: ", said.decode())
                self.assertIn(why, said.decode())

    def test_a_batch_that_its_end_cut_off_is_nobodys_fault(self):
        worker = self.start(self.command)
        worker.send([member(1, b"count")])
        worker.channel.socket.shutdown(socket.SHUT_WR)
        _, said = worker.process.communicate(timeout=60)
        self.assertEqual((worker.process.returncode, said), (0, b""))


class InC(Both, Case):
    command = IN_C


WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
import hasup
class Batches(hasup.Worker):
    max_batch = 3
    def infer_batch(self, requests):
        first = bytes(requests[0].body)
        if first == b"short":
            return []
        if first == b"none":
            return None
        if first == b"raise" and len(requests) > 1:
            raise hasup.Error(400, "somebody is wrong")
        if first == b"broken":
            return [self.broken(), ["x"], hasup.Reply("y", 201)]
        return [ValueError("no") if r.body == b"bad" else b"%d:%s" % (len(requests), r.body) for r in requests]
    def broken(self):
        yield "a"
        raise KeyError("b")
class Both(Batches):
    def infer(self, request):
        return b"alone"
class Unlimited(Both):
    max_batch = 0
class Neither(hasup.Worker):
    pass
class Without(hasup.Worker):
    max_batch = 3
    def infer(self, request):
        return b"alone"
hasup.serve(getattr(sys.modules["__main__"], sys.argv[2])())
"""


class InPython(Both, Case):
    command = IN_PYTHON

    def own(self, kind):
        return ["/usr/bin/python3", "-B", "-c", WORKER, os.path.join(ROOT, "worker", "python"), kind]

    def test_who_has_infer_too_runs_there_what_comes_alone(self):
        worker = self.start(self.own("Both"))
        self.assertEqual(worker.ask(b"a"), [(200, b"alone")])
        self.assertEqual(worker.ask(b"b", b"c"), [(200, b"2:b"), (200, b"2:c")])
        self.assertEqual(worker.ask(b"raise", b"c"), [(200, b"alone")] * 2)
        self.assertEqual(worker.close(), (0, ""))

    def test_what_is_no_list_of_their_answers_is_every_members_error(self):
        worker = self.start(self.own("Batches"))
        for body, text in ((b"short", b"infer_batch gave 0 answers to 2 requests"),
                           (b"none", b"infer_batch gives a list with an answer to each request, not NoneType")):
            self.assertEqual(worker.ask(body, b"b"), [(500, text)] * 2)
        code, said = worker.close()
        self.assertEqual((code, said.count("hasup: infer_batch gave 0 answers to 2 requests")), (0, 1))

    def test_an_exception_in_the_list_is_one_members_error_and_its_place_is_told(self):
        worker = self.start(self.own("Batches"))
        self.assertEqual(worker.ask(b"a", b"bad"), [(200, b"2:a"), (500, b"ValueError: no")])
        code, said = worker.close()
        self.assertEqual((code, said.strip()), (0, "ValueError: no"))

    def test_a_stream_that_fails_ends_alone(self):
        worker = self.start(self.own("Batches"))
        worker.send(batch(b"broken", b"x", b"y"))
        got = [worker.receive() for _ in range(5)]
        self.assertEqual([(frame.type, frame.id, frame.seq) for frame in got],
                         [(f.REPLY, 3, 201), (f.CHUNK, 1, 0), (f.CHUNK, 2, 0), (f.REPLY, 1, 500), (f.REPLY, 2, 200)])
        code, said = worker.close()
        self.assertEqual(code, 0)
        self.assertIn("KeyError", said)

    def test_batches_run_in_threads_each_answered_once(self):
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        gates = [os.path.join(directory, str(i)) for i in range(3)]
        for gate in gates:
            os.mkfifo(gate)
        worker = self.start(self.command + ["--threads"])
        for i, gate in enumerate(gates):
            worker.send([member(10 * i, b"wait " + gate.encode()), member(10 * i + 1, b"order"),
                         member(10 * i + 2, b"order", False)])
        for i in (2, 0, 1):  # all of them have begun
            with open(gates[i], "wb") as file:
                file.write(b"x")
            self.assertEqual([(frame.id, frame.body) for frame in (worker.receive() for _ in range(3))],
                             [(10 * i, b"3"), (10 * i + 1, b"2"), (10 * i + 2, b"3")])
        self.assertEqual(worker.close()[0], 0)

    def test_more_large_answers_of_threads_than_there_may_be_buffers(self):
        worker = self.start(self.command + ["--threads", "--most", "300"], inline_max=8)
        self.large_answers(worker, 300)
        self.assertEqual(worker.close()[0], 0)

    def test_a_worker_that_cannot_be_is_told_why(self):
        for kind, why in (("Unlimited", "infer_batch and max_batch"), ("Without", "infer_batch and max_batch"),
                          ("Neither", "infer or infer_batch")):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                done = subprocess.run(self.own(kind), capture_output=True, pass_fds=[theirs.fileno()], timeout=60,
                                      env={**os.environ, "HASUP_FD": str(theirs.fileno())})
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"hasup: a worker needs {why}".encode(), done.stderr)


if __name__ == "__main__":
    unittest.main()

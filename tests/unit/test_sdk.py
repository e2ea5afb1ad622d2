"""Both SDKs speak the worker protocol alike: one set of tests, run against a worker in C and one in Python."""
import array
import fcntl
import mmap
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fake_hasupd as f  # noqa: E402

OBJECTS = os.path.join(f.ROOT, os.environ.get("HASUP_OBJECTS", "build/release"))
BUILD = os.path.join(f.ROOT, os.environ.get("HASUP_BUILD", "build"))
C_PLAIN, C_COUNTER = [f"{OBJECTS}/tests/e2e/worker"], [f"{BUILD}/examples/counter"]
PYTHON = ["/usr/bin/python3", "-B", os.path.join(f.ROOT, "tests/unit/sdk_worker.py")]
CANCEL, PING, PONG, BUFFER, RELEASE = 9, 12, 13, 17, 19
TAG_HEADER, TAG_SESSION, TAG_ERROR, TAG_BUFFER_ID, TAG_BUFFER_SIZE = 13, 16, 17, 23, 24
FLAG_BUFFER, FLAG_REPLAY, FLAG_FD = 1, 2, 1 << 5


def number(value):
    return struct.pack("<I", value)


class Case:
    """What every SDK does."""

    plain = counter = None

    def start(self, command, **options):
        worker = f.Worker(command, **options)
        self.addCleanup(worker.end)
        return worker

    def test_a_request_is_answered(self):
        worker = self.start(self.plain)
        self.assertEqual(worker.ask("invoke", b"echo hello"), (200, [b"hello"]))
        self.assertEqual(worker.ask("invoke", b"echo "), (200, []))
        self.assertEqual(worker.close(), 0)

    def test_an_error_has_its_status_and_text(self):
        worker = self.start(self.plain)
        worker.send(f.REQUEST, 5, f.field(f.TAG_ROUTE, "invoke"), b"fail out of paper", seq=1)
        kind, number_, status, meta, _ = worker.receive()
        self.assertEqual((kind, number_, status), (f.REPLY, 5, 503))
        self.assertEqual(f.fields(meta)[TAG_ERROR], b"out of paper")
        self.assertEqual(worker.close(), 0)

    def test_a_stream_comes_in_order_with_its_sequence(self):
        worker = self.start(self.plain)
        worker.send(f.REQUEST, 6, f.field(f.TAG_ROUTE, "invoke"), b"stream 5", seq=1)
        for i in range(5):
            kind, number_, seq, _, body = worker.receive()
            self.assertEqual((kind, number_, seq, body), (f.CHUNK, 6, i, b"part %d of 5\n" % (i + 1)))
        self.assertEqual(worker.receive()[:2], (f.REPLY, 6))
        self.assertEqual(worker.close(), 0)

    def test_requests_and_pings_are_answered_in_the_order_they_came(self):
        worker = self.start(self.plain)
        for i in range(1, 40):
            worker.send(PING, 0) if i % 3 == 0 else worker.send(f.REQUEST, i, b"", b"echo %d" % i, seq=1)
        for i in range(1, 40):
            kind, number_, _, _, body = worker.receive()
            self.assertEqual((kind, number_, body), (PONG, 0, b"") if i % 3 == 0 else (f.REPLY, i, b"%d" % i))
        self.assertEqual(worker.close(), 0)

    def test_a_large_body_travels_in_a_buffer(self):
        worker, body = self.start(self.plain), bytes(range(256)) * 20000
        memory = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        os.write(memory, body)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        meta = f.field(TAG_BUFFER_ID, number(3)) + f.field(TAG_BUFFER_SIZE, struct.pack("<Q", len(body)))
        frame = f.HEADER.pack(0xA7, 1, BUFFER, FLAG_FD, len(meta), 0, 0, 0, 0) + meta
        worker.socket.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))])
        os.close(memory)
        for i in (1, 2):  # the second time without another announcement
            meta = f.field(TAG_BUFFER_ID, number(3))
            worker.socket.sendall(
                f.HEADER.pack(0xA7, 1, f.REQUEST, FLAG_BUFFER, len(meta), i, len(body), 1, 0) + meta)
            kind, number_, _, _, answer = worker.receive()
            self.assertEqual((kind, number_), (f.REPLY, i))
            self.assertEqual(answer, b"%d %d" % (len(body), sum(body)))
        self.assertEqual(worker.close(), 0)

    def test_a_large_answer_comes_in_a_buffer_that_is_used_again_once_released(self):
        worker, length = self.start(self.plain), 3 << 20
        used = []
        for i in (1, 2):
            worker.send(f.REQUEST, i, b"", b"big %d" % length, seq=1)
            if i == 1:
                memory, seals = self.receive_buffer(worker)
                self.assertEqual(seals & 6, 6)
            head = f.HEADER.unpack(worker.exactly(f.HEADER.size))
            meta = f.fields(worker.exactly(head[4]))
            self.assertEqual((head[2], head[3] & FLAG_BUFFER, head[5], head[6]), (f.REPLY, 1, i, length))
            used.append(meta[TAG_BUFFER_ID])
            self.assertEqual(memory[:4], bytes([0, 31, 62, 93]))
            worker.send(RELEASE, meta=f.field(TAG_BUFFER_ID, meta[TAG_BUFFER_ID]))
        self.assertEqual(used[0], used[1])
        memory.close()
        self.assertEqual(worker.close(), 0)

    @staticmethod
    def receive_buffer(worker):
        data, fds = b"", array.array("i")
        while len(data) < f.HEADER.size:
            part, ancillary, _, _ = worker.socket.recvmsg(f.HEADER.size - len(data), 64)
            data += part
            for _, _, value in ancillary:
                fds.frombytes(value)
        head = f.HEADER.unpack(data)
        assert head[2] == BUFFER and head[3] & FLAG_FD, head
        meta = f.fields(worker.exactly(head[4]))
        size = struct.unpack("<Q", meta[TAG_BUFFER_SIZE])[0]
        memory = mmap.mmap(fds[0], size, mmap.MAP_SHARED, mmap.PROT_READ)
        seals = fcntl.fcntl(fds[0], fcntl.F_GET_SEALS)
        os.close(fds[0])
        return memory, seals

    def test_a_checkpoint_holds_exactly_what_came_before_it(self):
        worker = self.start(self.counter)
        for i in range(1, 4):
            worker.send(f.REQUEST, i, f.field(f.TAG_POSITION, struct.pack("<Q", i)), seq=1)
        position = f.field(f.TAG_POSITION, struct.pack("<Q", 3))
        worker.send(f.CHECKPOINT, meta=position)
        worker.send(f.REQUEST, 4, f.field(f.TAG_POSITION, struct.pack("<Q", 4)), seq=1)
        got = [worker.receive() for _ in range(5)]
        self.assertEqual([g[0] for g in got], [f.REPLY] * 3 + [f.STATE] + [f.REPLY])
        self.assertEqual(got[3][4], struct.pack("<Q", 3))
        self.assertEqual(f.fields(got[3][3])[f.TAG_POSITION], struct.pack("<Q", 3))
        self.assertEqual(got[4][4], b"4\n")
        self.assertEqual(worker.close(), 0)

    def test_a_restored_worker_goes_on_where_the_state_was_taken(self):
        worker = self.start(self.counter, state=struct.pack("<Q", 41), position=41)
        self.assertEqual(worker.ask("invoke", b"")[1], [b"42\n"])
        worker.send(f.REQUEST, 9, b"", flags=FLAG_REPLAY, seq=2)
        self.assertEqual(worker.receive()[4], b"43\n")
        self.assertEqual(worker.close(), 0)

    def test_a_cancel_is_seen_while_the_request_runs(self):
        worker = self.start(self.plain)
        worker.send(f.REQUEST, 5, b"", b"until-cancelled", seq=1)
        worker.send(CANCEL, 5)
        worker.send(f.REQUEST, 6, b"", b"echo next", seq=1)
        self.assertEqual(worker.receive()[4], b"cancelled")
        self.assertEqual(worker.receive()[4], b"next")
        self.assertEqual(worker.close(), 0)

    def test_a_cancel_that_an_earlier_request_read_past_is_seen(self):
        worker = self.start(self.plain)
        head = f.HEADER.pack(0xA7, 1, f.REQUEST, 0, 0, 5, 15, 1, 0) + b"until-cancelled"
        cancels = [f.HEADER.pack(0xA7, 1, CANCEL, 0, 0, i, 0, 0, 0) for i in (6, 5)]
        worker.socket.sendall(head + head.replace(b"\5\0\0\0\0\0\0\0", b"\6\0\0\0\0\0\0\0", 1) + b"".join(cancels))
        for i in (5, 6):
            self.assertEqual(worker.receive()[1::3], (i, b"cancelled"))
        self.assertEqual(worker.close(), 0)

    def test_pongs_and_answers_do_not_wait_for_the_request_behind_them(self):
        worker = self.start(self.plain)
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        gate = os.path.join(folder, "gate")
        os.mkfifo(gate)
        body = b"wait " + gate.encode()
        worker.socket.sendall(
            f.HEADER.pack(0xA7, 1, f.REQUEST, 0, 0, 5, 6, 1, 0) + b"echo x" +
            f.HEADER.pack(0xA7, 1, PING, 0, 0, 0, 0, 0, 0) +
            f.HEADER.pack(0xA7, 1, f.REQUEST, 0, 0, 6, len(body), 1, 0) + body)
        self.assertEqual(worker.receive()[1::3], (5, b"x"))
        self.assertEqual(worker.receive()[0], PONG)
        with open(gate, "wb") as file:
            file.write(b"x")
        self.assertEqual(worker.receive()[1::3], (6, b"done"))
        self.assertEqual(worker.close(), 0)

    def test_a_load_that_fails_is_told_and_ends_it(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            done = subprocess.run(self.plain + ["--fail-load"], pass_fds=[theirs.fileno()], capture_output=True,
                                  env=dict(os.environ, HASUP_FD=str(theirs.fileno())), timeout=60)
            self.assertEqual(done.returncode, 1)
            theirs.close()
            said = ours.recv(4096)
        hello = f.HEADER.unpack_from(said)
        ready = f.HEADER.unpack_from(said, f.HEADER.size + hello[4])
        self.assertEqual((hello[2], ready[2]), (f.HELLO, f.READY))
        self.assertIn(b"load", f.fields(said[2 * f.HEADER.size + hello[4]:])[TAG_ERROR])
        self.assertIn(b"the weights are not there", done.stderr)

    def test_what_was_asked_before_drain_is_answered(self):
        worker = self.start(self.plain)
        for i in range(20):
            worker.send(f.REQUEST, i + 1, b"", b"echo x", seq=1)
        worker.send(f.DRAIN)
        self.assertEqual([worker.receive()[1] for _ in range(20)], list(range(1, 21)))
        self.assertEqual(worker.process.wait(60), 0)

    def test_term_ends_an_idle_worker_cleanly(self):
        worker = self.start(self.plain)
        self.assertEqual(worker.ask("invoke", b"echo x")[0], 200)
        worker.process.send_signal(signal.SIGTERM)
        self.assertEqual(worker.process.wait(60), 0)

    def test_without_hasupd_at_the_other_end_it_leaves(self):
        worker = self.start(self.plain)
        worker.socket.close()
        self.assertEqual(worker.process.wait(60), 0)

    def test_a_broken_frame_ends_it_with_a_reason(self):
        worker = self.start(self.plain, stderr=subprocess.PIPE)
        worker.socket.sendall(b"this is no frame, and it is long enough to be one")
        _, said = worker.process.communicate(timeout=60)
        self.assertEqual(worker.process.returncode, 1)
        self.assertIn(b"protocol", said)

    def test_started_by_hand_it_says_what_to_do(self):
        env = {k: v for k, v in os.environ.items() if k != "HASUP_FD"}
        done = subprocess.run(self.plain, capture_output=True, env=env, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"hasupd -c", done.stderr)

    def test_a_request_knows_its_session(self):
        worker = self.start(self.plain)
        for meta, session in ((f.field(TAG_SESSION, "a b/c"), b"a b/c"), (b"", b"")):
            worker.send(f.REQUEST, 5, meta, b"session", seq=1)
            self.assertEqual(worker.receive()[4], session)
        self.assertEqual(worker.close(), 0)


class InC(Case, unittest.TestCase):
    plain, counter = C_PLAIN, C_COUNTER


class InPython(Case, unittest.TestCase):
    plain, counter = PYTHON + ["plain"], PYTHON + ["counter"]

    def test_an_exception_is_the_request_s_error_not_the_worker_s_end(self):
        worker = self.start(self.plain, stderr=subprocess.DEVNULL)
        worker.send(f.REQUEST, 5, b"", b"raise", seq=1)
        _, _, status, meta, _ = worker.receive()
        self.assertEqual((status, f.fields(meta)[TAG_ERROR]), (500, b"ValueError: no such thing"))
        self.assertEqual(worker.ask("invoke", b"echo x"), (200, [b"x"]))
        self.assertEqual(worker.close(), 0)

    def test_a_request_knows_its_route_type_headers_and_attempt(self):
        worker = self.start(self.plain)
        meta = (f.field(f.TAG_ROUTE, "infer") + f.field(f.TAG_TYPE, "text/plain") +
                f.field(TAG_HEADER, b"x-a\0b"))
        worker.send(f.REQUEST, 5, meta, b"about", seq=3)
        self.assertEqual(worker.receive()[4], b"infer|text/plain|b|3|False")
        self.assertEqual(worker.close(), 0)

    def test_threads_answer_each_request_once(self):
        worker = self.start(self.plain + ["4"])
        for i in range(1, 101):
            worker.send(f.REQUEST, i, b"", b"echo %d" % i, seq=1)
        got = {}
        for _ in range(100):
            _, number_, _, _, body = worker.receive()
            self.assertNotIn(number_, got)
            got[number_] = body
        self.assertEqual(got, {i: b"%d" % i for i in range(1, 101)})
        self.assertEqual(worker.close(), 0)


if __name__ == "__main__":
    unittest.main()

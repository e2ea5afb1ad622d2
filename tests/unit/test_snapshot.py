"""Both SDKs take a state in a forked child alike, whatever becomes of it."""
import array
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fake_hasupd as f  # noqa: E402

OBJECTS = os.path.join(f.ROOT, os.environ.get("HASUP_OBJECTS", "build/release"))
BUFFER, BUFFER_GONE, TAG_ERROR, TAG_BUFFER_ID, TAG_BUFFER_SIZE, FLAG_BUFFER = 17, 18, 17, 23, 24, 1
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
LARGE = 3 << 20


def position(at):
    return f.field(f.TAG_POSITION, struct.pack("<Q", at))


def children(pid):
    """Zombies, too."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


class Case:
    command = large = None

    def start(self, command=None, **env):
        settings = [f"{key}={value}" for key, value in env.items()]
        worker = f.Worker(["/usr/bin/env", *settings, *(command or self.command)], stderr=subprocess.DEVNULL)
        self.addCleanup(worker.end)
        return worker

    def gate(self):
        directory = tempfile.TemporaryDirectory(prefix="hasup-snapshot.")
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "gate")
        os.mkfifo(path)
        return path

    @staticmethod
    def release(path):
        with open(path, "wb") as file:
            file.write(b"x")

    def count(self, worker):
        status, parts = worker.ask("invoke", b"")
        self.assertEqual(status, 200)
        return int(parts[0].split()[0])

    @staticmethod
    def ask_for_state(worker):
        worker.send(f.CHECKPOINT, meta=position(worker.position))
        return worker.position

    def failure(self, worker):
        """Why the STATE that comes next has failed."""
        kind, _, _, meta, body = worker.receive()
        self.assertEqual((kind, body), (f.STATE, b""))
        return f.fields(meta)[TAG_ERROR].decode()

    def child_of(self, worker):
        """Its snapshot; it is there from the moment that the worker answers what is behind the CHECKPOINT."""
        (child,) = children(worker.process.pid)
        return child

    def test_requests_are_answered_while_a_state_is_taken_which_holds_none_of_them(self):
        gate = self.gate()
        worker = self.start(SAVE_GATE=gate)
        self.assertEqual([self.count(worker) for _ in range(3)], [1, 2, 3])
        at = self.ask_for_state(worker)
        self.assertEqual([self.count(worker) for _ in range(50)], list(range(4, 54)))
        self.child_of(worker)
        self.release(gate)
        kind, _, _, meta, body = worker.receive()
        self.assertEqual((kind, f.fields(meta)[f.TAG_POSITION]), (f.STATE, struct.pack("<Q", at)))
        self.assertEqual(body, struct.pack("<Q", 3))
        self.assertEqual(children(worker.process.pid), [])  # reaped
        self.assertEqual(self.count(worker), 54)
        self.assertEqual(worker.close(), 0)

    def test_a_save_that_fails_in_the_child_is_a_failed_state(self):
        worker = self.start(SAVE_FAILS=1)
        for i in range(1, 4):
            self.assertEqual(self.count(worker), i)
            self.ask_for_state(worker)
            self.assertIn("save", self.failure(worker))
        self.assertEqual(worker.close(), 0)

    def test_a_child_that_dies_is_a_failed_state_and_nothing_else(self):
        worker = self.start(SAVE_DIES=1)
        for i in range(1, 4):
            self.assertEqual(self.count(worker), i)
            self.ask_for_state(worker)
            self.assertIn("killed by signal 9", self.failure(worker))
            self.assertEqual(children(worker.process.pid), [])
        self.assertEqual(worker.close(), 0)

    def test_a_child_that_is_killed_is_one_too(self):
        worker = self.start(SAVE_GATE=self.gate())
        self.ask_for_state(worker)
        self.assertEqual(self.count(worker), 1)
        os.kill(self.child_of(worker), signal.SIGKILL)
        self.assertIn("killed by signal 9", self.failure(worker))
        self.assertEqual(self.count(worker), 2)
        self.assertEqual(worker.close(), 0)

    def test_the_child_dies_with_its_worker(self):
        worker = self.start(SAVE_GATE=self.gate())
        self.ask_for_state(worker)
        self.assertEqual(self.count(worker), 1)
        child = os.pidfd_open(self.child_of(worker))
        self.addCleanup(os.close, child)
        worker.process.kill()
        self.assertTrue(select.select([child], [], [], 60)[0], "it lives on")

    def test_the_child_does_not_keep_the_socket_open(self):
        gate = self.gate()
        worker = self.start(SAVE_GATE=gate)
        self.ask_for_state(worker)
        self.assertEqual(self.count(worker), 1)
        child = self.child_of(worker)
        with open(gate, "wb") as file:  # it is in save() now
            names = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
            self.assertFalse([name for name in names if name.startswith("socket:")], names)
            file.write(b"x")
        self.assertEqual(worker.receive()[0], f.STATE)

    def test_an_end_waits_for_the_state_that_is_being_taken(self):
        for end in ("drain", "term"):
            gate = self.gate()
            worker = self.start(SAVE_GATE=gate)
            self.ask_for_state(worker)
            self.assertEqual(self.count(worker), 1)
            if end == "drain":
                worker.send(f.DRAIN)
            else:
                worker.process.terminate()
            self.release(gate)
            kind, _, _, _, body = worker.receive()
            self.assertEqual((kind, body), (f.STATE, struct.pack("<Q", 0)))
            self.assertEqual(worker.process.wait(60), 0)

    def test_a_large_state_comes_sealed_in_a_memfd_of_its_own(self):
        worker = self.start(self.large, STATE_MORE=LARGE - 8)
        for i in range(1, 4):
            self.assertEqual(self.count(worker), i)
            self.ask_for_state(worker)
            fds, data = array.array("i"), b""
            while len(data) < f.HEADER.size:
                part, ancillary, _, _ = worker.socket.recvmsg(f.HEADER.size - len(data), 64)
                data += part
                for _, _, value in ancillary:
                    fds.frombytes(value)
            _, _, kind, _, meta, *_ = f.HEADER.unpack(data)
            fields = f.fields(worker.exactly(meta))
            self.assertEqual((kind, fields[TAG_BUFFER_SIZE]), (BUFFER, struct.pack("<Q", LARGE)))
            _, _, kind, flags, meta, _, length, _, _ = f.HEADER.unpack(worker.exactly(f.HEADER.size))
            self.assertEqual((kind, flags, length), (f.STATE, FLAG_BUFFER, LARGE))
            self.assertEqual(f.fields(worker.exactly(meta))[TAG_BUFFER_ID], fields[TAG_BUFFER_ID])
            kind, _, _, meta, _ = worker.receive()
            self.assertEqual((kind, f.fields(meta)[TAG_BUFFER_ID]), (BUFFER_GONE, fields[TAG_BUFFER_ID]))
            self.assertEqual(fcntl.fcntl(fds[0], fcntl.F_GET_SEALS) & SEALS, SEALS)
            self.assertEqual(os.fstat(fds[0]).st_size, LARGE)
            self.assertEqual(os.pread(fds[0], 8, 0), struct.pack("<Q", i))
            os.close(fds[0])
        self.assertEqual(worker.close(), 0)


class InC(Case, unittest.TestCase):
    command = [f"{OBJECTS}/tests/e2e/ledger", "--snapshot"]
    large = command + ["--size", str(LARGE)]


class InPython(Case, unittest.TestCase):
    command = large = ["/usr/bin/python3", "-B", os.path.join(f.ROOT, "tests/unit/sdk_worker.py"), "snapshot"]


if __name__ == "__main__":
    unittest.main()

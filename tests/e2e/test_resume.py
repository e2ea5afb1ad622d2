"""Promise 5 with workers that can go on in the middle: nothing is computed again that need not be, nothing is sent
twice, and a worker that goes on where it may not is not believed.  Each with the C and the Python SDK."""
import os
import signal
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import ROOT, WORKER, World  # noqa: E402

PARTS = 20
KEY = {"Idempotency-Key": "k"}


def text(parts):
    return b"".join(b"part %d of %d\n" % (i + 1, PARTS) for i in range(parts))


class Resumed:
    """The tests; `command` is the worker's."""

    def models(self, more=""):
        return f"  m: {{command: {self.command}, workers: 2{more}}}"

    def interrupted(self, world, how, headers=None):
        """A stream whose worker waits before the last part: the connection, its answer, what came, the gate, the slot."""
        gate = world.fifo("gate")
        connection = world.begin("m", f"amble {PARTS} {gate} {how}", headers)
        answer = connection.getresponse()
        first = answer.read(len(text(PARTS - 1)))
        self.assertEqual(first, text(PARTS - 1))
        busy = next(s for s in world.slots() if s["inflight"])
        return connection, answer, first, gate, busy

    def begun(self, world, attempt, since=0):
        """Where that attempt began."""
        for event in world.events[since:]:
            words = event.get("message") or ""
            if event["event"] == "worker.stderr" and words.startswith(f"attempt {attempt} begins at byte "):
                return int(words.split()[-1])
        return None

    def finish(self, world, connection, answer, first, gate):
        world.release(gate)
        whole = first + answer.read()
        connection.close()
        world.mark()
        return whole

    def test_promise_5_the_next_worker_goes_on_from_the_last_progress(self):
        with World(self.models()) as world:
            connection, answer, first, gate, busy = self.interrupted(world, "progress")
            os.kill(busy["pid"], signal.SIGKILL)
            world.wait_event("slot.exited", slot=busy["slot"])
            self.assertEqual(self.finish(world, connection, answer, first, gate), text(PARTS))
            # The last progress may have died with the worker, on its way; the one before it did not.
            self.assertIn(self.begun(world, 2), (len(text(PARTS - 2)), len(text(PARTS - 1))))

    def test_promise_5_the_next_worker_goes_on_from_its_own_text(self):
        with World(self.models()) as world:
            connection, answer, first, gate, busy = self.interrupted(world, "sent", KEY)
            os.kill(busy["pid"], signal.SIGKILL)
            world.wait_event("slot.exited", slot=busy["slot"])
            self.assertEqual(self.finish(world, connection, answer, first, gate), text(PARTS))
            self.assertEqual(self.begun(world, 2), len(text(PARTS - 1)))

    def test_promise_5_who_goes_on_where_it_may_not_is_not_believed(self):
        with World(self.models()) as world:
            connection, answer, first, gate, busy = self.interrupted(world, "lie")
            os.kill(busy["pid"], signal.SIGKILL)
            broke = world.wait_event("slot.broke")
            world.wait_event("slot.exited", slot=broke["slot"], pid=broke["pid"])  # and waits at no gate
            self.assertEqual(self.finish(world, connection, answer, first, gate), text(PARTS))
            self.assertEqual((self.begun(world, 2), self.begun(world, 3)), (7, 0))

    def test_promise_2_and_5_progress_survives_hasupd(self):
        with World(self.models()) as world:
            connection, _, _, gate, _ = self.interrupted(world, "progress", KEY)
            connection.close()
            world.kill_and_start()
            again = world.begin("m", f"amble {PARTS} {gate} progress", KEY)
            world.release(gate)
            self.assertEqual(world.finish(again)[2], text(PARTS))
            world.mark()
            # Progress is stored with the chunk behind it.
            self.assertEqual(self.begun(world, 1), len(text(PARTS - 2)))


class InC(Resumed, unittest.TestCase):
    command = f"[{WORKER}, --resumable]"


class InPython(Resumed, unittest.TestCase):
    command = f"[python3, -B, {ROOT}/tests/e2e/amble.py]"


if __name__ == "__main__":
    unittest.main()

"""When a durable request's row goes, and what of it outlives hasupd."""
import os
import signal
import sqlite3
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import LIMIT, WORKER, World  # noqa: E402

ALWAYS = f"  m: {{command: [{WORKER}], journal: always}}"


def rows(world, table="request"):
    db = sqlite3.connect(f"file:{world.state}/journal.db?mode=ro", uri=True, timeout=LIMIT)
    try:
        return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    finally:
        db.close()


def wait_until(true, what):
    """Polls what no event tells."""
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, what
        os.sched_yield()


def kill_and_start(world):
    world.process.kill()
    world.process.wait()
    world.process.stderr.close()
    world.events, world.buffer = [], b""
    world.start()


class Durable(unittest.TestCase):
    def test_promise_2_what_was_accepted_without_a_key_runs_after_hasupd_was_killed(self):
        with World(ALWAYS) as world:
            gate = world.fifo("gate")
            waiting = world.begin("m", f"wait {gate}")
            wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight")
            kill_and_start(world)
            waiting.close()
            self.assertEqual(world.wait_event("journal.unclean")["unfinished"], 1)
            wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight again")
            self.assertEqual(rows(world), 1)
            world.release(gate)
            wait_until(lambda: rows(world) == 0, "its row stays")
            kill_and_start(world)
            self.assertEqual(world.wait_event("journal.unclean")["unfinished"], 0)

    def test_an_answer_that_nobody_can_come_back_for_is_not_kept(self):
        with World(ALWAYS) as world:
            for i in range(40):
                self.assertEqual(world.post("m", f"echo {i}")[2], b"%d" % i)
            wait_until(lambda: rows(world) == 0, "rows stay though nothing comes after them")
            self.assertEqual(rows(world, "result"), 0)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            world.process.send_signal(signal.SIGTERM)
            self.assertEqual(world.process.wait(LIMIT), 0)
            self.assertEqual(rows(world), 0)
            world.process.stderr.close()

    def test_promise_3_one_key_has_one_answer_when_hasupd_was_killed(self):
        with World(ALWAYS) as world:
            key = {"Idempotency-Key": "k"}
            first = world.post("m", "pid", key)[2]
            kill_and_start(world)
            self.assertEqual(world.post("m", "pid", key)[2], first)
            self.assertNotEqual(world.post("m", "pid")[2], first)


if __name__ == "__main__":
    unittest.main(verbosity=1)

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

    def test_promise_2_what_waits_for_room_runs_once_beside_what_comes_now(self):
        """More than the table has room for; what this run accepts is not taken for an earlier run's."""
        later, both = {"Prefer": "respond-async"}, f"{ALWAYS}\n{ALWAYS.replace('m:', 'n:')}"
        with World(both, "limits: {requests: 64}") as world:
            old, new = world.fifo("old"), world.fifo("new")
            for _ in range(40):
                self.assertEqual(world.post("m", f"wait {old}", later)[0], 202)
            world.write(both, "limits: {requests: 16}")
            kill_and_start(world)
            late = [world.post("n", f"wait {new}", later) for _ in range(2)]
            self.assertEqual([status for status, _, _ in late], [202, 202])
            gates = [os.open(gate, os.O_RDWR) for gate in (old, new)]  # what one does not read waits for the next
            os.write(gates[0], bytes(64))
            wait_until(lambda: world.slot("m/0")["answered"] == 40, "not all of the earlier run's ran")
            os.write(gates[1], bytes(64))
            for _, headers, _ in late:
                wait_until(lambda: world.get(headers["Location"])[0] == 200, "a late one never ran")
            wait_until(lambda: world.slot("n/0")["inflight"] == 0, "one runs again")
            self.assertEqual(world.slot("n/0")["answered"], 2)
            self.assertEqual(world.stop(), 0)
            for gate in gates:
                os.close(gate)

    def test_promise_2_who_heard_a_whole_stream_is_not_told_that_it_is_damaged(self):
        """A browser comes again after the last event, too; nothing follows it but the end."""
        with World(ALWAYS) as world:
            key = {"Idempotency-Key": "k", "Accept": "text/event-stream"}
            heard = world.post("m", "stream 3", key)[2]
            self.assertIn(b"id: 4\nevent: end\n", heard)
            for last in ("3", "4", "5", "4294967297"):  # the last one is none that this server gave
                status, _, body = world.post("m", "stream 3", {**key, "Last-Event-ID": last})
                self.assertEqual(status, 200, body)
                self.assertNotIn(b"part", body)
                self.assertIn(b"event: end\n", body)
            mark = world.mark()
            self.assertNotIn("journal.result_lost", [e["event"] for e in world.events[:mark]])

    def test_promise_2_one_that_finds_no_room_any_more_holds_up_no_other(self):
        """limits.body_bytes was made smaller than what is in the journal: said, and kept for larger limits."""
        later = {"Prefer": "respond-async"}
        small = ALWAYS.replace("journal", "body_max: 64KiB, journal")
        with World(ALWAYS) as world:
            gate = world.fifo("gate")
            held = os.open(gate, os.O_RDWR)
            bodies = [f"wait {gate}", "sum" + "x" * 200000, "echo small"]
            places = [world.post("m", body, later)[1]["Location"] for body in bodies]
            world.write(small, "limits: {body_bytes: 64KiB}")
            kill_and_start(world)
            said = world.wait_event("journal.too_large")
            self.assertIn("limits.body_bytes", said["message"])
            self.assertEqual((said["requests"], said["largest"]), (1, 200003))
            os.write(held, b"x")
            wait_until(lambda: world.get(places[2])[0] == 200, "held up for ever")
            world.write(ALWAYS)
            kill_and_start(world)
            wait_until(lambda: world.get(places[1])[0] == 200, "not kept")
            os.close(held)

    def test_promise_3_a_stored_answer_that_is_damaged_is_said_and_not_told(self):
        with World(ALWAYS) as world:
            key = {"Idempotency-Key": "k"}
            self.assertEqual(world.post("m", "echo x", key)[2], b"x")
            with sqlite3.connect(f"{world.state}/journal.db", timeout=LIMIT) as db:
                db.execute("UPDATE result SET body = x'79'")
            db.close()
            status, _, body = world.post("m", "echo x", key)
            self.assertEqual(status, 404)
            self.assertIn(b"the stored answer is damaged or gone", body)
            world.wait_event("journal.result_lost")

    def test_a_dropped_request_is_gone_in_words_too(self):
        with World(ALWAYS) as world:
            gate = world.fifo("gate")
            place = world.post("m", f"wait {gate}", {"Prefer": "respond-async"})[1]["Location"]
            waiting = world.connect()
            waiting.request("GET", place, headers={"Prefer": "wait=50"})
            wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight")
            drop = world.connect()
            drop.request("DELETE", place)
            self.assertEqual(drop.getresponse().status, 200)
            answer = waiting.getresponse()
            self.assertEqual((answer.status, answer.reason), (410, "Gone"))
            drop.close()
            waiting.close()
            world.release(gate)


if __name__ == "__main__":
    unittest.main(verbosity=1)

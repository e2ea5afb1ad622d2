"""Batches through all layers: they form while a worker is busy, hold like requests, and one that kills is tried by halves."""
import json
import os
import sys
import unittest

from world import OBJECTS, World, alive, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
IN_C = f"[{os.path.join(OBJECTS, 'tests/e2e/batched')}]"
IN_PYTHON = f"[{sys.executable}, {os.path.join(HERE, 'batched.py')}]"
STATEFUL = f"[{os.path.join(OBJECTS, 'tests/e2e/batched')}, --stateful]"


class Batches:
    command = ""

    def setUp(self):
        self.world = World(f"  m: {{command: {self.command}}}")
        self.addCleanup(self.world.close)

    def while_busy(self, bodies, headers=None):
        """Asks all of these while the worker is busy; their answers."""
        path = self.world.fifo("gate")
        busy = self.world.begin("m", f"wait {path}")
        wait_until(lambda: self.world.slot("m/0")["inflight"] == 1, "it never runs")
        headers = headers or [{}] * len(bodies)
        waiting = []
        for body, header in zip(bodies, headers):
            waiting.append(self.world.begin("m", body, header))
            wait_until(lambda: self.world.status()["models"][0]["queued"] == len(waiting), "it never waits")
        self.world.release(path)
        self.assertEqual(self.world.finish(busy)[2], b"1")
        os.unlink(path)
        return [self.world.finish(c) for c in waiting]

    def test_what_came_while_it_was_busy_runs_together(self):
        answers = self.while_busy(["count"] * 11)
        self.assertEqual([body for _, _, body in answers], [b"8"] * 8 + [b"3"] * 3)

    def test_only_like_requests_share_a_batch(self):
        keys = ["a", "b", "a", "a", "b"]
        answers = self.while_busy(["key"] * 5 + ["count"], [{"X-Batch-Key": key} for key in keys] + [{}])
        self.assertEqual([body for _, _, body in answers], [b"a 3", b"b 2", b"a 3", b"a 3", b"b 2", b"1"])

    def test_a_member_s_line_is_known_as_its_own(self):
        texts = [f"line {i}" for i in range(5)]
        answers = self.while_busy([f"log {text}" for text in texts], [{"X-Request-Id": f"r-{i}"} for i in range(5)])
        self.assertEqual([body for _, _, body in answers], [b"5"] * 5)
        lines = []

        def all_there():
            lines[:] = map(json.loads, self.world.ctl("--json", "logs", "--grep", "line ").stdout.splitlines())
            return len(lines) == 5
        wait_until(all_there, "lines are missing")
        self.assertEqual([(line["message"], line["request"]) for line in lines],
                         [(text, f"r-{i}") for i, text in enumerate(texts)])

    def test_one_may_fail_and_the_others_not(self):
        answers = self.while_busy(["count", "fail", "count"])
        self.assertEqual([status for status, _, _ in answers], [200, 418, 200])
        self.assertEqual(json.loads(answers[1][2])["error"]["message"], "this one fails")

    def test_where_a_batch_fails_as_a_whole_each_runs_alone(self):
        answers = self.while_busy(["count", "all", "count"])
        self.assertEqual([(status, body) for status, _, body in answers if status == 200], [(200, b"1")] * 2)
        self.assertEqual(answers[1][0], 500)

    def test_large_bodies_come_whole(self):
        bodies = ["sum " + chr(97 + i) * (i * 700_000) for i in range(5)]  # some in shared memory
        answers = self.while_busy(bodies)
        self.assertEqual([int(body) for _, _, body in answers], [sum(body.encode()) for body in bodies])

    def test_large_answers_come_whole(self):
        sizes = [9 + i * 700_000 for i in range(8)]
        answers = self.while_busy([f"big {size}" for size in sizes])
        for size, (status, _, body) in zip(sizes, answers):
            self.assertEqual((status, body), (200, (bytes(i * 31 & 255 for i in range(256)) * (size // 256 + 1))[:size]))

    def test_members_keep_their_order_and_may_stream(self):
        answers = self.while_busy(["order", "stream 3", "order", "stream 1"])
        parts = ["".join(f"part {i + 1} of {count}\n" for i in range(count)).encode() for count in (3, 1)]
        self.assertEqual([body for _, _, body in answers], [b"1", parts[0], b"3", parts[1]])

    def test_promise_6_one_that_kills_is_found_by_halves_and_its_mates_are_answered(self):
        answers = self.while_busy(["count", "count", "crash", "count", "count"])
        self.assertEqual([status for status, _, _ in answers], [200, 200, 422, 200, 200])

    def hold_a_batch(self, headers=None):
        """Five that run together and wait there; the FIFO, and who asked."""
        busy, held = self.world.fifo("busy"), self.world.fifo("held")
        first = self.world.begin("m", f"wait {busy}")
        wait_until(lambda: self.world.slot("m/0")["inflight"] == 1, "it never runs")
        waiting = []
        for i, body in enumerate([f"wait {held}"] + ["count"] * 4):
            waiting.append(self.world.begin("m", body, headers and headers(i)))
            wait_until(lambda: self.world.status()["models"][0]["queued"] == len(waiting), "they never wait")
        self.world.release(busy)
        self.world.finish(first)
        wait_until(lambda: self.world.slot("m/0")["inflight"] == 5, "it never runs as one batch")
        return held, waiting

    def test_promise_1_who_was_in_a_batch_of_a_killed_worker_is_answered(self):
        held, waiting = self.hold_a_batch()
        at = self.world.mark()
        self.world.kill("m/0")
        self.world.wait_event("slot.exited", since=at)  # who read there is gone
        self.world.release(held)
        answers = [self.world.finish(c) for c in waiting]
        self.assertEqual([status for status, _, _ in answers], [200] * 5)
        self.assertEqual({headers["X-Hasup-Attempts"] for _, headers, _ in answers}, {"2"})
        self.assertEqual(sorted(body for _, _, body in answers), [b"2"] * 2 + [b"3"] * 3)  # by halves

    def test_promise_2_who_was_in_a_batch_when_hasupd_died_is_answered(self):
        def key(i):
            return {"Idempotency-Key": f'"{i}"'}
        held, waiting = self.hold_a_batch(key)
        worker = self.world.pid("m/0")
        self.world.kill_and_start(wait=False)
        wait_until(lambda: not alive(worker), "it outlives hasupd")  # who read there is gone
        for connection in waiting:
            connection.close()
        again = [self.world.begin("m", body, key(i)) for i, body in enumerate([f"wait {held}"] + ["count"] * 4)]
        self.world.release(held)
        self.assertEqual([self.world.finish(c)[0] for c in again], [200] * 5)


class InC(Batches, unittest.TestCase):
    command = IN_C


class InPython(Batches, unittest.TestCase):
    command = IN_PYTHON


class States(unittest.TestCase):
    def test_promise_4_a_state_that_batches_made_is_there_after_worker_and_hasupd_died(self):
        with World(f"  m: {{command: {STATEFUL}, journal: always}}") as world:
            def count(number):
                path = world.fifo(f"gate{number}")
                busy = world.begin("m", f"wait {path}")
                wait_until(lambda: world.slot("m/0")["inflight"] == 1, "it never runs")
                waiting = [world.begin("m", "count") for _ in range(4)]
                wait_until(lambda: world.status()["models"][0]["queued"] == 4, "they never wait")
                world.release(path)
                first = int(world.finish(busy)[2].split()[0])
                answers = sorted((world.finish(c)[2] for c in waiting), key=lambda body: int(body.split()[0]))
                self.assertEqual(answers, [f"{first + i} of 4".encode() for i in range(1, 5)])
                return first

            self.assertEqual(count(0), 1)
            world.ctl("checkpoint", "now", "m")
            self.assertEqual(count(1), 6)
            world.kill("m/0")
            self.assertEqual(world.post("m", "count")[2], b"11 of 1")
            world.kill_and_start()
            self.assertEqual(world.post("m", "count")[2], b"12 of 1")
            self.assertEqual(world.slot("m/0")["diverged"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=1)

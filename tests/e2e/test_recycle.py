"""Workers replaced after requests, at an age, above a memory: one at a time, never in the middle of a request."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_promises import without_cgroups  # noqa: E402
from world import BUILD, WORKER, World, wait_until  # noqa: E402

WATCHED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "watched.py")


class Recycling(unittest.TestCase):
    def test_after_so_many_requests_one_at_a_time_and_nothing_is_lost(self):
        models = f"  m: {{command: [{WORKER}], workers: 3, policy: round_robin, recycle: {{requests: 20}}}}"
        with World(models) as world:
            for i in range(30000):  # until enough were, however long their starts take
                self.assertEqual(world.post("m", f"echo {i}")[::2], (200, str(i).encode()))
                if i % 100 == 99 and sum(slot["recycled"] for slot in world.slots()) >= 6:
                    break
            wait_until(lambda: world.status()["models"][0]["ready"] == 3, "not all are back")
            world.mark()
            away, recycled = None, 0
            for event in world.events:
                if event["event"] == "slot.recycled":
                    self.assertIsNone(away, "two are away")
                    self.assertEqual(event["message"], "it answered 20 requests (recycle.requests)")
                    away, recycled = event["slot"], recycled + 1
                elif event["event"] == "slot.ready" and event["slot"] == away:
                    away = None
                self.assertNotIn(event["event"], ("slot.backoff", "slot.hung"))
            self.assertGreaterEqual(recycled, 6)
            self.assertEqual({slot["crashes"] for slot in world.slots()}, {0})
            self.assertEqual(sum(slot["recycled"] for slot in world.slots()), recycled)

    def test_promise_1_what_it_has_in_hand_ends_there_and_not_elsewhere(self):
        models = f"  m: {{command: [{WORKER}], timeouts: {{drain: 10ms, stop: 10ms}}, recycle: {{requests: 1}}}}"
        with World(models) as world:
            first, second = world.fifo("first"), world.fifo("second")
            a = world.begin("m", f"wait {first}")
            wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight")
            b = world.begin("m", f"wait {second}")
            wait_until(lambda: world.slot("m/0")["inflight"] == 2, "never in flight")
            world.release(first)
            self.assertEqual(world.finish(a)[::2], (200, b"done"))
            world.wait_event("slot.recycled", slot="m/0")
            c = world.begin("m", "pid")  # waits for the new one
            wait_until(lambda: world.slot("m/0")["since_ms"] > 100, "time does not pass")
            self.assertEqual(world.slot("m/0")["state"], "draining")
            world.release(second)
            status, headers, body = world.finish(b)
            self.assertEqual((status, body, headers["X-Hasup-Attempts"]), (200, b"done", "1"))
            self.assertEqual(world.finish(c)[0], 200)
            self.assertEqual(world.slot("m/0")["crashes"], 0)

    def test_at_an_age_though_it_is_idle(self):
        with World(f"  m: {{command: [{WORKER}], recycle: {{age: 100ms}}}}") as world:
            for _ in range(2):
                mark = world.mark()
                world.wait_event("slot.recycled", since=mark, slot="m/0")
            self.assertEqual(world.slot("m/0")["crashes"], 0)

    def test_above_its_memory(self):
        models = (f"  m: {{command: [{sys.executable}, -B, {WATCHED}],\n"
                  "      recycle: {memory: 256MiB, memory_every: 1ms}}")
        with World(models) as world:
            pid = world.post("m", "pid")[2]
            self.assertEqual(world.post("m", "grow 1000")[0], 200)
            wait_until(lambda: (world.slot("m/0")["memory_bytes"] or 0) > 1 << 20, "never measured")
            self.assertEqual(world.post("m", "pid")[2], pid)
            self.assertEqual(world.post("m", f"grow {300 << 20}")[0], 200)
            event = world.wait_event("slot.recycled", slot="m/0")
            self.assertRegex(event["message"], r"^it has \d{6} KiB, more than 262144 KiB \(recycle.memory\)$")
            self.assertNotEqual(world.post("m", "pid")[2], pid)

    def test_above_the_memory_of_its_whole_tree(self):
        models = (f"  m: {{command: [{sys.executable}, -B, {WATCHED}],\n"
                  "      recycle: {memory: 256MiB, memory_every: 1ms}}")
        for before in (None, without_cgroups):
            with self.subTest(cgroups=before is None), World(models, before=before) as world:
                pid = world.post("m", "pid")[2]
                self.assertEqual(world.post("m", f"bear {150 << 20}")[0], 200)
                wait_until(lambda: (world.slot("m/0")["memory_bytes"] or 0) > 150 << 20, "never measured")
                self.assertEqual(world.post("m", "pid")[2], pid)
                self.assertEqual(world.post("m", f"bear {150 << 20}")[0], 200)
                event = world.wait_event("slot.recycled", slot="m/0")
                self.assertRegex(event["message"], r"^it has 3\d{5} KiB, more than 262144 KiB \(recycle.memory\)$")
                self.assertNotEqual(world.post("m", "pid")[2], pid)

    def test_promise_9_the_old_one_serves_until_another_stands_in(self):
        with World("", start=False) as world:
            gate = world.fifo("load")
            world.write(f"  m: {{command: [{WORKER}, --load, {gate}], recycle: {{requests: 2}}}}")
            world.start(wait=False)
            world.release(gate)
            pid = world.post("m", "pid")[2]
            self.assertEqual(world.post("m", "echo x")[2], b"x")  # that was the second
            wait_until(lambda: [slot["state"] for slot in world.slots()] == ["ready", "loading"], "nobody stands in")
            self.assertEqual(world.post("m", "pid")[2], pid)
            world.release(gate)
            world.wait_event("slot.recycled", slot="m/0")
            self.assertNotEqual(world.post("m", "pid")[2], pid)  # who stands in
            world.release(gate)
            wait_until(lambda: [slot["state"] for slot in world.slots()] == ["ready"], "who stood in stays")
            self.assertEqual(world.slot("m/0")["recycled"], 1)

    def test_promise_4_a_counter_goes_on_counting(self):
        models = f"  counter: {{command: [{BUILD}/examples/counter], recycle: {{requests: 3}}}}"
        with World(models) as world:
            for i in range(1, 31):
                self.assertEqual(world.post("counter", "")[2], b"%d\n" % i)
            slot = world.slot("counter/0")
            self.assertGreaterEqual(slot["recycled"], 9)
            self.assertEqual((slot["crashes"], slot["diverged"]), (0, 0))


if __name__ == "__main__":
    unittest.main()

"""What is asked of hasupctl after a death and before a shutdown: why, wait, shutdown --explain and --now."""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, WORKER, World, wait_until  # noqa: E402

MODELS = f"  m: {{command: [{WORKER}], concurrency_max: 1}}\n"
BROKEN = (f"  bad: {{command: [{WORKER}, --die], "
          "restart: {backoff_min: 10ms, start_limit: 2, breaker: 1h}}\n")


def why(world, target):
    return json.loads(world.ctl("--json", "why", target).stdout)["slots"]


class Why(unittest.TestCase):
    def test_a_slot_that_never_died_says_so(self):
        with World(MODELS) as world:
            self.assertIsNone(why(world, "m/0")[0]["death"])
            said = world.ctl("why", "m").stdout.decode()
            self.assertIn("died      never", said)
            self.assertIn("next      it serves", said)

    def test_a_kill_is_told_with_its_signal_its_use_and_the_request_in_hand(self):
        with World(MODELS) as world:
            gate = world.fifo("gate")
            waiting = world.begin("m", f"wait {gate}", {"X-Request-Id": "order-66"})
            wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight")
            pid = world.kill("m/0")
            world.wait_event("slot.exited", slot="m/0")
            death = why(world, "m/0")[0]["death"]
            self.assertEqual((death["exit"]["signal"], death["exit"]["pid"], death["cause"]), (9, pid, "crash"))
            self.assertEqual((death["requests"], death["request_count"]), (["order-66"], 1))
            self.assertGreater(death["exit"]["max_rss_kib"], 0)
            self.assertIn("order-66", world.ctl("why", "m/0").stdout.decode())
            world.release(gate)
            self.assertEqual(world.finish(waiting)[0], 200)

    def test_a_broken_slot_says_when_it_is_tried_and_how_to_try_now(self):
        with World(BROKEN, wait=False) as world:
            world.wait_event("slot.broken", slot="bad/0")
            one = why(world, "bad/0")[0]
            self.assertEqual(one["state"], "broken")
            self.assertGreater(one["next"]["in_ms"], 0)
            self.assertIn("hasupctl start bad/0", world.ctl("why", "bad/0").stdout.decode())

    def test_a_slot_that_is_not_there_is_answered_with_those_that_are(self):
        with World(MODELS) as world:
            done = world.ctl("why", "m/7", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("did you mean m/0", done.stderr.decode())


class Wait(unittest.TestCase):
    def test_it_returns_when_it_is_so_and_4_when_it_took_too_long(self):
        with World(MODELS) as world:
            world.ctl("wait", "m", "--ready", "--timeout", "10s")
            gate, waiting = world.occupy()
            self.assertEqual(world.ctl("wait", "m", "--idle", "--timeout", "50ms", check=False).returncode, 4)
            idle = subprocess.Popen([f"{BUILD}/hasupctl", "-s", world.socket, "wait", "m", "--idle"])
            world.release(gate)
            self.assertEqual((world.finish(waiting)[0], idle.wait(LIMIT)), (200, 0))
            world.ctl("stop", "m")
            world.ctl("wait", "m/0", "--stopped", "--timeout", "20s")
            self.assertEqual(world.slot("m/0")["state"], "stopped")
            self.assertEqual(world.ctl("wait", "m", "--ready", "--timeout", "10ms", check=False).returncode, 4)
            self.assertEqual(world.ctl("wait", "m", check=False).returncode, 2)
            self.assertEqual(world.ctl("wait", "x", "--ready", check=False).returncode, 1)


class Shutdown(unittest.TestCase):
    def test_it_is_explained_without_beginning_and_done_at_once_by_now(self):
        with World(MODELS) as world:
            _, waiting = world.occupy()
            leave = json.loads(world.ctl("--json", "shutdown", "--explain").stdout)
            self.assertEqual((leave["request_count"], leave["requests"][0]["slot"]), (1, "m/0"))
            self.assertEqual((leave["at_most_ms"], leave["shutting_down"]), (35000, False))
            self.assertIn("1 requests, 35 s at most", world.ctl("shutdown", "--explain").stdout.decode())
            self.assertEqual(world.slot("m/0")["state"], "ready")
            world.ctl("shutdown", "--now")
            self.assertEqual(world.process.wait(LIMIT), 0)
            waiting.close()


class Recent(unittest.TestCase):
    def test_status_shows_what_a_model_did_of_late(self):
        with World(f"  m: {{command: [{WORKER}]}}\n  n: {{command: [{WORKER}]}}") as world:
            for _ in range(20):
                self.assertEqual(world.post("m", "echo x")[0], 200)
            lines = world.ctl("status").stdout.decode().splitlines()
            of_m, of_n = (next(i for i, line in enumerate(lines) if line.startswith(name)) for name in ("m: ", "n: "))
            self.assertRegex(lines[of_m + 1], r"^    [0-9.]+/s, p50 [0-9.]+ ms, p99 [0-9.]+ ms$")
            self.assertNotIn("/s", lines[of_n + 1])  # nobody asked that one


if __name__ == "__main__":
    unittest.main()

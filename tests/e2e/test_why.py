"""What is asked of hasupctl after a death and before a shutdown: why, wait, shutdown --explain and --now."""
import json
import os
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, WORKER, World, wait_until  # noqa: E402

VERSIONED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "versioned.py")
MODELS = f"  m: {{command: [{WORKER}], concurrency_max: 1}}\n"
BROKEN = (f"  bad: {{command: [{WORKER}, --die], "
          "restart: {backoff_min: 10ms, start_limit: 2, breaker: 1h}}\n")


def why(world, target):
    return json.loads(world.ctl("--json", "why", target).stdout)["slots"]


def told(world, target):
    return world.ctl("why", target).stdout.decode().splitlines()


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
            said = world.ctl("why", "m/0").stdout.decode()
            self.assertIn("  in hand   order-66\n", said)
            self.assertRegex(said, r"  used      \d+ ms user, \d+ ms system, at most [0-9.]+ MiB, \d+ major page faults, "
                                   r"\d+ context switches\n")
            world.release(gate)
            self.assertEqual(world.finish(waiting)[0], 200)

    def test_a_broken_slot_says_when_it_is_tried_and_how_to_try_now(self):
        with World(BROKEN, wait=False) as world:
            world.wait_event("slot.broken", slot="bad/0")
            one = why(world, "bad/0")[0]
            self.assertEqual(one["state"], "broken")
            self.assertGreater(one["next"]["in_ms"], 0)
            self.assertIn("hasupctl start bad/0", world.ctl("why", "bad/0").stdout.decode())

    def test_a_slot_that_backs_off_says_why_when_it_is_tried_and_how_to_try_at_once(self):
        with World(f"  bad: {{command: [{WORKER}, --die], restart: {{backoff_min: 1h, backoff_max: 1h}}}}",
                   wait=False) as world:
            world.wait_event("slot.backoff", slot="bad/0")
            one = why(world, "bad/0")[0]
            self.assertEqual((one["state"], one["starts"], one["crashes"]), ("backoff", 1, 1))
            self.assertEqual(one["death"]["exit"]["code"], 3)
            self.assertTrue(0 < one["next"]["in_ms"] <= 75 * 60 * 1000, one["next"])  # an hour, a quarter more or less
            lines = told(world, "bad/0")
            self.assertRegex(lines[0], r"^bad/0: backoff for [0-9.]+ m?s, 1 start, 1 crash$")
            self.assertEqual(lines[1], "  died      exited with code 3 before its hello (is it a hasup worker?)")
            self.assertRegex(lines[2], r"^  when      [0-9.]+ m?s ago, counted as exit$")
            self.assertEqual(lines[-3:-2], ["    | cannot find the GPU"])
            self.assertRegex(lines[-2], r"^  next      it is started again, in \d+ min$")
            self.assertEqual(lines[-1], "  at once   hasupctl start bad/0")
            world.ctl("start", "bad/0")  # as it says
            wait_until(lambda: why(world, "bad/0")[0]["starts"] == 2, "it is not tried")

    def test_a_slot_that_was_stopped_says_so_and_how_it_is_started(self):
        with World(MODELS) as world:
            pid = world.pid("m/0")
            world.ctl("stop", "m/0")
            world.ctl("wait", "m/0", "--stopped")
            one = why(world, "m/0")[0]
            self.assertEqual((one["state"], one["crashes"], one["next"]["in_ms"]), ("stopped", 0, None))
            self.assertEqual((one["death"]["cause"], one["death"]["exit"]["pid"]), ("ordered", pid))
            lines = told(world, "m/0")
            self.assertRegex(lines[0], r"^m/0: stopped for [0-9.]+ m?s, 1 start, 0 crashes$")
            self.assertEqual(lines[-2:], ["  next      nothing: it is stopped", "  to start  hasupctl start m/0"])
            world.ctl("start", "m/0")  # as it says
            world.ctl("wait", "m/0", "--ready")
            self.assertEqual(told(world, "m/0")[-1], "  next      it serves")

    def test_a_slot_that_waits_for_its_turn_to_load_says_so(self):
        with World("", start=False) as world:
            gate = world.fifo("load")
            world.write(f"  m: {{command: [{WORKER}, --load, {gate}], workers: 2}}", "limits: {loading: 1}")
            world.start(wait=False)
            wait_until(lambda: sorted(s["state"] for s in world.slots()) == ["loading", "waiting"], "nobody waits")
            waits, loads = (next(s["slot"] for s in world.slots() if s["state"] == state)
                            for state in ("waiting", "loading"))
            lines = told(world, waits)
            self.assertRegex(lines[0], f"^{waits}: waiting for [0-9.]+ m?s, 0 starts, 0 crashes$")
            self.assertEqual(lines[1:], ["  died      never",
                                         "  next      it waits for its turn to load (limits.loading)"])
            self.assertIsNone(why(world, waits)[0]["next"]["in_ms"])
            self.assertEqual(told(world, loads)[-1], "  next      it loads; then it serves")
            world.unlock(gate)
            world.ctl("wait", "m", "--ready")

    def test_a_slot_that_waits_for_its_zygote_says_so(self):
        with World("", start=False) as world:
            gate = world.fifo("load")
            world.write(f"  m: {{command: [{sys.executable}, -B, {VERSIONED}, one, --gate={gate}], preload: true}}")
            world.start(wait=False)
            wait_until(lambda: world.slot("m/0")["state"] == "waiting", "it does not wait")
            self.assertEqual(told(world, "m/0")[1:], [
                "  died      never", "  next      it waits for its model's zygote, which loads and then forks it"])
            world.release(gate)
            world.ctl("wait", "m", "--ready")
            self.assertEqual(told(world, "m/0")[-1], "  next      it serves")

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
            self.assertIn("a shutdown would end 1 slot and wait for 1 request, 35 s at most\n", world.ctl("shutdown", "--explain").stdout.decode())
            self.assertEqual(world.slot("m/0")["state"], "ready")
            world.ctl("shutdown", "--now")
            self.assertEqual(world.process.wait(LIMIT), 0)
            waiting.close()

    def test_of_one_that_is_under_way_it_says_what_it_waits_for_and_how_long_at_most(self):
        with World(MODELS, "shutdown: {grace: 1h}") as world:
            gate, waiting = world.occupy()
            world.ctl("shutdown")
            leave = json.loads(world.ctl("--json", "shutdown", "--explain").stdout)
            self.assertEqual((leave["shutting_down"], leave["request_count"]), (True, 1))
            self.assertTrue(3000000 < leave["at_most_ms"] < 3605000, leave)
            said = world.ctl("shutdown", "--explain").stdout.decode().splitlines()
            self.assertRegex(said[0], "^hasupd stops, and waits for 1 slot and 1 request, from now on .* at most$")
            self.assertRegex(said[1], "^  m/0  [a-z]+, 1 running$")
            world.release(gate)
            self.assertEqual((world.finish(waiting)[0], world.process.wait(LIMIT)), (200, 0))

    def test_of_one_that_was_hastened_it_says_that_workers_alone_are_waited_for(self):
        with World(f"  m: {{command: [{WORKER}], timeouts: {{stop: 1h}}}}", "shutdown: {grace: 1h}") as world:
            pid = world.pid("m/0")
            os.kill(pid, signal.SIGSTOP)
            world.ctl("shutdown", "--now")
            leave = json.loads(world.ctl("--json", "shutdown", "--explain").stdout)
            self.assertEqual((leave["at_most_ms"], leave["request_count"]), (3600000, 0))
            world.ctl("shutdown")
            self.assertEqual(world.process.wait(LIMIT), 0)


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

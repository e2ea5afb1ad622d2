"""How hasupd ends, what it says meanwhile, and what the next one says of it."""
import json
import os
import signal
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import LIMIT, WORKER, World, wait_until  # noqa: E402

MODEL = f"  m: {{command: [{WORKER}]}}"


class LastRun(unittest.TestCase):
    def told(self, world):
        event = world.wait_event("hasupd.last_run")
        self.assertEqual(json.loads(world.ctl("--json", "status").stdout)["last_run"], event["message"])
        return event["level"], event["how"], event["message"]

    def test_the_next_one_says_how_the_last_one_ended(self):
        with World(MODEL) as world:
            self.assertIsNone(json.loads(world.ctl("--json", "status").stdout)["last_run"])
            pid = world.process.pid
            self.assertEqual(world.stop(signal.SIGTERM), 0)
            world.start()
            level, how, message = self.told(world)
            self.assertEqual((level, how), ("info", "stopped"))
            self.assertRegex(message, rf"^hasupd \S+, pid {pid}, begun at \S+Z, stopped at \S+Z with exit code 0$")
            world.kill_and_start()
            level, how, message = self.told(world)
            self.assertEqual((level, how), ("warning", "killed"))
            self.assertIn("did not stop: it was killed", message)
            world.stop(signal.SIGKILL)
            path = os.path.join(world.state, "running.json")
            with open(path) as file:
                running = json.load(file)
            running["boot_id"] = "another"
            with open(path, "w") as file:
                json.dump(running, file)
            world.start()
            level, how, message = self.told(world)
            self.assertEqual((level, how), ("warning", "machine"))
            self.assertIn("ended with its machine", message)


class Stop(unittest.TestCase):
    def test_it_says_what_it_waits_for_and_ends_with_that(self):
        with World(MODEL) as world:
            gate, waiting = world.occupy()
            pid = world.pid("m/0")
            world.process.send_signal(signal.SIGTERM)
            event = world.wait_event("shutdown.waiting")
            self.assertEqual(event["message"], f"m/0 (pid {pid}, ready, 1 request)")
            world.release(gate)
            self.assertEqual(world.finish(waiting)[0], 200)
            self.assertEqual(world.process.wait(LIMIT), 0)


class StopAmidReplacements(unittest.TestCase):
    """Limits that are longer than the test: what ends does so because nothing is left, not because time is up."""
    TOP = "shutdown: {grace: 10m}"
    KEYS = f"command: [{WORKER}], concurrency_max: 2, timeouts: {{drain: 10m}}"

    def ends_with_everything_answered(self, world, gate, requests):
        """Each is accepted, so each is answered; and hasupd is gone with its last worker."""
        wait_until(lambda: sum(slot["inflight"] for slot in world.slots()) + world.status()["models"][0]["queued"]
                   == len(requests), "not all are accepted")
        world.process.send_signal(signal.SIGTERM)
        world.wait_event("shutdown.started")
        world.unlock(gate)
        self.assertEqual([world.finish(request)[::2] for request in requests], [(200, b"done")] * len(requests))
        self.assertEqual(world.process.wait(LIMIT), 0)

    def recycled(self, world, gate):
        """m/0 has answered enough, and has a request in hand yet."""
        first = world.fifo("first")
        done = world.begin("m", f"wait {first}")
        wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight")
        held = world.begin("m", f"wait {gate}")
        wait_until(lambda: world.slot("m/0")["inflight"] == 2, "never in flight")
        world.release(first)
        self.assertEqual(world.finish(done)[0], 200)
        return held

    def test_promise_1_while_a_worker_drains_to_be_recycled(self):
        for surge in (0, 1):
            keys = f"{self.KEYS}, recycle: {{requests: 1}}, rollout: {{max_surge: {surge}}}"
            with self.subTest(surge=surge), World(f"  m: {{{keys}}}", self.TOP) as world:
                gate = world.fifo("gate")
                held = self.recycled(world, gate)
                world.wait_event("slot.recycled", slot="m/0")
                self.assertEqual(world.slot("m/0")["state"], "draining")
                others = [world.begin("m", f"wait {gate}") for _ in range(6)]
                self.ends_with_everything_answered(world, gate, [held, *others])

    def test_promise_1_while_who_stands_in_still_loads(self):
        with World("", self.TOP, start=False) as world:
            load, gate = world.fifo("load"), world.fifo("gate")
            keys = self.KEYS.replace("]", f", --load, {load}]", 1)
            world.write(f"  m: {{{keys}, recycle: {{requests: 1}}}}", self.TOP)
            world.start(wait=False)
            world.release(load)
            world.wait_event("slot.ready", slot="m/0")
            held = self.recycled(world, gate)
            wait_until(lambda: [slot["state"] for slot in world.slots()] == ["ready", "loading"], "nobody stands in")
            others = [world.begin("m", f"wait {gate}") for _ in range(6)]
            self.ends_with_everything_answered(world, gate, [held, *others])

    def test_promise_1_amid_a_rollout(self):
        with World(f"  m: {{{self.KEYS}, workers: 2, version: a}}", self.TOP) as world:
            gate = world.fifo("gate")
            held = [world.begin("m", f"wait {gate}") for _ in range(4)]
            wait_until(lambda: [slot["inflight"] for slot in world.slots()] == [2, 2], "never in flight")
            world.write(f"  m: {{{self.KEYS}, workers: 2, version: b}}", self.TOP)
            world.ctl("reload")
            wait_until(lambda: [slot["state"] for slot in world.slots()] == ["draining", "ready", "ready"], "no turn")
            others = [world.begin("m", f"wait {gate}") for _ in range(6)]
            self.ends_with_everything_answered(world, gate, held + others)

    def test_promise_1_amid_a_rollout_that_does_not_come_up(self):
        with World("", self.TOP, start=False) as world:
            load, gate = world.fifo("load"), world.fifo("gate")
            world.write(f"  m: {{{self.KEYS}, version: a}}", self.TOP)
            world.start()
            keys = self.KEYS.replace("]", f", --load, {load}]", 1)
            world.write(f"  m: {{{keys}, version: b}}", self.TOP)
            world.ctl("reload")
            wait_until(lambda: [slot["state"] for slot in world.slots()] == ["ready", "loading"], "nobody stands in")
            requests = [world.begin("m", f"wait {gate}") for _ in range(6)]
            self.ends_with_everything_answered(world, gate, requests)


class Essential(unittest.TestCase):
    RESTART = "restart: {start_limit: 2, backoff_min: 1ms, backoff_max: 1ms}"

    def test_hasupd_ends_with_the_code_of_a_model_that_failed_for_good(self):
        for command, code, why in (("[/bin/sh, -c, 'exit 7']", 7, "exited with code 7"), ("[/no/such/thing]", 127, "could not start"),
                                   ("[/etc/passwd]", 126, "exec /etc/passwd: Permission denied"), ("[/etc]", 126, "could not start"),
                                   ("[/etc/passwd/x]", 127, "could not start"),
                                   ("[/bin/sh, -c, 'kill -9 $$']", 137, "killed by signal 9")):
            models = f"  n: {{command: {command}, workers: 2, essential: true, {self.RESTART}}}\n{MODEL}"
            with self.subTest(command=command), World(models, wait=False) as world:
                told = world.wait_event("model.failed")["message"]
                self.assertIn(f"hasupd stops, with exit code {code}; last: ", told)
                self.assertIn(why, told)
                self.assertEqual(world.process.wait(LIMIT), code)

    def test_what_is_no_program_or_lacks_its_interpreter_is_told_apart(self):
        for content, code, why in ((b"\x7fELF?", 126, "x: Exec format error"),
                                   (b"#!/no/such/shell\n", 127, "x: its interpreter /no/such/shell: No such file or directory")):
            with self.subTest(content=content), World("", start=False) as world:
                path = os.path.join(world.directory, "x")
                with open(path, "wb") as file:
                    file.write(content)
                os.chmod(path, 0o755)
                world.write(f"  n: {{command: [{path}], essential: true, {self.RESTART}}}")
                world.start(wait=False)
                self.assertIn(why, world.wait_event("model.failed")["message"])
                self.assertEqual(world.process.wait(LIMIT), code)

    def test_others_may_fail_and_what_serves_goes_on(self):
        models = (f"  n: {{command: [/bin/sh, -c, 'exit 7'], {self.RESTART}}}\n"
                  f"  m: {{command: [{WORKER}], workers: 2, essential: true, {self.RESTART}}}")
        with World(models, wait=False) as world:
            world.wait_event("slot.broken", slot="n/0")
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            self.assertIsNone(world.process.poll())


if __name__ == "__main__":
    unittest.main()

"""How hasupd ends, what it says meanwhile, and what the next one says of it."""
import json
import os
import signal
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import LIMIT, WORKER, World  # noqa: E402

MODEL = f"  m: {{command: [{WORKER}]}}"


class LastRun(unittest.TestCase):
    def told(self, world):
        event = world.wait_event("hasupd.last_run")
        self.assertEqual(json.loads(world.ctl("--json", "status").stdout)["last_run"], event["message"])
        return event["level"], event["how"], event["message"]

    def test_the_next_one_says_how_the_last_one_ended(self):
        with World(MODEL) as world:
            self.assertEqual(json.loads(world.ctl("--json", "status").stdout)["last_run"], "")
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


class Essential(unittest.TestCase):
    RESTART = "restart: {start_limit: 2, backoff_min: 1ms, backoff_max: 1ms}"

    def test_hasupd_ends_with_the_code_of_a_model_that_failed_for_good(self):
        for command, code, why in (("[/bin/sh, -c, 'exit 7']", 7, "exited with code 7"), ("[/no/such/thing]", 127, "could not start"),
                                   ("[/bin/sh, -c, 'kill -9 $$']", 137, "killed by signal 9")):
            models = f"  n: {{command: {command}, workers: 2, essential: true, {self.RESTART}}}\n{MODEL}"
            with self.subTest(command=command), World(models, wait=False) as world:
                told = world.wait_event("model.failed")["message"]
                self.assertIn(f"hasupd stops, with exit code {code}; last: ", told)
                self.assertIn(why, told)
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

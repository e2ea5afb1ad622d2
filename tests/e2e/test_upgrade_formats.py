"""What one hasupd hands to the next is of another version, or damaged."""
import glob
import http.client
import json
import os
import signal
import socket
import subprocess
import unittest

import handed
from world import LIMIT, ROOT, WORKER, World, wait_until

KEPT = sorted(glob.glob(os.path.join(ROOT, "tests/vectors/handed-*.json")))


class Refused(unittest.TestCase):
    def test_promise_1_what_is_damaged_or_newer_is_refused_and_the_old_hasupd_goes_on(self):
        """Before the point of no return: whoever took over and failed then would take all workers with it."""
        refusals = {"a byte": "what is handed over cannot be read", "its end": "what is handed over cannot be read",
                    "all of it": "what is handed over cannot be read", "no seal": "what is handed over cannot be read",
                    "its format": "it does not know its format",
                    "a field more at the end": "what is handed over cannot be taken: its HTTP clients",
                    "a record more": "it has parts that this version does not know",
                    "bytes that are no records": "what is handed over cannot be taken: "}
        with World(f"  m: {{command: [{WORKER}]}}") as world:
            gate, waiting = world.occupy()
            pid = world.pid("m/0")
            for what, said in refusals.items():
                with self.subTest(what=what):
                    done = world.ctl("upgrade", "--binary", handed.altering(world, what), check=False)
                    self.assertEqual(done.returncode, 1)
                    self.assertIn("cannot take over", done.stderr.decode())
                    self.assertIn(said, done.stderr.decode())
                    self.assertEqual((world.pid("m/0"), world.slot("m/0")["inflight"]), (pid, 1))
            done = world.ctl("--json", "upgrade", "--binary", handed.altering(world, "nothing"))
            self.assertTrue(json.loads(done.stdout)["ok"])
            world.release(gate)
            self.assertEqual(world.finish(waiting)[2], b"done")
            self.assertEqual(world.pid("m/0"), pid)


    def test_whatever_is_handed_over_the_check_says_yes_or_no(self):
        kept = handed.Handed(KEPT[-1])
        with World(kept.told["models"], start=False) as world:
            os.mkdir(world.state, 0o700)
            for seed in range(200):
                with self.subTest(seed=seed):
                    fd = handed.memfd(handed.mutated(kept.data, seed))
                    done = subprocess.run([world.program, "--upgrade-check", str(fd), "-c", world.config], pass_fds=[fd],
                                          capture_output=True, timeout=LIMIT)
                    os.close(fd)
                    self.assertIn(done.returncode, (0, 1, -signal.SIGABRT))  # an invariant that does not hold is a no
                    self.assertNotIn(b"Sanitizer", done.stderr)

    def test_a_rehearsal_that_fails_half_way_ends_nothing_of_the_hasupd_that_serves(self):
        with World(f"  m: {{command: [{WORKER}]}}", start=False) as world:
            path = os.path.join(world.directory, "own.sock")
            models = f"  m: {{command: [{WORKER}], sockets: {{own: {{unix: {path}}}}}}}"
            world.write(models)
            world.start()
            pid, there = world.pid("m/0"), sorted(os.listdir(world.state))
            world.write(models, "checkpoints: {key_file: /nowhere/key}")
            done = world.ctl("upgrade", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("cannot take over: checkpoints.key_file: /nowhere/key", done.stderr.decode())
            self.assertEqual(sorted(os.listdir(world.state)), there)
            with open(os.path.join(world.state, "running.json")) as file:
                self.assertNotIn("ended", json.load(file))
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
            self.assertEqual((world.pid("m/0"), world.post("m", "echo x")[2]), (pid, b"x"))
            world.write(models)
            self.assertTrue(json.loads(world.ctl("--json", "upgrade").stdout)["ok"])


class Older(unittest.TestCase):
    def test_promise_1_what_older_versions_handed_over_is_taken_up(self):
        self.assertTrue(KEPT)
        for path in KEPT:
            with self.subTest(path=os.path.basename(path)):
                self.taken_up(handed.Handed(path))

    def taken_up(self, kept):
        with World(kept.told["models"], start=False) as world:
            clients = kept.take_over(world)
            event = world.wait_event("hasupd.upgraded")
            self.assertEqual((event["from"], event["requests"]), (kept.told["version"], 3))
            before = json.loads(world.ctl("--json", "why", "slow/0").stdout)["slots"][0]["death"]
            for key in ("reason", "wall_ms", "stderr"):  # the oldest do not say more
                self.assertEqual(before[key], kept.told["why"][key])
            world.ctl("start", "slow")  # where the machine is up for less than the hour that it backs off
            for i, client in enumerate(clients):
                answer = http.client.HTTPResponse(client)
                answer.begin()
                self.assertEqual((answer.status, answer.read()), (200, b"%d" % i))
                self.assertEqual(answer.headers["X-Hasup-Version"], "seven")
                client.close()
            self.assertEqual(world.slot("killed/0")["state"], "stopped")
            world.ctl("start", "killed")
            wait_until(lambda: world.slot("killed/0")["state"] == "ready", "it does not start")
            self.assertEqual(world.post("killed", "crash")[0], 422)
            self.assertEqual(world.post("killed", "echo y")[2], b"y")
            self.assertEqual(world.slot("killed/0")["crashes"], 2)  # none since
            self.assertTrue(json.loads(world.ctl("--json", "upgrade").stdout)["ok"])
            self.assertEqual(world.stop(), 0)


if __name__ == "__main__":
    unittest.main()

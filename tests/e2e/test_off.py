"""state_dir, runtime_dir and listen.unix are off: nothing is kept, and each thing that would be says so.

What serves where nothing may be written, test_pid1.py has.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, WORKER, World, wait_until  # noqa: E402

MODELS = (f"  m: {{command: [{WORKER}], timeouts: {{watchdog: 30s}}}}\n"
          f"  counter: {{command: [{BUILD}/examples/counter], checkpoint: {{interval: 100ms}}}}")
KEEPS_NOTHING = b"hasupd keeps nothing: its configuration has state_dir: off"


class Off(World):
    """With the local door's socket in a directory of the test's, so that hasupctl comes in."""

    def write(self, models, top=""):
        with open(self.config, "w") as file:
            file.write(f"state_dir: off\nruntime_dir: off\nlisten: {{http: '127.0.0.1:0', unix: {self.socket}}}\n"
                       f"{top}\nmodels:\n{models}\n")


class KeepsNothing(unittest.TestCase):
    def world(self, **options):
        # hasupctl's own defaults would be a directory of the machine's
        world = Off(MODELS, environment={"HOME": "/nonexistent", "XDG_STATE_HOME": "/nonexistent"}, **options)
        self.addCleanup(world.close)
        return world

    def count(self, world):
        status, _, body = world.post("counter", "")
        self.assertEqual(status, 200)
        return int(body)

    def test_a_state_lives_over_its_workers_death_and_goes_with_hasupd(self):
        world = self.world()
        self.assertEqual(world.wait_event("checkpoints.off")["slot"], "counter/0")
        for i in range(1, 4):
            self.assertEqual(self.count(world), i)
        said = json.loads(world.ctl("--json", "checkpoint", "now", "counter", check=False).stdout)["checkpoints"]["counter/0"]
        self.assertEqual(said["error"], "state_dir is off: it is kept in memory, until hasupd ends")
        for i in range(4, 8):
            since = world.mark()
            world.kill("counter/0")
            world.wait_event("slot.ready", since=since, slot="counter/0")
            self.assertEqual(self.count(world), i)
        world.ctl("upgrade")
        world.kill("counter/0")
        self.assertEqual(self.count(world), 8)
        self.assertEqual(world.stop(), 0)
        names = [event["event"] for event in world.events]
        self.assertEqual(names.count("checkpoints.off"), 1)
        self.assertFalse({"checkpoints.failing", "checkpoint.failed", "checkpoint.lost", "notes.failing",
                          "journal.failing", "hasupd.last_run"} & set(names), names)
        self.assertEqual(sorted(os.listdir(world.directory)), ["supervisor.yaml"])
        world.start()
        self.assertEqual(self.count(world), 1)

    def test_a_state_goes_with_its_slot_and_that_is_said(self):
        world = self.world()
        self.assertEqual([self.count(world), self.count(world)], [1, 2])
        world.ctl("scale", "counter", "0")
        self.assertIn("goes with the slot, with state_dir: off", world.wait_event("slot.state_left", slot="counter/0")["message"])
        wait_until(lambda: "counter/0" not in [slot["slot"] for slot in world.slots()], "it stays")
        world.ctl("scale", "counter", "1")
        self.assertEqual(self.count(world), 1)

    def test_what_would_be_durable_is_refused_with_the_reason_and_the_rest_is_served(self):
        world = self.world()
        for headers in {"Idempotency-Key": "1"}, {"Prefer": "respond-async"}:
            status, answer, body = world.post("m", "echo x", headers)
            self.assertEqual((status, answer["Retry-After"]), (503, None))
            self.assertIn(b"nothing is durable here: hasupd's configuration has state_dir: off", body)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
        self.assertEqual(world.get("/requests/0123456789abcdef0123456789abcdef")[0], 404)
        self.assertIn(b"hasup_journal_failing 0\n", world.get("/metrics")[1])
        asked = world.ctl("requests", check=False)
        self.assertEqual(asked.returncode, 1)
        self.assertIn(b"state_dir: off", asked.stderr)

    def test_hasupctl_says_why_there_is_nothing(self):
        world = self.world()
        self.assertIsNone(world.status()["state_dir"])
        self.assertIn(b"nothing is kept: state_dir is off", world.ctl("status").stdout)
        for verb, code in ((["audit"], 2), (["audit", "-c", world.config], 2), (["checkpoint", "list"], 1),
                           (["checkpoint", "show", "1"], 1), (["checkpoint", "export", "counter/0", "-"], 1),
                           (["events", "--since", "1h"], 0)):
            with self.subTest(verb=verb):
                done = world.ctl(*verb, check=False)
                self.assertEqual(done.returncode, code, done)
                self.assertEqual(done.stderr.count(KEEPS_NOTHING), 1, done.stderr)
        self.assertIn(b"hasupd.started", world.ctl("events", "--since", "1h").stdout)
        config = json.loads(world.ctl("config").stdout)
        self.assertEqual((config["state_dir"], config["runtime_dir"], config["listen"]["unix"]),
                         ("off", "off", world.socket))

    def test_what_is_off_stays_off_until_hasupd_ends(self):
        world = self.world()
        with open(world.config) as file:
            before = file.read()
        for off, on in (("state_dir: off", f"state_dir: {world.directory}/state"), ("runtime_dir: off", f"runtime_dir: {world.directory}"),
                        (f"unix: {world.socket}", "unix: off")):
            key = on.split(":")[0].replace("unix", "listen.unix")
            with open(world.config, "w") as file:
                file.write(before.replace(off, on))
            for verb in ["reload"], ["upgrade"]:
                done = world.ctl(*verb, check=False)
                self.assertEqual(done.returncode, 1, done)
                self.assertIn(f"{key} ".encode(), done.stderr)
                self.assertIn(b"needs a restart", done.stderr)
        self.assertEqual(world.post("m", "echo x")[2], b"x")
        self.assertEqual(sorted(os.listdir(world.directory)), ["hasup.sock", "supervisor.yaml"])


class NoDoor(unittest.TestCase):
    def test_hasupctl_without_a_socket_says_what_to_do(self):
        done = subprocess.run([f"{BUILD}/hasupctl", "-s", "/nonexistent/hasup.sock", "status"], capture_output=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 3)
        self.assertIn(b"one with listen.unix: off hears HTTP and signals only", done.stderr)

    def test_programs_alone_need_no_door_at_all(self):
        with tempfile.TemporaryDirectory(prefix="hasup-e2e.") as directory:
            config = os.path.join(directory, "c.yaml")
            with open(config, "w") as file:
                file.write("state_dir: off\nruntime_dir: off\nlisten: {http: off, unix: off}\n"
                           "programs: {p: {command: [sh, -c, 'echo it runs; exec sleep 1000']}}\n")
            checked = subprocess.run([f"{BUILD}/hasupd", "--check", config], capture_output=True, text=True, timeout=LIMIT)
            self.assertEqual((checked.returncode, checked.stdout), (0, f"{config}: ok, 0 models, 1 program\n"))
            with subprocess.Popen([f"{BUILD}/hasupd", "-c", config], stderr=subprocess.PIPE) as hasupd:
                self.assertTrue(any(b'"it runs"' in line for line in hasupd.stderr))
                hasupd.send_signal(signal.SIGTERM)
                self.assertEqual(hasupd.wait(LIMIT), 0)
            self.assertEqual(os.listdir(directory), ["c.yaml"])


if __name__ == "__main__":
    unittest.main()

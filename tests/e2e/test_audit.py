"""The audit: no false finding beside load, true ones where something is wrong, restore tests with real workers, the
history, and the entry for cron in what cron really gives."""
import fcntl
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, ROOT, World, alive  # noqa: E402

CTL = os.path.abspath(f"{BUILD}/hasupctl")
COUNTER = f"  counter: {{command: [{BUILD}/examples/counter], journal: %s, checkpoint: {{interval: %s}}}}"
MOODY = os.path.join(ROOT, "tests/e2e/moody.py")


def audit(state, *args, env=None):
    return subprocess.run([CTL, "audit", "--state-dir", state, *args], capture_output=True, text=True, timeout=LIMIT,
                          env=env, stdin=subprocess.DEVNULL)


def audit_json(state, *args):
    done = audit(state, "--json", *args)
    return done.returncode, json.loads(done.stdout)


def history(state):
    return json.loads(audit(state, "--json", "--history").stdout)


class Load:
    """Three clients with durable requests to counter and echo, until it is left."""

    def __init__(self, world):
        self.world, self.stop, self.wrong, self.killed, self.count = world, threading.Event(), [], False, 0
        self.threads = [threading.Thread(target=self.run) for _ in range(3)]

    def run(self):
        number = 0
        while not self.stop.is_set():
            number += 1
            key = f"{id(self)}-{threading.get_ident()}-{number}"
            try:
                for model in ("counter", "echo"):
                    status = self.world.post(model, b"x" * (number % 3000), {"Idempotency-Key": key})[0]
                    if status != 200:
                        self.wrong.append(status)
            except (OSError, http.client.HTTPException) as error:
                if not self.killed:
                    self.wrong.append(repr(error))
                return
        self.count += number

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        if not kind:
            assert not self.wrong, self.wrong
            assert self.killed or self.count > 10


class Files(unittest.TestCase):
    def codes(self, state, *args):
        code, found = audit_json(state, *args)
        self.assertIn(code, (0, 1))
        return {finding["code"]: finding for finding in found["findings"]}

    def test_every_code_is_documented_as_it_is(self):
        with open(os.path.join(ROOT, "checkpoints/audit.h")) as file:
            codes = re.findall(r'X\([A-Z]+, "([a-z]+)", AUDIT_([A-Z]+)\)', file.read())
        with open(os.path.join(ROOT, "docs/audit.md")) as file:
            rows = re.findall(r"^\| `([a-z]+)` \| (error|warning|note) \| (.+?) \| (.+?) \|$", file.read(), re.M)
        self.assertGreater(len(codes), 10)
        self.assertEqual(sorted((code, severity.lower()) for code, severity in codes),
                         sorted((code, severity) for code, severity, _, _ in rows))

    def assert_sound(self, state, *args):
        done = audit(state, "--max-age", "30s", "--stuck", "30s", *args)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertRegex(done.stdout, r"\A[^\n]*: 0 findings\n\Z")

    def test_promise_11_no_false_finding_beside_load(self):
        models = COUNTER % ("always", "100ms") + f"\n  echo: {{command: [{BUILD}/examples/echo], result_ttl: 1s}}"
        with World(models) as world:
            with Load(world) as load:
                for i in range(150):
                    self.assert_sound(world.state, *(["--deep"] if i % 4 == 0 else []))
                    if i == 75:
                        world.kill("counter/0")
                load.killed = True
                world.stop(signal.SIGKILL)
            self.assert_sound(world.state, "--deep")
            world.start()
            with Load(world):
                for i in range(50):
                    self.assert_sound(world.state, *(["--deep"] if i % 4 == 0 else []))
            self.assertEqual(world.stop(), 0)
            done = audit(world.state, "--deep", "--max-age", "1s")
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_promise_11_changes_without_a_checkpoint_are_stale_and_an_idle_slot_is_not(self):
        with World(COUNTER % ("never", "never")) as world:
            world.post("counter", "")
            end = time.monotonic() + LIMIT
            while (found := audit_json(world.state, "--max-age", "1s"))[0] == 0:
                self.assertLess(time.monotonic(), end)
            (stale,) = found[1]["findings"]
            self.assertEqual((stale["code"], stale["where"], stale["severity"]), ("stale", "counter/0", "error"))
            self.assertLess(abs(stale["since_wall_ms"] / 1000 - time.time()), LIMIT)
            world.ctl("checkpoint", "now", "counter")
            since = time.monotonic()
            while time.monotonic() < since + 1.5:  # idle for longer than --max-age
                self.assertEqual(audit(world.state, "--max-age", "1s").returncode, 0)
            world.post("counter", "")
            world.stop(signal.SIGKILL)  # what it had is lost, and that stays to be seen
            while audit(world.state, "--max-age", "1s").returncode == 0:
                self.assertLess(time.monotonic(), end)

    def test_promise_11_bits_flipped_in_the_files_are_found(self):
        with World(f"  learner: {{command: [{BUILD}/examples/learner], journal: always}}\n"
                   f"  echo: {{command: [{BUILD}/examples/echo]}}") as world:
            image = json.dumps({"image": [3] * 64, "label": 4})
            for i in range(3):
                self.assertEqual(world.post("learner", image, {"Idempotency-Key": str(i)})[0], 200)
                self.assertEqual(world.post("echo", b"y" * 20000, {"Idempotency-Key": str(i)})[0], 200)
            world.ctl("checkpoint", "now", "learner")
            self.assertEqual(world.stop(), 0)
            rng = random.Random(int(os.environ.get("HASUP_SEED", "1")))
            for name, least in (("checkpoints.db", 15), ("journal.db", 20)):
                path, found = os.path.join(world.state, name), 0
                with open(path, "r+b", buffering=0) as file:
                    size = file.seek(0, 2)
                    for _ in range(60):
                        at, bit = rng.randrange(size), 1 << rng.randrange(8)
                        file.seek(at)
                        byte = file.read(1)[0]
                        file.seek(at)
                        file.write(bytes([byte ^ bit]))
                        done = audit(world.state, "--deep", "--quiet")
                        self.assertIn(done.returncode, (0, 1, 2), done.stderr)
                        self.assertEqual(bool(done.stdout or done.stderr), done.returncode != 0)
                        found += done.returncode != 0
                        file.seek(at)
                        file.write(bytes([byte]))
                self.assertGreater(found, least, name)
                done = audit(world.state, "--deep", "--quiet")
                self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_requests_that_nobody_runs_are_stuck(self):
        with World(f"  echo: {{command: [{BUILD}/examples/echo]}}") as world:
            world.write(f"  echo: {{command: [{BUILD}/examples/echo]}}\n  away: {{command: [/nonexistent]}}")
            world.ctl("reload")
            world.wait_event("slot.start_failed")
            self.assertEqual(world.post("away", "x", {"Prefer": "respond-async"})[0], 202)
            end = time.monotonic() + LIMIT
            while (found := audit_json(world.state, "--stuck", "1s"))[0] == 0:
                self.assertLess(time.monotonic(), end)
            (stuck,) = found[1]["findings"]
            self.assertEqual((stuck["code"], stuck["where"], stuck["severity"]), ("stuck", "away", "warning"))
            self.assertEqual(audit(world.state, "--stuck", "1h").returncode, 0)

    def test_the_audit_of_another_users_directory_writes_nothing(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        with World(COUNTER % ("never", "30s")) as world:
            world.post("counter", "")
            self.assertEqual(world.stop(), 0)
            os.chmod(world.directory, 0o755)
            os.chmod(world.state, 0o755)
            os.chmod(os.path.join(world.state, "checkpoints.db"), 0o644)
            copy = os.path.join(world.directory, "hasupctl")
            shutil.copy(CTL, copy)
            done = subprocess.run([copy, "audit", "--state-dir", world.state], capture_output=True, text=True, timeout=LIMIT,
                                  user=65534, group=65534, extra_groups=[])
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("permissions", done.stdout)
            self.assertNotIn("audits.jsonl", os.listdir(world.state))


class Restore(unittest.TestCase):
    def setUp(self):
        self.moods = tempfile.mkdtemp(prefix="hasup-mood.")
        self.addCleanup(shutil.rmtree, self.moods)
        os.chmod(self.moods, 0o777)
        self.mood = os.path.join(self.moods, "mood")
        self.set("")
        self.world = World(f"  moody: {{command: [/usr/bin/python3, -B, {MOODY}], environment: {{MOOD: {self.mood}}}, "
                           f"timeouts: {{start: 20s}}}}\n" + COUNTER % ("never", "30s"))
        self.addCleanup(self.world.close)

    def set(self, mood):
        with open(self.mood, "w") as file:
            file.write(mood)

    def store(self, size=8):
        self.assertEqual(self.world.post("moody", str(size))[0], 200)
        self.world.ctl("checkpoint", "now", "moody")

    def fails(self, mood, *texts, config=None):
        self.set(mood)
        code, found = audit_json(self.world.state, "--restore-test", "moody/0", *(["-c", config] if config else []))
        self.assertEqual(code, 1, found)
        (finding,) = found["findings"]
        self.assertEqual((finding["code"], finding["severity"], finding["where"]), ("restore", "error", "moody/0"))
        for text in texts:
            self.assertIn(text, finding["text"])
        self.assertEqual([one["result"] for one in found["restored"]], ["failed"])
        self.assertIsNone(found["last_restored_wall_ms"])

    def restored(self, *args):
        code, found = audit_json(self.world.state, "--restore-test", *args)
        self.assertEqual((code, found["findings"]), (0, []))
        return found["restored"]

    def test_promise_4_a_checkpoint_is_restored_by_a_real_worker(self):
        pid = self.world.pid("moody/0")
        for size in (8, 100000, 3 << 20):  # inline, and in a buffer both ways
            self.store(size)
            (one,) = self.restored("moody")
            self.assertEqual((one["slot"], one["result"]), ("moody/0", "good"))
            self.assertEqual(one["bytes"], 8 + size // 256 * 256)
        self.assertEqual(self.world.pid("moody/0"), pid)  # the one that serves is not concerned
        self.assertEqual(self.world.stop(), 0)
        self.restored("moody/0")  # without hasupd: with the configuration that it left
        os.unlink(os.path.join(self.world.state, "running.json"))
        done = audit(self.world.state, "--restore-test")
        self.assertEqual(done.returncode, 2)
        self.assertIn("give -c FILE", done.stderr)
        self.restored("moody", "-c", self.world.config)

    def test_without_a_target_each_model_is_tested_and_the_history_tells(self):
        self.world.post("counter", "")
        self.world.ctl("checkpoint", "now", "counter")
        self.store()
        self.assertEqual(sorted(one["slot"] for one in self.restored()), ["counter/0", "moody/0"])
        self.assertEqual(audit(self.world.state, "--max-restore-age", "1d").returncode, 0)
        last = history(self.world.state)[0]
        self.assertEqual((last["verdict"], len(last["restored"])), ("sound", 2))
        shown = self.world.ctl("status").stdout.decode()
        self.assertRegex(shown, r"\nlast audit \d+ m?s ago: sound; restore tested \d+ m?s ago\n")
        self.assertEqual(self.world.status()["audit"]["verdict"], "sound")

    def test_a_restore_test_without_a_checkpoint_says_that_it_tested_nothing(self):
        done = audit(self.world.state, "--restore-test")
        self.assertEqual(done.returncode, 0)
        self.assertIn("no restore was tested: there is no checkpoint yet", done.stdout)
        for _ in range(2):  # without a file, and in one that holds others'
            for target in ("moody/7", "mody"):
                done = audit(self.world.state, "--restore-test", target)
                self.assertEqual(done.returncode, 2)
                self.assertIn(f"there is no checkpoint of {target} to restore; hasupctl checkpoint list", done.stderr)
            self.store()

    def test_a_restore_that_was_never_tested_is_a_finding_where_asked_for(self):
        self.store()
        self.assertEqual(audit(self.world.state).returncode, 0)
        code, found = audit_json(self.world.state, "--max-restore-age", "8d")
        self.assertEqual((code, found["findings"][0]["code"]), (1, "untested"))

    def test_a_worker_that_cannot_restore_is_a_finding(self):
        self.store()
        self.fails("cannot", "could not restore it", "made by version 2")
        self.fails("dies", "left before its ready", "killed by signal 6")
        self.fails("noisy", "left before its ready", "exited with code 3", "its last words: cannot find the GPU")
        self.fails("refuses", "could not save its state")
        shown = self.world.ctl("status").stdout.decode()
        self.assertRegex(shown, r"\nlast audit \d+ m?s ago: 1 FINDING \(hasupctl audit shows them\)\n")

    def test_a_worker_that_hangs_is_ended(self):
        self.store()
        config = os.path.join(self.world.directory, "other.yaml")
        with open(self.world.config) as file:
            text = file.read()
        with open(config, "w") as file:
            file.write(text.replace("start: 20s", "start: 2s"))
        self.fails("slow", "its ready did not come within its time limit", config=config)

    def test_a_command_that_is_not_there_or_is_no_worker_is_a_finding(self):
        self.store()
        config = os.path.join(self.world.directory, "other.yaml")
        for command, text in (("[/nonexistent/worker]", "could not start: exec"), ("[/bin/true]", "left before its hello"),
                              (f"[{BUILD}/examples/echo]", "says that it keeps no state")):
            with open(self.world.config) as file:
                whole = file.read()
            with open(config, "w") as file:
                file.write(re.sub(r"moody: \{command: \[.*?\]", "moody: {command: " + command, whole))
            self.fails("", text, config=config)

    def test_a_state_that_is_saved_otherwise_is_a_note(self):
        self.store(1000)
        for mood, text in (("shorter", "it has 775 bytes, not 776"), ("other", "from byte 5 on")):
            self.set(mood)
            code, found = audit_json(self.world.state, "--restore-test", "moody")
            self.assertEqual(code, 0)
            (note,) = found["findings"]
            self.assertEqual((note["code"], note["severity"]), ("differs", "note"))
            self.assertIn(text, note["text"])
            self.assertEqual(audit(self.world.state, "--restore-test", "moody", "--quiet").stdout, "")

    def test_what_the_worker_started_ends_with_it(self):
        self.store()
        self.set("parent")
        self.restored("moody")
        with open(self.mood + ".pid") as file:
            self.assertFalse(alive(int(file.read())))

    def test_an_audit_that_is_told_to_end_leaves_nothing(self):
        self.store()
        fifo = os.path.join(self.moods, "fifo")
        os.mkfifo(fifo)
        self.set(f"waits {fifo}")
        with subprocess.Popen([CTL, "audit", "--state-dir", self.world.state, "--restore-test", "moody"],
                              stdin=subprocess.DEVNULL) as running:
            with open(fifo) as file:  # its worker is there
                pid, temporary = int(file.readline()), file.readline().strip()
            self.assertTrue(alive(pid) and os.path.isdir(temporary))
            running.terminate()
            self.assertEqual(running.wait(LIMIT), -15)
        self.assertFalse(alive(pid) or os.path.exists(temporary))

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_promise_12_run_by_root_the_worker_is_the_directorys_user(self):
        self.store()
        self.assertEqual(self.world.stop(), 0)
        user = 65534
        for name in os.listdir(self.world.state):
            os.chown(os.path.join(self.world.state, name), user, user)
        os.chown(self.world.state, user, user)
        os.chmod(self.world.directory, 0o755)
        self.set("where")
        self.restored("moody")
        self.assertEqual(os.stat(self.mood + ".where").st_uid, user)
        self.assertEqual(os.stat(os.path.join(self.world.state, "audits.jsonl")).st_uid, user)

    def test_the_worker_is_apart(self):
        self.store()
        self.set("where")
        self.restored("moody")
        with open(self.mood + ".where") as file:
            temporary, leads, directory = file.read().split("\n")
        self.assertFalse(os.path.exists(temporary))
        self.assertEqual((leads, directory), ("True", self.world.directory))

    @unittest.skipUnless(os.geteuid() == 0, "an ordinary user may have no namespace of its own")
    def test_the_worker_has_no_network_unless_it_may(self):
        self.store()
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.set(f"call {server.getsockname()[1]}")
            self.restored("moody")
            with open(self.mood + ".called") as file:
                self.assertNotEqual(file.read(), "yes")
            self.restored("moody", "--with-network")
            with open(self.mood + ".called") as file:
                self.assertEqual(file.read(), "yes")


class History(unittest.TestCase):
    def setUp(self):
        self.state = tempfile.mkdtemp(prefix="hasup-audits.")
        self.addCleanup(shutil.rmtree, self.state)
        self.path = os.path.join(self.state, "audits.jsonl")

    def test_it_is_private_whole_and_bounded(self):
        def many():
            for _ in range(60):
                audit(self.state, "--quiet")

        threads = [threading.Thread(target=many) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        with open(self.path) as file:
            self.assertEqual([json.loads(line)["verdict"] for line in file], ["sound"] * 180)
        with open(self.path) as file:
            line = file.read().split("\n")[0] + "\n"
        with open(self.path, "w") as file:
            file.write(line * ((256 * 1024) // len(line)))
        for _ in range(3):
            self.assertEqual(audit(self.state).returncode, 0)
        self.assertLess(os.stat(self.path).st_size, 2000)
        self.assertLess(os.stat(self.path + ".1").st_size, 256 * 1024 + 1)
        self.assertEqual(len(history(self.state)), 3 + (256 * 1024) // len(line))

    def test_a_torn_line_is_passed_over(self):
        audit(self.state)
        with open(self.path, "a") as file:
            file.write('{"wall_ms": 12')
        audit(self.state)
        self.assertEqual([entry["verdict"] for entry in history(self.state)], ["sound", "sound"])
        self.assertRegex(audit(self.state, "--history").stdout, r"\AWHEN .*\n.*sound +0 .*\n.*sound +0 .*\n\Z")

    def test_a_finding_says_since_when_it_was_found(self):
        audit(self.state)
        path = os.path.join(self.state, "activity")
        with open(path, "w"):
            pass
        os.chmod(path, 0o644)
        first = audit_json(self.state)[1]["findings"][0]["seen_wall_ms"]
        audit(self.state)
        again = audit(self.state)
        self.assertIn("    found since: ", again.stdout)
        self.assertEqual(audit_json(self.state)[1]["findings"][0]["seen_wall_ms"], first)
        os.chmod(path, 0o600)
        self.assertEqual(audit(self.state).returncode, 0)
        os.chmod(path, 0o644)
        self.assertGreater(audit_json(self.state)[1]["findings"][0]["seen_wall_ms"], first)

    def test_what_lies_in_its_place_is_left_alone(self):
        target = os.path.join(self.state, "precious")
        with open(target, "w") as file:
            file.write("precious")
        os.symlink(target, self.path)
        audit(self.state)
        with open(target) as file:
            self.assertEqual(file.read(), "precious")


class Cron(unittest.TestCase):
    """The lines of deploy/cron/hasup-audit itself, in what cron gives them."""

    def setUp(self):
        with open(os.path.join(ROOT, "deploy/cron/hasup-audit")) as file:
            self.text = file.read()
        self.lines = [line for line in self.text.splitlines() if line and not line.startswith("#")]
        self.home = tempfile.mkdtemp(prefix="hasup-home.")
        self.addCleanup(shutil.rmtree, self.home)

    def run_line(self, line, world):
        command = line.split(None, 6)[6]
        for there, here in (("/usr/bin/hasupctl", CTL), ("/etc/hasup.yaml", world.config), ("/run/lock", world.directory)):
            self.assertIn(there, command)
            command = command.replace(there, here)
        return subprocess.run(["/usr/bin/env", "-i", f"HOME={self.home}", "LOGNAME=root", "SHELL=/bin/sh",
                               "PATH=/usr/bin:/bin", "/bin/sh", "-c", command], cwd=self.home, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=LIMIT, start_new_session=True)

    def test_the_entry_is_one_that_cron_takes(self):
        self.assertTrue(self.text.endswith("\n"))
        self.assertEqual(len(self.lines), 2)
        self.assertRegex("hasup-audit", r"\A[A-Za-z0-9_-]+\Z")
        for line in self.lines:
            self.assertRegex(line, r"\A([\d*/]+ +){2}(\* +){3}root  /usr/bin/flock ")
            self.assertNotIn("%", line)  # cron would end the command there
            for word in re.findall(r"\S*hasup(?:ctl|\.yaml)|\S*(?:flock|nice)\b", line.split(None, 6)[6]):
                self.assertTrue(word.startswith("/"), word)

    def test_a_sound_directory_mails_nothing_and_a_damaged_one_does(self):
        with World(COUNTER % ("always", "30s")) as world:
            self.assertEqual(world.post("counter", "")[0], 200)
            world.ctl("checkpoint", "now", "counter")
            quick, nightly = self.lines
            for line in (quick, nightly, quick):
                done = self.run_line(line, world)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
            self.assertEqual([len(entry["restored"]) for entry in history(world.state)], [0, 1, 0])
            self.assertEqual(os.listdir(self.home), [])
            with open(os.path.join(world.directory, "hasup-audit"), "w") as lock:  # one still runs
                fcntl.flock(lock, fcntl.LOCK_EX)
                done = self.run_line(quick, world)
                self.assertEqual((done.stdout, done.stderr), ("", ""))
            self.assertEqual(len(history(world.state)), 3)
            os.chmod(os.path.join(world.state, "journal.db"), 0o666)
            done = self.run_line(quick, world)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stdout, r"\Apermissions: \S+journal.db: mode 0666 lets others in\n    to do: chmod 0600 ")


if __name__ == "__main__":
    unittest.main(verbosity=1)

"""hasupctl as a person and a script meet it: what each verb says, in text and in JSON, and its exit code."""
import base64
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, WORKER, World  # noqa: E402

LONG = "a-model-with-a-name-that-goes-on-and-on-and-on"
MODELS = (f"  m: {{command: [{WORKER}]}}\n"
          f"  counter: {{command: [{BUILD}/examples/counter], checkpoint: {{interval: 0}}}}\n"
          f"  {LONG}: {{command: [{WORKER}]}}\n")
ONE_BY_ONE = MODELS.replace(f"  m: {{command: [{WORKER}]", f"  m: {{command: [{WORKER}], concurrency_max: 1")
BROKEN = f"  bad: {{command: [{WORKER}, --die], restart: {{backoff_min: 10ms, start_limit: 2}}}}\n"


def hasupctl(*args, **environment):
    """Without any socket but the default one."""
    env = {k: v for k, v in os.environ.items() if k not in ("HASUP_SOCKET", "XDG_RUNTIME_DIR")}
    return subprocess.run([f"{BUILD}/hasupctl", *args], capture_output=True, text=True, timeout=LIMIT,
                          env=dict(env, **environment), stdin=subprocess.DEVNULL)


def on_terminal(command, columns, **environment):
    """What a terminal of so many columns is sent."""
    pid, screen = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
        os.execve(command[0], command, dict(env, TERM="xterm", **environment))
    shown, end = b"", time.monotonic() + LIMIT
    while select.select([screen], [], [], max(0, end - time.monotonic()))[0]:
        try:
            more = os.read(screen, 65536)
        except OSError:  # its end, on Linux
            break
        if not more:
            break
        shown += more
    os.close(screen)
    os.waitpid(pid, 0)
    return shown.decode().replace("\r\n", "\n")


class Output(unittest.TestCase):
    """What was printed has arrived, or the exit code says that it has not."""

    FULL, CLOSED = "No space left on device", "Bad file descriptor"

    def unwritten(self, *command, to=">/dev/full", env=None):
        done = subprocess.run(["sh", "-c", f'exec "$@" {to}', "sh", *command], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=LIMIT, env=env)
        return done.returncode, done.stderr

    def test_what_cannot_be_written_is_said_and_no_success(self):
        with World(MODELS) as world:
            env = dict(os.environ, HASUP_SOCKET=world.socket)
            for words in (["--help"], ["--version"], ["status"], ["--json", "status"], ["status", "--help"], ["version"],
                          ["config"], ["events", "--since", "1h"], ["logs"], ["--json", "logs", "--reopen"], ["why", "m"],
                          ["requests"], ["wait", "m", "--ready", "--json"], ["drain", "m/0"], ["start", "m/0"],
                          ["infer", "m", "/etc/hostname"], ["--json", "infer", "m", "/etc/hostname"]):
                for to, why in ((">/dev/full", self.FULL), (">&-", self.CLOSED)):
                    code, said = self.unwritten(f"{BUILD}/hasupctl", *words, to=to, env=env)
                    self.assertEqual((code, said.splitlines()[-1:]), (1, [f"hasupctl: cannot write: {why}"]), words)
            self.assertEqual(self.unwritten(f"{BUILD}/hasupctl", "stop", "nobody", env=env)[0], 1)
            self.assertEqual(self.unwritten(f"{BUILD}/hasupctl", "stop", "m", "n", env=env)[0], 2)
            for words in (["--help"], ["--version"], ["--check", world.config]):
                self.assertEqual(self.unwritten(f"{BUILD}/hasupd", *words), (1, f"hasupd: cannot write: {self.FULL}\n"))
                self.assertEqual(self.unwritten(f"{BUILD}/hasupd", *words, to=">&-"),
                                 (1, f"hasupd: cannot write: {self.CLOSED}\n"))
            self.assertEqual(self.unwritten(f"{BUILD}/hasupd", "run", "-h"),
                             (1, f"hasupd run: cannot write: {self.FULL}\n"))

    def test_a_follower_whose_disk_is_full_says_so_and_one_whose_reader_has_gone_says_nothing(self):
        with World(MODELS) as world:
            env = dict(os.environ, HASUP_SOCKET=world.socket)
            for verb in ("logs", "events"):
                follow = [f"{BUILD}/hasupctl", verb, "-f", "-n", "all"] if verb == "logs" else \
                    [f"{BUILD}/hasupctl", verb, "-f", "--since", "1h"]
                world.post("m", "log something")
                self.assertEqual(self.unwritten(*follow, env=env), (1, f"hasupctl: cannot write: {self.FULL}\n"))
                for signals in (signal.SIG_IGN, signal.SIG_DFL):
                    reads, writes = os.pipe()
                    os.close(reads)
                    done = subprocess.run(follow, stdout=writes, stderr=subprocess.PIPE, text=True, env=env, timeout=LIMIT,
                                          restore_signals=False, preexec_fn=lambda: signal.signal(signal.SIGPIPE, signals))
                    os.close(writes)
                    self.assertEqual((done.returncode, done.stderr),
                                     (0 if signals == signal.SIG_IGN else -signal.SIGPIPE, ""))

    def test_closed_descriptors_are_not_taken_by_what_is_opened(self):
        with World(MODELS) as world:
            env = dict(os.environ, HASUP_SOCKET=world.socket)
            hasupctl = f"{BUILD}/hasupctl"
            self.assertEqual(self.unwritten(hasupctl, "wait", "m", "--ready", to="<&- >&- 2>&-", env=env)[0], 0)
            self.assertEqual(self.unwritten(hasupctl, "status", to="<&- >&- 2>&-", env=env), (1, ""))
            self.assertEqual(self.unwritten(hasupctl, "infer", "m", to="<&-", env=env),
                             (1, f"hasupctl: standard input: {self.CLOSED}\n"))
            self.assertEqual([e["event"] for e in world.events[:world.mark()] if e["event"].startswith("client.")], [])


class Usage(unittest.TestCase):
    def test_help_and_version_need_no_hasupd(self):
        shown = hasupctl("--help")
        self.assertEqual((shown.returncode, shown.stderr), (0, ""))
        self.assertLessEqual(max(map(len, shown.stdout.splitlines())), 64)
        verbs = set(re.findall(r"^  ([a-z]+)", shown.stdout, re.M))
        self.assertLessEqual({"status", "start", "stop", "restart", "scale", "drain", "infer", "events", "logs", "checkpoint",
                              "audit", "config", "version"}, verbs)
        for verb in verbs:
            one = hasupctl(verb, "--help")
            self.assertEqual((one.returncode, one.stdout.startswith(f"usage: hasupctl {verb}")), (0, True))
        self.assertEqual(hasupctl("help").stdout, shown.stdout)
        self.assertEqual(hasupctl("help", "why").stdout, hasupctl("why", "--help").stdout)
        self.assertIn("import FILE [MODEL/SLOT] [--force]", hasupctl("checkpoint", "--help").stdout)
        self.assertIn("--max-age 5m", hasupctl("audit", "--help").stdout)
        self.assertEqual(hasupctl("--version").returncode, 0)

    def test_what_is_wrong_is_said_with_the_right_usage(self):
        for args, said in (((), "usage: hasupctl"),
                           (("sttaus",), 'did you mean "status"'), (("bogusverb",), "--help lists them"),
                           (("--bogus",), "--help lists"), (("status", "-x"), "unknown option -x"),
                           (("status", "a", "b"), "usage: hasupctl status"),
                           (("start",), "usage: hasupctl start MODEL"), (("stop", "a", "b"), "usage: hasupctl stop"),
                           (("scale", "m"), "usage: hasupctl scale"), (("scale", "m", "-1"), '"-1" is not a number'),
                           (("scale", "m", "2x"), '"2x" is not a number'), (("infer",), "usage: hasupctl infer"),
                           (("checkpoint",), "now, list, show"), (("checkpoint", "now"), "which model"),
                           (("checkpoint", "show"), "list names their ids"), (("checkpoint", "show", "x"), "list names"),
                           (("logs", "-n"), "-n wants a number"), (("events", "a", "b"), "at most one"),
                           (("audit", "--bogus"), "--bogus"), (("audit", "--max-age", "5"), "--max-age 5: a unit is missing; s, m, h or d, such as --max-age 5m"),
                           (("audit", "--max-age", "5y"), '--max-age wants a duration such as 90s, 5m, 2h, 7d; not "5y"'),
                           (("audit", "--stuck"), "--stuck wants a value"), (("stat",), 'did you mean "status"?'),
                           (("config", "x"), "unexpected argument"), (("version", "x"), "unexpected argument"),
                           (("reload", "x"), "unexpected argument")):
            with self.subTest(args=args):
                done = hasupctl(*args)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(said, done.stderr)

    def test_without_hasupd_it_says_where_it_looked_and_what_to_do(self):
        for args in (("status",), ("start", "m"), ("infer", "m"), ("events",), ("config",)):
            done = hasupctl("-s", "/nonexistent/s", *args)
            self.assertEqual((done.returncode, done.stdout), (3, ""))
            self.assertIn("/nonexistent/s", done.stderr)
            self.assertIn("is hasupd running?", done.stderr)
        version = hasupctl("-s", "/nonexistent/s", "--json", "version")
        self.assertEqual((version.returncode, json.loads(version.stdout)["hasupd"]), (3, None))

    def test_a_default_state_directory_that_is_not_there_is_no_riddle(self):
        there = os.geteuid() == 0 and os.path.exists("/var/lib/hasup")
        done = hasupctl("-s", "/nonexistent/s", "checkpoint", "list", HOME="/nonexistent", XDG_STATE_HOME="/nonexistent")
        self.assertNotEqual("--state-dir names another" in done.stderr, there)
        self.assertTrue(there or done.returncode == 1)

    def test_the_socket_is_looked_for_where_hasupd_makes_it(self):
        self.assertIn("/named/s", hasupctl("status", HASUP_SOCKET="/named/s").stderr)
        if os.geteuid() == 0:
            self.assertIn("/run/hasup/hasup.sock", hasupctl("status", XDG_RUNTIME_DIR="/nonexistent").stderr)
        else:
            self.assertIn("/nonexistent/hasup/", hasupctl("status", XDG_RUNTIME_DIR="/nonexistent").stderr)

    @unittest.skipUnless(os.geteuid() == 0, "only root can become another user")
    def test_promise_12_another_user_is_not_let_in_and_told_why(self):
        with World(MODELS) as world, tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)
            program = shutil.copy(f"{BUILD}/hasupctl", place)  # the build may stand in a closed home
            done = subprocess.run([program, "-s", world.socket, "status"], capture_output=True, text=True,
                                  user=65534, group=65534, extra_groups=[], timeout=LIMIT)
            self.assertEqual(done.returncode, 3)
            self.assertIn("only its own user and root", done.stderr)


    @unittest.skipUnless(os.geteuid() == 0, "only root can become another user")
    def test_promise_12_a_default_directory_that_is_not_ones_own_is_not_trusted(self):
        user = 40000 + os.getpid() % 20000  # nobody's
        theirs = f"/tmp/hasup-{user}"
        os.mkdir(theirs, 0o700)  # root's, made before that user could
        self.addCleanup(os.rmdir, theirs)
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)
            programs = [shutil.copy(f"{BUILD}/{name}", place) for name in ("hasupctl", "hasupd")]
            with open(os.path.join(place, "c.yaml"), "w") as file:
                file.write("listen: {http: 'off'}\nmodels: {m: {command: ['true']}}\n")
            env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "XDG_STATE_HOME": f"/tmp/hasup-{user}-none"}
            for command, code in (([programs[0], "status"], 3), ([programs[1], "-c", f"{place}/c.yaml"], 2)):
                done = subprocess.run(command, capture_output=True, text=True, user=user, group=user, extra_groups=[],
                                      env=env, timeout=LIMIT)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(theirs, done.stderr)
                self.assertIn("0700", done.stderr)
        shutil.rmtree(f"/tmp/hasup-{user}-none", ignore_errors=True)


class Verbs(unittest.TestCase):
    def setUp(self):
        self.world = World(MODELS)
        self.addCleanup(self.world.close)

    def ctl(self, *args, code=0, input=None):
        done = self.world.ctl(*args, check=False, input=input)
        self.assertNotIn(b"runtime error", done.stderr)
        self.assertEqual(done.returncode, code, done.stderr.decode())
        return done.stdout.decode(), done.stderr.decode()

    def json(self, *args, code=0, input=None):
        return json.loads(self.ctl("--json", *args, code=code, input=input)[0])

    def test_a_model_that_is_not_there_is_named_and_guessed_at(self):
        for args in (("status",), ("start",), ("stop",), ("restart",), ("drain",), ("events",), ("logs",), ("infer",),
                     ("checkpoint", "now")):
            with self.subTest(args=args):
                self.assertIn('no model "couter"; did you mean "counter"?', self.ctl(*args, "couter", code=1, input=b"")[1])
        self.assertIn("hasupctl status lists them", self.ctl("status", "nothing-like-it", code=1)[1])
        self.assertIn('no slot "m/7"', self.ctl("stop", "m/7", code=1)[1])
        self.assertIn("from 0 to", self.ctl("scale", "m", "9999", code=1)[1])

    def test_status_of_one_model_and_its_json(self):
        text, _ = self.ctl("status", "counter")
        self.assertIn("counter: 1 of 1 ready", text)
        self.assertNotIn("m/0", text)
        status = self.json("status", "counter")
        self.assertEqual([m["name"] for m in status["models"]], ["counter"])
        for key in ("version", "pid", "uptime_ms", "ready", "shutting_down", "cgroups", "http_port", "state_dir"):
            self.assertIn(key, status)
        slot = status["models"][0]["slots"][0]
        for key in ("slot", "state", "pid", "since_ms", "inflight", "queued", "concurrency", "starts", "crashes", "answered",
                    "replayed", "diverged", "service_us", "next_start_ms", "checkpoint", "last_death"):
            self.assertIn(key, slot)
        self.assertEqual(len(self.json("--json", "status")["models"]), 3)

    def test_status_fits_80_and_60_columns(self):
        for columns, there, gone in ((80, "PID", ""), (60, "CHECKPOINT", "PID")):
            shown = on_terminal([f"{BUILD}/hasupctl", "-s", self.world.socket, "status"], columns, NO_COLOR="1")
            self.assertIn(there, shown)
            self.assertTrue(not gone or gone not in shown.split("m:")[0])
            lines = [line for line in shown.splitlines() if LONG not in line]
            self.assertLessEqual(max(map(len, lines)), columns)
            self.assertIn(f"  {LONG}/0\n", shown)

    def test_colour_is_for_terminals_that_want_it(self):
        command = [f"{BUILD}/hasupctl", "-s", self.world.socket, "status"]
        self.assertIn("\033[32mready", on_terminal(command, 80))
        self.assertNotIn("\033", on_terminal(command, 80, NO_COLOR="1"))
        self.assertNotIn("\033", self.ctl("status")[0])

    def test_status_says_what_failed_and_what_comes_next(self):
        self.world.post("m", "echo x")
        self.world.kill("m/0")
        self.world.write(MODELS + BROKEN)
        self.ctl("reload")
        self.world.wait_event("slot.broken", slot="bad/0")
        text, _ = self.ctl("status")
        self.assertIn(": not ready", text.splitlines()[0])
        self.assertRegex(text, r"last worker: killed by signal 9 \(Killed\), \d+ m?s ago")
        self.assertRegex(text, r"it failed too often; starts again in \d+ s\n    to try now: hasupctl start bad/0")
        self.assertIn("      | cannot find the GPU", text)

    def test_orders_are_taken_and_confirmed(self):
        for args, said in ((("stop", "m"), "m: stopping"), (("start", "m"), "m: starting"),
                           (("restart", "m/0"), "m/0: restarting, one worker at a time"),
                           (("scale", "m", "2"), "m: scaling to 2"), (("drain", "m"), "m: draining"),
                           (("reload",), "reloaded")):
            self.assertEqual(self.ctl(*args), (said + "\n", ""))
        for args in (("start", "m"), ("stop", "m"), ("restart", "m"), ("scale", "m", "1"), ("drain", "m"), ("reload",)):
            self.assertEqual(self.json(*args), {"ok": True})

    def test_infer_prints_the_body_or_json_and_fails_with_1(self):
        self.assertEqual(self.ctl("infer", "m", input=b"echo hi"), ("hi", ""))
        self.assertEqual(self.json("infer", "m", input=b"echo hi"), {"status": 200, "attempts": 1, "body": "hi"})
        raw = self.json("infer", "m", input=b"big 9")
        self.assertEqual(base64.b64decode(raw["body_base64"]), self.world.post("m", "big 9")[2])
        text, error = self.ctl("infer", "m", input=b"crash", code=1)
        self.assertEqual((text, error.split(":")[1].strip()), ("", "422 quarantined"))
        self.assertEqual(self.json("infer", "m", input=b"crash", code=1)["code"], "quarantined")
        self.assertIn("/nofile", self.ctl("infer", "m", "/nofile", code=1)[1])

    def test_events_and_logs_of_one_model(self):
        self.world.kill("m/0")
        self.world.wait_event("slot.exited", slot="m/0")
        events, _ = self.ctl("events", "m")
        self.assertRegex(events, r"(?m)^\d\d:\d\d:\d\d\.\d{3} m/0 +slot\.exited killed by signal 9 \(Killed\) ")
        self.assertNotIn("counter/0", events)
        self.assertEqual(len(self.ctl("events", "-n", "2")[0].splitlines()), 2)
        for line in self.ctl("--json", "events")[0].splitlines():
            self.assertLessEqual({"time", "level", "event"}, set(json.loads(line)))
        self.assertIn("hello from m", self.ctl("logs", "m/0")[0])

    def test_following_ends_with_hasupd(self):
        follower = subprocess.Popen([f"{BUILD}/hasupctl", "-s", self.world.socket, "events", "-f"],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(follower.communicate)
        self.ctl("scale", "m", "2")
        for line in follower.stdout:
            if "m/1" in line:
                break
        self.world.stop(signal.SIGKILL)
        _, error = follower.communicate(timeout=LIMIT)
        self.assertEqual((follower.returncode, error), (3, "hasupctl: hasupd is gone\n"))

    def test_checkpoints_in_text_and_json(self):
        self.ctl("infer", "counter", input=b"")
        self.assertEqual(self.ctl("checkpoint", "now", "counter")[0], "counter/0: stored at position 1\n")
        (one,) = self.json("checkpoint", "list", "counter")
        self.assertEqual(set(one), {"id", "model", "slot", "position", "created_wall_ms", "bytes", "written_bytes", "shared_bytes",
                                        "age_ms", "hash", "key"})
        self.assertRegex(self.ctl("checkpoint", "list")[0], r"counter/0 +1 +1 +8 B +32 B +0 B +\d+ m?s\n")
        text, _ = self.ctl("checkpoint", "show", str(one["id"]))
        self.assertIn(f"checkpoint {one['id']} of counter/0\n", text)
        self.assertIn("state     good", text)
        self.assertTrue(self.json("checkpoint", "show", str(one["id"]))["sound"])
        self.assertEqual(self.json("checkpoint", "list", "m"), [])
        self.assertIn("no checkpoints of m", self.ctl("checkpoint", "list", "m")[1])
        self.assertIn("no checkpoint 999", self.ctl("checkpoint", "show", "999", code=1)[1])
        self.assertIn("keeps state", self.ctl("checkpoint", "now", "m", code=1)[1])
        self.assertRegex(self.ctl("audit")[0], r"\A1 slot, 1 checkpoint of 8 B, 1 read back; [0-9.]+ .iB free: 0 findings\n\Z")
        audit = self.json("audit")
        self.assertEqual([audit[key] for key in ("findings", "slots", "checkpoints", "verified", "bytes")],
                         [[], 1, 1, 1, 8])
        self.assertEqual(self.ctl("audit", "--quiet"), ("", ""))
        os.chmod(os.path.join(self.world.state, "checkpoints.db"), 0o644)
        (found,) = self.json("audit", code=1)["findings"]
        self.assertEqual(found["code"], "permissions")
        self.assertIn("could not check", self.ctl("audit", "--state-dir", "/nonexistent", code=2)[1])

    def test_config_and_version_are_json(self):
        self.assertEqual(set(self.json("config")["models"]), {"m", "counter", LONG})
        self.assertEqual(self.ctl("config")[0], self.ctl("--json", "config")[0])
        version = self.json("version")
        self.assertEqual(version["hasupctl"], version["hasupd"])


class Requests(unittest.TestCase):
    """hasupctl requests, and infer's ways to come back."""

    def start(self, models=ONE_BY_ONE, **more):
        self.world = World(models, **more)
        self.addCleanup(self.world.close)

    ctl, json = Verbs.ctl, Verbs.json

    def hold(self, key="held", model="m"):
        """A request that runs until release(gate)."""
        gate = self.world.fifo(f"gate-{key}")
        connection = self.world.begin(model, f"wait {gate}", {"Idempotency-Key": key})
        self.until("running")
        return gate, connection

    def until(self, state, count=1):
        end = time.monotonic() + LIMIT
        while len(self.json("requests", "--state", state)) != count:
            self.assertLess(time.monotonic(), end, f"never {count} {state}")

    def test_without_a_durable_request_there_is_none_and_no_journal_is_made(self):
        self.start()
        self.assertEqual(self.ctl("requests"), ("no requests\n", ""))
        self.assertEqual(self.json("requests", "list"), [])
        self.assertIn("no such request", self.ctl("requests", "show", "0" * 32, code=1)[1])
        self.assertIn("no such request", self.ctl("requests", "drop", "0" * 32, code=1)[1])
        self.assertNotIn("journal:", self.ctl("status")[0])
        self.assertFalse(self.world.status()["journal"]["open"])
        self.assertFalse(os.path.exists(os.path.join(self.world.state, "journal.db")))

    def test_every_state_is_listed_and_filtered(self):
        self.start()
        for key in ("a", "b"):
            self.world.post("m", f"echo {key}", {"Idempotency-Key": key})
        self.world.post(LONG, "echo x", {"Idempotency-Key": "a"})
        self.assertEqual(self.world.post("counter", "x", {"Prefer": "respond-async"})[0], 202)
        self.assertEqual(self.world.post("m", "crash", {"Idempotency-Key": "poison"})[0], 422)
        gate, held = self.hold()
        late = self.world.begin("m", "echo late", {"Idempotency-Key": "late", "X-Request-Timeout": "600"})
        self.until("waiting")
        self.until("done", 4)
        rows = self.json("requests")
        self.assertEqual([row["key"] for row in rows], ["late", "held", "poison", None, "a", "b", "a"])
        self.assertEqual([row["state"] for row in rows], ["waiting", "running", "quarantined"] + ["done"] * 4)
        self.assertEqual([row["model"] for row in rows], ["m", "m", "m", "counter", LONG, "m", "m"])
        for row in rows:
            self.assertEqual(set(row), {"id", "model", "state", "attempts", "configured", "async", "key", "created_wall_ms",
                                        "age_ms", "deadline_wall_ms", "finished_wall_ms", "expires_wall_ms", "bytes",
                                        "status", "streamed", "answer_bytes"})
        self.assertEqual([rows[0][k] for k in ("status", "bytes", "answer_bytes")], [None, len("echo late"), None])
        self.assertEqual([rows[5][k] for k in ("status", "bytes", "answer_bytes")], [200, None, 1])
        self.assertEqual((rows[2]["status"], rows[2]["attempts"]), (422, 3))
        self.assertTrue(rows[3]["async"])
        self.assertEqual([row["id"] for row in self.json("requests", "--model", "m", "--state", "done")],
                         [rows[5]["id"], rows[6]["id"]])
        self.assertEqual([row["id"] for row in self.json("requests", "-n", "2")], [row["id"] for row in rows[:2]])
        text, more = self.ctl("requests", "-n", "2")
        self.assertEqual((len(text.splitlines()), more), (3, "hasupctl: the newest 2; -n N shows more, --all shows all\n"))
        for args, said in ((("--model", "couter"), 'did you mean "counter"?'), (("--state", "dead"), 'no state "dead"')):
            self.assertIn(said, self.ctl("requests", *args, code=1)[1])
        for row in rows:  # the number is HTTP's, too
            self.assertIn(self.world.get(f"/requests/{row['id']}")[0], (200, 202, 422))
        self.world.release(gate)
        self.assertEqual((self.world.finish(held)[0], self.world.finish(late)[2]), (200, b"late"))

    def test_usage(self):
        for args, said in ((("requests", "shwo"), "list, show, drop, retry or letters"), (("requests", "show"), "which request?"),
                           (("requests", "drop"), "one request at a time"), (("requests", "-n"), "-n wants a value"),
                           (("requests", "-n", "0"), "above 0"), (("requests", "--bogus"), "--bogus"),
                           (("infer", "--key"), "--key wants a key"), (("infer", "m", "--bogus"), "--bogus"),
                           (("infer", "m", "a", "b"), "one request at a time")):
            done = hasupctl(*args)
            self.assertEqual((done.returncode, done.stdout), (2, ""), args)
            self.assertIn(said, done.stderr)

    def test_list_fits_80_and_60_columns(self):
        self.start()
        self.world.post("m", "echo x", {"Idempotency-Key": "a"})
        self.world.post(LONG, "echo x", {"Idempotency-Key": "a"})
        for columns, there, gone in ((80, "TRIES   ANSWER MODEL", None), (60, "AGE MODEL", "TRIES"), (50, "STATE       MODEL", "AGE")):
            shown = on_terminal([f"{BUILD}/hasupctl", "-s", self.world.socket, "requests"], columns, NO_COLOR="1")
            self.assertIn(there, shown)
            self.assertTrue(not gone or gone not in shown)
            self.assertIn(f"\n  {LONG}\n", shown)
            self.assertLessEqual(max(map(len, shown.splitlines())), columns)
        self.assertIn("\033[32mdone", on_terminal([f"{BUILD}/hasupctl", "-s", self.world.socket, "requests"], 80))

    def test_many_come_in_pages_each_once(self):
        self.start()
        connection = self.world.connect()
        for i in range(600):
            connection.request("POST", "/models/m/invoke", b"echo x", {"Idempotency-Key": f"k{i}"})
            connection.getresponse().read()
        connection.close()
        self.assertEqual([row["key"] for row in self.json("requests", "--all")], [f"k{i}" for i in reversed(range(600))])
        self.assertEqual(len(self.json("requests")), 100)
        self.assertEqual(len(self.json("requests", "-n", "300")), 300)
        self.assertEqual(self.json("requests", "--all", "--state", "running"), [])
        status = self.world.status()["journal"]
        self.assertEqual((status["unfinished"], status["results"]), (0, 600))

    def test_show_and_the_stored_answer(self):
        self.start()
        self.world.post("m", "echo kept", {"Idempotency-Key": "a"})
        self.assertEqual(self.world.post("m", "crash", {"Idempotency-Key": "c"})[0], 422)
        gate, held = self.hold()
        running, poison, done = self.json("requests")
        text, _ = self.ctl("requests", "show", done["id"])
        self.assertRegex(text, rf"\Arequest {done['id']} of m\n  state     done, status 200\n  attempts  1\n  key       a\n"
                               r"  answer    4 B\n  accepted  .* ago\)\n  finished  .* ago\)\n  kept      .*\(in .*\)\n\Z")
        self.assertEqual(set(self.json("requests", "show", done["id"])), set(done))
        self.assertEqual(self.ctl("requests", "show", done["id"], "--body"), ("kept", ""))
        self.assertEqual(self.json("requests", "show", "--body", done["id"]), {"status": 200, "attempts": 1, "body": "kept"})
        self.assertIn("422 quarantined", self.ctl("requests", "show", poison["id"], "--body", code=1)[1])
        self.assertIn("is running: there is no answer yet", self.ctl("requests", "show", running["id"], "--body", code=1)[1])
        self.assertIn("  deadline  ", self.ctl("requests", "show", running["id"])[0])
        wrong = done["id"][:-1] + ("0" if done["id"][-1] != "0" else "1")
        for verb in ("show", "drop"):
            self.assertIn("no such request", self.ctl("requests", verb, wrong, code=1)[1])
        self.world.release(gate)
        self.world.finish(held)

    def test_drop_ends_what_runs_and_forgets_what_is_done(self):
        self.start()
        self.world.post("m", "echo x", {"Idempotency-Key": "a"})
        gate, held = self.hold()
        running, done = self.json("requests")
        self.assertEqual(self.ctl("requests", "drop", running["id"]), (f"{running['id']}: dropped\n", ""))
        self.assertEqual(self.world.finish(held)[0], 410)
        self.assertEqual(self.json("requests", "drop", done["id"]), {"id": done["id"], "state": "dropped"})
        self.world.release(gate)
        end = time.monotonic() + LIMIT
        while self.json("requests"):
            self.assertLess(time.monotonic(), end)
        self.assertIn("no such request", self.ctl("requests", "drop", done["id"], code=1)[1])

    def test_what_waits_for_a_model_that_is_gone_is_seen_and_can_be_dropped(self):
        self.start()
        for i, state in enumerate(("running", "waiting")):
            gate = self.world.fifo(f"gate{i}")
            connection = self.world.begin("m", f"wait {gate}", {"Idempotency-Key": f"k{i}", "X-Request-Timeout": "3600"})
            self.until(state)
            connection.close()
        self.world.stop(signal.SIGKILL)
        self.world.write(ONE_BY_ONE.replace("  m:", "  other:"))
        self.world.start()
        self.world.wait_event("journal.strangers", requests=2)
        second, first = self.json("requests")
        self.assertEqual((first["state"], first["configured"], first["key"]), ("waiting", False, "k0"))
        self.assertIn("no model of this name is configured", self.ctl("requests", "show", first["id"])[0])
        self.assertEqual(self.ctl("requests", "drop", first["id"])[0], f"{first['id']}: dropped\n")
        self.assertEqual([row["id"] for row in self.json("requests", "--model", "m")], [second["id"]])

    def test_dead_letters_are_shown_tried_again_and_dropped(self):
        self.start(ONE_BY_ONE.replace("concurrency_max: 1", "concurrency_max: 1, max_attempts: 1, quarantine_keep_body: 64KiB"))
        self.assertEqual(self.ctl("requests", "letters"), ("no dead letters\n", ""))
        for body, headers in (("segv no memory left", {}), ("crash", {"Idempotency-Key": "c"})):
            self.world.post("m", "echo fine")  # others are answered: it is the body
            self.assertEqual(self.world.post("m", body, headers)[0], 422, body)
        mine, volatile = self.json("requests", "letters")
        self.assertEqual(set(mine), {"id", "model", "state", "attempts", "configured", "created_wall_ms", "expires_wall_ms",
                                     "kept", "bytes", "reason"})
        self.assertEqual((mine["bytes"], mine["kept"], mine["model"]), (5, True, "m"))
        text, _ = self.ctl("requests", "letters")
        self.assertRegex(text, rf"\AID .*\n{mine['id']} +\d+ \w+ +5 B m\n  killed 1, the last: killed by signal 6 \(Aborted\)\n")
        self.assertEqual(self.world.status()["journal"]["letters"], 2)
        (row,) = self.json("requests")
        shown = self.json("requests", "show", row["id"])
        self.assertEqual((shown["state"], shown["letter"]["id"]), ("quarantined", mine["id"]))
        self.assertEqual(shown["letter"]["deaths"][-1]["signal"], signal.SIGABRT)
        self.assertRegex(self.ctl("requests", "show", row["id"])[0], r"(?m)^  death     m/0, pid \d+, lived .*: killed by signal 6")
        alone, _ = self.ctl("requests", "show", volatile["id"])
        self.assertRegex(alone, rf"\Adead letter {volatile['id']} of m\n  state     quarantined: it killed 1 workers\n")
        self.assertIn("    | no memory left\n", alone)
        self.assertIn("has no answer", self.ctl("requests", "show", volatile["id"], "--body", code=1)[1])
        again = self.ctl("requests", "retry", row["id"])[0].strip()  # by the request's id; it kills once more
        self.world.post("m", "echo fine")
        self.until("quarantined")
        self.assertEqual(self.json("requests", "show", again)["state"], "quarantined")
        self.assertEqual(self.world.get(f"/requests/{again}")[0], 422)
        self.assertEqual(self.json("requests", "drop", volatile["id"]), {"id": volatile["id"], "state": "dropped"})
        self.assertEqual([letter["model"] for letter in self.json("requests", "letters")], ["m"])
        for verb in ("show", "drop"):
            self.assertIn("no such request", self.ctl("requests", verb, volatile["id"], code=1)[1])
        self.assertIn("no dead letter", self.ctl("requests", "retry", volatile["id"], code=1)[1])

    def test_a_retry_that_lives_is_answered_and_one_without_a_body_is_told_why_not(self):
        models = ONE_BY_ONE.replace("concurrency_max: 1", "concurrency_max: 1, max_attempts: 1, quarantine_keep_body: 64KiB")
        self.start(models)
        gate = self.world.fifo("gate")
        hung = self.world.begin("m", f"wait {gate}", {"X-Request-Timeout": "600"})
        end = time.monotonic() + LIMIT
        while self.world.slot("m/0")["inflight"] != 1:
            self.assertLess(time.monotonic(), end)
        self.world.kill("m/0")
        self.assertEqual(self.world.finish(hung)[0], 422)  # alone, and once is enough here
        (letter,) = self.json("requests", "letters")
        id = self.ctl("requests", "retry", letter["id"])[0].strip()
        self.until("running")
        self.world.release(gate)
        self.until("done")
        self.assertEqual((self.ctl("requests", "show", "--body", id)[1], self.json("requests", "letters")), ("", []))
        self.world.write(models.replace("quarantine_keep_body: 64KiB", "quarantine_keep_body: 0"))
        self.ctl("reload")
        self.assertEqual(self.world.post("m", "crash", {})[0], 422)
        (letter,) = self.json("requests", "letters")
        self.assertIn("its body was not kept", self.ctl("requests", "retry", letter["id"], code=1)[1])

    def test_infer_with_a_key_has_one_answer_and_async_an_id(self):
        self.start()
        first = self.ctl("infer", "--key", "k", "m", input=b"pid")[0]
        self.world.kill("m/0")
        self.assertEqual(self.ctl("infer", "m", "--key", "k", input=b"pid")[0], first)
        self.assertEqual(self.world.post("m", "pid", {"Idempotency-Key": "k"})[2].decode(), first)  # one scope: the model
        self.assertIn("422 key_reused", self.ctl("infer", "--key", "k", "m", input=b"echo other", code=1)[1])
        self.assertIn("400 bad_request", self.ctl("infer", "--key", "k" * 256, "m", input=b"", code=1)[1])
        id = self.ctl("infer", "--async", "m", input=b"echo later")[0].strip()
        self.assertRegex(id, r"\A[0-9a-f]{32}\Z")
        self.until("done", 2)
        self.assertEqual(self.ctl("requests", "show", "--body", id)[0], "later")
        accepted = self.json("infer", "--async", "m", input=b"echo later")
        self.assertEqual((accepted["status"], len(accepted["id"])), (202, 32))
        self.assertEqual(self.ctl("infer", "--async", "--key", "k", "m", input=b"pid")[0].strip(),
                         self.json("requests")[-1]["id"])

    def test_status_shows_the_journal_and_that_it_fails(self):
        self.start()
        self.world.post("m", "echo x", {"Idempotency-Key": "a"})
        status = self.world.status()
        self.assertEqual([status["journal"][k] for k in ("open", "failing", "unfinished", "results", "letters", "error")],
                         [True, False, 0, 1, 0, None])
        self.assertGreater(status["journal"]["bytes"] + status["journal"]["wal_bytes"], 4096)
        self.assertEqual(status["models"][0]["unstored"], 0)
        self.assertRegex(self.ctl("status")[0], r"(?m)^journal: 0 unfinished, 1 answers kept, [0-9.]+ \w+, WAL [0-9.]+ \w+$")
        shown = on_terminal([f"{BUILD}/hasupctl", "-s", self.world.socket, "status"], 44, NO_COLOR="1")
        self.assertRegex(shown, r"(?m)^journal: 0 unfinished, 1 answers kept,$\n^  [0-9.]+ \w+, WAL ")

    def test_status_says_since_when_and_why_the_journal_fails(self):
        self.start()
        os.mkdir(os.path.join(self.world.state, "journal.db"))
        self.assertEqual(self.world.post("m", "echo x", {"Idempotency-Key": "a"})[0], 503)
        journal = self.world.status()["journal"]
        self.assertTrue(journal["failing"])
        self.assertLess(abs(time.time() * 1000 - journal["failing_since_wall_ms"]), LIMIT * 1000)
        self.assertIn("Is a directory", journal["error"])
        text, _ = self.ctl("status")
        self.assertRegex(text, r"the journal FAILS for \d+ m?s, durable requests are refused:\n  .*journal.db.*Is a directory")
        self.assertIn("cannot be opened", self.ctl("requests", code=1)[1])


class History(unittest.TestCase):
    """Lifecycle events outlive hasupd where there is a journal."""
    KEY = {"Idempotency-Key": "k"}

    def stored(self, world):
        db = sqlite3.connect(f"file:{world.state}/journal.db?mode=ro", uri=True, timeout=LIMIT)
        try:
            return [json.loads(row[0]) for row in db.execute("SELECT body FROM event ORDER BY id")]
        finally:
            db.close()

    def until_stored(self, world, event):
        end = time.monotonic() + LIMIT
        while not any(e["event"] == event for e in self.stored(world)):
            self.assertLess(time.monotonic(), end, f"{event} is never stored")

    def offline(self, world, *args, code=0):
        done = hasupctl("--state-dir", world.state, "events", *args)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout

    def test_events_of_earlier_runs_are_told_with_and_without_hasupd(self):
        with World(MODELS) as world:
            world.post("m", "echo x", self.KEY)
            world.kill("m/0")
            world.wait_event("slot.exited", slot="m/0")
            self.until_stored(world, "slot.exited")  # by itself: nothing else is written
            world.stop(signal.SIGKILL)
            first = world.process.pid
            text = self.offline(world, "--all")
            self.assertRegex(text, r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} hasupd     hasupd\.started ")
            self.assertRegex(text, r"(?m) m/0 +slot\.exited killed by signal 9 \(Killed\)")
            world.start()
            mark = world.mark()
            world.kill("m/0")
            world.wait_event("slot.exited", slot="m/0", since=mark)
            world.wait_event("slot.ready", slot="m/0", since=mark)  # nothing more happens meanwhile
            lines = [json.loads(line) for line in world.ctl("--json", "events", "--since", "1h").stdout.splitlines()]
            self.assertEqual(len([e for e in lines if e["event"] == "slot.exited"]), 2)  # each once
            self.assertEqual([e["pid"] for e in lines if e["event"] == "hasupd.started"], [first, world.process.pid])
            times = [e["time"] for e in lines]
            self.assertEqual(times, sorted(times))
            late = [e["time"] for e in map(json.loads, world.ctl("--json", "events", "--since", times[-1]).stdout.splitlines())]
            self.assertEqual(late, [time for time in times if time >= times[-1]])
            self.assertEqual(world.stop(), 0)
            self.assertEqual([e["event"] for e in self.stored(world)][-1], "hasupd.stopped")
            self.assertEqual(len(self.offline(world, "--all", "-n", "2").splitlines()), 2)
            self.assertNotIn("hasupd.started", self.offline(world, "--all", "m"))
            self.assertIn("m/0", self.offline(world, "--all", "m/0"))
            self.assertEqual(self.offline(world, "--all", "counter/1"), "")

    def test_they_open_no_journal_and_are_written_when_one_opens(self):
        with World(MODELS) as world:
            world.kill("m/0")
            world.wait_event("slot.exited", slot="m/0")
            self.assertFalse(os.path.exists(os.path.join(world.state, "journal.db")))
            self.assertIn("slot.exited", world.ctl("events", "--all").stdout.decode())  # from memory
            self.assertIn("none, so no events", hasupctl("--state-dir", world.state, "events", "--all").stderr)
            world.post("counter", "x", self.KEY)
            self.assertEqual(world.stop(), 0)  # at once: what waits is written at the stop
            events = [e["event"] for e in self.stored(world)]
            self.assertEqual(events[0], "hasupd.started")
            self.assertIn("slot.exited", events)

    def test_their_number_is_bounded_and_0_keeps_none(self):
        for most in (0, 5):
            with World(MODELS, top=f"journal: {{events: {most}}}") as world:
                world.post("m", "echo x", self.KEY)
                for workers in range(2, 6):
                    mark = world.mark()
                    world.ctl("scale", "m", str(workers))
                    world.wait_event("slot.ready", since=mark, slot=f"m/{workers - 1}")
                self.assertEqual(world.stop(), 0)
                self.assertEqual(len(self.stored(world)), most)
                if most:
                    self.assertEqual(self.stored(world)[-1]["event"], "hasupd.stopped")

    def test_usage(self):
        for args, said in ((("--since",), "wants a duration"), (("--since", "5"), "wants a duration"),
                           (("--all", "-f", "a", "b"), "at most one"), (("--all", "-n", "x"), "wants a number")):
            done = hasupctl("events", *args)
            self.assertEqual((done.returncode, done.stdout), (2, ""), args)
            self.assertIn(said, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)

"""What every command says in JSON is what docs/schemas says of it: real output, of models in all kinds of states."""
import json
import os
import re
import sqlite3
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import schemas  # noqa: E402
from world import BUILD, LIMIT, WORKER, World, wait_until  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
VERSIONED = f"/usr/bin/python3, -B, {HERE}/versioned.py"
PRELOADED, BULKY = (os.path.join(os.path.dirname(WORKER), name) for name in ("preloaded", "bulky"))
TOP = """log: {line_max: 256, rate: {lines: 1000, burst: 100}}
checkpoints: {key_file: keys}
programs:
  setup: {command: [sh, -c, "exit 3"], oneshot: true, restart: {when: never}}
  done: {command: ["true"], oneshot: true}
  proxy: {command: [sleep, "1000"], after: [done], live: {exec: ["true"], interval: 1h}, sockets: {door: {unix: door.sock}}}
  unready: {command: [sleep, "1000"], ready: {exec: ["false"], interval: 10ms}}
  late: {command: [sleep, "1000"], requires: [setup], ready: {tcp: 1}, stop_signal: INT}
"""
MODELS = f"""
  m:
    command: [{WORKER}]
    concurrency_max: 1
    max_attempts: 1
    quarantine_keep_body: 64KiB
    spares: 1
    process: {{rlimits: {{nofile: 4096}}}}
    environment: {{A: b}}
    sockets: {{web: {{tcp: "127.0.0.1:0"}}, local: {{unix: local.sock}}}}
  counter: {{command: [{BUILD}/examples/counter], checkpoint: {{interval: never}}, recycle: {{memory: 1GiB}}}}
  bad: {{command: [{WORKER}, --die], restart: {{backoff_min: 1ms, start_limit: 2, breaker: 1h}}}}
  again: {{command: [{WORKER}, --die], restart: {{backoff_min: 1h, backoff_max: 1h}}}}
  forked: {{command: [{PRELOADED}], preload: true}}
  bulky: {{command: [{BULKY}], checkpoint: {{interval: never, state_max: 262143}}}}
  other: {{command: [{WORKER}]}}
"""
ROLLED = "  rolled: {{command: [{command}, {name}{more}], version: {name}, restart: {{backoff_min: 1ms, start_limit: 2}}}}\n"
ONE, TWO, WRONG = (ROLLED.format(command=VERSIONED, name=name, more=more)
                   for name, more in (("one", ""), ("two", ""), ("three", ", --never")))
# What does not come about here.
UNSEEN = {
    "status": {"model.mends_ms", "rollout.why"},  # for a moment
    "logs": {".lines", ".truncated"},  # of a reader that is too slow; of a line that is longer than log.line_max lets it be
    "events": None, "config": None,    # most fields are of one event, many keys have no default: tests/unit/test_schemas.py
}


class Schemas(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schemas = schemas.load()

    def setUp(self):
        self.seen = {name: set() for name in self.schemas}
        self.verbs = set()

    # ---- one command ----

    def look(self, name, value, what):
        found = schemas.faults(self.schemas[name], value)
        self.assertFalse(found, "\n".join((f"{what} says what docs/schemas/{name}.json does not:", *found)))
        self.seen[name].update(schemas.told(self.schemas[name], value))
        self.verbs.add(name)
        return value

    def ask(self, world, name, *args, code=0, input=None, socket=True):
        """What the command says, which is as the schema of that name says."""
        where = ("-s", world.socket) if socket else ("--state-dir", world.state)
        done = subprocess.run([f"{BUILD}/hasupctl", *where, "--json", *args], capture_output=True, timeout=LIMIT, input=input or b"")
        self.assertEqual(done.returncode, code, (args, done.stderr))
        self.verbs.update((args[0], " ".join(args[:2])))
        return self.look(name, json.loads(done.stdout), args)

    def ask_lines(self, world, name, *args):
        lines = world.ctl("--json", *args).stdout.splitlines()
        self.assertGreater(len(lines), 0)
        self.verbs.add(args[0])
        return [self.look(name, json.loads(line), args) for line in lines]

    def row(self, world, state):
        """The request of that state, once there is one."""
        wait_until(lambda: json.loads(world.ctl("--json", "requests", "--state", state).stdout), f"none is {state}")
        return self.ask(world, "requests", "requests", "--state", state)[0]

    # ---- what there is to see ----

    def slots(self, world):
        """Ready, broken, in backoff, stopped, a spare, a zygote; after crashes, with answers, with a memory that was measured."""
        for event, slot in (("slot.broken", "bad/0"), ("slot.backoff", "again/0"), ("slot.ready", "rolled/0"),
                            ("slot.ready", "forked/0"), ("slot.ready", "m/spare-0"), ("slot.done", "done/0"),
                            ("slot.broken", "setup/0"), ("slot.ready", "proxy/0")):
            world.wait_event(event, slot=slot)
        world.get("/metrics")  # measures
        self.ask(world, "ok", "stop", "forked")
        world.ctl("wait", "forked", "--stopped")
        for _ in range(5):
            world.post("counter", "")
            world.post("m", "echo x")
        self.assertEqual(world.post("m", "wrong" * 9, {"X-Request-Timeout": "0"})[0], 400)
        self.ask(world, "checkpoint-now", "checkpoint", "now", "counter")
        world.post("counter", "")
        mark = world.mark()
        world.kill("counter/0")
        world.wait_event("slot.ready", since=mark, slot="counter/0")
        status = self.ask(world, "status", "status")
        self.assertGreaterEqual({slot["state"] for model in status["models"] for slot in model["slots"]},
                                {"ready", "broken", "backoff", "stopped"})
        self.assertEqual({program["name"]: [slot["state"] for slot in program["slots"]] for program in status["programs"]},
                         {"setup": ["broken"], "done": ["done"], "proxy": ["ready"], "unready": ["loading"],
                          "late": ["waiting"]})
        wait_until(lambda: next(s for s in world.slots() if s["slot"] == "unready/0")["probe_failed"], "no probe failed")
        self.ask(world, "status", "status")
        self.ask(world, "status", "status", "counter")
        for model in ("m", "counter", "bad", "again", "forked", "other", "late", "setup", "proxy"):
            self.ask(world, "why", "why", model)
        self.ask(world, "why", "why", "bad/0")

    def hands(self, world):
        """A request that is written, one that runs, and what a shutdown would do with them; a death with it in hand."""
        gate = world.fifo("gate")
        running = world.begin("m", f"wait {gate}", {"Idempotency-Key": "r", "X-Request-Timeout": "600", "X-Request-Id": "r-1"})
        wait_until(lambda: world.slot("m/0")["inflight"] == 1, "it does not run")
        waiting = world.begin("m", "echo x", {"Prefer": "respond-async"})
        self.assertEqual(world.finish(waiting)[0], 202)
        plain = world.begin("m", "echo y", {"X-Request-Timeout": "0"})
        for state in ("running", "waiting"):
            self.ask(world, "requests-show", "requests", "show", self.row(world, state)["id"])
        self.ask(world, "shutdown-explain", "shutdown", "--explain")
        self.ask(world, "status", "status")
        mark = world.mark()
        world.kill("m/0")
        world.wait_event("slot.exited", since=mark, slot="m/0")
        self.ask(world, "why", "why", "m")
        world.unlock(gate)
        for connection in (running, plain):
            world.finish(connection)

    def letters(self, world):
        for headers in ({}, {"Idempotency-Key": "c"}):
            world.post("m", "echo fine")
            self.assertEqual(world.post("m", f"segv no memory {len(headers)}", headers)[0], 422)
            self.ask(world, "status", "status", "m")
        letters = self.ask(world, "requests-letters", "requests", "letters")
        for letter in letters:
            self.ask(world, "requests-show", "requests", "show", letter["id"])
        self.ask(world, "requests-show", "requests", "show", self.row(world, "quarantined")["id"])
        world.post("m", "echo fine")
        self.ask(world, "requests-retry", "requests", "retry", letters[0]["id"])
        self.ask(world, "requests-drop", "requests", "drop", letters[-1]["id"])

    def answers(self, world):
        world.post("m", "echo x", {"Idempotency-Key": "k"})
        world.post("m", "stream 3 1", {"Idempotency-Key": "s"})
        world.post("m", "fail now", {"Idempotency-Key": "f"})
        gone = world.begin("m", "echo late", {"Idempotency-Key": "l", "X-Request-Timeout": "0.001"})
        world.finish(gone)
        rows = self.ask(world, "requests", "requests", "list", "--all")
        for row in rows:
            self.ask(world, "requests-show", "requests", "show", row["id"])
        for key, code in ("k", 0), ("f", 1):
            (done,) = (row["id"] for row in rows if row["key"] == key)
            self.ask(world, "infer", "requests", "show", done, "--body", code=code)
        self.ask(world, "infer", "infer", "m", input=b"echo hi")
        self.ask(world, "infer", "infer", "m", input=b"big 9")
        self.ask(world, "infer", "infer", "m", "--async", input=b"echo later")
        self.ask(world, "infer", "infer", "rolled")
        self.ask(world, "infer", "infer", "bad", code=1)

    def lines(self, world):
        world.post("m", "log - " + "x" * 400, {"X-Request-Id": "r-2"})
        world.post("m", "mutter " + b"half of a line".hex())
        mark = world.mark()
        world.kill("m/0")
        world.wait_event("slot.ready", since=mark, slot="m/0")
        self.ask(world, "status", "status")
        self.ask_lines(world, "logs", "logs", "-n", "all")
        world.post("m", "flood 1")
        wait_until(lambda: b"worker.dropped" in world.ctl("--json", "logs", "-n", "all").stdout, "nothing is dropped")
        self.ask_lines(world, "logs", "logs", "-n", "all")
        self.ask(world, "ok", "logs", "--reopen")
        self.assertGreater(len(self.ask_lines(world, "events", "events", "-n", "100000")), 20)
        for line in world.events:
            if line["event"] not in ("raw",) and not line["event"].startswith("worker."):
                self.look("events", line, "hasupd's log")
        self.ask_lines(world, "events", "events", "--all")

    def rollouts(self, world):
        self.ask(world, "ok", "restart", "m")
        self.ask(world, "rollouts", "restart", "m", "--wait")
        world.write(MODELS + TWO, TOP)
        self.ask(world, "ok", "canary", "rolled", "--weight", "50")
        world.wait_event("rollout.canary", model="rolled")
        for _ in range(4):
            world.post("rolled", "x")
        self.ask(world, "status", "status", "rolled")
        self.ask(world, "ok", "abort", "rolled")
        self.ask(world, "ok", "canary", "rolled", "--weight", "50")
        self.ask(world, "rollouts", "promote", "rolled", "--wait")
        world.write(MODELS + WRONG, TOP)
        self.assertEqual(world.ctl("--json", "reload", "--wait", check=False).stdout, b"")
        self.assertFalse(self.ask(world, "status", "status", "rolled")["models"][0]["rollout"]["last"]["ok"])
        world.write(MODELS + TWO, TOP)
        self.ask(world, "rollouts", "reload", "--wait")
        self.ask(world, "config", "config")
        for args in (("start", "forked"), ("drain", "rolled"), ("start", "rolled"), ("scale", "other", "2"),
                     ("wait", "other", "--ready"), ("wait", "rolled", "--ready"), ("wait", "forked", "--ready")):
            self.ask(world, "ok", *args)
        self.ask(world, "version", "version")

    def checkpoints(self, world):
        world.post("counter", "")
        self.ask(world, "checkpoint-now", "checkpoint", "now", "counter")
        world.post("bulky", "")
        self.ask(world, "checkpoint-now", "checkpoint", "now", "bulky", code=1)
        (newest, *_) = self.ask(world, "checkpoint-list", "checkpoint", "list", socket=False)
        self.ask(world, "checkpoint-show", "checkpoint", "show", str(newest["id"]), socket=False)
        path = os.path.join(world.directory, "exported")
        self.ask(world, "checkpoint-export", "checkpoint", "export", "counter/0", path, socket=False)
        self.ask(world, "checkpoint-prune", "checkpoint", "prune", "counter", "--keep", "1", socket=False)
        self.ask(world, "audit", "audit", "--restore-test", socket=False)
        self.ask(world, "status", "status")
        return path, str(newest["id"])

    def stopped(self, world, path, id):
        """What works on the files alone; damage."""
        self.ask(world, "ok", "shutdown")
        self.assertEqual(world.process.wait(LIMIT), 0)
        self.ask(world, "version", "version", code=3)
        self.ask(world, "checkpoint-import", "checkpoint", "import", path, socket=False)
        os.unlink(f"{world.state}/running.json")  # so nothing says how a worker is started
        self.ask(world, "audit", "audit", "--restore-test", code=2, socket=False)
        with sqlite3.connect(f"{world.state}/checkpoints.db") as store:
            store.execute("UPDATE pack SET bytes = zeroblob(length(bytes))")
        self.ask(world, "checkpoint-show", "checkpoint", "show", id, code=1, socket=False)
        os.chmod(f"{world.state}/checkpoints.db", 0o644)
        self.ask(world, "audit", "audit", "--deep", "--max-age", "1s", code=1, socket=False)
        self.ask(world, "audit-history", "audit", "--history", socket=False)

    def failing(self):
        """Files that cannot be written; no directory to look at."""
        with World(f"  m: {{command: [{WORKER}]}}\n  counter: {{command: [{BUILD}/examples/counter]}}\n", start=False) as world:
            os.makedirs(f"{world.state}/journal.db", 0o700)
            os.chmod(world.state, 0o700)
            with open(f"{world.state}/checkpoints.db", "wb") as file:
                file.write(b"no database " * 400)
            world.start()
            for model in ("m", "counter"):
                world.post(model, "echo x", {"Idempotency-Key": "a"})
            world.post("counter", "")
            self.ask(world, "checkpoint-now", "checkpoint", "now", "counter", code=1)
            status = self.ask(world, "status", "status")
            self.assertTrue(status["journal"]["failing"] and status["checkpoints"]["failing"])
            world.stop()
            world.state = "/nonexistent"
            self.ask(world, "audit", "audit", code=2, socket=False)

    # ---- all of it ----

    def test_what_every_command_says_is_what_its_schema_says(self):
        with World(MODELS + ONE, TOP, start=False) as world:
            with open(f"{world.directory}/keys", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write("5e" * 32 + "\n")
            world.start(wait=False)
            self.slots(world)
            self.hands(world)
            self.letters(world)
            self.answers(world)
            self.lines(world)
            self.rollouts(world)
            path, id = self.checkpoints(world)
            self.ask(world, "upgrade", "upgrade")
            self.ask(world, "status", "status")
            self.ask(world, "why", "why", "counter")
            world.kill_and_start(wait=False)
            self.assertIn("did not stop", self.ask(world, "status", "status")["last_run"])
            self.stopped(world, path, id)
        self.failing()
        self.every_verb_was_asked()
        self.every_field_was_there()

    def every_verb_was_asked(self):
        def listed(*args):
            shown = subprocess.run([f"{BUILD}/hasupctl", *args, "--help"], capture_output=True, text=True, timeout=LIMIT).stdout
            return set(re.findall(r"^  \[?([a-z]+)\b", shown, re.M))
        self.assertEqual(listed() - self.verbs, {"top"})
        for verb in ("requests", "checkpoint"):
            self.assertEqual({f"{verb} {word}" for word in listed(verb)} - self.verbs, set())

    def every_field_was_there(self):
        for name, root in self.schemas.items():
            fields = {path for path, _ in schemas.walk(root) if not path.endswith("[]")} - {""}
            unseen = UNSEEN.get(name, set())
            with self.subTest(name):
                self.assertGreater(len(self.seen[name]), 0)
                if unseen is not None:
                    self.assertEqual(fields - self.seen[name] - unseen, set())


if __name__ == "__main__":
    unittest.main()

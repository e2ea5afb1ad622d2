"""A client that remembers what it was told, and a hasupd that is killed at named points (checkpoints/fault.h).

A run is a few lives of hasupd on one state directory.  In each the client asks until hasupd dies; in the last one
nothing dies, and all that was ever told must be true.  `python3 tests/e2e/killed.py --seed N --runs M` plays M runs
of random points; a run that fails prints the line that plays it again.
"""
import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, OBJECTS, WORKER, World, events_of  # noqa: E402

FAULTY = os.path.join(OBJECTS, "tests/hasupd-faults")
CLIENTS = 4
PARTS = 5  # of a stream
TEXT = '{"prompt": "The Light", "n": 50, "seed": %d}'
MARK = "HASUP_TEST_LIFE"
MODELS = (f"  free: {{command: [{WORKER}], workers: 2, max_attempts: 20, restart: {{start_limit: 1000}}}}\n"
          f"  kept: {{command: [{WORKER}], journal: always, max_attempts: 20, restart: {{start_limit: 1000}}}}\n"
          f"  frail: {{command: [{WORKER}], max_attempts: 2, restart: {{start_limit: 1000, backoff_min: 10ms, "
          f"backoff_max: 20ms}}}}\n"
          f"  textgen: {{command: [{BUILD}/examples/textgen], max_attempts: 20, restart: {{start_limit: 1000}}}}\n"
          f"  counter: {{command: [{BUILD}/examples/counter], journal: always, max_attempts: 20, "
          f"checkpoint: {{interval: 100ms, log_requests: 6}}, restart: {{start_limit: 1000}}}}")
LOST = (OSError, http.client.HTTPException)


def points():
    done = subprocess.run([FAULTY], env={"HASUP_FAULT": "list"}, capture_output=True, timeout=LIMIT, check=True)
    # hasupd writes no lifecycle events to the journal; an operator's pardon (lift) is not played here.
    return [name for name in done.stdout.decode().split() if not re.match("event_|lift_", name)]


class Op:
    """One request and all that was ever heard of it."""

    def __init__(self, kind, model, body, key=None):
        self.kind, self.model, self.body, self.key = kind, model, body, key
        self.id = None  # of a 202
        self.answer = None  # told: may never change
        self.parts, self.last, self.last_event, self.ended = [], 0, None, False  # of a stream
        self.dropped = False  # nobody promised it any more

    def __repr__(self):
        return f"{self.kind} {self.model} {self.body!r} key={self.key} id={self.id} told={self.answer!r} last={self.last}"

    def tell(self, answer):
        if self.answer is not None and answer != self.answer:
            raise AssertionError(f"one key, two answers: {self}, then {answer!r}")
        self.answer = answer


def call(port, method, path, body="", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def keyed(op, extra=None):
    return {**({"Idempotency-Key": op.key} if op.key else {}), **(extra or {})}


class NotReached(AssertionError):
    """A life went by without the point at which it was to end."""


def expect(what, good):
    if not good:
        raise AssertionError(what)


def ask(port, op):
    """A request that is answered in its own answer."""
    status, _, data = call(port, "POST", f"/models/{op.model}/invoke", op.body, keyed(op))
    expect(f"{op}: {status} {data!r}", status == 200)
    op.tell(data)


def ask_later(port, op):
    status, headers, data = call(port, "POST", f"/models/{op.model}/invoke", op.body,
                                 keyed(op, {"Prefer": "respond-async"}))
    expect(f"{op}: {status} {data!r}", status == 202)
    op.id = headers["Location"]


def fetch(port, op):
    status, _, data = call(port, "GET", op.id, headers={"Prefer": f"wait={LIMIT}"})
    if op.dropped and status in (404, 410):
        return
    expect(f"{op}: {status} {data!r}", status == 200)
    op.tell(data)


def drop(port, op):
    op.dropped = True  # from now on nobody knows until it is told
    status, _, data = call(port, "DELETE", op.id)
    expect(f"drop {op}: {status} {data!r}", status in (200, 202, 204))


def read_events(op, answer):
    """Adds what comes; every event's number follows the one before."""
    for event, number, name, data in events_of(answer):
        expect(f"{op}: event {event} after {op.last}", number == op.last + 1)
        expect(f"{op}: {name} {data}", name in (None, "end"))
        if name == "end":
            op.ended = True
            return
        op.last, op.last_event = number, event
        op.parts.append(data)
    raise http.client.IncompleteRead(b"")


def ask_poison(port, op):
    """Refused for good, or its model is out of order for a while: then nothing was said about the request.  A
    request that is well comes first, by which it is known that the model is."""
    call(port, "POST", f"/models/{op.model}/invoke", "echo well", {"X-Request-Timeout": "2"})
    status, _, data = call(port, "POST", f"/models/{op.model}/invoke", op.body, keyed(op, {"X-Request-Timeout": "2"}))
    expect(f"{op}: {status} {data!r}", status == 422 or (status in (503, 504) and op.answer is None))
    if status == 422:
        op.tell(json.loads(data)["error"]["code"])


def stream(port, op):
    """Begins, or goes on after what was read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request("POST", f"/models/{op.model}/invoke", op.body,
                           keyed(op, {"Accept": "text/event-stream",
                                      **({"Last-Event-ID": op.last_event} if op.last else {})}))
        answer = connection.getresponse()
        expect(f"{op}: {answer.status}", answer.status == 200)
        read_events(op, answer)
    finally:
        connection.close()


class Client(threading.Thread):
    """Asks one thing after the other until hasupd is gone."""

    def __init__(self, run, number, port):
        super().__init__()
        self.number, self.port, self.ops, self.error = number, port, [], None
        self.random = random.Random(f"{run.seed}/{run.life}/{number}")
        self.name_of = f"{run.life}-{number}"
        self.enough = run.enough

    def new(self, kind, model, body, with_key=True):
        op = Op(kind, model, body, f"k{self.name_of}-{len(self.ops)}" if with_key else None)
        self.ops.append(op)
        return op

    def step(self):
        chance, port = self.random.random(), self.port
        if chance < 0.2:
            ask(port, self.new("keyed", "free", f"nonce {self.name_of}"))
        elif chance < 0.35:
            op = self.new("async", "free", "nonce x", self.random.random() < 0.5)
            ask_later(port, op)
            if self.random.random() < 0.7:
                fetch(port, op)
            if self.random.random() < 0.3:
                drop(port, op)
        elif chance < 0.55:
            stream(port, self.new("stream", "free", f"stream {PARTS}"))
        elif chance < 0.6:
            stream(port, self.new("stream", "textgen", TEXT % self.random.randint(1, 3)))
        elif chance < 0.63:
            ask_poison(port, self.new("poison", "frail", "segv at once"))
        elif chance < 0.85:
            ask(port, self.new("keyed", "counter", ""))
        elif chance < 0.87:
            ask(port, self.new("plain", "counter", "", False))
        elif chance < 0.92:
            ask(port, self.new("plain", "kept", "nonce x", False))
        else:
            known = [op for op in self.ops if op.kind == "keyed"]
            if known:
                ask(port, self.random.choice(known))

    def run(self):
        try:
            while not self.enough.is_set():
                self.step()
        except LOST:
            pass  # hasupd is gone; what was not told is in doubt
        except BaseException:  # a broken promise: the run says so
            self.error = traceback.format_exc()


def kill_worker(pid):
    """It may be gone already, and its number somebody else's: only a worker of ours is killed.  Whether it was."""
    ours = False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            ours = f"{MARK}=".encode() in file.read()
        if ours:
            os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return ours


def processes_of(mark):
    """Pids of live processes that were started under a mark, hasupd and all that came of it."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if f"{MARK}={mark}".encode() in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                pass
    return found


def rows_of(state):
    """What a dead hasupd's journal holds, of a copy: (unfinished, finished), or None where there is none."""
    path = os.path.join(state, "journal.db")
    if not os.path.exists(path):
        return None
    with tempfile.TemporaryDirectory(prefix="hasup-rows.") as copy:
        for end in ("", "-wal"):
            if os.path.exists(path + end):
                shutil.copy(path + end, os.path.join(copy, "journal.db" + end))
        base = sqlite3.connect(os.path.join(copy, "journal.db"))
        try:
            if not base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return None
            requests, finished, runs = (base.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                                        for table in ("request", "result", "run"))
            return (requests - finished, finished) if runs else None
        finally:
            base.close()


class Run:
    """Some lives of hasupd; `faults` ends each but the last."""

    def __init__(self, faults, seed, strict=False, patience=2):
        self.faults, self.seed, self.life = faults, seed, 0
        self.strict, self.patience = strict, patience  # a point that is not reached in time: fails, or is passed over
        self.blows = seed % 2 == 0  # workers are killed, too
        self.state = tempfile.mkdtemp(prefix="hasup-durable.")
        self.ops, self.marks, self.enough = [], [], threading.Event()
        self.texts = {}  # of streams, by body
        self.rows = None

    def __str__(self):
        return (f"python3 tests/e2e/killed.py --seed {self.seed} --faults {','.join(self.faults)}")

    def open(self, fault):
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        environment = {MARK: mark, **({"HASUP_FAULT": fault} if fault else {})}
        self.life += 1
        world = World(MODELS, "shutdown: {grace: 10s}", wait=False, state=self.state, program=FAULTY,
                      environment=environment, start=False)
        try:
            world.start(wait=False)
            if self.life > 1:
                self.check_start(world)
        except AssertionError:
            if not fault or world.process.wait(LIMIT) != -signal.SIGKILL:
                raise
        self.marks.append(mark)
        return world

    def check_start(self, world):
        """It says what the one before left, and nothing of that one lives once a worker is ready."""
        if self.rows:
            said = world.wait_event("journal.unclean")
            got = (said["unfinished"], said["finished"])
            expect(f"the start said {got}, the journal held {self.rows}", got == self.rows)
        for slot in ("free/0", "free/1", "kept/0", "frail/0", "textgen/0", "counter/0"):
            world.wait_event("slot.ready", slot=slot)
        names = [event["event"] for event in world.events]
        if "journal.loaded" in names:
            expect(f"ready before the journal was loaded: {names}",
                   names.index("journal.loaded") < names.index("slot.ready"))
        for mark in self.marks:
            left = processes_of(mark)
            expect(f"of an earlier life: {left}", not left)

    def strike(self, world, chance):
        """Reads hasupd's log until it ends, and now and then kills a worker that is ready."""
        until = time.monotonic() + self.patience
        at, next_blow = 0, time.monotonic() + chance.uniform(0.05, 0.15)
        pids = {}
        while time.monotonic() < until:
            event = world.read_events(min(until, next_blow))
            if event:
                world.events.append(event)
            elif world.ended():
                return True
            for event in world.events[at:]:
                if event["event"] == "slot.ready":
                    pids[event["slot"]] = event["pid"]
            at = len(world.events)
            if self.blows and pids and time.monotonic() >= next_blow:
                next_blow = time.monotonic() + chance.uniform(0.05, 0.15)
                kill_worker(pids.pop(chance.choice(sorted(pids))))
        return False

    def until_dead(self, world):
        chance = random.Random(f"{self.seed}/{self.life}/hand")
        clients = [Client(self, i, world.port) for i in range(CLIENTS)] if hasattr(world, "port") else []
        self.enough.clear()
        for client in clients:
            client.start()
        reached = self.strike(world, chance)
        if not reached:
            world.process.kill()
        code = world.process.wait(LIMIT)
        self.enough.set()
        for client in clients:
            client.join(LIMIT)
            self.ops += client.ops
        expect(f"hasupd ended with {code}", code == -signal.SIGKILL)
        for client in clients:
            expect(client.error, not client.error)
        if self.strict:
            if not reached:
                raise NotReached(f"{self.faults[self.life - 1]} was not reached")
        self.rows = rows_of(self.state)

    def check(self, port):
        """The last life: everything that was told is true, and everything asked is answered."""
        for op in self.ops:
            if op.kind == "stream":
                if not op.ended:
                    stream(port, op)
                text = "".join(op.parts)
                want = self.undisturbed(port, op)
                expect(f"{op}: {text!r}, not {want!r}", text == want)
            elif op.kind == "poison":
                ask_poison(port, op)
            elif op.id:
                fetch(port, op)
            elif op.key and not op.dropped:
                ask(port, op)
                ask(port, op)  # and once more: the same
        self.check_counter(port)

    def undisturbed(self, port, op):
        """The whole answer, of a request that nobody disturbs."""
        if op.body not in self.texts:
            status, _, data = call(port, "POST", f"/models/{op.model}/invoke", op.body)
            expect(f"{op}: {status}", status == 200)
            self.texts[op.body] = data.decode()
        return self.texts[op.body]

    def check_counter(self, port):
        """Each answer of the counter is one that nobody else got; none is left out, but what nobody was told of."""
        counted = [op for op in self.ops if op.model == "counter"]
        told = sorted(int(op.answer) for op in counted if op.answer is not None)
        doubtful = sum(op.answer is None for op in counted)
        expect(f"doubtful with a key: {counted}", all(op.answer is not None for op in counted if op.key))
        expect(f"twice: {told}", len(set(told)) == len(told))
        probe = Op("keyed", "counter", "", "probe")
        ask(port, probe)
        missing = int(probe.answer) - 1 - len(told)
        expect(f"counted {probe.answer}, told {told}, in doubt {doubtful}", 0 <= missing <= doubtful)

    def play(self):
        try:
            for fault in self.faults:
                with self.open(fault) as world:
                    self.until_dead(world)
            with self.open(None) as world:
                self.check(world.port)
                expect("a clean end", world.stop() == 0)
        except BaseException:
            print(f"\nplay it again: {self}", file=sys.stderr)
            raise
        finally:
            shutil.rmtree(self.state, ignore_errors=True)


def random_faults(chance, names):
    """One to three lives; those that look at recovery come second, when there is something to recover."""
    early = [name for name in names if not re.match("recovery|restore|replay", name)]
    faults = [f"{chance.choice(early)}:{chance.randint(1, 12)}"]
    for _ in range(chance.choice((0, 1, 1, 2))):
        faults.append(f"{chance.choice(names)}:{chance.randint(1, 6)}")
    return faults


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--faults", help="point:count,… instead of random ones")
    options = parser.parse_args()
    names = points()
    for seed in range(options.seed, options.seed + options.runs):
        faults = options.faults.split(",") if options.faults else random_faults(random.Random(seed), names)
        Run(faults, seed).play()
    print(f"{options.runs} runs: every promise held")


if __name__ == "__main__":
    main()

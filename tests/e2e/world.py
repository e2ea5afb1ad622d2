"""What the end-to-end tests share: a hasupd of their own in a directory of its own, waited for by events.

Nothing here sleeps: a test waits for a line of hasupd's log, an answer, or a FIFO, each with a limit.
"""
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("HASUP_BUILD", "build"))
OBJECTS = os.path.join(ROOT, os.environ.get("HASUP_OBJECTS", "build/release"))
WORKER = os.path.join(OBJECTS, "tests/e2e/worker")
LIMIT = 60


class World:
    """One hasupd.  `models` is the YAML under `models:`, already indented by two."""

    def __init__(self, models, top="", wait=True, state=None, before=None, program=None, environment=None,
                 start=True):
        self.directory = tempfile.mkdtemp(prefix="hasup-e2e.")
        self.state = state or os.path.join(self.directory, "state")
        self.socket = os.path.join(self.directory, "hasup.sock")
        self.config = os.path.join(self.directory, "supervisor.yaml")
        self.process = None
        self.unlocked = []
        self.before = before  # runs in hasupd's process before hasupd
        self.program = program or f"{BUILD}/hasupd"
        self.environment = {**os.environ, **(environment or {})}
        self.write(models, top)
        if start:
            try:
                self.start(wait)
            except BaseException:
                self.close()
                raise

    def write(self, models, top=""):
        with open(self.config, "w") as file:
            file.write(f"state_dir: {self.state}\nruntime_dir: {self.directory}\n"
                       f"listen: {{http: '127.0.0.1:0'}}\n{top}\nmodels:\n{models}\n")

    def start(self, wait=True):
        self.events, self.buffer = [], b""
        self.process = subprocess.Popen([self.program, "-c", self.config], stderr=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL, preexec_fn=self.before, env=self.environment)
        os.set_blocking(self.process.stderr.fileno(), False)
        self.port = self.wait_event("hasupd.started")["http_port"]
        if wait:
            for slot in self.slots():
                if slot["state"] != "ready":
                    self.wait_event("slot.ready", slot=slot["slot"])

    # ---- events ----

    def read_events(self, until):
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stderr], [], [], max(0, until - time.monotonic()))
            if not ready:
                return None
            more = os.read(self.process.stderr.fileno(), 65536)
            if not more:
                return None
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        try:
            return json.loads(line)
        except ValueError:
            return {"event": "raw", "message": line.decode(errors="replace")}

    def ended(self):
        """Whether hasupd is gone and all that it said is read."""
        return self.process.poll() is not None and b"\n" not in self.buffer

    def wait_event(self, name, since=0, **fields):
        """The first such event after number `since` of those seen so far."""
        until, at = time.monotonic() + LIMIT, since
        while True:
            for event in self.events[at:]:
                at += 1
                if event["event"] == name and all(event.get(k) == v for k, v in fields.items()):
                    return event
            event = self.read_events(until)
            if event is None:
                last = "\n".join(json.dumps(e) for e in self.events[-12:])
                raise AssertionError(f"no {name} {fields}; the last events:\n{last}")
            self.events.append(event)

    def mark(self):
        """Reads what is there; a number for `since`."""
        while True:
            event = self.read_events(time.monotonic())
            if event is None:
                return len(self.events)
            self.events.append(event)

    # ---- hasupctl ----

    def ctl(self, *args, check=True, input=None):
        done = subprocess.run([f"{BUILD}/hasupctl", "-s", self.socket, *args], capture_output=True,
                              timeout=LIMIT, input=input)
        if check and done.returncode:
            raise AssertionError(f"hasupctl {args}: {done.returncode}: {done.stderr.decode()}")
        return done

    def status(self):
        return json.loads(self.ctl("--json", "status").stdout)

    def slots(self):
        status = self.status()
        return [slot for model in status["models"] + status["programs"] for slot in model["slots"]]

    def slot(self, name):
        return next(slot for slot in self.slots() if slot["slot"] == name)

    def idle_slot(self, name):
        """The slot once its worker has nothing in hand: one that is ready may still run the last of its log."""
        wait_until(lambda: self.slot(name)["inflight"] == 0, f"{name} is never idle")
        return self.slot(name)

    def pid(self, name):
        return self.slot(name)["pid"]

    def kill(self, name, signo=signal.SIGKILL):
        pid = self.pid(name)
        assert pid > 1
        os.kill(pid, signo)
        return pid

    # ---- requests ----

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)

    def post(self, model, body, headers=None, path=None):
        """Status, headers, body."""
        return self.finish(self.begin(model, body, headers, path))

    def begin(self, model, body, headers=None, path=None):
        """Sends a request; finish() gives its answer later."""
        connection = self.connect()
        connection.request("POST", path or f"/models/{model}/invoke", body, headers or {})
        return connection

    @staticmethod
    def finish(connection):
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, answer.headers, data

    @staticmethod
    def first_answered(connections):
        """The first of these whose answer begins to arrive."""
        ready, _, _ = select.select([c.sock for c in connections], [], [], LIMIT)
        assert ready, "no answer"
        return next(c for c in connections if c.sock is ready[0])

    def get(self, path):
        connection = self.connect()
        connection.request("GET", path)
        status, _, body = self.finish(connection)
        return status, body

    def fifo(self, name):
        path = os.path.join(self.directory, name)
        os.mkfifo(path)
        return path

    @staticmethod
    def release(path, count=1):
        """Lets those go on who wait at the FIFO; blocks until one does."""
        for _ in range(count):
            with open(path, "wb") as file:
                file.write(b"x")

    def unlock(self, path):
        """Lets the next few go on who wait at the FIFO or come to it, and waits for none of them."""
        gate = open(path, "r+b", buffering=0)  # both ends: what is written stays for as long as this is open
        gate.write(b"x" * 16)
        self.unlocked.append(gate)

    def occupy(self):
        """A gate, and a request that m/0 answers once it is released."""
        gate = self.fifo("gate")
        waiting = self.begin("m", f"wait {gate}")
        wait_until(lambda: self.slot("m/0")["inflight"] == 1, "never in flight")
        return gate, waiting

    def raw(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)

    # ---- end ----

    def stop(self, signo=signal.SIGTERM):
        self.process.send_signal(signo)
        code = self.process.wait(LIMIT)
        self.process.stderr.close()
        return code

    def kill_and_start(self, wait=True):
        """hasupd dies by kill -9, and is started again on what it left."""
        assert self.stop(signal.SIGKILL) == -signal.SIGKILL
        self.start(wait)

    def close(self):
        if self.process and self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        if self.process:
            self.process.stderr.close()
        for gate in self.unlocked:
            gate.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def events_of(answer):
    """The id, its number, the name and the data of each server-sent event that comes whole."""
    event, name, data = None, None, []
    for line in answer:
        line = line.decode().rstrip("\n")
        if line.startswith("id: "):
            event = line[4:]
        elif line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data.append(line[6:])
        elif not line and event is not None:
            yield event, int(event.rpartition("-")[2]), name, "\n".join(data)
            event, name, data = None, None, []


def wait_until(true, what):
    """Polls what no event tells."""
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, what
        os.sched_yield()


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

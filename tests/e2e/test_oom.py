"""Promise 1 and 6 for lack of memory: the kernel's OOM killer takes a worker, and it is told as what it was.

The test makes a cgroup with a memory limit, of v2 or of v1, and starts hasupd in it, as a container or a service would.
"""
import contextlib
import json
import os
import select
import signal
import sys
import tempfile
import unittest

from contained import NO_NAMESPACE, Contained, children
from world import LIMIT, WORKER, World, wait_until

LIMIT_MIB = 256  # hasupd and two workers under AddressSanitizer, and room
HUNGRY = f"eat {4 * LIMIT_MIB}"
MODELS = f"  m: {{command: [{WORKER}], workers: 2, restart: {{backoff_min: 10ms, backoff_max: 100ms, start_limit: 1000}}}}"
OOM = "oom: killed for lack of memory"


def hierarchies():
    """Directories that might take a cgroup with a memory limit, and the names of the limit's files there."""
    with open("/proc/self/cgroup") as file:
        own = {controllers: path for _, controllers, path in (line.rstrip("\n").split(":", 2) for line in file)}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, right = line.split(" - ", 1)
            root, mount = left.split()[3:5]
            kind, options = right.split()[0], right.split()[-1].split(",")
            if kind == "cgroup2":
                controllers, names = "", ("memory.max", "memory.swap.max")
            elif kind == "cgroup" and "memory" in options:
                controllers, names = "memory", ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
            else:
                continue
            path = next((p for c, p in own.items() if controllers in c.split(",")), None)
            if path is None:
                continue
            path = path[len(root):] if root != "/" and path.startswith(root) else path
            while True:  # v2 gives controllers to the children of what has no process of its own
                yield mount + path.rstrip("/"), names
                if path in ("", "/"):
                    break
                path = os.path.dirname(path)


class Kitchen:
    """A cgroup with a memory limit."""

    def __init__(self):
        reasons = []
        for parent, self.names in hierarchies():
            try:
                self.path = tempfile.mkdtemp(prefix="hasup-oom.", dir=parent)
            except OSError as error:
                reasons.append(f"{parent}: {error.strerror}")
                continue
            try:
                self.limit(LIMIT_MIB)
                return
            except OSError as error:
                reasons.append(f"{self.path}: {error.strerror}")
                os.rmdir(self.path)
        why = "no cgroup with a memory limit can be made here: " + ("; ".join(reasons) or "no cgroups")
        print(f"test_oom.py is skipped: {why}", file=sys.stderr)
        raise unittest.SkipTest(why)

    def limit(self, mib):
        """Sets the limit, or raises it; v1 wants the one with swap never below the other."""
        memory, swap = self.names
        most = str(mib << 20)
        if not os.path.exists(os.path.join(self.path, swap)):
            self.put(memory, most)
        elif swap == "memory.swap.max":
            self.put(memory, most)
            self.put(swap, "0")
        else:
            for name in (swap, memory) if mib > LIMIT_MIB else (memory, swap):
                self.put(name, most)

    def put(self, name, value):
        with open(os.path.join(self.path, name), "w") as file:
            file.write(value)

    def enter(self):
        self.put("cgroup.procs", "0")

    def kill_all_together(self):
        """Who hits the limit takes everybody here along.  The kernel's own way is v2's; of v1 it tells, and waits for what
        is then done: the returned function does it."""
        if os.path.exists(os.path.join(self.path, "memory.oom.group")):
            self.put("memory.oom.group", "1")
            return lambda: None
        self.put("memory.oom_control", "1")
        told = os.eventfd(0)
        with open(os.path.join(self.path, "memory.oom_control")) as control:
            self.put("cgroup.event_control", f"{told} {control.fileno()}")

        def kill():
            ready, _, _ = select.select([told], [], [], LIMIT)
            os.close(told)
            assert ready, "the limit was never hit"
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):  # the first of a namespace takes the others along
                    os.kill(pid, signal.SIGKILL)
        return kill

    def pids(self):
        """Of those below, too: hasupd may have made some."""
        found = []
        for directory, _, _ in os.walk(self.path):
            with open(os.path.join(directory, "cgroup.procs")) as file:
                found += map(int, file.read().split())
        return found

    def close(self):
        def gone():
            try:
                for directory, _, _ in os.walk(self.path, topdown=False):
                    os.rmdir(directory)
            except OSError:
                return False
            return True
        wait_until(gone, f"somebody is left in {self.path}")


class OutOfMemory(unittest.TestCase):
    def setUp(self):
        self.kitchen = Kitchen()
        self.addCleanup(self.kitchen.close)
        self.world = World(MODELS, before=self.kitchen.enter)
        self.addCleanup(self.world.close)

    def exits(self, count):
        found, since = [], 0
        while len(found) < count:
            found.append(self.world.wait_event("slot.exited", since=since))
            since = self.world.events.index(found[-1]) + 1
        return found

    def test_promise_6_a_request_that_eats_all_memory_is_quarantined_as_oom(self):
        world = self.world
        status, headers, body = world.post("m", HUNGRY)
        self.assertEqual((status, headers["X-Hasup-Attempts"]), (422, "3"))
        self.assertIn(f"killed 3 workers, the last: {OOM}", json.loads(body)["error"]["message"])
        self.assertEqual([event["message"] for event in self.exits(3)], [OOM] * 3)
        self.assertIn(OOM, world.ctl("status").stdout.decode())
        (letter,) = json.loads(world.ctl("--json", "requests", "letters").stdout)
        record = json.loads(world.ctl("--json", "requests", "show", letter["id"]).stdout)
        self.assertEqual([(r["signal"], r["oom"], r["reason"]) for r in record["deaths"]], [(9, True, OOM)] * 3)
        self.assertEqual(world.post("m", "echo well")[2], b"well")

    def test_promise_1_who_shares_the_workers_with_it_is_answered(self):
        world = self.world
        path = world.fifo("fifo")
        waiting = [world.begin("m", f"wait {path}") for _ in range(2)]
        wait_until(lambda: world.status()["models"][0]["inflight"] == 2, "they never began")
        mates = [world.begin("m", f"echo {i}") for i in range(8)]
        hungry = world.begin("m", HUNGRY)
        while waiting:  # one after the other, as a FIFO's byte is for one of its readers
            world.release(path)
            first = world.first_answered(waiting)
            waiting.remove(first)
            self.assertEqual(world.finish(first)[2], b"done")
        self.assertEqual([world.finish(c)[2] for c in mates], [str(i).encode() for i in range(8)])
        self.assertEqual(world.finish(hungry)[0], 422)
        self.assertEqual([event["message"] for event in self.exits(3)], [OOM] * 3)

    def test_promise_7_a_machine_without_memory_quarantines_nobody(self):
        world = self.world
        waiting = [world.begin("m", f"eat {LIMIT_MIB + i}") for i in range(4)]
        world.wait_event("model.broken", model="m")
        self.assertIn(OOM, world.ctl("status").stdout.decode())
        self.kitchen.limit(6 * LIMIT_MIB)
        self.assertEqual([world.finish(c)[2] for c in waiting], [b"ate"] * 4)
        world.mark()
        self.assertEqual([e for e in world.events if e["event"] == "request.quarantined"], [])

    def test_a_kill_by_somebody_else_is_not_taken_for_lack_of_memory(self):
        world = self.world
        self.assertEqual(world.post("m", HUNGRY)[0], 422)
        self.exits(3)
        wait_until(lambda: any(s["state"] == "ready" for s in world.slots()), "none is ready")
        pid = world.kill(next(s["slot"] for s in world.slots() if s["state"] == "ready"), signal.SIGKILL)
        self.assertEqual(world.wait_event("slot.exited", pid=pid)["message"], "killed by signal 9 (Killed)")


@unittest.skipIf(NO_NAMESPACE, NO_NAMESPACE)
class Container(unittest.TestCase):
    """hasupd itself is taken, and with it all of its container; what starts that again is the test here."""

    def setUp(self):
        self.kitchen = Kitchen()
        self.addCleanup(self.kitchen.close)

    def dies_and_comes_again(self, prepare):
        world = Contained(MODELS, before=self.kitchen.enter)
        self.addCleanup(world.close)
        die = prepare(world)
        key = {"Idempotency-Key": "once"}
        self.assertEqual(world.post("m", "echo kept", key)[2], b"kept")
        hungry = world.begin("m", HUNGRY)
        self.addCleanup(hungry.close)
        die()
        self.assertNotEqual(world.process.wait(LIMIT), 0)
        world.process.stderr.close()
        wait_until(lambda: not self.kitchen.pids(), "somebody outlived it")
        world.start()
        event = world.wait_event("hasupd.last_run")
        self.assertEqual((event["level"], event["how"]), ("warning", "killed"))
        self.assertIn("pid 1, begun at ", event["message"])
        self.assertIn("did not stop: it was killed (kill -9, or for lack of memory)", event["message"])
        self.assertEqual(world.status()["last_run"], event["message"])
        self.assertEqual(world.post("m", "echo kept", key)[2], b"kept")
        self.assertEqual(world.post("m", "echo well")[2], b"well")

    def test_promise_2_the_next_one_says_that_all_of_the_container_was_killed(self):
        self.dies_and_comes_again(lambda _: self.kitchen.kill_all_together())

    def test_promise_2_the_next_one_says_that_the_kernel_took_hasupd_itself(self):
        def first(world):  # whom the kernel takes
            with open(f"/proc/{world.init}/oom_score_adj", "w") as file:
                file.write("1000")
            return lambda: None
        self.dies_and_comes_again(first)


@unittest.skipIf(NO_NAMESPACE, NO_NAMESPACE)
class Evidence(unittest.TestCase):
    """Where no cgroup counts: the machine's count, which is a file of the test's here."""
    INSIDE = 'D=$(dirname "$3"); echo "pgfault 7\noom_kill 41\nnr_unstable 0" >"$D/vmstat"; ' \
             'mount --bind "$D/vmstat" /proc/vmstat && mount -t tmpfs none /sys/fs/cgroup && exec "$@"'
    SEEMS = f"{OOM}, as it seems: the machine counts such a kill"
    KILLED = "killed by signal 9 (Killed)"

    def setUp(self):
        self.world = Contained(MODELS, self.INSIDE)
        self.addCleanup(self.world.close)

    def count(self, kills):
        with open(os.path.join(self.world.directory, "vmstat"), "r+") as file:  # the file that is bound
            file.write(f"pgfault 7\noom_kill {kills}\nnr_unstable 0\n")

    def kill(self, count=1):
        """What is said of so many workers that are killed at once."""
        wait_until(lambda: [slot["state"] for slot in self.world.slots()] == ["ready"] * 2, "a worker is not there")
        since = self.world.mark()
        for pid in children(self.world.init)[:count]:
            os.kill(pid, signal.SIGKILL)
        said = []
        for _ in range(count):
            event = self.world.wait_event("slot.exited", since=since)
            since = self.world.events.index(event) + 1
            said.append(event["message"])
        return said

    def test_a_kill_that_the_machine_counts_is_told_as_what_it_seems(self):
        self.assertEqual(self.kill(), [self.KILLED])
        self.count(42)
        self.assertEqual(self.kill(), [self.SEEMS])
        self.assertIn(OOM, self.world.ctl("why", "m").stdout.decode())
        self.assertIn(b'hasup_worker_ends_total{model="m",cause="oom"} 1\n', self.world.get("/metrics")[1])
        self.assertEqual(self.kill(), [self.KILLED])
        self.count(44)
        self.assertEqual(self.kill(2), [self.SEEMS] * 2)
        self.assertEqual(self.kill(), [self.KILLED])

    def test_other_signals_are_what_they_are(self):
        self.count(42)
        wait_until(lambda: len(children(self.world.init)) == 2, "a worker is not there")
        os.kill(children(self.world.init)[0], signal.SIGABRT)
        self.assertIn("killed by signal 6", self.world.wait_event("slot.exited")["message"])


if __name__ == "__main__":
    unittest.main()

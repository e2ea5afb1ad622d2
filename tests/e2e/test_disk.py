"""Promise 11 with real disks: read-only, full, taken away, and good again; and state under fire, bit for bit.

The disks are small tmpfs mounts in a mount namespace of the test's own, which hasupd and hasupctl inherit.
"""
import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fire import ask_under_fire, pid_after, state_of  # noqa: E402
from world import BUILD, LIMIT, OBJECTS, ROOT, World  # noqa: E402

COUNTER = (f"  counter: {{command: [{BUILD}/examples/counter], checkpoint: {{interval: 100ms}}, "
           f"restart: {{start_limit: 1000}}}}")  # as many kills as a test likes
MANUAL = f"  counter: {{command: [{BUILD}/examples/counter], checkpoint: {{interval: 0}}}}"
STATELESS = f"\n  other: {{command: [{OBJECTS}/tests/e2e/worker]}}"
# The counter with more state: eight bytes find room on a full disk, in pages that the file has already.
BULKY, BULKY_MANUAL = (models.replace(f"{BUILD}/examples/counter", f"{OBJECTS}/tests/e2e/bulky")
                       for models in (COUNTER, MANUAL))
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, CLONE_NEWNS = 1, 32, 4096, 16384, 1 << 18, 0x20000
libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, kind, flags, options=None):
    arguments = [None if a is None else a.encode() for a in (source, target, kind)]
    if libc.mount(*arguments, ctypes.c_ulong(flags), None if options is None else options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def own_mounts():
    """Why this process cannot have mounts of its own; None: it now has."""
    if libc.unshare(CLONE_NEWNS):
        return f"no mount namespace: {os.strerror(ctypes.get_errno())} (needs root)"
    try:
        mount("none", "/", None, MS_REC | MS_PRIVATE)
    except OSError as error:  # a root that is no mount, as in a chroot
        return f"mounts of its own cannot be made private: {error}"
    return None


class Disk:
    """A small file system at a directory of its own."""

    def __init__(self, size="4m"):
        self.path = tempfile.mkdtemp(prefix="hasup-disk.")
        mount("none", self.path, "tmpfs", 0, f"size={size},mode=0700")

    def read_only(self, yes):
        if yes:
            mount(self.path, self.path, None, MS_BIND)
            mount("none", self.path, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        else:
            assert libc.umount2(self.path.encode(), 0) == 0, os.strerror(ctypes.get_errno())

    def whole_read_only(self, yes):
        """The file system itself: files that are open stay open."""
        mount("none", self.path, None, MS_REMOUNT | (MS_RDONLY if yes else 0), "mode=0700")

    def fill(self):
        """Once more: what was let go of meanwhile, too, such as a log of SQLite's that was folded back."""
        with open(os.path.join(self.path, "filler"), "ab", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

    def free(self):
        os.unlink(os.path.join(self.path, "filler"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while libc.umount2(self.path.encode(), 2) == 0:
            pass
        os.rmdir(self.path)


class BadDisks(unittest.TestCase):
    def assert_loud(self, world, message):
        """Said once in the log, in both forms of status, and by `checkpoint now`."""
        now = world.ctl("--json", "checkpoint", "now", "counter", check=False)
        self.assertEqual(now.returncode, 1)
        self.assertIn(message, json.loads(now.stdout)["checkpoints"]["counter/0"]["error"])
        status = world.status()["checkpoints"]
        self.assertTrue(status["failing"])
        self.assertIn(message, status["error"])
        self.assertTrue(world.slot("counter/0")["checkpoint"]["in_memory_only"])
        shown = world.ctl("status").stdout.decode()
        self.assertIn("NOT stored", shown)
        self.assertIn(message, shown)

    def assert_log(self, world, mark, failing, recovered):
        """No flood: one line when it begins, one when it is over."""
        world.mark()
        names = [e["event"] for e in world.events[mark:]]
        self.assertEqual(names.count("checkpoints.failing"), failing)
        self.assertEqual(names.count("checkpoints.recovered"), recovered)
        self.assertEqual(names.count("checkpoint.failed"), 0)

    def audit(self, world, *args):
        return world.ctl("audit", *args, check=False)

    def count_on(self, world, start, number):
        """Answers go on; the worker's death is not noticed either."""
        for i in range(start, start + number):
            if i == start + number // 2:
                world.kill("counter/0")
            self.assertEqual(world.post("counter", "")[::2], (200, b"%d\n" % i))
            self.assertEqual(world.post("other", "echo x")[2], b"x")
        return start + number

    def fails_then_recovers(self, world, message, break_it, audit_code, mend, break_again=None):
        n = self.count_on(world, 1, 4)
        world.ctl("checkpoint", "now", "counter")
        mark = world.mark()
        break_it()
        n = self.count_on(world, n, 6)
        if break_again:
            break_again()
        self.assert_loud(world, message)
        self.assertEqual(self.audit(world, "--quiet").returncode, audit_code)
        for _ in range(5):  # more that fail: still one line
            world.ctl("checkpoint", "now", "counter", check=False)
        n = self.count_on(world, n, 4)
        self.assert_log(world, mark, 1, 0)
        mend()
        world.wait_event("checkpoints.recovered", since=mark)  # by itself: nobody asks for one
        self.assert_log(world, mark, 1, 1)
        self.assertFalse(world.status()["checkpoints"]["failing"])
        self.assertNotIn("NOT stored", world.ctl("status").stdout.decode())
        audit = self.audit(world, "--quiet")
        self.assertIn(audit.returncode, (0, 1))
        if audit.returncode:  # a small disk stays a small disk
            self.assertRegex(audit.stdout.decode(), r"\Aspace: [^\n]*\n    to do: [^\n]*\n\Z")
        self.assertEqual(world.stop(), 0)
        position, state = state_of(world.state, "counter")
        self.assertEqual(position, n - 1)
        self.assertEqual(int.from_bytes(state[:8], "little"), n - 1)

    def test_promise_11_a_full_disk(self):
        with Disk("8m") as disk, World(BULKY + STATELESS, state=disk.path) as world:
            self.fails_then_recovers(world, "full", disk.fill, 1, disk.free, disk.fill)

    def test_promise_4_a_state_that_the_disk_does_not_take_goes_along_in_an_upgrade(self):
        for models, message, break_it, mend in (
                (BULKY, "full", Disk.fill, Disk.free),  # in a memfd
                (COUNTER, "checkpoints.db: ", lambda disk: disk.read_only(True), lambda disk: disk.read_only(False))):
            with self.subTest(message), Disk("8m") as disk, World(models + STATELESS, state=disk.path) as world:
                n = self.count_on(world, 1, 4)
                break_it(disk)
                mark = world.mark()
                n = self.count_on(world, n, 6)
                self.assert_loud(world, message)
                self.assertTrue(json.loads(world.ctl("--json", "upgrade").stdout)["ok"])
                self.assertTrue(world.slot("counter/0")["checkpoint"]["in_memory_only"])
                n = self.count_on(world, n, 6)
                self.assert_loud(world, message)
                mend(disk)
                world.wait_event("checkpoints.recovered", since=mark)
                self.assertEqual(world.stop(), 0)
                position, state = state_of(world.state, "counter")
                self.assertEqual((position, int.from_bytes(state[:8], "little")), (n - 1, n - 1))

    def test_promise_11_a_directory_removed_under_it(self):
        with World(COUNTER + STATELESS) as world:
            self.fails_then_recovers(world, "No such file or directory", lambda: shutil.rmtree(world.state), 2,
                                     lambda: os.mkdir(world.state, 0o700))

    def test_promise_11_a_start_on_a_read_only_disk_restores_and_says_so(self):
        with Disk() as disk:
            with World(MANUAL + STATELESS, state=disk.path) as world:
                self.count_on(world, 1, 4)
                self.assertEqual(world.stop(), 0)
            disk.read_only(True)
            with World(MANUAL + STATELESS, state=disk.path) as world:
                failing = world.wait_event("checkpoints.failing", slot="counter/0")  # before any save
                self.assertIn("Read-only file system", failing["message"])
                self.count_on(world, 5, 4)
                self.assert_loud(world, "Read-only file system")
                self.assertEqual(self.audit(world).returncode, 1)
                self.assertIn(b"read-only", self.audit(world).stdout)
                disk.read_only(False)
                world.ctl("checkpoint", "now", "counter")
                world.wait_event("checkpoints.recovered")
                self.assertEqual(world.stop(), 0)
            self.assertEqual(state_of(disk.path, "counter")[0], 8)

    def second(self, world):
        """What a hasupd with a runtime_dir of its own says to the same state_dir, and its exit code."""
        with tempfile.TemporaryDirectory() as other:
            path = os.path.join(other, "c.yaml")
            with open(path, "w") as file:
                file.write(f"state_dir: {world.state}\nruntime_dir: {other}\nlisten: {{http: off}}\nmodels:\n{MANUAL}\n")
            done = subprocess.run([f"{BUILD}/hasupd", "-c", path], capture_output=True, text=True, timeout=LIMIT)
        return done.returncode, done.stderr

    def assert_owner(self, world):
        code, said = self.second(world)
        self.assertEqual(code, 2)
        self.assertIn(f"another hasupd (pid {world.process.pid}) keeps its states in", said)

    def test_promise_11_a_read_only_directory_is_owned_as_soon_as_it_can_be_written(self):
        with Disk() as disk:
            with World(MANUAL, state=disk.path) as world:
                disk.read_only(True)
                self.assert_owner(world)  # it was there before
                disk.read_only(False)
                self.count(world)
                self.assertEqual(world.stop(), 0)
            disk.read_only(True)
            with World(MANUAL, state=disk.path) as world:
                self.assertIn("second hasupd", world.wait_event("notes.failing")["effect"])
                disk.read_only(False)  # and nothing of hasupd's is in its way
                self.count(world)
                world.wait_event("checkpoints.recovered")
                self.assert_owner(world)

    def test_promise_11_two_that_began_on_a_read_only_disk_are_found(self):
        with Disk() as disk:
            with World(MANUAL, state=disk.path) as world:
                self.count(world)
                self.assertEqual(world.stop(), 0)
            disk.read_only(True)
            with World(MANUAL, state=disk.path) as first, World(MANUAL, state=disk.path) as second:
                disk.read_only(False)
                self.count(first)
                self.count(second)
                shared = second.wait_event("state_dir.shared")["message"]
                self.assertIn(f"another hasupd (pid {first.process.pid})", shared)
                self.count(second)
                second.mark()
                self.assertEqual([e["event"] for e in second.events].count("state_dir.shared"), 1)

    def test_promise_11_a_directory_that_was_made_again_has_its_owner(self):
        with World(MANUAL) as world:
            shutil.rmtree(world.state)
            os.mkdir(world.state, 0o700)
            self.count(world)
            world.ctl("checkpoint", "now", "counter")
            self.assertIn("activity", os.listdir(world.state))
            self.assert_owner(world)

    def count(self, world):
        self.assertEqual(world.post("counter", "")[0], 200)
        world.ctl("checkpoint", "now", "counter")

    def test_promise_11_a_start_on_a_full_disk_restores(self):
        with Disk() as disk:
            with World(BULKY_MANUAL + STATELESS, state=disk.path) as world:
                self.count_on(world, 1, 4)
                self.assertEqual(world.stop(), 0)
            disk.fill()
            with World(BULKY_MANUAL + STATELESS, state=disk.path) as world:
                self.count_on(world, 5, 4)
                self.assert_loud(world, "")

    def test_what_was_kept_in_memory_is_stored_by_a_clean_stop(self):
        with Disk("8m") as disk, World(BULKY_MANUAL + STATELESS, state=disk.path) as world:
            self.count_on(world, 1, 4)
            disk.fill()
            self.assert_loud(world, "full")
            disk.free()
            self.assertEqual(world.stop(), 0)  # not one request since
            self.assertEqual(state_of(disk.path, "counter")[0], 4)

    def test_a_stop_that_cannot_store_the_newest_state_exits_1_and_says_what_is_lost(self):
        with Disk("8m") as disk, World(BULKY_MANUAL + STATELESS, state=disk.path) as world:
            self.count_on(world, 1, 4)
            world.ctl("checkpoint", "now", "counter")
            disk.fill()
            self.count_on(world, 5, 2)
            world.process.send_signal(signal.SIGTERM)
            lost = world.wait_event("checkpoint.lost", slot="counter/0")
            self.assertEqual((lost["position"], lost["stored_position"]), (6, 4))
            self.assertIn("full", lost["error"])
            self.assertEqual(world.wait_event("hasupd.stopped")["exit_code"], 1)
            self.assertEqual(world.process.wait(LIMIT), 1)
            world.process.stderr.close()

    def test_a_disk_that_hangs_the_writer_does_not_hold_the_requests(self):
        with World(COUNTER + STATELESS) as world:
            world.post("counter", "")
            world.ctl("checkpoint", "now", "counter")
            other = sqlite3.connect(os.path.join(world.state, "checkpoints.db"), isolation_level=None)
            other.execute("BEGIN IMMEDIATE")  # the thread waits for the lock; the loop must not
            mark = world.mark()
            for i in range(2, 200):
                self.assertEqual(world.post("counter", "")[2], b"%d\n" % i)
            world.wait_event("checkpoints.failing", since=mark)
            other.execute("COMMIT")
            other.close()
            world.wait_event("checkpoints.recovered", since=mark)


class JournalOnABadDisk(unittest.TestCase):
    """Durable requests are refused with a reason while the disk takes nothing; the others never notice."""
    MODELS = (f"  echo: {{command: [{OBJECTS}/tests/e2e/worker], workers: 2}}\n"
              f"  counter: {{command: [{BUILD}/examples/counter], journal: always, checkpoint: {{interval: 0}}}}")
    BODY = "echo " + "x" * 100000

    def ask(self, world, key, body=None, **headers):
        return world.post("echo", body or self.BODY, {"Idempotency-Key": key, **headers})

    def assert_refused(self, answer):
        status, headers, data = answer
        self.assertEqual(status, 503, data)
        self.assertGreaterEqual(int(headers["Retry-After"]), 1)
        error = json.loads(data)["error"]
        self.assertEqual(error["code"], "unavailable")
        self.assertIn("the journal cannot be written now", error["message"])

    def until_refused(self, world):
        """Asks until the disk takes no more: (keys that were answered, the first that was not)."""
        for i in range(500):
            answer = self.ask(world, f"k{i}")
            if answer[0] != 200:
                self.assert_refused(answer)
                return i
        self.fail("the disk never got full")

    def assert_refuses_loudly(self, world, mark, message):
        """Every way to be durable is refused; what is not, goes on, and its worker may die."""
        self.assert_refused(self.ask(world, "other"))
        self.assert_refused(self.ask(world, "async", Prefer="respond-async"))
        self.assert_refused(world.post("counter", "x" * 100000))
        for i in range(10):
            if i == 5:
                world.kill("echo/0")
            self.assertEqual(world.post("echo", f"echo {i}")[::2], (200, str(i).encode()))
        status = world.status()["journal"]
        self.assertTrue(status["failing"])
        self.assertIn(message, status["error"])
        self.assertIn("the journal FAILS", world.ctl("status").stdout.decode())
        world.mark()
        self.assertEqual([e["event"] for e in world.events[mark:]].count("journal.failing"), 1)

    def assert_recovers(self, world, mark, answered):
        """By itself, with the next request; and what was answered before is still there."""
        self.assertEqual(self.ask(world, "after")[0], 200)
        world.wait_event("journal.recovered", since=mark)
        self.assertFalse(world.status()["journal"]["failing"])
        self.assertNotIn("FAILS", world.ctl("status").stdout.decode())
        for i in range(answered):
            status, headers, data = self.ask(world, f"k{i}")
            self.assertEqual((status, len(data)), (200, 100000))
        self.assertEqual(self.ask(world, "other")[0], 200)
        status, _, count = world.post("counter", "")
        self.assertEqual(status, 200)
        return int(count)

    def fails_then_recovers(self, world, break_it, mend, message):
        self.assertEqual(world.post("counter", "")[2], b"1\n")
        mark = world.mark()
        break_it()
        answered = self.until_refused(world)
        self.assert_refuses_loudly(world, mark, message)
        mend()
        self.assertEqual(self.assert_recovers(world, mark, answered), 2)  # what was refused never ran
        world.process.kill()
        world.process.wait()
        with World(self.MODELS, state=world.state) as after:
            self.assertEqual(after.post("counter", "")[2], b"3\n")
            self.assertEqual(self.ask(after, "after")[0], 200)
            self.assertEqual(after.stop(), 0)

    def test_promises_2_8_11_a_full_disk(self):
        with Disk("8m") as disk, World(self.MODELS, state=disk.path) as world:
            self.fails_then_recovers(world, disk.fill, disk.free, "full")

    def test_promise_11_answers_that_wait_for_a_full_disk_do_not_flood_the_log(self):
        with Disk("8m") as disk, World(self.MODELS, state=disk.path) as world:
            gate, mark = world.fifo("gate"), world.mark()
            held = os.open(gate, os.O_RDWR)
            later = {"Prefer": "respond-async"}
            for body in [f"wait {gate}"] * 8 + ["big 200000"] * 24:
                self.assertEqual(world.post("echo", body, later)[0], 202)
            disk.fill()
            os.write(held, b"x" * 64)
            world.wait_event("journal.failing", since=mark)
            end = time.monotonic() + LIMIT
            while world.status()["models"][0]["unstored"] < 24:
                self.assertLess(time.monotonic(), end, "not all were answered")
            world.mark()
            self.assertLess([e["level"] for e in world.events[mark:]].count("error"), 3)
            disk.free()
            world.wait_event("journal.recovered", since=mark)
            os.close(held)

    def test_promises_2_8_11_a_directory_removed_under_it(self):
        """What was accepted is gone with it, which is said; nothing is promised that no file keeps."""
        with World(self.MODELS) as world:
            self.assertEqual(self.ask(world, "k0")[0], 200)
            mark = world.mark()
            shutil.rmtree(world.state)
            self.assert_refused(self.ask(world, "k1"))
            self.assertIn("removed or replaced", world.wait_event("journal.failing", since=mark)["message"])
            self.assert_refuses_loudly(world, mark, "journal.db")
            os.mkdir(world.state, 0o700)
            self.assertEqual(self.assert_recovers(world, mark, 0), 1)
            world.process.kill()
            world.process.wait()
            with World(self.MODELS, state=world.state) as after:
                self.assertEqual(self.ask(after, "after")[0], 200)
                self.assertEqual(after.post("counter", "")[2], b"2\n")

    def test_a_journal_that_somebody_put_there_is_not_gone_on_with(self):
        with World(self.MODELS) as world:
            self.assertEqual(self.ask(world, "k0")[0], 200)
            path = os.path.join(world.state, "journal.db")
            shutil.copy(path, path + ".copy")
            os.rename(path + ".copy", path)
            self.assert_refused(self.ask(world, "k1"))
            self.assert_refused(self.ask(world, "k2"))
            self.assertIn("restart hasupd", world.status()["journal"]["error"])

    def begin_read_only(self, end):
        """A start on a disk that cannot be written: what is stored is known, nothing is added, until it can be."""
        with Disk("8m") as disk:
            with World(self.MODELS, state=disk.path) as world:
                self.assertEqual(world.post("counter", "")[2], b"1\n")
                self.assertEqual(self.ask(world, "k0")[0], 200)
                end(world)
            disk.whole_read_only(True)
            with World(self.MODELS, state=disk.path) as world:
                self.assert_refuses_loudly(world, 0, "only")
                self.assertEqual(len(self.ask(world, "k0")[2]), 100000)  # told from what is stored
                disk.whole_read_only(False)
                self.assertEqual(self.assert_recovers(world, 0, 1), 2)
                end(world)
            with World(self.MODELS, state=disk.path) as world:
                self.assertEqual(world.post("counter", "")[2], b"3\n")
                self.assertEqual(world.stop(), 0)

    def test_promises_2_8_11_a_start_on_a_read_only_disk(self):
        self.begin_read_only(lambda world: self.assertEqual(world.stop(), 0))

    def test_promises_2_8_11_a_start_on_a_read_only_disk_after_a_kill(self):
        self.begin_read_only(lambda world: (world.process.kill(), world.process.wait()))


def lessons_of(count):
    with open(os.path.join(ROOT, "examples/data/digits_held_out.csv")) as rows:
        rows = [[int(n) for n in row.split(",")] for row in rows]
    return [json.dumps({"image": row[:64], "label": row[64]}).encode() for row in rows[:count]]


class UnderFire(unittest.TestCase):
    """Eight clients, a worker killed at random moments, a checkpoint at a known position in the midst."""
    CLIENTS, EACH = 8, 60

    def load(self, world, bodies, model, kills):
        rng, killed = random.Random(int(os.environ.get("HASUP_SEED", "1"))), set()

        def strike():
            pid = pid_after(world, f"{model}/0", killed)
            killed.add(pid)
            with contextlib.suppress(ProcessLookupError):  # it drained or died by itself
                os.kill(pid, 9)

        return ask_under_fire(world, model, bodies, self.CLIENTS, rng.sample(range(len(bodies)), kills), strike,
                              lambda: world.ctl("checkpoint", "now", model, check=False))  # a kill may meet it

    def test_promise_4_a_counter_under_fire_counts_exactly(self):
        count = self.CLIENTS * self.EACH
        with World(COUNTER) as world:
            answers = self.load(world, [b""] * count, "counter", 12)
            self.assertEqual({status for status, _, _ in answers}, {200})
            self.assertEqual(sorted(int(data) for _, data, _ in answers), list(range(1, count + 1)))
            slot = world.slot("counter/0")
            self.assertEqual(slot["diverged"], 0)
            self.assertGreater(slot["crashes"], 5)
            self.assertEqual(world.stop(), 0)
            position, state = state_of(world.state, "counter")
            self.assertEqual((position, int.from_bytes(state, "little")), (count, count))

    def test_promise_2_and_4_a_learner_whose_hasupd_dies_is_bit_equal_to_an_undisturbed_one(self):
        model = (f"  learner: {{command: [{BUILD}/examples/learner], journal: always, checkpoint: {{interval: 0%s}}, "
                 f"restart: {{start_limit: 1000}}}}")
        lessons = lessons_of(120)

        def learn(world, deaths):
            answers, replayed = [], []
            for number, lesson in enumerate(lessons):
                key = {"Idempotency-Key": f"k{number}"}
                if number in deaths:
                    lost = world.connect()
                    lost.request("POST", "/models/learner/invoke", lesson, key)
                    world.kill_and_start()
                    lost.close()
                    world.wait_event("slot.ready", slot="learner/0")
                    slot = world.idle_slot("learner/0")
                    self.assertEqual(slot["diverged"], 0)
                    replayed.append(slot["replayed"])
                answers.append(world.post("learner", lesson, key)[::2])
            self.assertEqual(any(replayed), bool(deaths))
            self.assertEqual(world.stop(), 0)
            return answers, state_of(world.state, "learner")

        with World(model % "") as world:
            undisturbed = learn(world, ())
        for limit in ("", ", log_requests: 6"):  # from the whole log, and from the newest checkpoint
            with self.subTest(limit=limit), World(model % limit) as world:
                self.assertEqual(learn(world, (7, 8, 40, 41, 90, 119)), undisturbed)
        self.assertEqual(undisturbed[1][0], len(lessons))

    def test_promise_4_a_learner_under_fire_is_bit_equal_to_an_undisturbed_one(self):
        lessons = lessons_of(240)
        model = (f"  learner: {{command: [{BUILD}/examples/learner], checkpoint: {{interval: %s}}, "
                 f"restart: {{start_limit: 1000}}}}")
        with World(model % "100ms") as world:
            answers = self.load(world, lessons, "learner", 10)
            self.assertEqual({status for status, _, _ in answers}, {200})
            slot = world.slot("learner/0")
            self.assertEqual(slot["diverged"], 0)
            self.assertGreater(slot["crashes"], 4)
            self.assertEqual(world.stop(), 0)
            position, state = state_of(world.state, "learner")
        # Each answer says how many lessons there were then: that is the order.
        answers.sort(key=lambda answer: json.loads(answer[1])["learned"])
        self.assertEqual([json.loads(data)["learned"] for _, data, _ in answers], list(range(1, 241)))
        with World(model % "0") as world:
            for status, data, body in answers:
                self.assertEqual(world.post("learner", body)[::2], (status, data))
            self.assertEqual(world.stop(), 0)
            undisturbed = state_of(world.state, "learner")
        self.assertGreater(len(state), 160000)
        self.assertEqual((position, state), undisturbed)


if __name__ == "__main__":
    why = own_mounts()
    if why:
        print("skipped: BadDisks:", why)
        del BadDisks
    unittest.main(verbosity=1)

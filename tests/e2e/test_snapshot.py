"""Promise 4 with states that are large, and that a forked child takes while its worker serves; and early checkpoints.

The worker is tests/e2e/ledger.c: each answer depends on all requests before it and on words all over the state.
"""
import contextlib
import os
import random
import select
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fire import ask_under_fire, pid_after, state_of  # noqa: E402
from world import BUILD, LIMIT, OBJECTS, ROOT, World, alive  # noqa: E402

LEDGER, SIZE = f"{OBJECTS}/tests/e2e/ledger", 8 << 20
PATIENT = "max_attempts: 50, restart: {start_limit: 1000}"  # as many kills as a test likes


def ledger(*arguments, checkpoint="interval: 0", more=PATIENT, size=SIZE):
    command = ", ".join([LEDGER, "--size", str(size), *arguments])
    return f"  ledger: {{command: [{command}], checkpoint: {{{checkpoint}}}, {more}}}"


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


def undisturbed(bodies):
    """Answers and state of a ledger that nobody kills and no child looks at."""
    with World(ledger()) as world:
        answers = [world.post("ledger", body)[::2] for body in bodies]
        assert world.stop() == 0
        return answers, state_of(world.state, "ledger")


class Case(unittest.TestCase):
    maxDiff = 2000

    def ask(self, world, bodies):
        return [world.post("ledger", body)[::2] for body in bodies]

    def assert_as_undisturbed(self, world, bodies, answers):
        """All that was answered, and the state in the end, bit for bit; `answers` in the order of `bodies`."""
        self.assertEqual(world.slot("ledger/0")["diverged"], 0)
        self.assertEqual(world.stop(), 0)
        wanted, (position, state) = undisturbed(bodies)
        self.assertEqual(answers, wanted)
        got_position, got = state_of(world.state, "ledger")
        self.assertEqual((len(got), got_position), (len(state), position))
        self.assertTrue(got == state, "the states differ")


class UnderFire(Case):
    """Clients side by side, checkpoints all the time, and kills of workers and of the children that take their state."""
    CLIENTS, COUNT, KILLS = 4, 240, 16

    def strike(self, world, killed, rng, struck, snapshots):
        """Every other blow waits for a child to be there: the checkpoint that is asked for brings one, unless the
        worker has already saved all that it did."""
        pid = pid_after(world, "ledger/0", killed)
        with contextlib.ExitStack() as stack:
            if snapshots and rng.random() < 0.5:
                asked = stack.enter_context(subprocess.Popen(
                    [f"{BUILD}/hasupctl", "-s", world.socket, "checkpoint", "now", "ledger"],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                while not children(pid) and asked.poll() is None:
                    os.sched_yield()
            child = children(pid)
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                if child and rng.random() < 0.6:
                    os.kill(child[0], 9)
                    struck["child"] += 1
                else:
                    killed.add(pid)
                    os.kill(pid, 9)
                    struck["worker with a child" if child else "worker"] += 1

    def fire(self, world, seed, snapshots):
        """Every body once; (answer, body) in the order of the counts that the answers bear."""
        rng, killed = random.Random(seed), set()
        struck = {"child": 0, "worker": 0, "worker with a child": 0}
        bodies = [b"%d of seed %d" % (i, seed) for i in range(self.COUNT)]
        answers = ask_under_fire(world, "ledger", bodies, self.CLIENTS, rng.sample(range(self.COUNT), self.KILLS),
                                 lambda: self.strike(world, killed, rng, struck, snapshots))
        self.assertEqual({status for status, _, _ in answers}, {200})
        answers.sort(key=lambda answer: int(answer[1].split()[0]))
        return [answer[:2] for answer in answers], [answer[2] for answer in answers], struck

    def fight(self, *arguments):
        seed = int(os.environ.get("HASUP_SEED", "1"))
        with World(ledger(*arguments, checkpoint="interval: 100ms, log_requests: 4")) as world:
            answers, bodies, struck = self.fire(world, seed, "--snapshot" in arguments)
            self.assertEqual([int(data.split()[0]) for _, data in answers], list(range(1, self.COUNT + 1)), struck)
            self.assertGreater(struck["worker"] + struck["worker with a child"], 2)
            self.assertEqual(world.slot("ledger/0")["crashes"], struck["worker"] + struck["worker with a child"])
            self.assert_as_undisturbed(world, bodies, answers)
        return struck

    def test_promise_4_a_large_state_is_bit_equal_when_children_take_it(self):
        struck = self.fight("--snapshot")
        self.assertGreater(struck["child"] + struck["worker with a child"], 0, struck)

    def test_promise_4_a_large_state_is_bit_equal_when_the_worker_takes_it(self):
        self.fight()


class AtAPoint(Case):
    """The child waits in save() for a gate, so that the test knows where the kill strikes."""
    BODIES = [b"body %d" % i for i in range(40)]

    def setUp(self):
        self.jobs = []
        self.addCleanup(self.end_jobs)

    def end_jobs(self):
        for job in self.jobs:
            job.kill()
            job.communicate()

    def world(self, more=PATIENT):
        world = World("", start=False)
        self.addCleanup(world.close)
        self.gate = world.fifo("gate")
        world.write(ledger("--snapshot", more=f"environment: {{SAVE_GATE: '{self.gate}'}}, {more}"))
        world.start()
        return world

    def checkpoint(self, world):
        """Asks for one; returns the open gate once the child waits behind it."""
        self.jobs.append(subprocess.Popen([f"{BUILD}/hasupctl", "-s", world.socket, "--json", "checkpoint", "now",
                                           "ledger"], stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        gate = open(self.gate, "wb", buffering=0)
        self.addCleanup(gate.close)
        return gate

    def result(self):
        said, _ = self.jobs.pop().communicate(timeout=LIMIT)
        return said.decode()

    def open_for_the_last(self, world):
        """Lets the checkpoint of the end through, and waits until hasupd is gone."""
        opener = threading.Thread(target=world.release, args=[self.gate])
        opener.start()
        self.addCleanup(opener.join)

    def test_promise_4_requests_are_answered_while_the_state_is_taken(self):
        world = self.world()
        answers = self.ask(world, self.BODIES[:10])
        gate = self.checkpoint(world)
        answers += self.ask(world, self.BODIES[10:30])  # with the child in save(): nothing else answers them
        gate.write(b"x")
        gate.close()
        self.assertIn('"position":10', self.result().replace(" ", ""))
        self.assertEqual(world.slot("ledger/0")["checkpoint"]["position"], 10)
        killed = world.kill("ledger/0")
        answers += self.ask(world, self.BODIES[30:])
        self.assertEqual(world.slot("ledger/0")["replayed"], 20)
        self.assertNotEqual(world.pid("ledger/0"), killed)
        self.open_for_the_last(world)
        self.assert_as_undisturbed(world, self.BODIES, answers)

    def test_promise_4_a_worker_killed_while_its_state_is_taken_leaves_no_child_and_loses_nothing(self):
        world = self.world()
        answers = self.ask(world, self.BODIES[:10])
        self.checkpoint(world)
        answers += self.ask(world, self.BODIES[10:20])
        (child,) = children(world.pid("ledger/0"))
        world.kill("ledger/0")
        answers += self.ask(world, self.BODIES[20:])
        self.assertFalse(alive(child))
        self.assertEqual(world.slot("ledger/0")["replayed"], 20)  # from the beginning
        self.open_for_the_last(world)
        self.assert_as_undisturbed(world, self.BODIES, answers)

    def test_promise_4_a_child_killed_alone_costs_that_state_and_nothing_else(self):
        world = self.world()
        answers = self.ask(world, self.BODIES[:10])
        self.checkpoint(world)
        pid = world.pid("ledger/0")
        (child,) = children(pid)
        os.kill(child, 9)
        self.assertIn("the process that took the state was killed by signal 9", self.result())
        self.assertIn("ledger/0 could not save", world.wait_event("checkpoint.failed")["message"])
        answers += self.ask(world, self.BODIES[10:20])
        gate = self.checkpoint(world)  # the next one is taken as if nothing had been
        gate.write(b"x")
        gate.close()
        self.assertIn('"position":20', self.result().replace(" ", ""))
        self.assertEqual((world.pid("ledger/0"), world.slot("ledger/0")["crashes"]), (pid, 0))
        answers += self.ask(world, self.BODIES[20:])
        self.open_for_the_last(world)
        self.assert_as_undisturbed(world, self.BODIES, answers)

    def test_promise_4_a_worker_killed_while_its_state_is_written_loses_nothing(self):
        with World(ledger("--snapshot")) as world:
            answers = self.ask(world, self.BODIES[:10])
            world.ctl("checkpoint", "now", "ledger")
            answers += self.ask(world, self.BODIES[10:20])
            other = sqlite3.connect(os.path.join(world.state, "checkpoints.db"), isolation_level=None)
            other.execute("BEGIN IMMEDIATE")  # the thread has the state in hand, and waits for the lock
            self.jobs.append(subprocess.Popen([f"{BUILD}/hasupctl", "-s", world.socket, "checkpoint", "now", "ledger"],
                                              stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            end = time.monotonic() + LIMIT
            while not self.state_is_mapped(world):
                assert time.monotonic() < end, "the thread does not get the state"
            world.kill("ledger/0")
            other.execute("COMMIT")
            other.close()
            answers += self.ask(world, self.BODIES[20:])
            self.assertEqual(world.slot("ledger/0")["replayed"], 0)  # restored from what was being written
            self.assert_as_undisturbed(world, self.BODIES, answers)

    @staticmethod
    def state_is_mapped(world):
        with open(f"/proc/{world.process.pid}/maps") as file:
            return "memfd:hasup-state" in file.read()

    def test_promise_2_hasupd_killed_while_a_state_is_taken_leaves_no_child_and_loses_nothing(self):
        world = self.world(f"journal: always, {PATIENT}")
        answers = self.ask(world, self.BODIES[:10])
        gate = self.checkpoint(world)
        gate.write(b"x")
        gate.close()
        self.assertIn('"position":10', self.result().replace(" ", ""))
        answers += self.ask(world, self.BODIES[10:20])
        self.checkpoint(world)
        answers += self.ask(world, self.BODIES[20:30])
        pid = world.pid("ledger/0")
        ends = [os.pidfd_open(process) for process in [pid, *children(pid)]]
        self.assertEqual(len(ends), 2)
        world.stop(9)
        for end in ends:
            self.assertTrue(select.select([end], [], [], LIMIT)[0], "it outlives hasupd")
            os.close(end)
        world.start()
        answers += self.ask(world, self.BODIES[30:])
        self.open_for_the_last(world)
        self.assert_as_undisturbed(world, self.BODIES, answers)


class Early(Case):
    """A checkpoint is taken before its time when the log is as long as it may be."""

    def test_promise_4_the_log_s_limit_of_requests_asks_for_a_checkpoint(self):
        for arguments in ([], ["--snapshot"]):
            with self.subTest(arguments), World(ledger(*arguments, checkpoint="interval: 1h, log_requests: 25")) as world:
                bodies = [b"%d" % i for i in range(200)]
                answers = self.ask(world, bodies)
                # Nothing is dispatched above twice the limit, so what is not covered is less than that.
                self.assertGreater(world.slot("ledger/0")["checkpoint"]["position"], 200 - 50)
                world.kill("ledger/0")
                answers += self.ask(world, [b"after"])
                self.assertLess(world.slot("ledger/0")["replayed"], 50)
                self.assert_as_undisturbed(world, bodies + [b"after"], answers)

    def test_promise_4_so_does_its_limit_of_bytes(self):
        with World(ledger(checkpoint="interval: 1h, log_bytes: 1MiB")) as world:
            bodies = [bytes([i]) * (200 << 10) for i in range(40)]
            answers = self.ask(world, bodies)
            self.assertGreater(world.slot("ledger/0")["checkpoint"]["position"], 40 - 11)
            self.assert_as_undisturbed(world, bodies, answers)


class Unsealed(Case):
    def test_a_state_that_could_still_be_changed_is_refused_and_said(self):
        with World("  m: {command: [/usr/bin/python3, -B, worker.py], checkpoint: {interval: 0}}", start=False) as world:
            with open(os.path.join(world.directory, "worker.py"), "w") as file:
                file.write(textwrap.dedent(f"""
                    import sys
                    sys.path.insert(0, {ROOT + "/worker/python"!r})
                    import hasup
                    from hasup import _snapshot
                    _snapshot.SEALS &= ~0x8  # F_SEAL_WRITE
                    class Large(hasup.Worker):
                        def infer(self, request): return b"x"
                        def save(self): return bytes(2 << 20)
                        def restore(self, state): pass
                    hasup.serve(Large())
                    """))
            world.start()
            self.assertEqual(world.post("m", "")[2], b"x")
            now = world.ctl("checkpoint", "now", "m", check=False)
            self.assertNotEqual(now.returncode, 0)
            self.assertIn("F_SEAL_WRITE", world.wait_event("checkpoint.failed")["message"])
            self.assertEqual(world.post("m", "")[2], b"x")
            self.assertEqual(world.slot("m/0")["crashes"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=1)

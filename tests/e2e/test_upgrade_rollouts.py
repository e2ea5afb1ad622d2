"""hasupd replaced by another binary in the middle of a canary, of a rollout, and after one was taken back."""
import collections
import json
import os
import subprocess
import unittest

from test_rollouts import Load, model_of, rollout_of, version
from world import BUILD, LIMIT, WORKER, World, wait_until


def upgrade(world):
    answer = json.loads(world.ctl("--json", "upgrade").stdout)
    assert answer["ok"], answer


def serves(world, count=20):
    return collections.Counter(world.post("m", b"x")[1]["X-Hasup-Version"] for _ in range(count))


def kept(world):
    return os.path.exists(os.path.join(world.state, "versions.json"))


def background(world, *args):
    return subprocess.Popen([f"{BUILD}/hasupctl", "-s", world.socket, *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def end_of(command):
    """Its exit code, what it printed, and where."""
    out, err = command.communicate(timeout=LIMIT)
    return command.returncode, out.decode(), err.decode()


class Canaries(unittest.TestCase):
    keys = "rollout: {abort_min_requests: 1000000}"  # counts of what ended are not halved

    def canary(self, world, load, weight=25):
        world.write(version("two", keys=self.keys))
        world.ctl("canary", "m", "--weight", str(weight))
        load.more(50, by="two")
        before = rollout_of(world)
        pids = {slot["slot"]: slot["pid"] for slot in world.slots()}
        upgrade(world)
        after = rollout_of(world)
        for key in ("state", "other", "weight"):
            self.assertEqual(after[key], before[key])
        for side in ("stable", "canary"):  # by which it is judged
            self.assertGreaterEqual(after[side]["ended"], before[side]["ended"])
        self.assertEqual({slot["slot"]: slot["pid"] for slot in world.slots()}, pids)
        self.assertTrue(kept(world))

    def test_promise_1_a_canary_goes_on_with_its_share_and_is_promoted(self):
        with World(version("one", keys=self.keys)) as world, Load(world) as load:
            self.canary(world, load)
            one, two = load.count(by="one"), load.count(by="two")
            load.more(100, by="two")
            one, two = load.count(by="one") - one, load.count(by="two") - two
            self.assertLessEqual(two, (one + two) * 0.25 + 10)
            self.assertIn("canary: version two has 25 % of the requests", world.ctl("status").stdout.decode())
            world.ctl("reload")  # the file is the canary's: it goes on
            world.ctl("canary", "m", "--weight", "50")
            self.assertEqual(rollout_of(world)["weight"], 50)
            upgrade(world)
            self.assertEqual(world.ctl("promote", "m", "--wait").stdout.decode(), "m: every worker runs version two\n")
            self.assertFalse(kept(world))
            upgrade(world)
            load.more(50, by="two")
            wait_until(lambda: [s["version"] for s in world.slots()] == ["two", "two"], "who stood in stays")
        self.assertEqual(load.failures(), {})

    def test_promise_1_a_canary_is_aborted_and_stays_away(self):
        with World(version("one", keys=self.keys)) as world, Load(world) as load:
            self.canary(world, load)
            world.ctl("abort", "m")
            wait_until(lambda: len(world.slots()) == 2, "its slots stay")
            upgrade(world)
            self.assertEqual(rollout_of(world)["state"], "none")
            self.assertEqual(serves(world), {"one": 20})
            self.assertTrue(kept(world))
            world.kill("m/0")  # what comes back is what served, not what the file says
            self.assertEqual(world.wait_event("slot.ready", since=world.mark(), slot="m/0")["slot"], "m/0")
            self.assertEqual(serves(world), {"one": 20})
            world.write(version("one", keys=self.keys))
            upgrade(world)  # the file was put back
            self.assertFalse(kept(world))
            self.assertEqual(serves(world), {"one": 20})
        self.assertEqual(load.failures(), {})

    def test_what_the_file_says_by_then_is_rolled_out_instead_of_the_canary(self):
        with World(version("one")) as world, Load(world) as load:
            world.write(version("two"))
            world.ctl("canary", "m", "--weight", "25")
            load.more(20, by="two")
            world.write(version("three"))
            upgrade(world)
            world.wait_event("rollout.done", model="m")
            self.assertEqual(serves(world), {"three": 20})
        self.assertEqual(load.failures(), {})


class Rollouts(unittest.TestCase):
    def pass_gate(self, world, gate, *slots):
        """Lets them get ready one after the other: a FIFO has one reader at a time."""
        for slot in slots:
            wait_until(lambda: world.slot(slot)["state"] == "loading", f"{slot} does not load")
            since = world.mark()
            world.release(gate)
            world.wait_event("slot.ready", since=since, slot=slot)

    def begin(self, world, *command, workers=2, arguments=""):
        """A rollout to a version that gets ready as the gate says; the command that waits for its end."""
        gate = world.fifo("gate")
        world.write(version("two", f"--gate={gate} {arguments}", workers=workers))
        waiting = background(world, *command)
        wait_until(lambda: any(s["state"] == "loading" for s in world.slots()), "it does not begin")
        return gate, waiting

    def test_promise_1_a_rollout_goes_on_and_who_waits_for_it_hears_of_its_end(self):
        with World(version("one")) as world, Load(world) as load:
            gate, waiting = self.begin(world, "reload", "--wait")
            self.assertEqual(rollout_of(world)["state"], "rolling")
            upgrade(world)
            self.assertEqual((rollout_of(world)["state"], rollout_of(world)["other"]), ("rolling", "one"))
            self.pass_gate(world, gate, "m/2")  # which was made by the hasupd before
            load.more(20, by="two")
            upgrade(world)
            self.pass_gate(world, gate, "m/0", "m/1")
            self.assertEqual(end_of(waiting), (0, "m: every worker runs version two\n", ""))
            wait_until(lambda: [(s["slot"], s["version"]) for s in world.slots()] == [("m/0", "two"), ("m/1", "two")],
                       "who stood in stays")
        self.assertEqual(load.failures(), {})

    def test_promise_1_a_rollout_that_is_aborted_after_an_upgrade_brings_the_old_version_back(self):
        with World(version("one")) as world, Load(world) as load:
            gate, waiting = self.begin(world, "reload", "--wait")
            self.pass_gate(world, gate, "m/2")
            load.more(20, by="two")
            upgrade(world)
            world.ctl("abort", "m")
            upgrade(world)
            code, _, said = end_of(waiting)
            self.assertEqual(code, 1)
            self.assertIn("m: back at version one: ordered by hasupctl abort", said)
            upgrade(world)  # the file says two still, which was taken back
            load.more(20, by="one")
            self.assertEqual(serves(world), {"one": 20})
            self.assertEqual(json.loads(world.ctl("config").stdout)["models"]["m"]["version"], "one")
            self.assertIn("last rollout: back at version one", world.ctl("status").stdout.decode())
        self.assertEqual(load.failures(), {})

    def test_a_restart_of_what_runs_goes_on(self):
        with World(version("one"), wait=False) as world:
            gate = world.fifo("gate")
            world.unlock(gate)
            world.write(version("one", f"--gate={gate}"))
            world.ctl("reload", "--wait")
            world.unlocked.pop().close()
            os.unlink(gate)  # what stands in it goes, too
            os.mkfifo(gate)
            pids = {s["pid"] for s in world.slots()}
            waiting = background(world, "restart", "m", "--wait")
            wait_until(lambda: any(s["state"] == "loading" for s in world.slots()), "it does not begin")
            upgrade(world)
            self.pass_gate(world, gate, "m/2", "m/0", "m/1")
            self.assertEqual(end_of(waiting)[0], 0)
            self.assertFalse(pids & {s["pid"] for s in world.slots()})

    def test_promise_4_a_state_survives_an_upgrade_in_the_middle_of_a_rollout(self):
        with World(version("one", "--counts", workers=1)) as world:
            for n in range(1, 4):
                self.assertEqual(world.post("m", b"x")[2], f"one {n}".encode())
            gate, waiting = self.begin(world, "reload", "--wait", workers=1, arguments="--counts")
            upgrade(world)
            world.unlock(gate)
            self.assertEqual(end_of(waiting)[0], 0)
            self.assertEqual(world.post("m", b"x")[2], b"two 4")

    def test_what_was_rolled_back_is_not_tried_again_by_an_upgrade(self):
        with World(version("one")) as world:
            world.write(version("two", "--never"))
            self.assertEqual(world.ctl("reload", "--wait", check=False).returncode, 1)
            last, since = rollout_of(world)["last"], world.mark()
            upgrade(world)
            self.assertEqual(rollout_of(world)["last"], last)
            self.assertEqual(serves(world), {"one": 20})
            world.mark()
            self.assertNotIn("rollout.started", [event["event"] for event in world.events[since:]])
            self.assertEqual(world.ctl("reload", "--wait", check=False).returncode, 1)  # it was tried again
            self.assertEqual(serves(world), {"one": 20})

    def test_what_the_file_says_by_then_and_fails_is_rolled_back_to_what_ran_before(self):
        with World(version("one")) as world, Load(world) as load:
            world.write(version("two", "--never"))
            upgrade(world)
            told = world.wait_event("rollout.rolled_back", model="m")
            self.assertIn("back at version one: 2 starts failed", told["message"])
            world.kill("m/0")
            world.wait_event("slot.ready", since=world.mark(), slot="m/0")
            self.assertEqual(serves(world), {"one": 20})
            self.assertEqual(json.loads(world.ctl("config").stdout)["models"]["m"]["version"], "one")
        self.assertEqual({what[0] for what in load.failures()} - {0}, set())

    def test_promise_8_keys_that_restart_nothing_hold_after_an_upgrade(self):
        with World(f"  m: {{command: [{WORKER}], concurrency_max: 1}}") as world:
            pid = world.pid("m/0")
            world.write(f"  m: {{command: [{WORKER}], concurrency_max: 1, queue: {{requests: 1}}}}")
            upgrade(world)
            gate, waiting = world.occupy()
            queued = world.begin("m", "echo x")
            wait_until(lambda: model_of(world)["queued"] == 1, "never queued")
            self.assertEqual(world.post("m", "echo y")[0], 429)
            world.release(gate)
            self.assertEqual((world.finish(waiting)[2], world.finish(queued)[2]), (b"done", b"x"))
            world.write(f"  m: {{command: [{WORKER}], concurrency_max: 1, workers: 3}}")
            upgrade(world)
            wait_until(lambda: model_of(world)["ready"] == 3, "never scaled")
            world.ctl("scale", "m", "2")
            upgrade(world)  # the file says the same as before
            wait_until(lambda: model_of(world)["ready"] == len(world.slots()) == 2, "what scale said does not stay")
            self.assertEqual(world.pid("m/0"), pid)

    def test_a_model_that_is_removed_and_finishes_what_it_has_goes_along(self):
        with World(version("one") + f"\n  w: {{command: [{WORKER}]}}") as world:
            gate = world.fifo("gate")
            waiting = world.begin("w", f"wait {gate}")
            wait_until(lambda: world.slot("w/0")["inflight"] == 1, "never in flight")
            world.write(version("one"))
            world.ctl("reload")
            upgrade(world)
            world.release(gate)
            self.assertEqual(world.finish(waiting)[2], b"done")
            world.wait_event("model.removed", model="w")
            self.assertEqual([m["name"] for m in world.status()["models"]], ["m"])


if __name__ == "__main__":
    unittest.main()

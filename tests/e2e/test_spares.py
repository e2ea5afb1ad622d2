"""Spares take over at once, zygotes fork workers that share what was loaded, and only so many load at a time."""
import os
import signal
import sys
import unittest

from world import ROOT, WORKER, World, alive, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = ["/usr/bin/python3", "-B", os.path.join(HERE, "preloaded.py")]
PRELOADED = os.path.join(os.path.dirname(WORKER), "preloaded")


def model(command, more="", name="m"):
    words = ", ".join(f'"{word}"' for word in command)
    return f"  {name}:\n    command: [{words}]\n    restart: {{backoff_min: 10ms, backoff_max: 50ms}}\n{more}"


def helpers(world, kind):
    return [slot for m in world.status()["models"] for slot in m[kind]]


def ready(world):
    """All slots, spares and zygotes."""
    wait_until(lambda: all(slot["state"] == "ready" for slot in
                           world.slots() + helpers(world, "spares") + helpers(world, "zygotes")), "not all are ready")


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])


def variables_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return dict(v.split(b"=", 1) for v in file.read().split(b"\0") if b"=" in v)


def memory_of(pid, key):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(key + ":"))  # KiB


class Spares(unittest.TestCase):
    def test_promise_1_a_spare_takes_over_at_once_and_another_one_is_loaded_behind(self):
        with World(model([WORKER], "    spares: 1\n")) as world:
            ready(world)
            spare = helpers(world, "spares")[0]["pid"]
            died = world.kill("m/0")
            swapped = world.wait_event("slot.swapped", slot="m/0")
            self.assertEqual(swapped["pid"], spare)
            self.assertEqual(world.post("m", "pid")[2], str(spare).encode())
            ready(world)
            slot = world.slot("m/0")
            self.assertEqual((slot["pid"], slot["crashes"]), (spare, 1))
            self.assertIn("signal 9", slot["last_death"]["reason"])
            (behind,) = helpers(world, "spares")
            self.assertNotIn(behind["pid"], (None, spare, died))
            self.assertEqual(behind["crashes"], 0)

    def test_promise_1_what_the_dead_worker_had_in_hand_is_run_by_the_spare(self):
        with World(model([WORKER], "    spares: 1\n")) as world:
            ready(world)
            gate, waiting = world.occupy()
            world.kill("m/0")
            world.wait_event("slot.swapped", slot="m/0")
            world.release(gate)
            self.assertEqual(world.finish(waiting)[2], b"done")

    def test_promise_4_a_spare_of_a_stateful_model_takes_over_the_state(self):
        counter = os.path.join(ROOT, os.environ.get("HASUP_BUILD", "build"), "examples/counter")
        with World(model([counter], "    spares: 1\n    workers: 2\n")) as world:
            ready(world)
            slot = "m/1"
            before = [world.post("m", "")[2] for _ in range(6)]
            spare = helpers(world, "spares")[0]["pid"]
            counts = {s["slot"]: s["answered"] for s in world.slots()}
            world.kill(slot)
            world.wait_event("slot.swapped", slot=slot, pid=spare)
            ready(world)
            idle = world.idle_slot(slot)
            self.assertEqual((idle["pid"], idle["replayed"], idle["diverged"]), (spare, counts[slot], 0))
            after = [int(world.post("m", "")[2]) for _ in range(2)]
            self.assertEqual(len(before), 6)
            self.assertTrue(set(after) <= {n + 1 + i for n in counts.values() for i in (0, 1)})

    def test_promise_6_a_suspect_runs_on_a_spare(self):
        with World(model([WORKER], "    spares: 2\n    max_attempts: 2\n")) as world:
            ready(world)
            self.assertEqual(world.post("m", "crash")[0], 422)
            ready(world)
            self.assertEqual(world.slot("m/0")["crashes"], 1)

    def test_promise_7_a_crash_loop_ends_at_the_breaker_with_spares_too(self):
        options = "    spares: 2\n    restart: {start_limit: 3, backoff_min: 10ms, backoff_max: 20ms, breaker: 1h, " \
                  "healthy_after: 1h}\n"
        with World(f'  m:\n    command: ["{WORKER}"]\n{options}') as world:
            ready(world)
            for _ in range(2):
                since = world.mark()
                world.kill("m/0")
                world.wait_event("slot.swapped", since, slot="m/0")
                ready(world)
            since = world.mark()
            world.kill("m/0")
            world.wait_event("slot.broken", since, slot="m/0")

    def test_a_spare_that_dies_is_started_again_and_touches_nobody(self):
        with World(model([WORKER], "    spares: 1\n")) as world:
            ready(world)
            pid, spare = world.pid("m/0"), helpers(world, "spares")[0]["pid"]
            os.kill(spare, signal.SIGKILL)
            world.wait_event("slot.exited", slot="m/spare-0")
            wait_until(lambda: helpers(world, "spares")[0]["pid"] not in (None, spare), "no new spare")
            ready(world)
            self.assertEqual(world.pid("m/0"), pid)

    def test_spares_are_added_and_removed_by_reload(self):
        with World(model([WORKER])) as world:
            self.assertEqual(helpers(world, "spares"), [])
            world.write(model([WORKER], "    spares: 2\n"))
            world.ctl("reload")
            wait_until(lambda: len(helpers(world, "spares")) == 2, "no spares")
            ready(world)
            pids = [slot["pid"] for slot in helpers(world, "spares")]
            world.kill("m/0")
            world.wait_event("slot.swapped", slot="m/0")
            world.write(model([WORKER]))
            world.ctl("reload")
            wait_until(lambda: not helpers(world, "spares"), "spares stay")
            self.assertIn(world.pid("m/0"), pids)
            self.assertEqual(world.post("m", "echo x")[2], b"x")


class Zygotes:
    """Of a worker in `command`, which answers `pid`, `echo`, and has loaded once."""
    command = []

    def test_workers_are_forked_from_one_that_loaded_and_are_hasupds_children(self):
        with World(model(self.command, "    workers: 3\n    preload: true\n")) as world:
            ready(world)
            (zygote,) = helpers(world, "zygotes")
            pids = [slot["pid"] for slot in world.slots()]
            for pid in pids:
                self.assertEqual(parent_of(pid), world.process.pid)
                self.assertEqual(os.getpgid(pid), pid)
                self.assertEqual(variables_of(pid)[b"HASUP_MODEL"], b"m")
            tokens = {variables_of(pid)[b"HASUP_WORKER"] for pid in pids + [zygote["pid"]]}
            self.assertEqual(len(tokens), 4)
            self.assertEqual({world.post("m", "slot")[2] for _ in range(12)} - {b"0", b"1", b"2"}, set())

    def test_a_killed_worker_is_forked_again(self):
        with World(model(self.command, "    preload: true\n")) as world:
            ready(world)
            (zygote,) = helpers(world, "zygotes")
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            died = world.kill("m/0")
            self.assertEqual(world.post("m", "echo y")[2], b"y")
            self.assertNotEqual(world.pid("m/0"), died)
            self.assertEqual(helpers(world, "zygotes")[0]["pid"], zygote["pid"])

    def test_a_dead_zygote_is_rebuilt_and_its_workers_serve_on(self):
        with World(model(self.command, "    workers: 2\n    preload: true\n")) as world:
            ready(world)
            pids = [slot["pid"] for slot in world.slots()]
            (zygote,) = helpers(world, "zygotes")
            since = world.mark()
            os.kill(zygote["pid"], signal.SIGKILL)
            world.wait_event("slot.exited", since, slot="m/zygote")
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            wait_until(lambda: helpers(world, "zygotes")[0]["pid"] not in (None, zygote["pid"]), "it is not rebuilt")
            ready(world)
            self.assertEqual([slot["pid"] for slot in world.slots()], pids)
            world.kill("m/0")
            self.assertEqual(world.post("m", "echo y")[2], b"y")
            ready(world)

    def test_what_a_forked_worker_prints_is_its_slots(self):
        with World(model(self.command, "    preload: true\n")) as world:
            ready(world)
            self.assertEqual(world.post("m", "print hello there")[0], 200)
            self.assertEqual(world.wait_event("worker.stdout", slot="m/0", message="hello there")["pid"], world.pid("m/0"))
            world.post("m", "segv oh no", {"X-Request-Timeout": "30"})
            self.assertIn("oh no", str(world.wait_event("worker.stderr", slot="m/0", message="oh no")))

    def test_a_forked_workers_whole_tree_is_its_own(self):
        with World(model(self.command, "    preload: true\n    workers: 2\n")) as world:
            ready(world)
            grandchild = int(world.post("m", "child")[2])
            holder = next(slot for slot in world.slots() if slot["answered"])
            os.kill(holder["pid"], signal.SIGKILL)
            wait_until(lambda: not alive(grandchild), "a part of the tree lives on")
            ready(world)
            self.assertEqual(len(helpers(world, "zygotes")), 1)
            self.assertEqual(helpers(world, "zygotes")[0]["crashes"], 0)

    def test_threads_are_refused_and_the_model_goes_on_without(self):
        command = self.command + ["--thread"]
        with World(model(command, "    preload: true\n    workers: 2\n"), wait=False) as world:
            told = world.wait_event("model.unforkable")
            self.assertIn("1 other thread", told["message"])
            wait_until(lambda: all(slot["state"] == "ready" for slot in world.slots()), "nobody serves")
            self.assertEqual(helpers(world, "zygotes")[0]["state"], "stopped")
            self.assertEqual(world.post("m", "echo x")[2], b"x")

    def test_cuda_is_refused(self):
        with World("", start=False) as world:
            library = os.path.join(world.directory, "libcuda.so.1")
            with open(library, "wb") as file:
                file.write(bytes(4096))
            world.write(model(self.command + ["--map", library], "    preload: true\n"))
            world.start(wait=False)
            self.assertIn("libcuda", world.wait_event("model.unforkable")["message"])
            wait_until(lambda: world.slot("m/0")["state"] == "ready", "nobody serves")

    def test_restart_loads_once_and_forks_the_others_from_it(self):
        with World(model(self.command, "    workers: 2\n    preload: true\n    spares: 1\n")) as world:
            ready(world)
            before = {slot["pid"] for slot in world.slots() + helpers(world, "zygotes") + helpers(world, "spares")}
            world.ctl("restart", "m")

            def after():
                return {slot["pid"] for slot in world.slots() + helpers(world, "zygotes") + helpers(world, "spares")}
            wait_until(lambda: not after() & before and 0 not in after(), "some are the old ones")
            ready(world)

    def test_the_end_leaves_nobody(self):
        with World(model(self.command, "    workers: 2\n    preload: true\n    spares: 1\n")) as world:
            ready(world)
            pids = [slot["pid"] for slot in world.slots() + helpers(world, "zygotes") + helpers(world, "spares")]
            self.assertEqual(world.stop(), 0)
            self.assertFalse([pid for pid in pids if alive(pid)])

    def test_hasupds_death_takes_all_of_them(self):
        with World(model(self.command, "    workers: 2\n    preload: true\n")) as world:
            ready(world)
            pids = [slot["pid"] for slot in world.slots() + helpers(world, "zygotes")]
            world.stop(signal.SIGKILL)
            wait_until(lambda: not [pid for pid in pids if alive(pid)], "somebody lives on")


class InC(Zygotes, unittest.TestCase):
    command = [PRELOADED]

    def test_eight_workers_share_what_was_loaded(self):
        with World(model([PRELOADED, "--hold", "64"], "    workers: 8\n    preload: true\n")) as world:
            ready(world)
            pids = [slot["pid"] for slot in world.slots() + helpers(world, "zygotes")]
            self.assertGreater(memory_of(pids[0], "Rss"), 64 * 1024)
            self.assertLess(sum(memory_of(pid, "Pss") for pid in pids), 64 * 1024 * 1.3)

    def test_a_zygote_that_does_not_answer_is_replaced(self):
        options = "    preload: true\n    timeouts: {attempt: 300ms, abort: 10ms}\n"
        with World(model([WORKER], options)) as world:
            ready(world)
            (zygote,) = helpers(world, "zygotes")
            os.kill(zygote["pid"], signal.SIGSTOP)
            world.kill("m/0")
            self.assertIn("fork", world.wait_event("slot.hung", slot="m/zygote")["message"])
            self.assertEqual(world.post("m", "echo x")[2], b"x")


class InPython(Zygotes, unittest.TestCase):
    command = PYTHON

    def test_the_example_shares_what_it_loaded(self):
        example = ["/usr/bin/python3", "-B", os.path.join(ROOT, "examples/preload.py")]
        with World(model(example, "    workers: 2\n    spares: 1\n    preload: true\n")) as world:
            ready(world)
            answers = {world.post("m", "x")[2] for _ in range(4)}
            world.kill("m/0")
            answers.add(world.post("m", "x")[2])
            self.assertEqual({answer.split()[0] for answer in answers}, {next(iter(answers)).split()[0]})
            self.assertTrue(all(answer.endswith(b"loaded by a zygote\n") for answer in answers))


class Loading(unittest.TestCase):
    def test_only_so_many_load_at_the_same_time(self):
        with World("", start=False) as world:
            gate = world.fifo("load")
            world.write(model([WORKER, "--load", gate], "    workers: 3\n"), "limits: {loading: 1}")
            world.start(wait=False)

            def states():
                return sorted(slot["state"] for slot in world.slots())
            for left in ("waiting", "waiting"), ("waiting",), ():
                wait_until(lambda: states().count("loading") == 1, "nobody loads")
                self.assertEqual(states().count("waiting"), len(left))
                world.release(gate)
                wait_until(lambda: states().count("ready") == 3 - len(left), "it is not ready")

    def test_the_only_worker_of_a_model_goes_first(self):
        with World("", start=False) as world:
            gate = world.fifo("load")
            world.write(model([WORKER, "--load", gate], "    workers: 3\n", "big") + model([WORKER], "", "small"),
                        "limits: {loading: 1}")
            world.start(wait=False)
            wait_until(lambda: world.slot("big/0")["state"] == "loading", "nobody loads")
            self.assertEqual(world.slot("small/0")["state"], "waiting")
            world.release(gate)
            world.wait_event("slot.ready", slot="small/0")
            wait_until(lambda: any(slot["state"] == "loading" for slot in world.slots()), "the queue stands still")
            world.kill("small/0")
            wait_until(lambda: world.slot("small/0")["state"] == "waiting", "it does not wait")
            world.release(gate)
            wait_until(lambda: world.slot("small/0")["state"] == "ready", "it waits for the others")
            self.assertTrue(any(s["state"] in ("loading", "waiting", "starting") for s in world.slots()))
            world.release(gate)


if __name__ == "__main__":
    sys.exit(unittest.main())

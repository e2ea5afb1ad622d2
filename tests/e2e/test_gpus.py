"""Devices dealt out to slots, the command before each start, and a start that waits for what the old worker left.

`nvidia-smi` is a script here: it says what a file says, for the devices that it is asked about.
"""
import os
import signal
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import ROOT, WORKER, World, alive, wait_until  # noqa: E402

FREE = os.path.join(ROOT, "examples/gpu_is_free.sh")
SMI = """#!/bin/sh
# --id=0,1: one line a device, as the file says.
echo "$@" >>"$SMI_DIRECTORY/asked"
for id in $(echo "${1#--id=}" | tr , ' '); do cat "$SMI_DIRECTORY/used.$id"; done
"""


def environment_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return dict(v.split("=", 1) for v in file.read().decode().split("\0") if "=" in v)


class Devices(unittest.TestCase):
    def test_each_slot_has_its_device_and_keeps_it_over_a_restart(self):
        models = f"  m: {{command: [{WORKER}], workers: 3, devices: [0, GPU-b]}}"
        with World(models, environment={"CUDA_VISIBLE_DEVICES": "7"}) as world:
            def devices(slot):
                env = environment_of(world.pid(slot))
                self.assertEqual(env["HIP_VISIBLE_DEVICES"], "0")  # of those that ROCR leaves
                self.assertEqual(env["CUDA_DEVICE_ORDER"], "PCI_BUS_ID")
                self.assertEqual(env["CUDA_VISIBLE_DEVICES"], env["ROCR_VISIBLE_DEVICES"])
                return env["CUDA_VISIBLE_DEVICES"]
            self.assertEqual([devices(f"m/{i}") for i in range(3)], ["0", "GPU-b", "0"])
            mark = world.mark()
            world.kill("m/1")
            world.wait_event("slot.ready", since=mark, slot="m/1")
            self.assertEqual(devices("m/1"), "GPU-b")

    def test_several_devices_for_each_worker(self):
        models = (f"  m: {{command: [{WORKER}], workers: 2, devices: [0, 1, 2, 3], devices_per_worker: 2,\n"
                  "      environment: {CUDA_DEVICE_ORDER: FASTEST_FIRST}}")
        with World(models) as world:
            for slot, devices in (("m/0", "0,1"), ("m/1", "2,3")):
                env = environment_of(world.pid(slot))
                self.assertEqual(env["CUDA_VISIBLE_DEVICES"], devices)
                self.assertEqual(env["ROCR_VISIBLE_DEVICES"], devices)
                self.assertEqual(env["HIP_VISIBLE_DEVICES"], "0,1")
                self.assertEqual(env["CUDA_DEVICE_ORDER"], "FASTEST_FIRST")

    def test_without_devices_the_environment_is_left_alone(self):
        with World(f"  m: {{command: [{WORKER}]}}", environment={"CUDA_VISIBLE_DEVICES": "7"}) as world:
            env = environment_of(world.pid("m/0"))
            self.assertEqual(env["CUDA_VISIBLE_DEVICES"], "7")
            self.assertNotIn("HIP_VISIBLE_DEVICES", env)


class PreStart(unittest.TestCase):
    def world(self, keys="", used=(0, 0), **more):
        """A model whose pre_start asks the fake tool; `used`: MiB of each device."""
        world = World("", start=False, **more)
        self.addCleanup(world.close)
        world.environment.update(PATH=f"{world.directory}:{os.environ['PATH']}", SMI_DIRECTORY=world.directory)
        with open(os.path.join(world.directory, "nvidia-smi"), "w") as file:
            file.write(SMI)
        os.chmod(file.name, 0o700)
        for device, mib in enumerate(used):
            self.use(world, device, mib)
        world.write(f"  m: {{command: [{WORKER}], devices: [0, 1], devices_per_worker: 2,\n"
                    f"      pre_start: {{command: [{FREE}, 100], interval: 10ms{keys}}}}}")
        return world

    @staticmethod
    def use(world, device, mib):
        path = os.path.join(world.directory, f"used.{device}")
        with open(path + ".new", "w") as file:
            file.write(f"{mib}\n")
        os.rename(path + ".new", path)

    @staticmethod
    def pid_of(world):
        """What the command wrote into the file `pid`, once it is there."""
        path, text = os.path.join(world.directory, "pid"), []

        def there():
            if os.path.exists(path):
                with open(path) as file:
                    text.append(file.read())
            return text and text[-1].endswith("\n")
        wait_until(there, "the command never ran")
        return int(text[-1])

    @staticmethod
    def asked(world):
        with open(os.path.join(world.directory, "asked")) as file:
            return file.read().splitlines()

    def test_a_worker_starts_when_the_memory_of_its_devices_is_free(self):
        world = self.world(", retries: 100000", used=(0, 9000))
        world.start(wait=False)
        event = world.wait_event("slot.pre_start_failed", slot="m/0")
        self.assertIn("exited with code 1 (try 1); tried again in 10 ms; it said: m/0: a GPU of 0,1 has 9000 MiB",
                      event["message"])
        wait_until(lambda: world.slot("m/0")["last_death"], "no reason")
        death = world.slot("m/0")["last_death"]
        self.assertEqual(death["reason"], "pre_start: exited with code 1")
        self.assertEqual(death["stderr"], ["m/0: a GPU of 0,1 has 9000 MiB in use, more than 100"])
        self.assertEqual(world.slot("m/0")["starts"], 0)
        self.use(world, 1, 50)
        world.wait_event("slot.ready", slot="m/0")
        self.assertEqual(world.slot("m/0")["crashes"], 0)
        self.assertTrue(all(line.startswith("--id=0,1 ") for line in self.asked(world)))

    def test_a_restart_waits_until_the_memory_is_free_again(self):
        world = self.world(", retries: 100000")
        world.start()
        self.assertEqual(world.post("m", "echo x")[2], b"x")
        tries, mark = len(self.asked(world)), world.mark()
        self.use(world, 0, 9000)
        world.kill("m/0")
        world.wait_event("slot.pre_start_failed", since=mark, slot="m/0")
        waiting = world.begin("m", "echo y")
        self.use(world, 0, 0)
        self.assertEqual(world.finish(waiting)[::2], (200, b"y"))
        self.assertGreater(len(self.asked(world)), tries + 1)

    def test_a_command_that_succeeds_leaves_the_crash_report_alone(self):
        world = self.world()
        world.start()
        mark = world.mark()
        world.kill("m/0")
        world.wait_event("slot.ready", since=mark, slot="m/0")
        self.assertEqual(world.slot("m/0")["last_death"]["reason"], "killed by signal 9 (Killed)")

    def test_promise_7_when_no_try_is_left_the_slot_backs_off_and_breaks(self):
        world = self.world(", retries: 1}, restart: {start_limit: 2, backoff_min: 1ms", used=(9000, 0))
        world.start(wait=False)
        event = world.wait_event("slot.broken", slot="m/0")
        self.assertIn("last: pre_start: exited with code 1", event["message"])
        failures = [e["message"] for e in world.events if e["event"] == "slot.pre_start_failed"]
        self.assertEqual(["no try is left" in text for text in failures], [False, True, False, True])
        self.assertEqual(world.post("m", "echo x")[0], 503)

    def test_a_command_that_takes_too_long_is_killed_with_its_children(self):
        world = World(f"  m: {{command: [{WORKER}], pre_start: {{timeout: 300ms, retries: 100000, interval: 1ms,\n"
                      "      command: [sh, -c, 'echo waiting >&2; sh -c \"echo $$ >pid; exec tail -f /dev/null\"']}}",
                      wait=False)
        with world:
            event = world.wait_event("slot.pre_start_failed", slot="m/0")
            self.assertIn("not done within pre_start.timeout (300 ms)", event["message"])
            pid = self.pid_of(world)
            wait_until(lambda: not alive(pid), "the command's child outlives its time")

    def test_a_command_that_does_not_exist_says_so(self):
        with World(f"  m: {{command: [{WORKER}], pre_start: {{command: [no-such-tool], retries: 0}}}}",
                   wait=False) as world:
            self.assertIn("pre_start: could not start: no-such-tool: not found on PATH",
                          world.wait_event("slot.start_failed")["message"])
            world.wait_event("slot.backoff", slot="m/0")

    def test_stopping_kills_the_command_and_nothing_is_left(self):
        world = World(f"  m: {{command: [{WORKER}], pre_start: {{command: [sh, -c, 'echo $$ >pid; exec tail -f "
                      "/dev/null']}}", wait=False)
        with world:
            pid = self.pid_of(world)
            self.assertEqual(world.slot("m/0")["state"], "preparing")
            self.assertEqual(world.slot("m/0")["pid"], pid)
            world.ctl("stop", "m")
            world.wait_event("slot.stopped", slot="m/0")
            self.assertFalse(alive(pid))
            self.assertEqual(world.stop(), 0)


class Trees(unittest.TestCase):
    def test_nothing_starts_before_the_dead_workers_tree_is_empty(self):
        """Each start asks whether a process of the run before still has memory.  One that is past giving it back is
        no longer in its cgroup, and a moment later a zombie."""
        probe = ("for pid in $(cat left 2>/dev/null); do read -r size rest </proc/$pid/statm || continue; "
                 "test $size = 0 || exit 1; done 2>/dev/null; exit 0")
        models = f"  m: {{command: [{WORKER}], pre_start: {{retries: 0, command: [sh, -c, \"{probe}\"]}}}}"
        with World(models) as world:
            for _ in range(5):
                left = int(world.post("m", "child")[2])  # in a session of its own
                with open(os.path.join(world.directory, "left"), "a") as file:
                    file.write(f"{left} {world.pid('m/0')}\n")
                mark = world.mark()
                world.kill("m/0", signal.SIGKILL)
                world.wait_event("slot.ready", since=mark, slot="m/0")
                self.assertFalse(alive(left))
            names = [e["event"] for e in world.events]
            self.assertNotIn("slot.pre_start_failed", names)


if __name__ == "__main__":
    unittest.main()

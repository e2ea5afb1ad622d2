"""What a process is started with: its slot's number and name, variables from files."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, WORKER, World, wait_until  # noqa: E402


def model(keys):
    return f"  m: {{command: [{WORKER}], restart: {{backoff_min: 10ms, backoff_max: 10ms, start_limit: 1000}}, {keys}}}"


def environment(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return dict(os.fsdecode(item).split("=", 1) for item in file.read().split(b"\0") if item)


def arguments(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return [os.fsdecode(item) for item in file.read().split(b"\0")[:-1]]


class Placeholders(unittest.TestCase):
    def test_each_slot_has_its_own(self):
        keys = (f"""  m:
    command: [{WORKER}, "--port={{slot+8000}}", '{{"json": {{"slot": 1}}}}', "${{slot}} {{}} {{{{slot}}}}"]
    workers: 2
    directory: "d{{slot}}"
    environment: {{NAME: "{{model}}-{{slot}}"}}""")
        with World(keys, start=False) as world:
            for name in ("d0", "d1"):
                os.mkdir(os.path.join(world.directory, name))
            world.start()
            for slot in range(2):
                pid = world.pid(f"m/{slot}")
                self.assertEqual(arguments(pid)[1:], [f"--port={8000 + slot}", '{"json": {"slot": 1}}', "${slot} {} {slot}"])
                self.assertEqual(environment(pid)["NAME"], f"m-{slot}")
                self.assertEqual(os.path.basename(os.readlink(f"/proc/{pid}/cwd")), f"d{slot}")


class Files(unittest.TestCase):
    def put(self, world, name, text):
        with open(os.path.join(world.directory, name), "w") as file:
            file.write(text)

    def test_variables_come_from_files_at_each_start(self):
        with World(model("environment: {OWN: own}, environment_files: [a.env, '{slot}.env', -none.env]"), start=False,
                   environment={"OUTSIDE": "hasupd"}) as world:
            self.put(world, "a.env", "# secrets\nFIRST=a\nSECOND=a\nOWN=file\nOUTSIDE=file\nHOME_OF=$HOME\n")
            self.put(world, "0.env", 'SECOND="b c"\n')
            world.start()
            found = environment(world.pid("m/0"))
            self.assertEqual([found[name] for name in ("FIRST", "SECOND", "OWN", "OUTSIDE", "HOME_OF")],
                             ["a", "b c", "own", "file", "$HOME"])
            self.put(world, "0.env", "SECOND=changed\n")
            mark = world.mark()
            world.kill("m/0")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertEqual(environment(world.pid("m/0"))["SECOND"], "changed")

    def test_a_file_that_is_missing_or_wrong_is_a_start_that_fails(self):
        with World(model("environment_files: [a.env]"), wait=False) as world:
            path = os.path.join(world.directory, "a.env")
            world.wait_event("slot.start_failed", slot="m/0")
            self.assertEqual(world.slot("m/0")["last_death"]["reason"],
                             f"could not start: environment_files: {path}: No such file or directory")
            self.put(world, "a.env", "GOOD=1\npassword\n")
            reason = f"could not start: environment_files: {path}:2: expected NAME=VALUE, and there is no \"=\""
            wait_until(lambda: (world.slot("m/0")["last_death"] or {}).get("reason") == reason, "it is not told")
            check = subprocess.run([f"{BUILD}/hasupd", "--check", world.config], capture_output=True, text=True)
            self.assertEqual(check.returncode, 2)
            self.assertIn(f"models.m.environment_files: {path}:2: expected NAME=VALUE", check.stderr)
            self.assertNotIn("password", check.stderr)
            self.put(world, "a.env", "GOOD=1\n")
            world.wait_event("slot.ready", slot="m/0")
            self.assertEqual(environment(world.pid("m/0"))["GOOD"], "1")

    def test_a_forked_worker_has_what_the_files_say_when_it_begins(self):
        with World(model("preload: true, environment_files: [a.env]").replace(WORKER, f"{os.path.dirname(WORKER)}/preloaded"),
                   start=False) as world:
            self.put(world, "a.env", "SAID=before\n")
            world.start()
            self.assertEqual(world.post("m", "env SAID")[2], b"before")
            self.put(world, "a.env", "SAID=afterwards\n")
            mark = world.mark()
            world.kill("m/0")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertEqual(world.post("m", "env SAID")[2], b"afterwards")


if __name__ == "__main__":
    unittest.main()

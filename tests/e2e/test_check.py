"""`hasupd --check`: whether what a configuration names is there, for each process that may be started with it."""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT  # noqa: E402


class Check(unittest.TestCase):
    def check(self, place, models, top=""):
        """`hasupd --check`: exit code, output, errors."""
        path = os.path.join(place, "c.yaml")
        with open(path, "w") as file:
            file.write(f"state_dir: {place}/state\nruntime_dir: {place}\n{top}\nmodels:\n{models}\n")
        done = subprocess.run([f"{BUILD}/hasupd", "--check", path], capture_output=True, text=True, timeout=LIMIT)
        self.assertFalse(os.path.exists(f"{place}/state"))
        return done.returncode, done.stdout, done.stderr.replace(path, "c.yaml").replace(place, "HERE")

    def test_check_looks_whether_what_is_named_is_there(self):
        with tempfile.TemporaryDirectory() as place:
            for name, mode in (("plain", 0o600), ("tool", 0o755), ("keys", 0o600), ("open", 0o644), ("empty", 0o600)):
                with open(os.path.join(place, name), "w") as file:
                    file.write("00" * 32 + "\n" if name in ("keys", "open") else "")
                os.chmod(os.path.join(place, name), mode)
            good = (f"  a: {{command: [./tool], directory: {place}}}\n  b: {{command: [sh, -c, 'exit']}}\n"
                    f"  c: {{command: [tool], environment: {{PATH: '{place}'}}}}")
            code, said, errors = self.check(place, good, "checkpoints: {key_file: keys}")
            self.assertEqual((code, errors), (0, ""))
            self.assertTrue(said.endswith("c.yaml: ok, 3 models\n"), said)
            for models, top, text in (
                    ("  m: {command: [./gone]}", "", "c.yaml:5:3: models.m.command: HERE/gone: No such file or directory"),
                    ("  m: {command: [./plain]}", "", "models.m.command: HERE/plain: is not executable (Permission denied)"),
                    ("  m: {command: [/tmp]}", "", "models.m.command: /tmp: is not a file"),
                    ("  m: {command: [no-such-command]}", "", "models.m.command: no-such-command: not found on PATH"),
                    ("  m: {command: [sh], pre_start: {command: [/dev/null]}}", "",
                     "models.m.pre_start.command: /dev/null: is not a file"),
                    ("  m: {command: [sh], environment: {PATH: /nonexistent}}", "", "models.m.command: sh: not found on PATH"),
                    ("  m: {command: [sh], directory: gone}", "", "models.m.directory: HERE/gone: No such file or directory"),
                    ("  m: {command: [sh], directory: plain}", "", "models.m.directory: HERE/plain: is not a directory"),
                    ("  m: {command: [sh]}", "checkpoints: {key_file: gone}",
                     "c.yaml: checkpoints.key_file: HERE/gone: No such file or directory"),
                    ("  m: {command: [sh]}", "checkpoints: {key_file: open}", "HERE/open: mode 0644 lets others at the key"),
                    ("  m: {command: [sh]}", "checkpoints: {key_file: empty}", "HERE/empty: holds no key")):
                with self.subTest(models=models, top=top):
                    code, said, errors = self.check(place, models, top)
                    self.assertEqual((code, said, errors.count("\n")), (2, "", 1), errors)
                    self.assertIn(text, errors)
            code, _, errors = self.check(place, "  m: {command: [./gone], directory: gone}\n  n: {command: [./plain]}",
                                         "checkpoints: {key_file: gone}")  # all of them at once
            self.assertEqual((code, errors.count("\n")), (2, 4), errors)

    def test_check_looks_for_the_program_that_runs_adapters(self):
        models = "  m: {command: [sh], adapter: {kind: http}}"
        with tempfile.TemporaryDirectory() as place:
            self.assertEqual(self.check(place, models, "")[0], 0)
            hasupd = shutil.copy(f"{BUILD}/hasupd", place)  # without what stands beside it
            config = os.path.join(place, "c.yaml")
            done = subprocess.run([hasupd, "--check", config], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("c.yaml:5:3: models.m.adapter: hasup-http, which runs the command, is neither beside hasupd "
                          "nor on PATH", done.stderr)
            os.symlink(f"{BUILD}/hasup-http", os.path.join(place, "hasup-http"))
            self.assertEqual(subprocess.run([hasupd, "--check", config], stdout=subprocess.DEVNULL).returncode, 0)

    def complaints(self, place, models, top=""):
        """What is wrong, without the places in the file."""
        code, said, errors = self.check(place, models, top)
        self.assertEqual((code, said == ""), (2, True) if errors else (0, False), errors)
        return [line.partition("models.")[2] or line.partition("c.yaml: ")[2] for line in errors.splitlines()]

    @staticmethod
    def put(place, *names, mode=0o755):
        for name in names:
            os.makedirs(os.path.dirname(os.path.join(place, name)), exist_ok=True)
            with open(os.path.join(place, name), "w"):
                pass
            os.chmod(os.path.join(place, name), mode)

    def test_check_looks_for_what_spares_and_those_who_stand_in_are_started_with(self):
        keys = ("workers: 2, spares: 1, rollout: {max_surge: 1}, environment_files: ['e-{slot}.env'], directory: 'd-{slot}', "
                "command: ['./bin-{slot}/tool'], pre_start: {command: ['./bin-{slot}/first']}")
        spare, stand_in = "(slot 2, a spare)", "(slot 3, which stands in while workers are replaced; rollout.max_surge: 0 does " \
                                               "without)"
        with tempfile.TemporaryDirectory() as place:
            for slot in range(4):
                if slot in (2, 3):
                    whose = spare if slot == 2 else stand_in
                    self.assertEqual(self.complaints(place, f"  m: {{{keys}}}"), [
                        f"m.{key}: HERE/{name}: No such file or directory {whose}"
                        for key, name in (("command", f"bin-{slot}/tool"), ("pre_start.command", f"bin-{slot}/first"),
                                          ("directory", f"d-{slot}"), ("environment_files", f"e-{slot}.env"))])
                self.put(place, f"e-{slot}.env", f"bin-{slot}/tool", f"bin-{slot}/first", f"d-{slot}/x")
            self.assertEqual(self.complaints(place, f"  m: {{{keys}}}"), [])
            for other in (keys.replace("max_surge: 1", "max_surge: 9"),  # never more than workers
                          keys.replace("workers: 2, spares: 1", "workers: 1, spares: 2")):
                self.put(place, "e-4.env", "bin-4/tool", "bin-4/first", "d-4/x")
                self.assertEqual(self.complaints(place, f"  m: {{{other}}}"), [])
            forked = "command: [./bin-0/tool, '{slot}'], workers: 7, preload: true, environment_files: [e-0.env]"
            self.assertEqual(self.complaints(place, f"  m: {{{forked}}}"), [])

    def test_check_looks_whether_a_socket_may_be_made_where_it_is_to_be(self):
        with tempfile.TemporaryDirectory() as place:
            self.put(place, "file", "at/socket")
            listening = socket.socket(socket.AF_UNIX)
            self.addCleanup(listening.close)
            listening.bind(f"{place}/at/listening")  # it may be the hasupd's that runs already
            listening.listen()
            for path, why in (("at/new", None), ("at/listening", None), ("s", None), ("state/s", None),
                              ("at/socket", "HERE/at/socket: is there and is no socket"),
                              ("at", "HERE/at: is there and is no socket"),
                              ("none/s", "HERE/none: No such file or directory"),
                              ("file/s", "HERE/file: is not a directory")):
                found = self.complaints(place, f"  m: {{command: [sh], sockets: {{web: {{unix: {path}}}}}}}")
                self.assertEqual(found, [f"m.sockets.web.unix: {why}"] if why else [], path)

    def test_check_looks_for_the_paths_that_are_to_be_read_only(self):
        with tempfile.TemporaryDirectory() as place:
            self.put(place, "file")
            for paths, why in ((["/usr", "file", "-none", "-file/none"], None), (["/usr", "none"], "HERE/none: No such file or directory"),
                               (["file/none"], "HERE/file/none: Not a directory")):
                found = self.complaints(place, f"  m: {{command: [sh], process: {{read_only_paths: {paths}}}}}")
                self.assertEqual(found, [f"m.process.read_only_paths: {why}"] if why else [], paths)

    def test_check_looks_whether_there_are_cpus_to_be_bound_to(self):
        own = sorted(os.sched_getaffinity(0))
        none = next(cpu for cpu in range(1023, 0, -1) if cpu not in own)
        with tempfile.TemporaryDirectory() as place:
            for cpus in (f"{own[0]}", f"{own[-1]},{none}", "0-1023"):  # the kernel takes those that there are
                self.assertEqual(self.complaints(place, f"  m: {{command: [sh], process: {{cpus: '{cpus}'}}}}"), [], cpus)
            for cpus in (f"{none}", f"{none - 1}-{none}"):
                (found,) = self.complaints(place, f"  m: {{command: [sh], process: {{cpus: '{cpus}'}}}}")
                said, _, has = found.partition(", which has ")
                self.assertEqual(said, f'm.process.cpus: "{cpus}": none of these CPUs is there for hasupd')
                parts = [part.split("-") for part in has.split(",")]
                self.assertEqual([cpu for part in parts for cpu in range(int(part[0]), int(part[-1]) + 1)], own)
            # What this process is bound to binds no other, and what the kernel is asked for stays with nobody.
            both = f"  m: {{command: [sh], process: {{cpus: '{none}'}}}}\n  n: {{command: [sh], process: {{cpus: '{own[-1]}'}}}}"
            os.sched_setaffinity(0, own[:1])
            self.addCleanup(os.sched_setaffinity, 0, own)
            self.assertEqual(self.complaints(place, both), [
                f'm.process.cpus: "{none}": none of these CPUs is there for hasupd, which has {own[0]}'])

    def test_check_says_what_a_tmp_of_its_own_hides(self):
        with tempfile.TemporaryDirectory(dir="/tmp") as place:
            self.put(place, "tool")
            keys = "process: {private_tmp: 1MiB}"
            hides = "HERE%s: process.private_tmp hides what is below /tmp and /var/tmp"
            self.assertEqual(self.complaints(place, f"  m: {{command: [./tool], {keys}}}"),
                             ["m.command: " + hides % "/tool", "m.directory: " + hides % ""])
            self.assertEqual(self.complaints(place, f"  m: {{command: [sh], directory: /, {keys}}}"), [])

    def test_check_looks_whether_log_files_may_be_written(self):
        with tempfile.TemporaryDirectory() as place:
            def wrong(name, more="", keys="command: [sh]"):
                return self.complaints(place, f"  m: {{{keys}}}", f"log: {{files: {{directory: {name}{more}}}}}")
            self.put(place, "file", "logs/m/0.log", "logs/hasupd.log", mode=0o600)
            for fine in ("logs", "new", "new/below", "/tmp"):
                self.assertEqual(wrong(fine, ", hasupd: true"), [], fine)
            self.assertEqual(wrong("file"), ["log.files.directory: HERE/file: is not a directory"])
            self.assertEqual(wrong("file/below"), ["log.files.directory: HERE/file: is not a directory"])
            self.assertFalse(os.path.exists(f"{place}/new"))
            os.makedirs(f"{place}/logs/workers.log")
            self.assertEqual(wrong("logs", ", each_slot: false"),
                             ["log.files.directory: HERE/logs/workers.log: is not a file"])
            for name in ("m/0.log", "m/1.log", "m/spare-0.log", "m/zygote.log", "hasupd.log"):
                path = f"{place}/logs/{name}"
                shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)
                os.mkdir(path)
                self.assertEqual(wrong("logs", ", hasupd: true", "command: [sh], spares: 1, preload: true"),
                                 [f"log.files.directory: HERE/logs/{name}: is not a file"])
                os.rmdir(path)
            shutil.rmtree(f"{place}/logs/m")
            self.put(place, "logs/m")
            self.assertEqual(wrong("logs"), ["log.files.directory: HERE/logs/m: is not a directory"])
            os.symlink(f"{place}/file", f"{place}/logs/hasupd.log")
            self.assertEqual(wrong("logs", ", each_slot: false, hasupd: true")[:1],
                             ["log.files.directory: HERE/logs/hasupd.log: is a symbolic link"])
            os.makedirs(f"{place}/open/m")
            os.chmod(f"{place}/open", 0o777)
            self.assertEqual(wrong("open"),
                             ["log.files.directory: HERE/open: is not safe: anybody may write to it"])
            self.assertEqual(wrong("open/below"), [])
            os.chmod(f"{place}/open", 0o1777)
            os.chmod(f"{place}/open/m", 0o777)
            self.assertEqual(wrong("open"),
                             ["log.files.directory: HERE/open/m: is not safe: anybody may write to it"])


if __name__ == "__main__":
    unittest.main()

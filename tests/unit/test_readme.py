"""README.md's own words, done: its files are written, its commands run, its outputs compared."""
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 60

with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as page:
    README = page.read()


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.M | re.S)


def named_files():
    """A block whose introduction ends in a name, `shout.c`: is that file."""
    return dict(re.findall(r"`([\w.]+)`:\n\n```(?:c|python|yaml)\n(.*?)^```", README, re.M | re.S))


def console():
    """Command and expected output, in pairs."""
    (text,) = blocks("console")
    return [(part.split("\n", 1)[0], part.split("\n", 1)[1])
            for part in re.split(r"^\$ ", text, flags=re.M)[1:]]


class Readme(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="hasup-readme.")
        self.addCleanup(shutil.rmtree, self.directory)
        for name in ("build", "worker"):
            os.symlink(os.path.join(ROOT, name), os.path.join(self.directory, name))
        self.environment = dict(os.environ, HASUP_SOCKET=os.path.join(self.directory, "hasup.sock"))

    def shell(self, command):
        return subprocess.run(["sh", "-ec", command], cwd=self.directory, env=self.environment, timeout=LIMIT,
                              capture_output=True, text=True)

    def start(self, command):
        hasupd = subprocess.Popen(["sh", "-c", f"exec {command}"], cwd=self.directory, env=self.environment,
                                  stderr=subprocess.PIPE)
        self.addCleanup(hasupd.stderr.close)
        self.addCleanup(hasupd.wait)
        self.addCleanup(hasupd.kill)
        return hasupd

    def port_when_ready(self, hasupd, slots):
        port, ready, rest, end = None, set(), b"", time.monotonic() + LIMIT
        while len(ready) < slots or port is None:
            can, _, _ = select.select([hasupd.stderr], [], [], max(0, end - time.monotonic()))
            more = os.read(hasupd.stderr.fileno(), 65536) if can else b""
            self.assertTrue(more, f"hasupd did not get ready: {ready}")
            *lines, rest = (rest + more).split(b"\n")
            for event in map(json.loads, lines):
                port = event.get("http_port", port)
                if event["event"] == "slot.ready":
                    ready.add(event["slot"])
        return port

    def test_its_workers_compile_run_and_survive_as_it_says(self):
        files = named_files()
        self.assertEqual(set(files), {"shout.c", "total.py", "mine.yaml"})
        for name, text in files.items():
            with open(os.path.join(self.directory, name), "w", encoding="utf-8") as file:
                file.write(text)
        with open(os.path.join(self.directory, "mine.yaml"), "a", encoding="utf-8") as file:
            file.write("state_dir: state\nruntime_dir: .\nlisten: {http: '127.0.0.1:0'}\n")
        compile_it, run_it = blocks("sh")[0].splitlines()
        compiled = self.shell(compile_it.replace("cc ", "cc -Wall -Wextra -Werror "))
        self.assertEqual((compiled.returncode, compiled.stderr), (0, ""))
        hasupd = self.start(run_it)
        port = self.port_when_ready(hasupd, 3)
        asked = console()
        self.assertEqual(len(asked), 5)
        for command, expected in asked:
            if "PID" in command:
                status = json.loads(self.shell("build/hasupctl --json status total").stdout)
                command = command.replace("PID", str(status["models"][0]["slots"][0]["pid"]))
            done = self.shell(command.replace(":8080", f":{port}").replace("curl ", "curl -sS "))
            self.assertEqual((done.returncode, done.stdout), (0, expected), f"{command}: {done.stderr}")
        hasupd.send_signal(signal.SIGTERM)
        self.assertEqual(hasupd.wait(LIMIT), 0)

    def test_its_workers_are_short(self):
        for name in ("shout.c", "total.py"):
            self.assertLessEqual(len(named_files()[name].splitlines()), 20)

    def test_every_page_that_a_page_links_to_is_there(self):
        pages = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        pages += [os.path.join("docs", name) for name in os.listdir(os.path.join(ROOT, "docs")) if name.endswith(".md")]
        for page in pages:
            with open(os.path.join(ROOT, page), encoding="utf-8") as file:
                targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", file.read())
            for target in set(targets):
                with self.subTest(page=page, target=target):
                    self.assertTrue(os.path.exists(os.path.join(ROOT, os.path.dirname(page), target)))


if __name__ == "__main__":
    unittest.main(verbosity=1)

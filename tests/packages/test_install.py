"""make install, uninstall and dist, and what is built against the installed tree: as a packager and an author of workers use them."""
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
from world import World  # noqa: E402

LIMIT = 60
PYTHON = "/usr/bin/python3"  # Debian's own, for its setuptools


def run(*command, **more):
    more.setdefault("cwd", ROOT)
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, **more)
    if done.returncode:
        raise AssertionError(f"{command}: {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def make(target, **variables):
    without = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CI")}
    with tempfile.TemporaryDirectory(prefix="hasup-made.") as made:  # of this call's own: others install meanwhile
        return run("make", "--no-print-directory", target, f"MADE={made}", *(f"{k}={v}" for k, v in variables.items()), env=without)


def tree(directory):
    """Every file and link below it, and the directories that hold nothing."""
    found = set()
    for path, directories, files in os.walk(directory):
        found.update(os.path.relpath(os.path.join(path, name), directory) for name in files)
        found.update(os.path.relpath(os.path.join(path, d), directory) for d in directories
                     if os.path.islink(os.path.join(path, d)))
    return found


def readme(name):
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        return re.search(rf"`{re.escape(name)}`:\n\n```\w+\n(.*?)^```", file.read(), re.M | re.S).group(1)


class Directory(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="hasup-package.")
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)


class Install(Directory):
    def test_everything_is_in_its_place_and_uninstall_takes_all_of_it_away(self):
        make("install", DESTDIR=self.directory, prefix="/usr")
        found = tree(self.directory)
        for name in ("usr/bin/hasupd", "usr/bin/hasupctl", "usr/bin/hasup-http", "usr/include/hasup.h", "usr/lib/libhasup.a",
                     "usr/lib/libhasup.so", "usr/lib/libhasup.so.0", "usr/lib/pkgconfig/libhasup.pc",
                     "usr/lib/python3/dist-packages/hasup/__init__.py", "usr/lib/python3/dist-packages/hasup/py.typed",
                     "usr/lib/systemd/system/hasup.service", "usr/lib/sysusers.d/hasup.conf", "etc/cron.d/hasup-audit",
                     "usr/share/man/man1/hasupctl.1", "usr/share/man/man1/hasup-http.1", "usr/share/man/man5/hasup.yaml.5",
                     "usr/share/man/man7/hasup-protocol.7", "usr/share/man/man8/hasupd.8",
                     "usr/share/bash-completion/completions/hasupctl", "usr/share/bash-completion/completions/hasupd",
                     "usr/share/zsh/site-functions/_hasupctl", "usr/share/zsh/site-functions/_hasupd",
                     "usr/share/fish/vendor_completions.d/hasupctl.fish", "usr/share/fish/vendor_completions.d/hasupd.fish",
                     "usr/share/doc/hasup/docs/operations.md", "usr/share/doc/hasup/examples/hasup.yaml",
                     "usr/share/doc/hasup/examples/supervisor.yaml.example"):
            self.assertIn(name, found)
        modules = set(os.listdir(os.path.join(ROOT, "worker/python/hasup"))) - {"__pycache__"}
        self.assertEqual(modules, set(os.listdir(self.path("usr/lib/python3/dist-packages/hasup"))))
        own = set(run("git", "ls-files", "docs/*.md").split())
        self.assertEqual(own, {name[len("usr/share/doc/hasup/"):] for name in found if "/doc/hasup/docs/" in name})
        own = {name[len("docs/schemas/"):] for name in run("git", "ls-files", "docs/schemas/*.json").split()}
        self.assertEqual(own, {name[len("usr/share/hasup/schemas/"):] for name in found if "/hasup/schemas/" in name})
        self.assertIn("status.json", own)
        for name in found:
            if not os.path.islink(self.path(name)):
                self.assertEqual(os.stat(self.path(name)).st_mode & 0o7777, 0o755 if "/bin/" in name else 0o644, name)
        make("uninstall", DESTDIR=self.directory, prefix="/usr")
        self.assertEqual(tree(self.directory), set())
        left = [path for path, *_ in os.walk(self.directory)]
        self.assertFalse([path for path in left if "hasup" in os.path.relpath(path, self.directory)], left)

    def test_the_directories_are_the_packagers_to_choose(self):
        make("install", DESTDIR=self.directory, prefix="/opt/h", libdir="/opt/h/lib/arch", sysconfdir="/etc/h", bindir="/b",
             crondir="/etc/cron.d", HASUP_USER="models")
        with open(self.path("opt/h/lib/arch/pkgconfig/libhasup.pc"), encoding="utf-8") as file:
            self.assertIn("libdir=/opt/h/lib/arch\n", file.read())
        with open(self.path("opt/h/lib/systemd/system/hasup.service"), encoding="utf-8") as file:
            unit = file.read()
        self.assertIn("ExecStart=/b/hasupd -c /etc/h/hasup.yaml\n", unit)
        self.assertNotIn("/usr/bin/hasup", unit)
        with open(self.path("etc/cron.d/hasup-audit"), encoding="utf-8") as file:
            lines = [line for line in file if line[0] not in "#\n"]
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertRegex(line, r"^\S+ +\S+ +\* +\* +\* +models  test ! -e /etc/h/hasup.yaml \|\| /usr/bin/flock .* /b/hasupctl audit -c ")

    def test_the_unit_is_one_that_systemd_takes(self):
        make("install", prefix=self.directory)
        unit = self.path("lib/systemd/system/hasup.service")
        with open(unit, encoding="utf-8") as file:
            text = file.read()
        for line in ("Type=notify", "WatchdogSec=30s", "NoNewPrivileges=yes", "ProtectSystem=strict", "KillMode=mixed"):
            self.assertIn(f"\n{line}\n", text)
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze here")
        said = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=LIMIT)
        self.assertNotIn("hasup.service", said.stderr)
        run("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)


class Worker(Directory):
    """README's own workers, against the installed tree alone."""

    def test_it_compiles_by_pkg_config_alone_and_serves(self):
        prefix = self.path("prefix")
        make("install", prefix=prefix)
        self.write("shout.c", readme("shout.c"))
        self.write("total.py", readme("total.py"))
        environment = {"PATH": os.environ["PATH"], "PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig", "HOME": self.directory}
        self.assertEqual(run("pkg-config", "--modversion", "libhasup", env=environment), "0.1.0\n")
        for name, more in (("shared", ""), ("static", "-static")):
            run("sh", "-ec", f"cc -Wall -Wextra -Werror {more} -o {name} shout.c $(pkg-config --cflags --libs libhasup)",
                cwd=self.directory, env=environment)
        self.assertIn("libhasup.so.0", run("readelf", "-d", self.path("shared")))
        (python,) = glob.glob(f"{prefix}/lib/python3*/dist-packages")
        with World(f"  shared:\n    command: [{self.path('shared')}]\n    environment: {{LD_LIBRARY_PATH: {prefix}/lib}}\n"
                   f"  static:\n    command: [{self.path('static')}]\n"
                   f"  total:\n    command: [python3, {self.path('total.py')}]\n    environment: {{PYTHONPATH: {python}}}\n",
                   program=f"{prefix}/bin/hasupd") as world:
            self.assertEqual(world.post("shared", "hello")[2], b"HELLO")
            self.assertEqual(world.post("static", "hello")[2], b"HELLO")
            self.assertEqual(world.post("total", "40")[2], b"40\n")
            run(f"{prefix}/bin/hasupctl", "-s", world.socket, "status")

    def test_the_header_is_whole_by_itself_in_c_and_cxx(self):
        prefix = self.path("prefix")
        make("install", prefix=prefix)
        self.write("one.c", '#include "hasup.h"\nint main(void) { return hasup_serve(0) * 0; }\n')
        for command in (["cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", "c"],
                        ["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", "c"]):
            run(*command, f"-I{prefix}/include", "-fsyntax-only", self.path("one.c"))


class Python(Directory):
    def test_a_wheel_is_built_that_holds_the_package_and_its_types(self):
        source = self.path("python")
        shutil.copytree(os.path.join(ROOT, "worker/python"), source, ignore=shutil.ignore_patterns("__pycache__"))
        run(PYTHON, "-c", "from setuptools import build_meta; build_meta.build_wheel('..')", cwd=source)
        (wheel,) = glob.glob(self.path("*.whl"))
        self.assertEqual(os.path.basename(wheel), "hasup-0.1.0-py3-none-any.whl")
        run(PYTHON, "-m", "zipfile", "-e", wheel, self.path("site"))
        self.assertEqual(set(os.listdir(self.path("site/hasup"))),
                         set(os.listdir(os.path.join(ROOT, "worker/python/hasup"))) - {"__pycache__"})
        said = run(PYTHON, "-B", "-c", "import hasup; print(hasup.__version__, hasup.__file__)", cwd=self.directory,
                   env={"PYTHONPATH": self.path("site")})
        self.assertEqual(said.split(), ["0.1.0", self.path("site/hasup/__init__.py")])

    def test_its_types_are_complete(self):
        if not shutil.which("mypy"):
            self.skipTest("mypy is not installed (tools/setup check)")
        self.write("mine.py", "import hasup\n\n\nclass Total(hasup.Worker):\n    total = 0\n\n"
                   "    def infer(self, request: hasup.Request) -> hasup.Reply:\n        self.total += len(request.body)\n"
                   "        return hasup.Reply(str(self.total), content_type='text/plain')\n\n"
                   "    def save(self) -> bytes:\n        return str(self.total).encode()\n\n\nhasup.serve(Total())\n")
        run("mypy", "--strict", "--cache-dir=/dev/null", "worker/python/hasup", self.path("mine.py"),
            env={**os.environ, "MYPYPATH": os.path.join(ROOT, "worker/python")})

    def test_every_file_says_the_same_version(self):
        def said(path, pattern):
            with open(os.path.join(ROOT, path), encoding="utf-8") as file:
                return re.search(pattern, file.read(), re.M).group(1)
        version = said("ipc/base.h", r'^#define HASUP_VERSION "(.*)"')
        self.assertEqual(version, said("worker/python/hasup/__init__.py", r'^__version__ = "(.*)"'))
        self.assertEqual(version, said("debian/changelog", r"\Ahasup \((.*)\)"))
        self.assertEqual(version, said("CHANGELOG.md", r"^## (.*)"))


class Dist(Directory):
    def test_the_tarball_is_the_same_each_time_and_holds_the_commit(self):
        digests = set()
        for zone in ("UTC", "Asia/Tokyo"):
            clone = self.path(zone[:3])
            run("git", "clone", "-q", "--depth=1", f"file://{ROOT}", clone)
            run("make", "dist", cwd=clone, env={"PATH": os.environ["PATH"], "TZ": zone, "HOME": self.directory})
            (path,) = glob.glob(f"{clone}/build/hasup-*.tar.gz")
            with open(path, "rb") as file:
                digests.add(hashlib.sha256(file.read()).hexdigest())
        self.assertEqual(len(digests), 1)
        with tarfile.open(path) as archive:
            members = archive.getmembers()
        names = {member.name.split("/", 1)[1] for member in members if member.isfile() or member.issym()}
        self.assertEqual(names, set(run("git", "ls-tree", "-r", "--name-only", "HEAD", cwd=clone).split("\n")) - {""})
        self.assertEqual({member.name.split("/")[0] for member in members if "/" in member.name}, {"hasup-0.1.0"})
        self.assertEqual({member.mode & 0o022 for member in members if not member.issym()}, {0})


if __name__ == "__main__":
    unittest.main(verbosity=1)

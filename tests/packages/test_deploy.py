"""What stands in deploy/ is true of hasupd: its configurations, its probes, its times, what it is built with, the layer's size.
deploy_check.py (make package-check) asks the judges of its own world."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
from test_install import make  # noqa: E402
from world import BUILD, World  # noqa: E402


def text(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def config_map():
    """The configuration inside of it."""
    found = re.search(r"^  hasup\.yaml: \|\n((?:    .*\n|\n)+)", text("deploy/kubernetes/configmap.yaml"), re.M)
    return textwrap.dedent(found.group(1))


def seconds(duration):
    return float(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


class Deploy(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="hasup-deploy.")
        self.addCleanup(shutil.rmtree, self.directory)

    def test_each_configuration_is_right(self):
        for name, configuration in (("container", text("deploy/container/hasup.yaml")), ("kubernetes", config_map()),
                                    ("systemd", text("deploy/systemd/hasup.yaml"))):
            path = os.path.join(self.directory, "hasup.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(configuration.replace("/usr/local/bin/my-worker", f"{BUILD}/examples/echo"))
            with self.subTest(name=name):
                done = subprocess.run([f"{BUILD}/hasupd", "--check", path], capture_output=True, text=True, timeout=60)
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_pod_and_the_container_are_configured_alike(self):
        def said(configuration):
            return [line for line in configuration.splitlines() if line.strip() and not line.strip().startswith("#")]
        self.assertEqual(said(config_map()), said(text("deploy/container/hasup.yaml")))

    def test_the_probes_are_routes_that_answer(self):
        pod = text("deploy/kubernetes/statefulset.yaml")
        paths = set(re.findall(r"httpGet: \{path: (\S+), port: http\}", pod)) | set(re.findall(r"prometheus.io/path: (\S+)", pod))
        self.assertEqual(paths, {"/v2/health/live", "/v2/health/ready", "/metrics"})
        self.assertEqual(set(re.findall(r"(?:containerPort: |prometheus.io/port: \"|http: 0\.0\.0\.0:)(\d+)", pod + config_map())),
                         {"8080"})
        with World(f"  echo:\n    command: [{BUILD}/examples/echo]\n") as world:
            for path in paths:
                self.assertEqual(world.get(path)[0], 200, path)

    def test_there_is_time_to_drain(self):
        grace = seconds(re.search(r"grace: (\w+)", config_map()).group(1))
        pod = text("deploy/kubernetes/statefulset.yaml")
        pause = float(re.search(r'preStop:[^}]*"(\d+)"\]', pod).group(1))
        self.assertGreaterEqual(float(re.search(r"terminationGracePeriodSeconds: (\d+)", pod).group(1)), pause + grace + 15)
        self.assertGreaterEqual(seconds(re.search(r"stop_grace_period: (\w+)", text("deploy/compose/compose.yaml")).group(1)), grace + 15)
        unit = text("deploy/systemd/hasup.service")
        self.assertGreaterEqual(seconds(re.search(r"TimeoutStopSec=(\w+)", unit).group(1)), grace + 15)

    def test_what_it_is_built_with_is_said_the_same_everywhere(self):
        def packages(said):
            return set(re.findall(r"\b(?:lib[a-z0-9-]+-dev|node-llhttp)\b", said)) - {"libc6-dev", "libcmocka-dev", "libfann-dev"}
        control = packages(text("debian/control").split("\nPackage:")[0])
        self.assertEqual(control, packages(text("deploy/container/Containerfile")))
        self.assertEqual(control, packages(text("tools/setup")))
        self.assertEqual(control, packages(re.search(r"^    apt-get install .*\n.*$", text("docs/deploy.md"), re.M).group(0)))

    def test_the_layer_is_as_small_as_the_page_says(self):
        make("install", DESTDIR=self.directory, prefix="/usr")
        size = 0
        for name in ("hasupd", "hasupctl"):
            path = os.path.join(self.directory, "usr/bin", name)
            subprocess.run(["strip", path], check=True, timeout=60)
            size += os.path.getsize(path)
        for path, _, files in os.walk(os.path.join(self.directory, "usr/lib/python3")):
            size += sum(os.path.getsize(os.path.join(path, name)) for name in files)
        for path, _, files in os.walk("/usr/lib"):
            if "libsodium.so.23" in files:
                size += os.path.getsize(os.path.join(path, "libsodium.so.23"))
                break
        said = float(re.search(r"the layer that hasup adds to an\s+image has ([0-9.]+) MB", text("README.md")).group(1))
        self.assertLess(abs(size / 1e6 - said), 0.1 * said, size)


if __name__ == "__main__":
    unittest.main(verbosity=1)

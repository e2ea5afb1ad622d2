"""Promise 8: overload is refused early and clearly, and what is taken is in time."""
import errno
import json
import os
import subprocess
import unittest

from world import BUILD, LIMIT, ROOT, WORKER, World, wait_until


def model(extra):
    return f"  m: {{command: [{WORKER}, --concurrency, '1'], {extra}}}"


class Admission(unittest.TestCase):
    def refused(self, answer):
        status, headers, body = answer
        self.assertEqual(status, 429)
        self.assertGreaterEqual(int(headers["Retry-After"]), 1)
        return json.loads(body)["error"]["message"]

    def test_a_rate_of_all_clients(self):
        with World(model("rate: {per_second: 1, burst: 3}")) as world:
            self.assertEqual([world.post("m", "echo x")[0] for _ in range(3)], [200] * 3)
            self.assertIn("limit of rate", self.refused(world.post("m", "echo x")))

    def test_a_rate_of_each_client(self):
        first, second = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
        with World(model("rate: {client_per_second: 1, client_burst: 2}")) as world:
            self.assertEqual([world.post("m", "echo x", first)[0] for _ in range(2)], [200] * 2)
            self.refused(world.post("m", "echo x", first))
            self.assertEqual(world.post("m", "echo x", second)[0], 200)
            self.assertEqual([world.post("m", "echo x")[0] for _ in range(5)], [200] * 5)

    def test_what_would_be_late_is_refused_and_runs_nowhere(self):
        with World(model("")) as world:
            for _ in range(10):
                self.assertEqual(world.post("m", "take 50")[0], 200)
            waiting = [world.begin("m", "take 50", {"X-Priority": "1"}) for _ in range(20)]
            wait_until(lambda: world.status()["models"][0]["queued"] >= 15, "they never wait")
            answered = world.slot("m/0")["answered"]
            said = self.refused(world.post("m", "take 50", {"X-Request-Timeout": "0.2"}))
            self.assertIn("after the deadline", said)  # before that: at it, it would be 504
            self.assertEqual(world.post("m", "take 50", {"X-Request-Timeout": "30"})[0], 200)
            self.assertEqual({world.finish(c)[0] for c in waiting}, {200})
            self.assertLessEqual(world.slot("m/0")["answered"], answered + 21)

    @staticmethod
    def runs(gate):
        """Whether the request that waits at this FIFO runs; then it is let go on."""
        try:
            fd = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return False
        os.write(fd, b"x")
        os.close(fd)
        return True

    def test_priorities_go_first(self):
        with World(model("")) as world:
            gates = {name: world.fifo(name) for name in ("now", "last", "middle", "first")}
            waiting = [world.begin("m", f"wait {gates['now']}")]
            wait_until(lambda: world.slot("m/0")["inflight"] == 1, "it never runs")
            for name, priority in (("last", "9"), ("middle", "5"), ("first", "1")):
                waiting.append(world.begin("m", f"wait {gates[name]}", {"X-Priority": priority}))
                wait_until(lambda: world.status()["models"][0]["queued"] == len(waiting) - 1, "it never waits")
            ran = []

            def one_runs():
                ran.extend(name for name in gates if name not in ran and self.runs(gates[name]))
                return len(ran) == len(gates)

            wait_until(one_runs, "not all run")
            self.assertEqual(ran, ["now", "first", "middle", "last"])
            self.assertEqual([world.finish(c)[0] for c in waiting], [200] * 4)


class Example(unittest.TestCase):
    def test_the_example_shows_what_is_refused_and_when_to_come_again(self):
        done = subprocess.run([os.path.join(ROOT, "examples/admission.sh")], capture_output=True, timeout=LIMIT, text=True,
                              env={**os.environ, "HASUP_BUILD": BUILD})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        one_client = done.stdout.splitlines()[1:6]
        self.assertEqual(one_client[:3], ["200"] * 3)
        self.assertIn("429 come again in 1 s", one_client[3:])
        self.assertIn("other client:\n200\n", done.stdout)
        self.assertRegex(done.stdout, r"four wait:\n +\d 200\n")
        self.assertTrue(done.stdout.endswith("\n200\n"))  # the one with priority


if __name__ == "__main__":
    unittest.main(verbosity=1)

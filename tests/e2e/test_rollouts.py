"""Workers replaced under full load without one failed request: restart, reload, scale, rollback, canary."""
import collections
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, ROOT, WORKER, World, wait_until  # noqa: E402

VERSIONED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "versioned.py")
FAST = "restart: {backoff_min: 1ms, backoff_max: 10ms, start_limit: 2, breaker: 1h}"


def version(name, arguments="", keys="", workers=2):
    more = "".join(f", {a}" for a in arguments.split())
    return (f"  m: {{command: [{sys.executable}, -B, {VERSIONED}, {name}{more}], version: {name}, "
            f"workers: {workers}, {FAST}{', ' if keys else ''}{keys}}}")


class Load:
    """Clients who ask one after the other until it ends; what they were answered, by status and version."""

    def __init__(self, world, clients=4, body=b"echo x"):
        self.world, self.body = world, body
        self.heard = collections.Counter()
        self.over = False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client) for _ in range(clients)]

    def client(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.world.port, timeout=LIMIT)
        while not self.over:
            try:
                connection.request("POST", "/models/m/invoke", self.body)
                answer = connection.getresponse()
                answer.read()
                what = (answer.status, answer.headers["X-Hasup-Version"])
            except (OSError, http.client.HTTPException) as error:
                what = (0, repr(error))
                connection.close()
            with self.lock:
                self.heard[what] += 1
        connection.close()

    def count(self, status=200, by=None):
        with self.lock:
            return sum(n for (code, who), n in self.heard.items() if code == status and by in (None, who))

    def more(self, requests, **of):
        """Waits until so many more were answered."""
        goal = self.count(**of) + requests
        wait_until(lambda: self.count(**of) >= goal, f"no {requests} more answers: {self.heard}")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.more(50)
        return self

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join()

    def failures(self):
        return {what: n for what, n in self.heard.items() if what[0] != 200}


def model_of(world):
    return world.status()["models"][0]


def rollout_of(world):
    return model_of(world)["rollout"]


class UnderLoad(unittest.TestCase):
    def test_promise_1_reload_and_restart_fail_no_request(self):
        with World(version("one")) as world, Load(world) as load:
            world.write(version("two"))
            done = world.ctl("reload", "--wait").stdout.decode()
            self.assertEqual(done, "m: every worker runs version two\n")
            load.more(50, by="two")
            world.ctl("restart", "m", "--wait")
            world.ctl("restart", "m/1", "--wait")
            load.more(50)
            self.assertEqual([s["version"] for s in world.slots()], ["two", "two"])
        self.assertEqual(load.failures(), {})

    def test_a_new_worker_is_ready_before_an_old_one_drains(self):
        with World(version("one", workers=1)) as world, Load(world) as load:
            world.write(version("two", workers=1))
            since = world.mark()
            world.ctl("reload", "--wait")
            world.mark()
            told = [(e["event"], e.get("slot")) for e in world.events[since:]]
            self.assertLess(told.index(("slot.ready", "m/1")), told.index(("slot.exited", "m/0")))
            load.more(50)
        self.assertEqual(load.failures(), {})

    def test_promise_1_scaling_up_and_down_fails_no_request(self):
        with World(version("one", workers=1)) as world, Load(world) as load:
            for workers in (3, 1, 2):
                world.ctl("scale", "m", str(workers))
                wait_until(lambda: model_of(world)["ready"] == len(world.slots()) == workers, "never scaled")
                load.more(50)
        self.assertEqual(load.failures(), {})

    def test_promise_1_stateful_slots_are_replaced_in_place(self):
        with World(version("one", "--counts", workers=1)) as world, Load(world) as load:
            world.write(version("two", "--counts", workers=1))
            world.ctl("reload", "--wait")
            load.more(50)
        self.assertEqual(load.failures(), {})

    def test_promise_4_state_survives_a_rollout(self):
        with World(version("one", "--counts", workers=1)) as world:
            for n in range(1, 4):
                self.assertEqual(world.post("m", b"x")[2], f"one {n}".encode())
            world.write(version("two", "--counts", workers=1))
            world.ctl("reload", "--wait")
            self.assertEqual(world.post("m", b"x")[2], b"two 4")

    def wrk(self, world, change):
        """The whole load of wrk while `change` runs; the requests that it made."""
        script = os.path.join(world.directory, "post.lua")
        with open(script, "w") as file:
            file.write('wrk.method = "POST"\nwrk.body = "echo x"\n')
        client = subprocess.Popen(["wrk", "-t1", "-c16", f"-d{LIMIT}s", "-s", script,
                                   f"http://127.0.0.1:{world.port}/models/m/invoke"], stdout=subprocess.PIPE)
        try:
            change()
        finally:
            client.send_signal(signal.SIGINT)  # it tells what it has
        said = client.communicate(timeout=LIMIT)[0].decode()
        self.assertNotRegex(said, "Non-2xx|Socket errors")
        return int(re.search(r"(\d+) requests in", said).group(1))

    def test_promise_1_the_load_of_wrk_notices_nothing(self):
        def native(label):
            return f"  m: {{command: [{WORKER}], version: {label}, workers: 2, {FAST}}}"

        with World(native("one")) as world:
            def change():
                world.write(native("two"))
                world.ctl("reload", "--wait")
                world.ctl("restart", "m", "--wait")
                for workers in ("4", "1", "2"):
                    world.ctl("scale", "m", workers)
                    wait_until(lambda: model_of(world)["ready"] == int(workers), "never scaled")
                world.write(version("bad", "--never"))
                self.assertEqual(world.ctl("reload", "--wait", check=False).returncode, 1)
                world.write(native("three"))
                world.ctl("canary", "m", "--weight", "20")
                wait_until(lambda: rollout_of(world)["canary"]["ended"] > 20, "no canary")
                world.ctl("promote", "m", "--wait")

            self.assertGreater(self.wrk(world, change), 1000)
            self.assertEqual([s["version"] for s in world.slots()], ["three", "three"])


class Rollbacks(unittest.TestCase):
    def test_promise_1_what_never_gets_ready_is_rolled_back(self):
        with World(version("one")) as world, Load(world) as load:
            world.write(version("two", "--never"))
            done = world.ctl("reload", "--wait", check=False)
            self.assertEqual(done.returncode, 1)
            said = done.stderr.decode()
            self.assertIn("m: back at version one: 2 starts failed in a row (restart.start_limit); m/2: "
                          "exited with code 3; it said: there is no file weights.bin", said)
            told = world.wait_event("rollout.rolled_back", model="m")
            self.assertIn("there is no file weights.bin", told["message"])
            last = rollout_of(world)["last"]
            self.assertFalse(last["ok"])
            self.assertEqual(last["text"], told["message"])
            shown = world.ctl("status").stdout.decode()
            self.assertIn("last rollout: back at version one: 2 starts failed", shown)
            load.more(50, by="one")
            self.assertEqual([s["slot"] for s in world.slots()], ["m/0", "m/1"])
        self.assertEqual(load.failures(), {})
        self.assertEqual(load.count(by="two"), 0)

    def test_what_is_not_ready_in_time_is_rolled_back(self):
        hangs = "[/bin/sh, -c, 'echo waiting for the device >&2; exec sleep 1h']"
        with World(version("one", workers=1)) as world:
            world.write(f"  m: {{command: {hangs}, workers: 1, {FAST}, rollout: {{progress_deadline: 2s}}}}")
            done = world.ctl("--json", "reload", "--wait", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("no further worker was ready within rollout.progress_deadline (2000 ms); m/1: not ready "
                          "yet; it said: waiting for the device", done.stderr.decode())
            self.assertEqual(world.post("m", b"x")[2], b"one")

    def test_promise_6_what_dies_of_every_request_is_rolled_back(self):
        keys = "max_attempts: 10"
        with World(version("one", keys=keys)) as world, Load(world) as load:
            world.write(version("two", "--dies", keys=keys))
            done = world.ctl("reload", "--wait", check=False)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("back at version one", done.stderr.decode())
            load.more(50, by="one")
        self.assertEqual(load.failures(), {})

    def test_abort_rolls_back_and_the_old_configuration_is_in_force(self):
        with World(version("one")) as world:
            world.write(version("two", "--hangs", workers=3))
            world.ctl("reload")
            world.wait_event("rollout.started", model="m")
            self.assertEqual(rollout_of(world)["state"], "rolling")
            world.ctl("abort", "m")
            world.wait_event("rollout.rolled_back", model="m")
            self.assertEqual(world.ctl("abort", "m", check=False).returncode, 1)
            config = json.loads(world.ctl("config").stdout)
            self.assertEqual(config["models"]["m"]["version"], "one")
            world.write(version("three"))
            world.ctl("reload", "--wait")
            self.assertEqual(world.post("m", b"x")[1]["X-Hasup-Version"], "three")


class AcrossHasupds(unittest.TestCase):
    """A hasupd that dies while the file names what nobody has proven comes back with what served."""

    def serves(self, world, count=20):
        return collections.Counter(world.post("m", b"x")[1]["X-Hasup-Version"] for _ in range(count))

    def kept(self, world):
        return os.path.exists(os.path.join(world.state, "versions.json"))

    def test_a_canary_goes_on_with_its_share(self):
        with World(version("one")) as world:
            self.assertFalse(self.kept(world))
            world.write(version("two"))
            world.ctl("canary", "m", "--weight", "25")
            world.ctl("canary", "m", "--weight", "50")
            wait_until(lambda: self.serves(world)["two"], "no canary")
            self.assertEqual(os.stat(os.path.join(world.state, "versions.json")).st_mode & 0o777, 0o600)
            world.kill_and_start(wait=False)
            told = world.wait_event("rollout.resumed", model="m")
            self.assertEqual(told["message"], "the canary, version two, goes on beside one with 50 % of the requests")
            wait_until(lambda: len(world.slots()) == 3 and all(s["state"] == "ready" for s in world.slots()), "not all ready")
            self.assertEqual(self.serves(world), {"one": 10, "two": 10})
            world.ctl("promote", "m", "--wait")
            self.assertEqual(self.serves(world), {"two": 20})
            self.assertFalse(self.kept(world))
            world.kill_and_start()
            self.assertEqual(self.serves(world), {"two": 20})

    def test_what_was_rolled_back_stays_away_until_a_reload(self):
        with World(version("one")) as world:
            world.write(version("two", "--never", workers=1))
            self.assertEqual(world.ctl("reload", "--wait", check=False).returncode, 1)
            world.kill_and_start(wait=False)
            told = world.wait_event("rollout.resumed", model="m")
            self.assertEqual(told["message"], "one serves on: version two, which the file says, was taken back; a reload "
                                              "tries it again")
            self.assertEqual(self.serves(world), {"one": 20})
            self.assertEqual([s["slot"] for s in world.slots()], ["m/0"])  # how many is no version's
            self.assertIn("last rollout: back at version one: 2 starts failed", world.ctl("status").stdout.decode())
            with open(os.path.join(world.state, "running.json")) as file:
                running = json.load(file)["config"]["models"]["m"]["version"]
            self.assertEqual((running, json.loads(world.ctl("config").stdout)["models"]["m"]["version"]), ("one", "one"))
            self.assertEqual(world.ctl("reload", "--wait", check=False).returncode, 1)  # it was tried again
            world.write(version("three"))
            world.kill_and_start(wait=False)  # the file was changed: that is meant
            self.assertEqual(self.serves(world), {"three": 20})
            wait_until(lambda: not self.kept(world), "it is kept still")

    def test_an_aborted_canary_stays_away_and_the_old_file_put_back_needs_nothing(self):
        with World(version("one")) as world:
            world.write(version("two"))
            world.ctl("canary", "m", "--weight", "50")
            world.ctl("abort", "m")
            self.assertTrue(self.kept(world))
            world.kill_and_start()
            self.assertEqual(self.serves(world), {"one": 20})
            world.write(version("one"))
            world.ctl("reload")
            self.assertFalse(self.kept(world))
            world.kill_and_start()
            self.assertEqual(self.serves(world), {"one": 20})

    def test_what_is_kept_and_cannot_be_read_is_told_and_the_file_counts(self):
        for text in "{", "{}", '[{"model": "m"}]', None:
            with self.subTest(text=text), World(version("one")) as world:
                world.write(version("two"))
                world.ctl("canary", "m", "--weight", "50")
                world.stop(signal.SIGKILL)
                place = os.path.join(world.state, "versions.json")
                if text is None:
                    with open(place) as file:
                        text = file.read().replace('"command"', '"comand"')
                with open(place, "w") as file:
                    file.write(text)
                world.start()
                world.wait_event("versions.lost")
                self.assertEqual(self.serves(world), {"two": 20})
                self.assertFalse(self.kept(world))


class Canaries(unittest.TestCase):
    def test_promise_1_a_canary_has_its_share_and_is_promoted(self):
        with World(version("one")) as world, Load(world) as load:
            world.write(version("two"))
            world.ctl("canary", "m", "--weight", "25")
            load.more(100, by="two")
            one, two = load.count(by="one"), load.count(by="two")
            self.assertLessEqual(two, (one + two) * 0.25 + 10)
            rollout = rollout_of(world)
            self.assertEqual((rollout["state"], rollout["other"], rollout["weight"]), ("canary", "two", 25))
            self.assertIn("canary: version two has 25 % of the requests", world.ctl("status").stdout.decode())
            world.ctl("reload")  # the file is the canary's: it goes on
            world.ctl("canary", "m", "--weight=50")
            self.assertEqual(rollout_of(world)["weight"], 50)
            load.more(50, by="one")
            done = world.ctl("promote", "m", "--wait").stdout.decode()
            self.assertEqual(done, "m: every worker runs version two\n")
            load.more(50, by="two")
            self.assertEqual([s["version"] for s in world.slots()], ["two", "two"])
            self.assertEqual(json.loads(world.ctl("config").stdout)["models"]["m"]["version"], "two")
        self.assertEqual(load.failures(), {})

    def test_a_canary_that_fails_is_aborted(self):
        keys = "rollout: {abort_error_rate: 10, abort_min_requests: 20}"
        with World(version("one", keys=keys)) as world, Load(world) as load:
            world.write(version("two", "--fails", keys=keys))
            world.ctl("canary", "m", "--weight", "50")
            told = world.wait_event("rollout.aborted", model="m")
            self.assertIn("the canary, version two, is gone, one goes on: its requests fail more often than the "
                          "others, by more than rollout.abort_error_rate (10 percent points)", told["message"])
            load.more(50)
            self.assertEqual(rollout_of(world)["state"], "none")
        self.assertEqual(load.count(500, "two") + load.count(200), sum(load.heard.values()))
        self.assertLessEqual(load.count(500, "two"), 30)  # those it was judged by, and those in hand

    def test_promise_1_requests_that_kill_a_canary_are_answered(self):
        keys = "max_attempts: 10, rollout: {abort_min_requests: 1}"
        with World(version("one", keys=keys)) as world, Load(world) as load:
            world.write(version("two", "--dies", keys=keys))
            world.ctl("canary", "m", "--weight", "50")
            world.wait_event("rollout.aborted", model="m")
            load.more(50)
        self.assertEqual(load.failures(), {})

    def test_promise_2_durable_requests_run_on_either_version(self):
        with World(version("one", workers=1)) as world:
            world.write(version("two", workers=1))
            world.ctl("canary", "m", "--weight", "50")
            wait_until(lambda: model_of(world)["ready"] == 2, "no canary")
            heard = {}
            for n in range(20):
                status, headers, body = world.post("m", b"x", {"Idempotency-Key": f"k{n}"})
                self.assertEqual((status, headers["X-Hasup-Version"]), (200, body.decode()))
                heard[n] = body
            self.assertEqual(set(heard.values()), {b"one", b"two"})
            world.ctl("promote", "m", "--wait")
            for n, body in heard.items():  # one key, one answer
                self.assertEqual(world.post("m", b"x", {"Idempotency-Key": f"k{n}"})[2], body)

    def test_sessions_stay_with_the_stable_version_until_the_canary_is_promoted(self):
        def ask(world, session):
            status, headers, _ = world.post("m", b"x", {"X-Session-Id": session})
            return status, headers["X-Hasup-Version"]

        sessions = [f"s{n}" for n in range(20)]
        with World(version("one")) as world:
            world.write(version("two"))
            world.ctl("canary", "m", "--weight", "50")
            wait_until(lambda: model_of(world)["ready"] == 3, "no canary")
            self.assertEqual({ask(world, s) for s in sessions}, {(200, "one")})
            world.ctl("promote", "m", "--wait")
            self.assertEqual({ask(world, s) for s in sessions}, {(200, "two")})

    def test_the_stable_version_describes_the_model(self):
        def platform(world):
            return json.loads(world.get("/v2/models/m")[1])["platform"]

        with World(version("one")) as world:
            self.assertEqual(platform(world), "one")
            world.write(version("two"))
            world.ctl("canary", "m", "--weight", "10")
            wait_until(lambda: model_of(world)["ready"] == 3, "no canary")
            self.assertEqual(platform(world), "one")
            world.ctl("promote", "m", "--wait")
            self.assertEqual(platform(world), "two")
            world.write(version("three", "--never"))
            self.assertEqual(world.ctl("reload", "--wait", check=False).returncode, 1)
            self.assertEqual(platform(world), "two")

    def test_what_cannot_be_a_canary_is_refused_with_the_reason(self):
        with World(version("one", "--counts")) as world:
            def refused(*words):
                done = world.ctl(*words, check=False)
                self.assertEqual(done.returncode, 1)
                return done.stderr.decode()

            self.assertIn("it runs what the file says", refused("canary", "m", "--weight", "10"))
            self.assertIn("there is no canary of m", refused("promote", "m"))
            world.write(version("two", "--counts"))
            self.assertIn("its workers keep state", refused("canary", "m", "--weight", "10"))
            self.assertIn("whole model", refused("canary", "m/0", "--weight", "10"))
            for words in (["canary", "m"], ["canary", "m", "--weight", "100"], ["canary", "m", "--weight", "0"],
                          ["canary", "m", "--weight", "-1"], ["canary", "m", "--wieght", "1"], ["reload", "m"], ["promote"]):
                self.assertEqual(world.ctl(*words, check=False).returncode, 2, words)


class Example(unittest.TestCase):
    def test_the_example_tries_promotes_and_rolls_back(self):
        done = subprocess.run([os.path.join(ROOT, "examples/canary.sh")], capture_output=True, timeout=LIMIT,
                              env={**os.environ, "HASUP_BUILD": BUILD})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line.split() for line in done.stdout.decode().splitlines() if "answered by" in line],
                         [["10", "answered", "by", "1.0"], ["32", "answered", "by", "1.0"], ["8", "answered", "by", "1.1"],
                          ["10", "answered", "by", "1.1"], ["10", "answered", "by", "1.1"]])
        self.assertIn("back at version 1.1: 2 starts failed", done.stderr.decode())


if __name__ == "__main__":
    unittest.main()

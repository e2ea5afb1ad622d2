"""Promises 6 and 7: a request that kills workers is found and quarantined; a bad deployment is told apart from it."""
import json
import os
import signal
import sqlite3
import tempfile
import unittest

from world import WORKER, World

POISON = "segv the marked body"
RESTART = "restart: {backoff_min: 10ms, backoff_max: 100ms, start_limit: 1000}"


def model(name, more=""):
    return f"  {name}: {{command: [{WORKER}], {more}{RESTART}}}"


def letters(world):
    """The dead letters in journal.db, of a hasupd that may run."""
    with sqlite3.connect(f"file:{world.state}/journal.db?mode=ro", uri=True) as journal:
        rows = journal.execute("SELECT model, record, attempts, flags, reports, body FROM letter ORDER BY number").fetchall()
    names = ("model", "record", "attempts", "flags", "reports", "body")
    found = [dict(zip(names, row)) for row in rows]
    for letter in found:
        letter["reports"] = json.loads(letter["reports"])
    return found


def message(body):
    return json.loads(body)["error"]["message"]


def crashes(world):
    return sum(slot["crashes"] for slot in world.slots())


def fill(world, workers, bad, count):
    """Every worker of one at a time is busy and `count` requests wait; then the bad version comes, and the workers
    answer what they have."""
    paths = [world.fifo(f"fifo{i}") for i in range(workers)]
    busy = [world.begin("m", f"wait {path}") for path in paths]
    while world.status()["models"][0]["inflight"] < workers:
        pass
    waiting = [world.begin("m", f"echo {i}") for i in range(count)]
    while world.status()["models"][0]["queued"] < count:
        pass
    open(bad, "w").close()
    for path in paths:
        world.release(path)
    for connection in busy:
        assert world.finish(connection)[2] == b"done"
    return waiting


class Poison(unittest.TestCase):
    def test_promise_6_the_same_body_is_refused_and_kills_nobody(self):
        with World(model("m", "workers: 2, ") + "\n" + model("other")) as world:
            status, headers, body = world.post("m", POISON)
            self.assertEqual(status, 422)
            self.assertEqual(headers["X-Hasup-Attempts"], "3")
            self.assertIn("killed 3 workers", message(body))
            self.assertIn("signal 11", message(body))
            world.wait_event("request.quarantined", model="m")
            before = crashes(world)
            self.assertEqual(before, 3)
            for _ in range(5):
                status, _, again = world.post("m", POISON)
                self.assertEqual((status, json.loads(again)["error"]["code"]), (422, "quarantined"))
                self.assertIn("killed 3 workers, the last: killed by signal 11", message(again))
            self.assertEqual(crashes(world), before)
            self.assertEqual(world.post("m", "echo well")[2], b"well")
            self.assertEqual(world.post("other", POISON + " of another model, not that one")[0], 422)
            self.assertEqual(world.slot("other/0")["crashes"], 3)

    def test_promise_6_quarantine_and_crash_reports_survive_kill_9_of_hasupd(self):
        with World(model("m", "workers: 2, ")) as world:
            self.assertEqual(world.post("m", POISON)[0], 422)
            for number in range(3):  # all of them are gone, with their last lines
                world.wait_event("slot.exited", since=0)
            while not (found := letters(world)) or not all(r["stderr"] for r in found[0]["reports"]):
                world.post("m", "echo a turn of the loop")
            world.stop(signal.SIGKILL)
            (letter,) = letters(world)
            self.assertEqual((letter["model"], letter["record"], letter["attempts"], letter["body"]), ("m", 0, 3, b""))
            self.assertEqual(len(letter["reports"]), 3)
            for report in letter["reports"]:
                self.assertEqual((report["signal"], report["code"], report["oom"]), (11, 0, False))
                self.assertIn("signal 11", report["reason"])
                self.assertIn(report["slot"], ("m/0", "m/1"))
                self.assertEqual(report["stderr"][-1], "the marked body")
                self.assertGreater(report["max_rss_kib"], 100)
                self.assertGreater(report["pid"], 1)
            world.start()
            status, _, body = world.post("m", POISON)
            self.assertEqual(status, 422)
            self.assertIn("killed 3 workers, the last: killed by signal 11", message(body))
            self.assertEqual(crashes(world), 0)
            self.assertEqual(world.post("m", "echo well")[2], b"well")

    def test_promise_6_a_durable_poison_is_quarantined_once_for_all_keys(self):
        with World(model("m", "workers: 2, quarantine_keep_body: 1KiB, ")) as world:
            for key in ("one", "two", "one"):
                status, _, body = world.post("m", POISON, {"Idempotency-Key": f'"{key}"'})
                self.assertEqual((status, json.loads(body)["error"]["code"]), (422, "quarantined"))
            self.assertEqual(crashes(world), 3)
            (letter,) = letters(world)
            self.assertEqual(letter["body"], POISON.encode())
            self.assertGreater(letter["record"], 0)
            world.kill_and_start()
            for key in ("one", "three"):
                self.assertEqual(world.post("m", POISON, {"Idempotency-Key": f'"{key}"'})[0], 422)
            self.assertEqual(crashes(world), 0)

    def test_promise_6_a_dead_letter_is_shown_tried_again_and_taken_away(self):
        with tempfile.TemporaryDirectory() as directory:
            bad = os.path.join(directory, "bad")
            models = f"  m: {{command: [{WORKER}, --kills-while, {bad}], quarantine_keep_body: 1KiB, {RESTART}}}"
            with World(models) as world:
                self.assertEqual(world.ctl("requests", "letters").stdout, b"no dead letters\n")
                open(bad, "w").close()
                self.assertEqual(world.post("m", "echo mended")[0], 422)  # nobody else was there to be tried
                world.wait_event("request.quarantined")
                (letter,) = json.loads(world.ctl("--json", "requests", "letters").stdout)
                self.assertEqual((letter["model"], letter["attempts"], letter["kept"]), ("m", 3, True))
                self.assertIn(letter["id"], world.ctl("requests", "letters").stdout.decode())
                shown = world.ctl("requests", "show", letter["id"]).stdout.decode()
                self.assertIn("killed by signal 6", shown)
                self.assertIn("killed 3 workers", shown)
                os.unlink(bad)
                self.assertEqual(world.post("m", "echo mended")[0], 422)
                again = json.loads(world.ctl("--json", "requests", "retry", letter["id"]).stdout)
                while (answer := world.get(f"/requests/{again['id']}"))[0] == 202:
                    pass
                self.assertEqual(answer, (200, b"mended"))
                self.assertEqual(world.post("m", "echo mended")[2], b"mended")
                self.assertEqual(json.loads(world.ctl("--json", "requests", "letters").stdout), [])
                self.assertEqual(world.ctl("requests", "retry", letter["id"], check=False).returncode, 1)
                self.assertEqual(world.post("m", "exit 9")[0], 422)
                (letter,) = json.loads(world.ctl("--json", "requests", "letters").stdout)
                world.ctl("requests", "drop", letter["id"])
                self.assertEqual(json.loads(world.ctl("--json", "requests", "letters").stdout), [])
                before = crashes(world)
                self.assertEqual(world.post("m", "exit 9")[0], 422)
                self.assertGreater(crashes(world), before)

    def test_promise_6_a_client_that_gives_up_and_comes_again_is_found_too(self):
        models = model("m", "workers: 2, timeouts: {attempt: 400ms}, ")
        with World(models) as world:
            for _ in range(3):
                status, _, _ = world.post("m", "hang", {"X-Request-Timeout": "0.1"})
                self.assertEqual(status, 504)
                while world.status()["models"][0]["inflight"]:
                    world.post("m", "echo others are served")
            status, _, body = world.post("m", "hang", {"X-Request-Timeout": "0.1"})
            self.assertEqual(status, 422)
            self.assertIn("hung", message(body))

    def test_promise_6_each_body_of_a_quarantine_that_ends_may_run_again(self):
        with World(model("m", "quarantine_ttl: 1s, ")) as world:
            self.assertEqual(world.post("m", "exit 7")[0], 422)
            before = crashes(world)
            while world.post("m", "exit 7")[2] and crashes(world) == before:
                pass  # each is refused at once, until a second is over
            self.assertEqual(crashes(world), before + 3)

    def test_promise_7_a_bad_deployment_quarantines_nobody_and_all_are_answered(self):
        with tempfile.TemporaryDirectory() as directory:
            bad = os.path.join(directory, "bad")
            models = (f"  m: {{command: [{WORKER}, --kills-while, {bad}, --concurrency, 1], workers: 2, {RESTART}}}\n"
                      + model("other"))
            with World(models) as world:
                waiting = fill(world, 2, bad, 12)
                broken = world.wait_event("model.broken", model="m")
                self.assertIn("different requests", broken["message"])
                world.wait_event("model.broken", since=world.events.index(broken) + 1)
                self.assertEqual(world.post("other", "echo x")[2], b"x")
                self.assertEqual(world.slot("other/0")["crashes"], 0)
                os.unlink(bad)  # the good version is there
                self.assertEqual([world.finish(c)[2] for c in waiting], [str(i).encode() for i in range(12)])
                world.wait_event("model.mended", model="m")
                names = {event["event"] for event in world.events}
                self.assertNotIn("request.quarantined", names)
                self.assertFalse(world.status()["models"][0]["broken"])

    def test_promise_7_while_the_breaker_is_open_the_model_is_not_ready(self):
        with tempfile.TemporaryDirectory() as directory:
            bad = os.path.join(directory, "bad")
            restart = "restart: {backoff_min: 3s, backoff_max: 3s, start_limit: 1000, breaker: 1m}"
            models = f"  m: {{command: [{WORKER}, --kills-while, {bad}, --concurrency, 1], workers: 4, {restart}}}"
            with World(models) as world:
                waiting = fill(world, 4, bad, 12)
                world.wait_event("model.broken", model="m")
                status, headers, body = world.post("m", "echo y", {"X-Request-Timeout": "0.5"})
                self.assertEqual((status, json.loads(body)["error"]["code"]), (503, "unavailable"))
                self.assertGreaterEqual(int(headers["Retry-After"]), 1)
                self.assertEqual(world.get("/v2/models/m/ready")[0], 503)
                os.unlink(bad)
                self.assertEqual({world.finish(c)[0] for c in waiting}, {200})
                self.assertEqual(world.get("/v2/models/m/ready")[0], 200)


if __name__ == "__main__":
    unittest.main()

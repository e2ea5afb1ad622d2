"""Workers that hang: how it is known, that their requests move at once, and that they say why."""
import os
import signal
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import ROOT, WORKER, World, alive, wait_until  # noqa: E402

WATCHED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "watched.py")


def watched(keys, arguments="", workers=1):
    return f"  m: {{command: [{sys.executable}, -B, {WATCHED}{arguments}], workers: {workers}, {keys}}}"


class Aborts(unittest.TestCase):
    def test_a_worker_that_hangs_says_where(self):
        with World(watched("max_attempts: 1, timeouts: {attempt: 500ms, abort: 30s}")) as world:
            self.assertEqual(world.post("m", "hang")[0], 422)
            world.wait_event("slot.exited", slot="m/0")
            wait_until(lambda: world.slot("m/0")["state"] == "ready", "never back")
            death = world.slot("m/0")["last_death"]
            self.assertEqual(death["reason"], "hung: no answer within its limit (timeouts.attempt 500 ms)")
            self.assertIn("Fatal Python error: Aborted", death["stderr"])
            self.assertIn("in wait_for_the_device", "\n".join(death["stderr"]))

    def test_a_worker_that_hangs_in_load_says_where(self):
        # Python itself must be up by then, else nobody is there to say anything.
        models = watched("timeouts: {start: 5s, abort: 30s}, restart: {backoff_min: 1m, backoff_max: 1m}", ", --load")
        with World(models, wait=False) as world:
            world.wait_event("slot.backoff", slot="m/0")
            death = world.slot("m/0")["last_death"]
            self.assertEqual(death["reason"], "not ready within timeouts.start (5000 ms)")
            self.assertIn("in wait_for_the_device", "\n".join(death["stderr"]))

    def test_promise_1_requests_move_before_the_abort_ends(self):
        models = f"  m: {{command: [{WORKER}], workers: 2, timeouts: {{attempt: 500ms, abort: 10m}}}}"
        with World(models) as world:
            gate = world.fifo("gate")
            waiting = world.begin("m", f"wait {gate}")
            wait_until(lambda: sum(s["inflight"] for s in world.slots()) == 1, "never in flight")
            name = next(s["slot"] for s in world.slots() if s["inflight"])
            pid = world.kill(name, signal.SIGSTOP)
            world.wait_event("slot.hung", slot=name)
            world.release(gate)
            status, headers, body = world.finish(waiting)
            self.assertEqual((status, body, headers["X-Hasup-Attempts"]), (200, b"done", "2"))
            self.assertEqual((world.slot(name)["state"], alive(pid)), ("aborting", True))
            mark = world.mark()
            os.kill(pid, signal.SIGKILL)
            world.wait_event("slot.ready", since=mark, slot=name)

    def test_a_worker_that_does_not_abort_is_killed(self):
        models = watched("workers: 2, timeouts: {attempt: 500ms, abort: 300ms}, max_attempts: 1", ", --deaf")
        with World(models.replace("workers: 1, ", "")) as world:
            self.assertEqual(world.post("m", "hang")[0], 422)
            hung = world.wait_event("slot.hung")
            exited = world.wait_event("slot.exited", slot=hung["slot"])
            self.assertEqual(exited["message"], "hung: no answer within its limit (timeouts.attempt 500 ms)")
            self.assertFalse(alive(exited["pid"]))

    def test_stopping_hasupd_waits_for_no_abort_longer_than_its_grace(self):
        models = watched("timeouts: {attempt: 500ms, abort: 10m}, max_attempts: 1", ", --deaf")
        with World(models, top="shutdown: {grace: 500ms}") as world:
            self.assertEqual(world.post("m", "hang")[0], 422)
            pid = world.pid("m/0")
            self.assertEqual(world.stop(), 0)
            self.assertFalse(alive(pid))


class Silence(unittest.TestCase):
    def test_promise_5_a_stream_that_stops_goes_on_elsewhere(self):
        models = f"  m: {{command: [{WORKER}], timeouts: {{attempt: never, progress: 1s}}}}"
        with World(models) as world:
            gate = world.fifo("gate")
            stream = world.begin("m", f"stream 3 {gate}")
            hung = world.wait_event("slot.hung", slot="m/0")
            self.assertEqual(hung["message"], "hung: its stream stopped within its limit (timeouts.progress 1000 ms)")
            world.wait_event("slot.exited", slot="m/0")  # else the dying one may take the byte
            world.release(gate)
            status, _, body = world.finish(stream)
            self.assertEqual((status, body), (200, b"part 1 of 3\npart 2 of 3\npart 3 of 3\n"))

    def test_a_silent_idle_worker_is_found_without_a_request(self):
        models = f"  m: {{command: [{WORKER}], timeouts: {{ping: 1s, ping_every: 200ms, abort: 100ms}}}}"
        with World(models) as world:
            mark, pid = world.mark(), world.kill("m/0", signal.SIGSTOP)
            hung = world.wait_event("slot.hung", since=mark, slot="m/0")
            self.assertEqual(hung["message"], "hung: a ping was not answered within its limit (timeouts.ping 1000 ms)")
            world.wait_event("slot.exited", since=mark, slot="m/0")
            wait_until(lambda: world.slot("m/0")["state"] == "ready", "never back")
            self.assertNotEqual(world.pid("m/0"), pid)


class Watchdogs(unittest.TestCase):
    def test_one_that_feeds_its_watchdog_lives_and_one_that_stops_does_not(self):
        with World(watched("timeouts: {watchdog: 3s, abort: 30s}", ", --beat, '0.2'")) as world:
            pid = world.pid("m/0")
            world.wait_event("worker.status", slot="m/0", message="beat 20")  # longer than it has for one
            self.assertNotIn("slot.hung", [e["event"] for e in world.events])
            self.assertEqual(world.pid("m/0"), pid)
            self.assertEqual(world.post("m", "deaf")[0], 200)
            mark = world.mark()
            hung = world.wait_event("slot.hung", since=mark, slot="m/0")
            self.assertEqual(hung["message"], "hung: its watchdog was not fed within its limit (timeouts.watchdog 3000 ms)")
            world.wait_event("slot.ready", since=mark, slot="m/0")

    def test_the_example_feeds_its_watchdog_idle_and_busy(self):
        models = f"  primes: {{command: [{sys.executable}, -B, {ROOT}/examples/watchdog.py], timeouts: {{watchdog: 2s}}}}"
        with World(models) as world:
            self.assertEqual(world.post("primes", "30")[2], b"2 3 5 7 11 13 17 19 23 29")
            wait_until(lambda: world.slot("primes/0")["since_ms"] > 2500, "time does not pass")  # idle for longer
            self.assertEqual(world.slot("primes/0")["state"], "ready")
            world.mark()
            self.assertNotIn("slot.hung", [e["event"] for e in world.events])

    def test_one_that_says_that_it_hangs_is_believed(self):
        with World(watched("max_attempts: 1, timeouts: {watchdog: 1h}")) as world:
            self.assertEqual(world.post("m", "trigger")[0], 422)
            self.assertEqual(world.wait_event("slot.hung")["message"], "hung: its watchdog says so (WATCHDOG=trigger)")

    def test_each_worker_has_a_socket_of_its_own_which_goes_with_it(self):
        with World(watched("timeouts: {watchdog: 1h}", workers=2)) as world:
            files = {name for name in os.listdir(world.directory) if name.startswith("wd.")}
            self.assertEqual(files, {"wd.0.1", "wd.1.1"})
            self.assertEqual(os.stat(os.path.join(world.directory, "wd.0.1")).st_mode & 0o777, 0o600)
            said = world.post("m", "environment")[2].decode()
            self.assertRegex(said, f"^NOTIFY_SOCKET={world.directory}/wd.[01].1 WATCHDOG_USEC=3600000000$")
            mark = world.mark()
            world.kill("m/0")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertEqual(world.stop(), 0)
            self.assertFalse([name for name in os.listdir(world.directory) if name.startswith("wd.")])

    def test_what_systemd_tells_hasupd_stays_with_hasupd(self):
        with World(watched("max_attempts: 1"), environment={"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1"}) as world:
            self.assertEqual(world.post("m", "environment")[2], b"NOTIFY_SOCKET=None WATCHDOG_USEC=None")


if __name__ == "__main__":
    unittest.main()

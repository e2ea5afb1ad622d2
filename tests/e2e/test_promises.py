"""The promises of the design, kept by real processes.  A test's name bears the promise's number."""
import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, WORKER, World, alive, wait_until  # noqa: E402

ONE = f"  m: {{command: [{WORKER}]}}"
TWO = f"  m: {{command: [{WORKER}], workers: 2}}"
COUNTER = f"  counter: {{command: [{BUILD}/examples/counter], checkpoint: {{interval: 0}}}}"


class Filter(ctypes.Structure):
    """One instruction of a seccomp filter (struct sock_filter)."""
    _fields_ = [("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class Program(ctypes.Structure):
    """struct sock_fprog"""
    _fields_ = [("count", ctypes.c_ushort), ("list", ctypes.POINTER(Filter))]


def without_clone3():
    """As containers do: clone3 is answered ENOSYS from here on."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = (Filter * 4)(Filter(0x20, 0, 0, 0), Filter(0x15, 0, 1, 435), Filter(0x06, 0, 0, 0x00050000 | errno.ENOSYS),
                         Filter(0x06, 0, 0, 0x7fff0000))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(Program(4, steps)), 0, 0) == 0


def without_cgroups():
    """Unmounts cgroup v2, for this process and its children; who is not root cannot write there anyway."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0
    assert libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split()[4] for line in file if " - cgroup2 " in line]
    for mount in mounts:
        assert libc.umount2(mount.encode(), 2) == 0


def bearers(token):
    """The processes that have `token` in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if token in file.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def token_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return next(v for v in file.read().split(b"\0") if v.startswith(b"HASUP_WORKER="))


class Answers(unittest.TestCase):
    def test_promise_1_a_request_in_flight_at_kill_9_is_answered_once(self):
        with World(ONE) as world:
            gate, waiting = world.occupy()
            world.kill("m/0")
            world.wait_event("slot.exited", slot="m/0")  # else the dying one may take the byte
            world.release(gate)
            status, headers, body = world.finish(waiting)
            self.assertEqual((status, body), (200, b"done"))
            self.assertEqual(headers["X-Hasup-Attempts"], "2")

    def test_promise_1_requests_behind_a_crash_are_answered(self):
        with World(ONE) as world:
            before = [world.begin("m", f"echo {i}") for i in range(8)]
            world.kill("m/0")
            after = [world.begin("m", f"echo {i + 8}") for i in range(8)]
            answers = [world.finish(c)[2] for c in before + after]
            self.assertEqual(answers, [str(i).encode() for i in range(16)])

    def test_promise_1_a_hung_worker_is_found_and_its_request_moves(self):
        models = f"  m: {{command: [{WORKER}], workers: 2, timeouts: {{attempt: 500ms}}}}"
        with World(models) as world:
            pids = {world.kill("m/0", signal.SIGSTOP)}
            answers = [world.finish(c)[0] for c in [world.begin("m", "echo x") for _ in range(8)]]
            self.assertEqual(answers, [200] * 8)
            self.assertIn(world.wait_event("slot.hung")["slot"], ("m/0",))
            world.wait_event("slot.exited", slot="m/0")
            self.assertNotIn(world.pid("m/0"), pids)

    def test_promise_1_a_silent_idle_worker_is_found_by_its_ping(self):
        models = f"  m: {{command: [{WORKER}], timeouts: {{ping: 300ms, ping_after: 1ms}}}}"
        with World(models) as world:
            world.kill("m/0", signal.SIGSTOP)
            self.assertEqual(world.post("m", "echo x")[::2], (200, b"x"))

    def test_promise_3_a_counter_killed_many_times_counts_exactly(self):
        with World(COUNTER) as world:
            for i in range(1, 31):
                if i % 7 == 0:
                    world.ctl("checkpoint", "now", "counter")
                if i % 3 == 0:
                    world.kill("counter/0")
                self.assertEqual(world.post("counter", "")[2], b"%d\n" % i)
            self.assertEqual(world.slot("counter/0")["diverged"], 0)
            self.assertGreater(world.slot("counter/0")["replayed"], 0)

    def test_promise_4_state_is_restored_from_its_checkpoint_after_a_clean_restart(self):
        with World(COUNTER) as world:
            for i in range(1, 6):
                world.post("counter", "")
            self.assertEqual(world.stop(), 0)
            world.start()
            self.assertEqual(world.post("counter", "")[2], b"6\n")

    def test_promise_4_what_replays_otherwise_is_counted_and_reported(self):
        script = os.path.join(os.path.dirname(WORKER), "liar")
        models = f"  liar: {{command: [{script}], checkpoint: {{interval: 0}}}}"
        with World(models) as world:
            world.post("liar", "")
            world.kill("liar/0")
            world.post("liar", "")
            world.wait_event("request.diverged", slot="liar/0")
            self.assertEqual(world.slot("liar/0")["diverged"], 1)

    def test_promise_5_a_stream_goes_on_after_its_worker_is_killed(self):
        with World(TWO) as world:
            gate = world.fifo("gate")
            connection = world.begin("m", f"stream 20 {gate}")
            answer = connection.getresponse()
            first = answer.read(10)
            busy = next(s for s in world.slots() if s["inflight"])
            os.kill(busy["pid"], signal.SIGKILL)
            world.wait_event("slot.exited", slot=busy["slot"])
            world.release(gate)
            whole = first + answer.read()
            connection.close()
            self.assertEqual(whole, b"".join(b"part %d of 20\n" % (i + 1) for i in range(20)))

    def test_promise_5_a_stream_that_differs_ends_in_an_honest_error(self):
        models = f"  m: {{command: [{WORKER}]}}"
        with World(models) as world:
            gate = world.fifo("gate")  # before the last part: the first run does not end by itself
            connection = world.connect()
            connection.request("POST", "/models/m/invoke", f"noise 2000 {gate}",
                               {"Accept": "text/event-stream"})
            answer = connection.getresponse()
            answer.read(64)
            world.kill("m/0")
            world.unlock(gate)
            rest = answer.read()
            connection.close()
            self.assertIn(b"event: error", rest)
            self.assertIn(b"diverged", rest)

    def test_promise_6_a_request_that_kills_is_quarantined_and_others_never_notice(self):
        models = TWO + f"\n  other: {{command: [{WORKER}]}}"
        with World(models) as world:
            others = [world.begin("m", f"echo {i}") for i in range(6)]
            status, _, body = world.post("m", "crash")
            self.assertEqual(status, 422)
            self.assertEqual(json.loads(body)["error"]["code"], "quarantined")
            self.assertEqual([world.finish(c)[2] for c in others],
                             [str(i).encode() for i in range(6)])
            self.assertEqual(world.post("m", "echo after")[2], b"after")
            self.assertEqual(world.slot("other/0")["crashes"], 0)
            self.assertIn("signal 6", world.wait_event("slot.exited")["message"])

    def test_promise_7_a_crash_loop_backs_off_breaks_and_others_serve(self):
        models = (f"  bad: {{command: [{WORKER}, --die], restart: {{backoff_min: 10ms, start_limit: 3}}}}\n"
                  f"  good: {{command: [{WORKER}]}}")
        with World(models, wait=False) as world:
            world.wait_event("slot.ready", slot="good/0")
            world.wait_event("slot.broken", slot="bad/0")
            slot = world.slot("bad/0")
            self.assertEqual((slot["state"], slot["starts"]), ("broken", 3))
            self.assertIn("exited with code 3", slot["last_death"]["reason"])
            self.assertIn("cannot find the GPU", slot["last_death"]["stderr"])
            status, headers, _ = world.post("bad", "echo x")
            self.assertEqual(status, 503)
            self.assertGreaterEqual(int(headers["Retry-After"]), 1)
            self.assertEqual(world.post("good", "echo x")[2], b"x")
            shown = world.ctl("status").stdout.decode()
            self.assertIn("cannot find the GPU", shown)

    def test_promise_7_the_first_restart_after_a_healthy_run_is_immediate(self):
        with World(ONE) as world:
            world.post("m", "echo x")
            mark = world.mark()
            world.kill("m/0")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            names = [e["event"] for e in world.events[mark:]]
            self.assertNotIn("slot.backoff", names)

    def test_promise_8_overload_is_refused_with_retry_after(self):
        models = f"  m: {{command: [{WORKER}], concurrency_max: 1, queue: {{requests: 2}}}}"
        with World(models) as world:
            gate = world.fifo("gate")
            held = [world.begin("m", f"wait {gate}") for _ in range(3)]
            wait_until(lambda: world.status()["models"][0]["queued"] == 2, "never queued")
            status, headers, body = world.post("m", "echo x")
            self.assertEqual((status, json.loads(body)["error"]["code"]), (429, "overloaded"))
            self.assertGreaterEqual(int(headers["Retry-After"]), 1)
            while held:  # they run one after the other, in an order of hasupd's own
                world.release(gate)
                done = world.first_answered(held)
                held.remove(done)
                self.assertEqual(world.finish(done)[0], 200)

    def test_promise_8_what_expires_in_the_queue_is_504_and_never_runs(self):
        models = f"  m: {{command: [{WORKER}], concurrency_max: 1}}"
        with World(models) as world:
            gate, held = world.occupy()
            status, _, body = world.post("m", "crash", {"X-Request-Timeout": "0.1"})
            self.assertEqual((status, json.loads(body)["error"]["code"]), (504, "deadline"))
            world.release(gate)
            self.assertEqual(world.finish(held)[0], 200)
            self.assertEqual(world.slot("m/0")["crashes"], 0)

    def test_promise_8_a_body_over_the_limit_is_413(self):
        models = f"  m: {{command: [{WORKER}], body_max: 1KiB}}"
        with World(models) as world:
            self.assertEqual(world.post("m", "x" * 2000)[0], 413)
            self.assertEqual(world.post("m", "x" * 1000)[0], 200)

    def test_promise_8_without_descriptors_the_backlog_waits_quietly(self):
        with World(ONE, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))) as world:
            first = world.connect()
            first.request("POST", "/models/m/invoke", "echo x")
            first.getresponse().read()
            crowd = [world.raw() for _ in range(100)]
            world.wait_event("door.accept_failed", door="http")
            for _ in range(500):
                first.request("POST", "/models/m/invoke", "echo x")
                self.assertEqual(first.getresponse().read(), b"x")
            world.mark()
            self.assertLess(sum(e["event"] == "door.accept_failed" for e in world.events), 5)
            for connection in crowd + [first]:
                connection.close()
            self.assertEqual(world.post("m", "echo y")[2], b"y")

    def test_promise_8_hasupd_takes_the_descriptors_it_may_have_and_workers_get_their_own(self):
        def scarce():
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))

        with World(ONE, before=scarce) as world:
            crowd = [world.begin("m", "echo x") for _ in range(200)]
            world.kill("m/0")
            self.assertEqual({world.finish(c)[0] for c in crowd}, {200})
            with open(f"/proc/{world.pid('m/0')}/limits") as file:
                self.assertRegex(file.read(), r"Max open files +64 ")

    def test_promise_9_ready_means_ready(self):
        with World("", start=False) as world:
            gate = world.fifo("gate")
            world.write(f"  m: {{command: [{WORKER}, --load, {gate}]}}")
            world.start(wait=False)
            self.assertEqual(world.get("/v2/health/live")[0], 200)
            self.assertEqual(world.get("/v2/health/ready")[0], 503)
            mark = world.mark()
            world.release(gate)
            world.wait_event("slot.ready", since=mark)
            self.assertEqual(world.get("/v2/health/ready")[0], 200)
            self.assertEqual(world.get("/v2/models/m/ready")[0], 200)

    def test_promise_11_a_damaged_checkpoint_is_passed_over_for_the_one_before(self):
        with World(COUNTER) as world:
            for i in range(1, 5):
                world.post("counter", "")
                if i in (2, 4):
                    world.ctl("checkpoint", "now", "counter")
            self.assertEqual(world.stop(signal.SIGKILL), -signal.SIGKILL)
            db = sqlite3.connect(os.path.join(world.state, "checkpoints.db"))
            db.execute("UPDATE pack SET bytes = x'0500000000000000' WHERE id ="
                       " (SELECT first FROM span WHERE generation = (SELECT max(id) FROM manifest))")
            db.commit()
            db.close()
            audit = subprocess.run([f"{BUILD}/hasupctl", "--state-dir", world.state, "audit"],
                                   capture_output=True, timeout=LIMIT)
            self.assertEqual(audit.returncode, 1, audit)
            self.assertIn(b"damaged: counter/0", audit.stdout)
            world.start()
            world.wait_event("checkpoint.damaged", slot="counter/0")
            self.assertEqual(world.post("counter", "")[2], b"3\n")

    def put_directory_for_database(self, world):
        """Opening it as a file fails for root, too.  What was there is moved to a name of its own."""
        db = os.path.join(world.state, "checkpoints.db")
        for name in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(db + name):
                os.rename(db + name, os.path.join(world.state, "moved" + name))
        os.mkdir(db)
        return db

    def test_promise_11_without_a_writable_disk_serving_goes_on_loudly(self):
        with World(COUNTER) as world:
            self.assertEqual(world.post("counter", "")[2], b"1\n")
            self.put_directory_for_database(world)
            now = world.ctl("checkpoint", "now", "counter", check=False)
            self.assertEqual(now.returncode, 1)
            world.wait_event("checkpoints.failing")
            self.assertTrue(world.status()["checkpoints"]["failing"])
            self.assertTrue(world.slot("counter/0")["checkpoint"]["in_memory_only"])
            world.kill("counter/0")
            self.assertEqual(world.post("counter", "")[2], b"2\n")
            audit = world.ctl("audit", check=False)
            self.assertNotEqual(audit.returncode, 0)

    def test_promise_11_nobody_serves_from_nothing_while_the_checkpoints_cannot_be_read(self):
        with World(COUNTER) as world:
            self.assertEqual(world.post("counter", "")[2], b"1\n")
            self.assertEqual(world.stop(), 0)
            db = self.put_directory_for_database(world)
            world.start(wait=False)
            waiting = world.begin("counter", "")
            said = world.wait_event("checkpoint.unreadable", slot="counter/0")
            self.assertIn(f"{db}: open", said["message"])
            self.assertEqual(world.slot("counter/0")["state"], "loading")
            self.assertTrue(world.status()["checkpoints"]["failing"])
            os.rmdir(db)
            for name in ("-wal", "-shm", "-journal", ""):
                if os.path.exists(os.path.join(world.state, "moved" + name)):
                    os.rename(os.path.join(world.state, "moved" + name), db + name)
            self.assertEqual(world.finish(waiting)[2], b"2\n")
            world.wait_event("checkpoints.recovered")

    def test_promise_11_a_state_that_is_all_damaged_is_called_lost(self):
        with World(COUNTER) as world:
            world.post("counter", "")
            self.assertEqual(world.stop(), 0)
            with open(os.path.join(world.state, "checkpoints.db"), "r+b") as file:
                file.write(b"no database any more")
            world.start()
            world.wait_event("slot.state_lost", slot="counter/0")
            self.assertEqual(world.post("counter", "")[2], b"1\n")

    def test_promise_12_the_socket_lets_in_only_its_own_user(self):
        with World(ONE) as world:
            self.assertEqual(os.stat(world.socket).st_mode & 0o777, 0o600)
            if os.geteuid():
                self.skipTest("needs root to become somebody else")
            os.chmod(world.directory, 0o755)
            os.chmod(world.socket, 0o666)
            probe = ("import os,socket,sys\nos.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\n"
                     "s.connect(sys.argv[1])\nsys.exit(0 if s.recv(1) == b'' else 1)")
            done = subprocess.run([sys.executable, "-c", probe, world.socket], timeout=LIMIT,
                                  capture_output=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            world.wait_event("client.refused")

    def test_promise_12_hasupd_refuses_to_listen_to_strangers_unasked(self):
        with World(ONE) as world:
            with open(world.config) as file:
                text = file.read().replace("127.0.0.1:0", "0.0.0.0:0")
            path = world.config + ".open"
            with open(path, "w") as file:
                file.write(text)
            done = subprocess.run([f"{BUILD}/hasupd", "--check", path], capture_output=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"insecure", done.stderr)


class Trees(unittest.TestCase):
    def test_the_whole_tree_of_a_dead_worker_is_gone_before_its_slot_starts_again(self):
        with World(ONE) as world:
            grandchild = int(world.post("m", "child")[2])
            self.assertTrue(alive(grandchild))
            mark = world.mark()
            world.kill("m/0")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertFalse(alive(grandchild))

    def check_tree_dies(self, before):
        models = f"  m: {{command: [{WORKER}], timeouts: {{attempt: 500ms}}}}"
        with World(models, before=before) as world:
            grandchild, token = int(world.post("m", "child")[2]), token_of(world.pid("m/0"))
            self.assertTrue(alive(grandchild))
            mark = world.mark()
            world.kill("m/0", signal.SIGSTOP)  # it hangs: hasupd has to end it
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertEqual(bearers(token), [])
            self.assertEqual(world.stop(), 0)

    def test_where_clone3_is_forbidden_a_tree_is_killed_all_the_same(self):
        self.check_tree_dies(without_clone3)

    def test_without_cgroups_a_tree_is_killed_all_the_same(self):
        self.check_tree_dies(without_cgroups)

    def test_without_cgroups_a_tree_that_moves_on_is_not_called_empty(self):
        with World(ONE, before=without_cgroups) as world:
            for _ in range(20):
                token, mark = token_of(world.pid("m/0")), world.mark()
                world.post("m", "flee 300")
                world.kill("m/0")
                world.wait_event("slot.ready", since=mark, slot="m/0")
                self.assertEqual(bearers(token), [])

    def test_what_a_killed_hasupd_left_is_gone_at_the_next_start(self):
        with World(ONE) as world:
            if not world.status()["cgroups"]:
                self.skipTest("cgroup v2 is not writable here")
            grandchild = int(world.post("m", "child")[2])
            with open(f"/proc/{grandchild}/cgroup") as file:
                path = next(line.split("::")[1] for line in file if line.startswith("0::")).strip()
            with open("/proc/self/mountinfo") as file:
                mount = next(line.split()[4] for line in file if " - cgroup2 " in line)
            leaf = mount + path
            world.stop(signal.SIGKILL)
            self.assertTrue(alive(grandchild))
            world.start()
            wait_until(lambda: not alive(grandchild), "the grandchild lives on")
            with World(ONE) as other:  # removes what could not be removed while it died
                self.assertFalse(os.path.exists(os.path.dirname(leaf)))
                self.assertEqual(world.post("m", "echo x")[2] + other.post("m", "echo y")[2], b"xy")

    def test_hasupd_killed_leaves_no_worker(self):
        with World(TWO) as world:
            pids = [s["pid"] for s in world.slots()]
            world.process.kill()
            world.process.wait()
            wait_until(lambda: not any(map(alive, pids)), "a worker outlives hasupd")


class Operation(unittest.TestCase):
    def test_term_finishes_what_runs_and_exits_0(self):
        with World(ONE) as world:
            gate, waiting = world.occupy()
            pid = world.pid("m/0")
            world.process.send_signal(signal.SIGTERM)
            world.wait_event("shutdown.started")
            world.release(gate)
            self.assertEqual(world.finish(waiting)[::2], (200, b"done"))
            self.assertEqual(world.process.wait(LIMIT), 0)
            self.assertFalse(alive(pid))
            self.assertFalse(os.path.exists(world.socket))
            world.process.stderr.close()

    def test_a_second_term_hastens(self):
        with World(ONE) as world:
            waiting = world.begin("m", "hang")
            wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight")
            world.process.send_signal(signal.SIGTERM)
            world.wait_event("shutdown.started")
            world.process.send_signal(signal.SIGTERM)
            self.assertEqual(world.finish(waiting)[0], 503)
            self.assertEqual(world.process.wait(LIMIT), 0)
            world.process.stderr.close()

    def test_a_rolling_restart_under_load_fails_nothing(self):
        with World(TWO) as world:
            pids, stop, seen = {s["pid"] for s in world.slots()}, threading.Event(), []

            def load():
                connection = world.connect()
                while not stop.is_set():
                    connection.request("POST", "/models/m/invoke", "echo x")
                    seen.append(connection.getresponse().read())
                connection.close()

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            mark = world.mark()
            world.ctl("restart", "m")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            world.wait_event("slot.ready", since=mark, slot="m/1")
            stop.set()
            for thread in threads:
                thread.join()
            self.assertEqual(set(seen), {b"x"})
            self.assertFalse(pids & {s["pid"] for s in world.slots()})

    def test_scale_start_stop_and_drain(self):
        with World(ONE) as world:
            mark = world.mark()
            world.ctl("scale", "m", "3")
            world.wait_event("slot.ready", since=mark, slot="m/2")
            world.ctl("scale", "m", "1")
            world.wait_event("slot.exited", since=mark, slot="m/2")
            world.wait_event("slot.exited", since=mark, slot="m/1")
            world.ctl("stop", "m")
            world.wait_event("slot.stopped", since=mark, slot="m/0")
            self.assertEqual(world.post("m", "echo x")[0], 503)
            mark = world.mark()
            world.ctl("start", "m")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertEqual(world.post("m", "echo x")[0], 200)
            world.ctl("drain", "m")
            world.wait_event("slot.stopped", since=mark, slot="m/0")

    def test_reload_keeps_the_old_configuration_when_the_new_one_is_wrong(self):
        with World(ONE) as world:
            pid = world.pid("m/0")
            world.write("  m: {comand: [x]}")
            done = world.ctl("reload", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr.decode(), r"supervisor.yaml:\d+:\d+: .*did you mean \"command\"")
            self.assertEqual((world.pid("m/0"), world.post("m", "echo x")[0]), (pid, 200))

    def test_reload_adds_changes_and_removes_models(self):
        with World(ONE + f"\n  gone: {{command: [{WORKER}]}}") as world:
            pid, mark = world.pid("m/0"), world.mark()
            world.write(ONE + f"\n  new: {{command: [{WORKER}]}}")
            world.ctl("reload")
            world.wait_event("slot.ready", since=mark, slot="new/0")
            world.wait_event("model.removed", since=mark, model="gone")
            self.assertEqual(world.pid("m/0"), pid)
            world.write(f"  m: {{command: [{WORKER}], environment: {{A: b}}}}")
            mark = world.mark()
            world.ctl("reload")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertNotEqual(world.pid("m/0"), pid)

    def test_a_file_where_the_socket_should_be_is_not_removed(self):
        with World(ONE, start=False) as world:
            path = os.path.join(world.directory, "notes")
            with open(path, "w") as file:
                file.write("mine")
            world.write(ONE)
            with open(world.config) as file:
                text = file.read().replace("listen: {", f"listen: {{unix: {path}, ")
            with open(world.config, "w") as file:
                file.write(text)
            done = subprocess.run([f"{BUILD}/hasupd", "-c", world.config], capture_output=True, timeout=LIMIT)
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"no socket", done.stderr)
            with open(path) as file:
                self.assertEqual(file.read(), "mine")

    def test_started_without_stdin_and_stdout_hasupd_fills_their_places(self):
        with World(ONE, before=lambda: os.closerange(0, 2)) as world:
            for fd in (0, 1):
                self.assertEqual(os.readlink(f"/proc/{world.process.pid}/fd/{fd}"), "/dev/null")
            self.assertEqual(world.post("m", "echo x")[2], b"x")

    def test_many_wait_for_one_checkpoint_and_all_hear_of_it(self):
        with World(COUNTER) as world:
            ask = [f"{BUILD}/hasupctl", "-s", world.socket, "--json", "checkpoint", "now", "counter"]
            for _ in range(5):
                world.post("counter", "")
                many = [subprocess.Popen(ask, stdout=subprocess.PIPE) for _ in range(6)]
                answers = [json.loads(one.communicate(timeout=LIMIT)[0]) for one in many]
                self.assertTrue(all("position" in a["checkpoints"]["counter/0"] for a in answers))

    def test_status_shows_last_words_that_are_no_text(self):
        say = "printf '\\377 broken\\n' >&2; exit 3"
        with World(f'  m: {{command: [sh, -c, "{say}"]}}'.replace("\\", "\\\\"), wait=False) as world:
            world.wait_event("slot.backoff", slot="m/0")
            self.assertEqual("\\xff broken", world.slot("m/0")["last_death"]["stderr"][0])

    def test_a_slot_number_is_taken_as_it_is_written(self):
        with World(ONE) as world:
            for name in ("m/4294967296", "m/ 0", "m/-0", "m/+0", "m/00x"):
                self.assertEqual(world.ctl("stop", name, check=False).returncode, 1, name)
            self.assertEqual(world.slot("m/0")["state"], "ready")

    def test_models_that_come_and_go_leave_no_descriptor(self):
        with World(ONE) as world:
            def descriptors():
                return len(os.listdir(f"/proc/{world.process.pid}/fd"))

            before = descriptors()
            for i in range(6):
                mark = world.mark()
                world.write(ONE + f"\n  passing{i}: {{command: [{WORKER}], workers: 3}}")
                world.ctl("reload")
                for slot in range(3):
                    world.wait_event("slot.ready", since=mark, slot=f"passing{i}/{slot}")
            mark = world.mark()
            world.write(ONE)
            world.ctl("reload")
            world.wait_event("model.removed", since=mark, model="passing5")
            wait_until(lambda: descriptors() <= before + 4, "descriptors are left")

    def test_a_reload_that_finds_no_room_for_its_models_is_refused_as_a_whole(self):
        limit, stays = "limits: {models: 2}", ONE.replace("  m:", "  stays:")
        with World(f"{ONE}\n{stays}", top=limit) as world:
            gate, waiting = world.occupy()
            both = f"{stays}\n{ONE.replace('  m:', '  other:')}"
            world.write(both, top=limit)
            done = world.ctl("reload", check=False)
            self.assertEqual(done.returncode, 1)
            for said in ("1 new models find no room", "of which 1 leave", "the old configuration stays"):
                self.assertIn(said, done.stderr.decode())
            world.wait_event("config.refused")
            self.assertEqual([m["name"] for m in world.status()["models"]], ["m", "stays"])
            world.release(gate)
            self.assertEqual(world.finish(waiting)[0], 200)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            world.write(stays, top=limit)  # in two steps it goes
            world.ctl("reload")
            world.wait_event("model.removed", model="m")
            world.write(both, top=limit)
            world.ctl("reload")
            world.wait_event("slot.ready", slot="other/0")

    def test_promise_12_a_directory_of_somebody_else_in_tmp_is_not_used(self):
        with tempfile.TemporaryDirectory() as shared:
            os.chmod(shared, 0o1777)
            for key in ("runtime_dir", "state_dir"):
                place = os.path.join(shared, key)
                os.mkdir(place)
                os.chmod(place, 0o755)
                file = os.path.join(shared, "c.yaml")
                with open(file, "w") as config:
                    config.write(f"state_dir: {shared}/own\nruntime_dir: {shared}/own\n{key}: {place}\nmodels: {{m: {{command: [true]}}}}\n"
                                 .replace(f"{key}: {shared}/own\n", ""))
                done = subprocess.run([f"{BUILD}/hasupd", "-c", file], capture_output=True, text=True, timeout=LIMIT)
                self.assertEqual(done.returncode, 2)
                self.assertIn(f"{key}: {place} is not safe", done.stderr)

    def second(self, world, other):
        """The command of a hasupd with a runtime_dir of its own, and `world`'s state_dir."""
        file = os.path.join(other, "c.yaml")
        with open(file, "w") as config:
            config.write(f"state_dir: {world.state}\nruntime_dir: {other}\nlisten: {{http: off}}\nmodels:\n{ONE}\n")
        return [f"{BUILD}/hasupd", "-c", file]

    def test_promise_11_a_state_directory_is_for_one_hasupd(self):
        with World(ONE) as world, tempfile.TemporaryDirectory() as other:
            command = self.second(world, other)
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertEqual(done.stderr, f"hasupd: state_dir: another hasupd (pid {world.process.pid}) keeps its states in "
                                          f"{world.state}; stop that one, or name another state_dir\n")
            self.assertEqual(subprocess.run([command[0], "--check", command[2]], capture_output=True).returncode, 0)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            with open(f"{world.state}/running.json") as running:
                self.assertEqual(json.load(running)["pid"], world.process.pid)
            held = [os.readlink(f"/proc/{world.pid('m/0')}/fd/{fd}") for fd in os.listdir(f"/proc/{world.pid('m/0')}/fd")]
            self.assertEqual([path for path in held if path.startswith(world.state)], [])

    def test_promise_11_a_killed_hasupd_leaves_its_state_directory_at_once(self):
        """Nobody has reaped it yet, and what it was asked in its last moment is no matter."""
        with World(ONE) as world, tempfile.TemporaryDirectory() as other:
            world.process.kill()
            os.waitid(os.P_PID, world.process.pid, os.WEXITED | os.WNOWAIT)
            second = subprocess.Popen(self.second(world, other), stderr=subprocess.PIPE)
            try:
                self.assertIn(b"hasupd.started", second.stderr.readline())
            finally:
                second.kill()
                second.wait()
                second.stderr.close()

    def test_promise_11_of_many_that_start_at_once_one_owns_the_state_directory(self):
        with tempfile.TemporaryDirectory() as state, contextlib.ExitStack() as stack:
            started = []
            for _ in range(6):
                other = stack.enter_context(tempfile.TemporaryDirectory())
                file = os.path.join(other, "c.yaml")
                with open(file, "w") as config:
                    config.write(f"state_dir: {state}/s\nruntime_dir: {other}\nlisten: {{http: off}}\nmodels:\n{ONE}\n")
                started.append(subprocess.Popen([f"{BUILD}/hasupd", "-c", file], stderr=subprocess.PIPE))
            first = [process.stderr.readline() for process in started]
            for process in started:
                process.kill()
                process.wait()
                process.stderr.close()
            self.assertEqual(sum(b"hasupd.started" in line for line in first), 1, first)
            self.assertEqual(sum(b"state_dir: another hasupd" in line for line in first), 5, first)

    def test_a_stopping_hasupd_refuses_commands(self):
        with World(ONE) as world:
            gate, waiting = world.occupy()
            world.process.send_signal(signal.SIGTERM)
            world.wait_event("shutdown.started")
            for args in (("start", "m"), ("stop", "m"), ("restart", "m"), ("drain", "m"), ("scale", "m", "2"),
                         ("reload",)):
                done = world.ctl(*args, check=False)
                self.assertEqual((done.returncode, b"is stopping" in done.stderr), (1, True), args)
            self.assertTrue(world.status()["shutting_down"])
            world.release(gate)
            self.assertEqual(world.finish(waiting)[0], 200)
            self.assertEqual(world.process.wait(LIMIT), 0)
            world.process.stderr.close()

    def test_a_wrong_configuration_starts_nothing_and_exits_2(self):
        done = subprocess.run([f"{BUILD}/hasupd", "-c", "/dev/null"], capture_output=True)
        self.assertEqual(done.returncode, 2)
        done = subprocess.run([f"{BUILD}/hasupd", "-c", "/nonexistent.yaml"], capture_output=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"/nonexistent.yaml", done.stderr)
        done = subprocess.run([f"{BUILD}/hasupd", "--bogus"], capture_output=True)
        self.assertEqual(done.returncode, 2)

    def test_a_command_that_does_not_exist_says_so(self):
        with World("  m: {command: [/no/such/program]}", wait=False) as world:
            event = world.wait_event("slot.start_failed", slot="m/0")
            self.assertIn("/no/such/program: No such file or directory", event["message"])
            self.assertIn("No such file", world.ctl("status").stdout.decode())

    def test_a_worker_that_cannot_load_says_why(self):
        with World(f"  m: {{command: [{WORKER}, --fail-load]}}", wait=False) as world:
            event = world.wait_event("slot.exited", slot="m/0")
            self.assertIn("could not load", event["message"])
            world.wait_event("worker.stderr", message="the weights are not there")

    def test_a_worker_that_writes_garbage_is_killed_and_its_requests_go_on(self):
        models = f"  m: {{command: [{WORKER}], max_attempts: 2}}\n  n: {{command: [{WORKER}]}}"
        with World(models) as world:
            self.assertEqual(world.post("m", "garbage")[0], 422)
            world.wait_event("slot.broke", slot="m/0")
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            self.assertEqual(world.slot("n/0")["crashes"], 0)

    def test_a_worker_error_keeps_its_status_and_text(self):
        with World(ONE) as world:
            status, _, body = world.post("m", "fail out of paper")
            self.assertEqual(status, 503)
            self.assertIn("out of paper", json.loads(body)["error"]["message"])

    def test_large_bodies_travel_both_ways(self):
        with World(ONE, top="limits: {body_bytes: 256MiB}") as world:
            body = bytes(range(256)) * (32 * 1024)
            expected = f"{len(body)} {sum(body)}".encode()
            self.assertEqual(world.post("m", body)[2], expected)
            self.assertEqual(world.ctl("infer", "m", input=body).stdout, expected)
            big = world.post("m", f"big {5 << 20}")[2]
            self.assertEqual(len(big), 5 << 20)
            self.assertEqual(big[:4], bytes([0, 31, 62, 93]))
            self.assertEqual(world.ctl("infer", "m", input=f"big {5 << 20}".encode()).stdout, big)

    def test_hasupctl_verbs_and_exit_codes(self):
        with World(ONE + "\n" + COUNTER) as world:
            for args in (("status",), ("config",), ("version",), ("events",), ("logs",)):
                world.ctl(*args)
            json.loads(world.ctl("--json", "config").stdout)
            json.loads(world.ctl("--json", "version").stdout)
            self.assertIn(b"hello from m", world.ctl("logs", "m").stdout)
            self.assertNotIn(b"hello from m", world.ctl("logs", "counter").stdout)
            self.assertEqual(world.ctl("infer", "m", input=b"echo hi").stdout, b"hi")
            world.ctl("infer", "counter", input=b"")
            stored = json.loads(world.ctl("--json", "checkpoint", "now", "counter/0").stdout)
            self.assertEqual(stored["checkpoints"]["counter/0"]["position"], 1)
            listed = json.loads(world.ctl("--json", "checkpoint", "list").stdout)
            self.assertEqual(listed[0]["position"], 1)
            shown = json.loads(world.ctl("--json", "checkpoint", "show", str(listed[0]["id"])).stdout)
            self.assertTrue(shown["sound"])
            self.assertEqual(world.ctl("audit", "--max-age", "1h").returncode, 0)
            self.assertEqual(world.ctl("audit", "--quiet").stdout, b"")
            self.assertEqual(world.ctl("bogus", check=False).returncode, 2)
            typo = world.ctl("statsu", check=False)
            self.assertIn(b'did you mean "status"', typo.stderr)
            missing = world.ctl("stop", "nothing", check=False)
            self.assertEqual(missing.returncode, 1)
            self.assertIn(b"no model", missing.stderr)
            gone = subprocess.run([f"{BUILD}/hasupctl", "-s", "/nonexistent", "status"],
                                  capture_output=True)
            self.assertEqual(gone.returncode, 3)

    def test_a_client_that_leaves_has_its_request_cancelled(self):
        models = f"  m: {{command: [{WORKER}], concurrency_max: 1}}"
        with World(models) as world:
            gate, held = world.occupy()
            leaver = world.begin("m", "crash")
            wait_until(lambda: world.status()["models"][0]["queued"] == 1, "never queued")
            leaver.close()
            wait_until(lambda: world.status()["models"][0]["queued"] == 0, "never cancelled")
            world.release(gate)
            self.assertEqual(world.finish(held)[0], 200)
            self.assertEqual(world.slot("m/0")["crashes"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=1)

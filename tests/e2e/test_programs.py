"""Programs beside models: what starts after what, when one is ready, whether it runs again, and what of it is left."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, WORKER, World, alive, wait_until  # noqa: E402

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")
FAST = "restart: {backoff_min: 10ms, backoff_max: 10ms, start_limit: 1000}"


def program(name, does, keys=""):
    """One line of `programs:`."""
    words = json.dumps([PROGRAM, *does.split()])
    return f"  {name}: {{command: {words}{', ' if keys else ''}{keys}}}\n"


def programs(*lines):
    return "programs:\n" + "".join(lines)


def model(keys=""):
    return f"  m: {{command: [{WORKER}]{', ' if keys else ''}{keys}}}"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def put(path, text):
    with open(f"{path}.new", "w") as file:
        file.write(str(text))
    os.rename(f"{path}.new", path)


def seen(world, event, slot):
    """Where this event of a slot stands among those that were read."""
    return next(i for i, e in enumerate(world.events) if e["event"] == event and e.get("slot") == slot)


def described(world, name):
    return next(one for one in world.status()["programs"] if one["name"] == name)


def next_step(world, slot):
    return json.loads(world.ctl("--json", "why", slot).stdout)["slots"][0]["next"]["text"]


class Order(unittest.TestCase):
    def test_what_is_required_is_up_first_and_stops_last(self):
        with World("", start=False) as world:
            gate = world.fifo("gate")
            world.write(model("requires: [proxy]"), programs(
                program("proxy", "trap TERM bye notify READY=1 stay", "requires: [setup], ready: notify"),
                program("setup", f"wait {gate}", "oneshot: true")))
            world.start(wait=False)
            wait_until(lambda: world.slot("setup/0")["state"] == "starting", "it is not started")
            self.assertEqual([(world.slot(s)["state"], world.slot(s)["waits_for"]) for s in ("proxy/0", "m/0")],
                             [("waiting", "setup"), ("waiting", "proxy")])
            self.assertEqual(next_step(world, "m/0"), "it waits for proxy, which comes before it")
            self.assertEqual(next_step(world, "setup/0"), "it does its task")
            self.assertIn(b"waits for setup, which comes before it", world.ctl("status").stdout)
            world.release(gate)
            world.wait_event("slot.ready", slot="m/0")
            order = [seen(world, *what) for what in (("slot.done", "setup/0"), ("slot.ready", "proxy/0"), ("slot.ready", "m/0"))]
            self.assertEqual(order, sorted(order))
            self.assertEqual(world.post("m", "echo x")[0], 200)
            mark = world.mark()
            world.process.terminate()
            world.wait_event("hasupd.stopped", since=mark, exit_code=0)
            self.assertLess(seen(world, "slot.stopped", "m/0"), seen(world, "slot.exited", "proxy/0"))
            said = [e["message"] for e in world.events if e["event"] == "worker.stdout"]
            self.assertEqual(said[-1], "bye")
            self.assertEqual(world.stop(), 0)

    def test_who_comes_only_after_starts_also_when_it_failed_and_who_requires_it_does_not(self):
        with World("", programs(program("bad", "exit 3", "oneshot: true, restart: {when: never}"),
                                program("after", "stay", "after: [bad]"),
                                program("requires", "stay", "requires: [bad]")), wait=False) as world:
            world.wait_event("slot.ready", slot="after/0")
            self.assertLess(seen(world, "slot.broken", "bad/0"), seen(world, "slot.ready", "after/0"))
            self.assertEqual(world.slot("requires/0")["waits_for"], "bad")
            self.assertEqual(next_step(world, "bad/0"), "nothing: it failed, and is not to run again (restart.when)")
            self.assertIsNone(world.slot("bad/0")["next_start_ms"])

    def test_what_runs_goes_on_when_what_it_requires_dies(self):
        with World(model("requires: [db]"), programs(program("db", "stay", FAST))) as world:
            pid, mark = world.pid("m/0"), world.mark()
            world.kill("db/0")
            world.wait_event("slot.ready", since=mark, slot="db/0")
            self.assertEqual(world.pid("m/0"), pid)

    def test_many_ways_from_one_to_another_are_looked_at_once(self):
        lines = [program(f"p{i}", "stay", f"requires: [{', '.join(f'p{k}' for k in range(max(0, i - 15), i))}]" if i else "")
                 for i in range(60)]
        with World("", programs(*lines), wait=False) as world:
            for i in range(60):
                world.wait_event("slot.ready", slot=f"p{i}/0")
            world.ctl("stop", "p0")
            world.ctl("wait", "p0", "--stopped", "--timeout", "30s")
            self.assertEqual(world.stop(), 0)

    def test_a_stop_in_a_hurry_waits_for_no_order(self):
        with World("", programs(program("web", "ignore TERM notify READY=1 stay", "requires: [db], ready: notify, "
                                        "timeouts: {stop: 10s}"), program("db", "stay"))) as world:
            world.process.terminate()
            world.wait_event("shutdown.started")
            wait_until(lambda: world.slot("web/0")["state"] == "stopping", "it is not told to end")
            self.assertEqual(world.slot("db/0")["state"], "ready")
            pid = world.pid("web/0")
            world.process.terminate()
            world.wait_event("slot.exited", slot="db/0")
            self.assertTrue(alive(pid))
            os.kill(pid, signal.SIGKILL)
            self.assertEqual(world.process.wait(LIMIT), 0)

    def test_what_is_taken_away_together_goes_in_its_order(self):
        with World(model("requires: [db]"), programs(program("db", "stay"))) as world:
            gate, waiting = world.occupy()
            mark = world.mark()
            world.write("", programs(program("other", "stay")))
            world.ctl("reload")
            world.wait_event("slot.ready", since=mark, slot="other/0")
            self.assertEqual(world.slot("db/0")["state"], "ready")
            world.release(gate)
            self.assertEqual(world.finish(waiting)[0], 200)
            world.wait_event("model.removed", since=mark, model="db")
            self.assertLess(seen(world, "slot.stopped", "m/0"), seen(world, "slot.stopped", "db/0"))

    def test_an_order_of_two_files_goes_round_in_no_circle(self):
        quick = "restart: {backoff_min: 1ms, backoff_max: 1ms}"
        with World("", programs(program("p", "stay", "requires: [x]"), program("x", "stay"))) as world:
            world.write("", programs(program("p", "exit 3", f"ready: notify, {quick}"), program("x", "stay", "requires: [p]")))
            self.assertNotEqual(world.ctl("reload", "--wait", check=False).returncode, 0)
            world.kill_and_start(wait=False)  # p's last file had it after x, this one has x after it
            world.wait_event("slot.ready", slot="x/0")
            self.assertEqual(world.slot("p/0")["state"], "ready")
            self.assertEqual(world.stop(), 0)

    def test_requests_are_refused_whose_model_waits_in_vain(self):
        with World("", start=False) as world:
            gate = world.fifo("gate")
            world.write(model("requires: [setup]"), programs(
                program("setup", f"wait {gate} exit 1", "oneshot: true, restart: {when: never}")))
            world.start(wait=False)
            waiting = world.begin("m", "echo x")
            wait_until(lambda: world.status()["models"][0]["queued"] == 1, "it does not wait")
            world.release(gate)
            self.assertEqual(world.finish(waiting)[0], 503)
            self.assertEqual(world.post("m", "echo x")[0], 503)


class Ends(unittest.TestCase):
    def test_whether_it_runs_again_is_what_restart_says(self):
        with World("", start=False) as world:
            gates = {name: world.fifo(name) for name in ("always", "well", "ill", "never")}
            quick = "backoff_min: 10ms, backoff_max: 10ms"
            world.write("", programs(
                program("always", f"wait {gates['always']} exit 0", f"restart: {{{quick}}}"),
                program("well", f"wait {gates['well']} exit 0", f"restart: {{when: on-failure, {quick}}}"),
                program("ill", f"wait {gates['ill']} exit 5", f"restart: {{when: on-failure, {quick}}}"),
                program("never", f"wait {gates['never']} exit 5", "restart: {when: never}")))
            world.start()
            mark = world.mark()
            for gate in gates.values():
                world.release(gate)
            for name in ("always", "ill"):
                world.wait_event("slot.ready", since=mark, slot=f"{name}/0")
            world.wait_event("slot.done", since=mark, slot="well/0")
            broken = world.wait_event("slot.broken", since=mark, slot="never/0")
            self.assertEqual(broken["message"],
                             "it failed, and is not to run again (restart.when): exited with code 5")
            self.assertEqual([(world.slot(f"{name}/0")["starts"], world.slot(f"{name}/0")["crashes"]) for name in gates],
                             [(2, 0), (1, 0), (2, 1), (1, 1)])
            done = described(world, "well")
            self.assertEqual((done["kind"], done["up"], done["ready"], done["done"], done["wanted"]),
                             ("program", True, 0, 1, 1))
            self.assertEqual(next_step(world, "well/0"), "nothing: it did what it was to do")
            world.ctl("start", "never/0")  # a person may run it again
            world.wait_event("slot.ready", since=mark, slot="never/0")

    def test_a_oneshot_that_fails_is_tried_again_and_one_that_is_done_is_not(self):
        with World("", start=False) as world:
            file = os.path.join(world.directory, "there")
            world.write("", f"programs:\n  once:\n    command: [sh, -c, 'test -e {file} || {{ touch {file}; exit 1; }}']\n"
                            f"    oneshot: true\n    {FAST}\n")
            world.start(wait=False)
            world.wait_event("slot.done", slot="once/0")
            self.assertEqual((world.slot("once/0")["starts"], world.slot("once/0")["crashes"]), (2, 1))
            world.ctl("wait", "once", "--ready", "--timeout", "1s")
            self.assertIn(b"once: oneshot, 1 of 1 done", world.ctl("status").stdout)
            mark = world.mark()
            world.ctl("restart", "once")
            world.wait_event("slot.done", since=mark, slot="once/0")
            self.assertEqual(world.slot("once/0")["starts"], 3)

    def test_a_oneshot_that_takes_too_long_is_ended(self):
        with World("", programs(program("once", "stay", "oneshot: true, timeouts: {start: 200ms}, restart: {when: never}")),
                   wait=False) as world:
            world.wait_event("slot.broken", slot="once/0")
            self.assertEqual(world.slot("once/0")["last_death"]["reason"], "not done within timeouts.start (200 ms)")

    def test_hasupd_ends_with_an_essential_program_and_its_code(self):
        for does, keys, code in (("exit 7", "restart: {when: never}", 7), ("exit 0", "restart: {when: on-failure}", 0),
                                 ("exit 9", "oneshot: true, restart: {when: never}", 9)):
            with self.subTest(does=does, keys=keys):
                with World(model(), programs(program("main", does, f"essential: true, {keys}")), wait=False) as world:
                    self.assertEqual(world.process.wait(LIMIT), code)
                    told = world.wait_event("model.failed", slot="main/0")
                    words = "none of its workers can be kept" if code else "it ended"
                    last = f"; last: exited with code {code}" if code else ""
                    self.assertEqual((told["level"], told["message"]), (
                        "error" if code else "info",
                        f"{words}, and it is essential: hasupd stops, with exit code {code}{last}"))
        with World(model(), programs(program("main", "exit 0", "essential: true, oneshot: true"))[:-1], wait=False) as world:
            world.wait_event("slot.done", slot="main/0")  # it was to end
            world.wait_event("slot.ready", slot="m/0")

    def test_hasupd_ends_also_where_what_is_essential_cannot_even_be_started(self):
        for models, top in ((model("essential: true, restart: {start_limit: 1}").replace(WORKER, "/nonexistent"), ""),
                            (model(), programs("  p: {command: [/nonexistent], essential: true, restart: {when: never}}\n"))):
            with self.subTest(models=models, top=top):
                with World(models, top, wait=False) as world:
                    self.assertEqual(world.process.wait(LIMIT), 127)

    def test_hasupd_ends_where_what_is_essential_waits_for_what_broke(self):
        with World(model(), programs(program("migrate", "exit 4", "oneshot: true, restart: {when: never}"),
                                     program("main", "stay", "essential: true, requires: [migrate]")), wait=False) as world:
            self.assertEqual(world.process.wait(LIMIT), 4)
            failed = world.wait_event("model.failed", slot="main/0")["message"]
            self.assertEqual(failed, "it requires what broke (migrate/0), and it is essential: hasupd stops, with exit code 4; "
                                     "last: exited with code 4")

    def test_who_is_ended_for_hanging_has_failed_though_it_exits_well(self):
        with World("", programs(program("p", "trap ABRT sorry stay",
                                        "oneshot: true, restart: {when: never}, timeouts: {start: 500ms, abort: 30s}")),
                   wait=False) as world:
            world.wait_event("slot.broken", slot="p/0")
            world.wait_event("worker.stdout", message="sorry")
            self.assertEqual(world.slot("p/0")["crashes"], 1)

    def test_it_ends_by_its_own_signal_and_leaves_nothing(self):
        with World("", start=False) as world:
            left = os.path.join(world.directory, "left")
            world.write("", programs(program("p", f"leave {left} ignore TERM trap QUIT bye notify READY=1 stay",
                                             "stop_signal: SIGQUIT, ready: notify")))
            world.start()
            wait_until(lambda: os.path.exists(left), "it left nobody")
            with open(left) as file:
                pid = int(file.read())
            self.assertTrue(alive(pid))
            world.ctl("stop", "p")
            world.wait_event("worker.stdout", message="bye")
            world.ctl("wait", "p", "--stopped", "--timeout", "30s")
            self.assertFalse(alive(pid))
            self.assertEqual(world.slot("p/0")["last_death"]["reason"], "exited with code 0")

    def test_one_that_does_not_end_is_killed(self):
        with World("", programs(program("p", "ignore TERM notify READY=1 stay", "ready: notify, timeouts: {stop: 100ms}"))) as world:
            world.ctl("stop", "p")
            world.wait_event("slot.exited", slot="p/0", message="killed by signal 9 (Killed)")


class Ready(unittest.TestCase):
    def ready_once(self, world, gate):
        """It is not ready before the gate opens, and is then."""
        wait_until(lambda: world.slot("p/0")["state"] == "loading", "it is not started")
        world.release(gate)
        world.wait_event("slot.ready", slot="p/0")

    def world(self, does, keys):
        world = World("", start=False)
        self.addCleanup(world.close)
        gate = world.fifo("gate")
        world.write("", programs(program("p", does.format(gate=gate, directory=world.directory), keys)))
        return world, gate

    def test_a_barrier_ends_and_leaves_no_descriptor(self):
        with World("", programs(program("p", f"notify READY=1 {'barrier ' * 20}say told stay", f"ready: notify, {FAST}")),
                   wait=False) as world:
            counts, mark = [], 0
            for _ in range(2):
                world.wait_event("worker.stdout", since=mark, message="told")
                counts.append(len(os.listdir(f"/proc/{world.process.pid}/fd")))
                mark = world.mark()
                world.kill("p/0")
            self.assertEqual(counts[0], counts[1])
            self.assertLess(counts[0], 40)

    def test_by_sd_notify(self):
        world, gate = self.world("notify STATUS=soon wait {gate} notify READY=1 stay", "ready: notify")
        world.start(wait=False)
        world.wait_event("worker.status", message="soon")
        self.assertEqual(next_step(world, "p/0"), "it runs, and has yet to say that it is ready")
        self.ready_once(world, gate)

    @unittest.skipIf(os.geteuid(), "needs root, to run a program as another user")
    def test_by_sd_notify_as_another_user_who_alone_is_heard(self):
        place = tempfile.mkdtemp(prefix="hasup-e2e.")  # where another user comes to
        self.addCleanup(shutil.rmtree, place)
        os.chmod(place, 0o755)
        gate, copy = os.path.join(place, "gate"), os.path.join(place, "program.py")
        os.mkfifo(gate)
        os.chmod(gate, 0o666)
        shutil.copy(PROGRAM, copy)
        world, _ = self.world(f"barrier wait {gate} notify READY=1 stay", "ready: notify, timeouts: {watchdog: 30s}, "
                                                                  "process: {user: nobody}")
        with open(world.config) as file:
            text = file.read()
        put(world.config, text.replace(PROGRAM, copy))
        world.start(wait=False)
        wait_until(lambda: world.slot("p/0")["state"] == "loading", "it is not started")
        with open(f"/proc/{world.pid('p/0')}/environ", "rb") as file:
            name = next(v[14:] for v in file.read().split(b"\0") if v.startswith(b"NOTIFY_SOCKET="))
        self.assertEqual(name[:1], b"@")
        liar = ("import socket, sys; to = b'\\0' + sys.argv[1].encode()[1:]; "
                "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', to)")
        subprocess.run(["/usr/bin/python3", "-c", liar, name.decode()], check=True, user=4711, group=4711, cwd="/")
        world.wait_event("notify.refused", slot="p/0")
        self.assertEqual(world.slot("p/0")["state"], "loading")
        world.ctl("upgrade")  # the next hasupd knows whom to hear
        self.ready_once(world, gate)

    def test_by_a_descriptor(self):
        world, gate = self.world("wait {gate} fd stay", "ready: fd")
        world.start(wait=False)
        self.ready_once(world, gate)
        world.wait_event("worker.stdout", message="readiness at 3")

    def test_by_a_descriptor_behind_the_sockets(self):
        world, gate = self.world("wait {gate} fd variable LISTEN_FDS stay",
                                 "ready: fd, sockets: {a: {unix: a.sock}, b: {unix: b.sock}}")
        world.start(wait=False)
        self.ready_once(world, gate)
        world.wait_event("worker.stdout", message="readiness at 5")
        world.wait_event("worker.stdout", message="LISTEN_FDS=2")

    def test_a_descriptor_that_is_closed_without_a_word_is_told(self):
        world, gate = self.world("wait {gate} close-fd stay", "ready: fd, timeouts: {start: 1s}, restart: {when: never}")
        world.start(wait=False)
        world.release(gate)
        world.wait_event("program.silent", slot="p/0")
        world.wait_event("slot.broken", slot="p/0")
        self.assertEqual(world.slot("p/0")["last_death"]["reason"], "not ready within timeouts.start (1000 ms)")

    def test_one_that_only_ends_is_not_called_silent(self):
        with World("", programs(program("p", "exit 3", f"ready: fd, {FAST}")), wait=False) as world:
            for _ in range(20):
                world.wait_event("slot.exited", since=world.mark(), slot="p/0")
            self.assertEqual([e for e in world.events if e["event"] == "program.silent"], [])

    def test_by_a_command_that_has_its_surroundings(self):
        world, gate = self.world("stay", 'directory: "d{{slot}}", environment: {{NAME: "{{model}}-{{slot}}"}}'
                                 .replace("{{", "{").replace("}}", "}")
                                 + ', sockets: {s: {unix: s.sock}}, ready: {exec: [sh, -c, "cat ../gate >/dev/null; pwd; echo $NAME $HASUP_SLOT'
                                 ' $LISTEN_FDS >said"], interval: 10ms, timeout: 30s}')
        os.mkdir(os.path.join(world.directory, "d0"))
        world.start(wait=False)
        self.assertEqual(next_step(world, "p/0"), "it runs, and its probe has yet to succeed")
        self.ready_once(world, gate)
        with open(os.path.join(world.directory, "d0/said")) as file:
            self.assertEqual(file.read(), "p-0 0\n")

    def test_by_a_port(self):
        port = free_port()
        world, gate = self.world(f"wait {{gate}} listen {port} stay", f"ready: {{tcp: {port}, interval: 10ms}}")
        world.start(wait=False)
        self.ready_once(world, gate)

    def test_by_a_get(self):
        port = free_port()
        world, gate = self.world(f"wait {{gate}} http {port} {{directory}}/status stay",
                                 f"ready: {{http: 'http://127.0.0.1:{port}/healthz', interval: 10ms}}, timeouts: {{start: 30s}}")
        status = os.path.join(world.directory, "status")
        put(status, 503)
        world.start(wait=False)
        world.release(gate)
        wait_until(lambda: world.slot("p/0")["state"] == "loading", "it is not started")
        put(status, 204)
        world.wait_event("slot.ready", slot="p/0")

    def test_what_its_probe_said_last_is_why_it_did_not_start(self):
        port = free_port()
        world, _ = self.world("stay", f"ready: {{tcp: {port}, interval: 10ms}}, timeouts: {{start: 300ms}}, "
                                      "restart: {when: never}")
        world.start(wait=False)
        world.wait_event("slot.broken", slot="p/0")
        reason = world.slot("p/0")["last_death"]["reason"]
        self.assertRegex(reason, rf"^not ready within timeouts.start \(300 ms\); its last probe: .*refused.*:{port}")


class Live(unittest.TestCase):
    def test_one_that_fails_its_probes_in_a_row_hangs(self):
        with World("", start=False) as world:
            sick = os.path.join(world.directory, "sick")
            probe = f"live: {{exec: [sh, -c, 'test ! -e {sick} || {{ echo it is sick; exit 1; }}'], interval: 20ms, failures: 3}}"
            world.write("", programs(program("p", "stay", f"{probe}, timeouts: {{abort: 30s}}, {FAST}")))
            world.start()
            put(sick, "")
            event = world.wait_event("slot.hung", slot="p/0")
            self.assertEqual(event["message"],
                             "hung: its probe failed 3 times in a row (live.failures): exit code 1: it is sick")
            unwell = world.wait_event("program.unwell", slot="p/0", level="warning")
            self.assertEqual((unwell["message"], unwell["failures"]), ("exit code 1: it is sick", 1))
            os.unlink(sick)
            world.wait_event("slot.ready", since=len(world.events), slot="p/0")
            why = json.loads(world.ctl("--json", "why", "p/0").stdout)["slots"][0]["death"]
            self.assertEqual((why["cause"], why["exit"]["signal"]), ("hang", signal.SIGABRT))

    def test_one_that_is_well_again_in_time_lives(self):
        with World("", start=False) as world:
            file, count = os.path.join(world.directory, "sick"), os.path.join(world.directory, "asked")
            script = f"test ! -e {file} && exit 0; echo x >>{count}; test $(wc -l <{count}) -ge 2 && rm {file}; exit 1"
            world.write("", programs(program("p", "stay",
                                             f"live: {{exec: [sh, -c, '{script}'], interval: 20ms, failures: 3}}")))
            world.start()
            put(file, "")
            event = world.wait_event("program.well", slot="p/0")
            self.assertEqual(event["failures"], 2)
            self.assertEqual(world.slot("p/0")["starts"], 1)

    def test_a_probe_that_does_not_end_is_one_that_failed_and_leaves_nothing(self):
        with World("", start=False) as world:
            pids = os.path.join(world.directory, "pids")
            world.write("", programs(program("p", "stay", f"live: {{exec: [sh, -c, 'echo $$ >>{pids}; exec sleep 1000'], "
                                             f"interval: 10ms, timeout: 50ms, failures: 2}}, {FAST}")))
            world.start()
            world.wait_event("slot.hung", slot="p/0")
            world.stop()
            with open(pids) as file:
                self.assertEqual([pid for pid in file.read().split() if alive(int(pid))], [])

    def test_it_may_feed_a_watchdog(self):
        with World("", programs(program("p", "variable WATCHDOG_USEC notify READY=1 notify WATCHDOG=1 stay",
                                        f"ready: notify, timeouts: {{watchdog: 300ms}}, {FAST}"))) as world:
            world.wait_event("worker.stdout", message="WATCHDOG_USEC=300000")
            event = world.wait_event("slot.hung", slot="p/0")
            self.assertEqual(event["message"], "hung: its watchdog was not fed within its limit (timeouts.watchdog 300 ms)")


class Known(unittest.TestCase):
    def test_it_takes_no_requests_and_is_in_no_list_of_models(self):
        with World(model(), programs(program("p", "stay"), program("proxy", "stay"))) as world:
            for path in ("/v2/models/p", "/v2/models/p/ready", "/v1/models/p"):
                self.assertEqual(world.get(path)[0], 404, path)
            self.assertEqual(world.post("p", "x")[0], 404)
            self.assertEqual([one["id"] for one in json.loads(world.get("/v1/models")[1])["data"]], ["m"])
            self.assertEqual([one["name"] for one in world.status()["models"]], ["m"])
            for words, text in ((("canary", "p", "--weight", "5"), "a program gets no requests"),
                                (("checkpoint", "now", "p"), "no ready slot of it keeps state"),
                                (("why", "prxy"), 'there is no model or program "prxy"; did you mean "proxy"?')):
                done = world.ctl(*words, check=False)
                self.assertEqual((done.returncode != 0, text in done.stderr.decode()), (True, True), done.stderr)
            self.assertEqual(json.loads(world.ctl("--json", "config").stdout)["programs"]["p"]["restart"]["when"], "always")

    def test_who_is_ready_is_who_serves_and_what_is_essential(self):
        with World(model(), programs(program("p", "exit 1", "restart: {when: never}"))[:-1], wait=False) as world:
            world.wait_event("slot.broken", slot="p/0")
            world.wait_event("slot.ready", slot="m/0")
            self.assertEqual(world.get("/v2/health/ready")[0], 200)
        with World("", start=False) as world:
            gate = world.fifo("gate")
            world.write(model(), programs(program("p", f"wait {gate} notify READY=1 stay", "ready: notify, essential: true")))
            world.start(wait=False)
            world.wait_event("slot.ready", slot="m/0")
            self.assertEqual(world.get("/v2/health/ready")[0], 503)
            world.release(gate)
            world.wait_event("slot.ready", slot="p/0")
            self.assertEqual(world.get("/v2/health/ready")[0], 200)

    def test_programs_alone_are_enough(self):
        with World("", programs(program("p", "variable HASUP_SLOT stay", "slots: 3"))) as world:
            self.assertEqual(sorted(slot["slot"] for slot in world.slots()), ["p/0", "p/1", "p/2"])
            self.assertEqual(world.status()["models"], [])
            world.ctl("scale", "p", "1")
            wait_until(lambda: [slot["slot"] for slot in world.slots()] == ["p/0"], "it is not scaled")
            self.assertEqual(world.stop(), 0)

    def test_its_metrics(self):
        with World(model(), programs(program("p", "exit 0", "oneshot: true"), program("q", "stay", "slots: 2")),
                   wait=False) as world:
            world.wait_event("slot.done", slot="p/0")
            world.wait_event("slot.ready", slot="q/1")
            text = world.get("/metrics")[1].decode()
            for line in ('hasup_program_up{model="p"} 1', 'hasup_program_slots{model="q"} 2',
                         'hasup_program_slots_ready{model="q"} 2', 'hasup_program_slots_done{model="p"} 1',
                         'hasup_slot_state{model="p",slot="0",state="done"} 1',
                         'hasup_worker_ends_total{model="p",cause="exit"} 1'):
                self.assertIn(f"{line}\n", text)
            for line in ('hasup_model_ready{model="p"}', 'hasup_slot_answered_total{model="q"',
                         'hasup_requests_total{model="p"'):
                self.assertNotIn(line, text)

    def test_check_looks_for_its_commands(self):
        with World("", programs(program("p", "stay", "ready: {exec: [no-such-probe]}"),
                                "  q: {command: [./gone]}\n"), start=False) as world:
            done = subprocess.run([f"{BUILD}/hasupd", "--check", world.config], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn("programs.p.ready.exec: no-such-probe: not found on PATH", done.stderr)
            self.assertIn("programs.q.command:", done.stderr)
            world.write(model(), programs(program("p", "stay"), program("q", "stay")))
            done = subprocess.run([f"{BUILD}/hasupd", "--check", world.config], capture_output=True, text=True)
            self.assertTrue(done.stdout.endswith("ok, 1 model, 2 programs\n"), done.stdout)

    def test_sockets_outlive_its_processes(self):
        with World("", start=False) as world:
            world.write("", programs(program("p", "accept exit 0", f"sockets: {{door: {{unix: door.sock}}}}, {FAST}")))
            world.start()
            for _ in range(3):
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(LIMIT)
                    client.connect(os.path.join(world.directory, "door.sock"))
                    self.assertEqual(client.recv(100), b"door\n")


class Changes(unittest.TestCase):
    def test_what_a_reload_changes_and_what_it_leaves(self):
        with World("", programs(program("p", "stay"), program("q", "stay"))) as world:
            pids, mark = {name: world.pid(f"{name}/0") for name in "pq"}, world.mark()
            world.write(model("requires: [new]"), programs(
                program("p", "stay", "live: {exec: ['true'], interval: 1h}, stop_signal: INT"),
                program("q", "say anew stay"), program("new", "stay", "after: [q]")))
            world.ctl("reload", "--wait")
            world.wait_event("worker.stdout", since=mark, message="anew")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertEqual(world.pid("p/0"), pids["p"])
            self.assertNotEqual(world.pid("q/0"), pids["q"])
            world.write("", programs(program("p", "stay"), program("q", "say anew stay")))
            world.ctl("reload")
            for name in ("new", "m"):
                world.wait_event("model.removed", since=mark, model=name)
            self.assertEqual(sorted(slot["slot"] for slot in world.slots()), ["p/0", "q/0"])

    def test_a_reload_of_a_task_that_cannot_be_done_ends(self):
        def two(text):
            return programs(program("bad", "exit 1", "oneshot: true, restart: {when: never}"),
                            program("task", f"say {text}", "oneshot: true, requires: [bad], timeouts: {start: 1s}, "
                                                           "rollout: {progress_deadline: 1s}"))
        with World("", two("one"), wait=False) as world:
            world.wait_event("slot.broken", slot="bad/0")
            world.write("", two("two"))
            done = world.ctl("reload", "--wait", check=False)
            self.assertIn("rollout.progress_deadline", done.stderr.decode())

    def test_a_reload_in_a_canary_changes_its_workers_and_its_order(self):
        with World(model()) as world:
            world.write(model("version: two"))
            world.ctl("canary", "m", "--weight", "10")
            world.wait_event("slot.ready", slot="m/1")
            world.write(model("version: two, workers: 3, requires: [db]"), programs(program("db", "stay")))
            world.ctl("reload")
            wait_until(lambda: world.status()["models"][0]["ready"] >= 3, "there are no more workers")
            self.assertEqual(world.status()["models"][0]["rollout"]["state"], "canary")
            world.ctl("promote", "m", "--wait")
            self.assertEqual(world.status()["models"][0]["ready"], 3)

    def test_who_waits_for_what_a_reload_takes_away_starts(self):
        with World("", programs(program("bad", "exit 1", "oneshot: true, restart: {when: never}"),
                                program("p", "stay", "requires: [bad]")), wait=False) as world:
            world.wait_event("slot.broken", slot="bad/0")
            world.write("", programs(program("p", "stay")))
            world.ctl("reload")
            world.wait_event("slot.ready", slot="p/0")

    def test_a_version_that_does_not_come_up_is_taken_back(self):
        with World("", programs(program("p", "notify READY=1 stay", "ready: notify"))) as world:
            world.write("", programs(program("p", "exit 3", f"ready: notify, restart: {{backoff_min: 1ms, backoff_max: 1ms}}")))
            done = world.ctl("reload", "--wait", check=False)
            self.assertNotEqual(done.returncode, 0)
            world.wait_event("rollout.rolled_back", model="p")
            self.assertEqual(world.slot("p/0")["state"], "ready")
            world.kill_and_start(wait=False)  # the next hasupd does not try it, either
            world.wait_event("slot.ready", slot="p/0")
            world.wait_event("rollout.resumed", model="p")

    def test_a_model_does_not_become_a_program(self):
        with World(model(), programs(program("p", "stay"), program("q", "stay"))) as world:
            before = [world.pid(f"{name}/0") for name in "mpq"]
            for models, these, text in (
                    ("", (program("p", "stay"), program("q", "stay"), program("m", "stay")),
                     "programs.m: it runs as a model, which cannot become a program: give it another name, or reload "
                     "without it first"),
                    (model() + f"\n  p: {{command: [{WORKER}]}}", (program("q", "stay"),),
                     "models.p: it runs as a program, which cannot become a model"),
                    (model(), (program("p", "stay"), program("q", "exit 0", "oneshot: true")),
                     "programs.q: it runs as a program, which cannot become a oneshot")):
                world.write(models, programs(*these))
                done = world.ctl("reload", check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(text, done.stderr.decode())
                refused = world.ctl("upgrade", check=False)
                self.assertNotEqual(refused.returncode, 0)
                self.assertIn("it does not know a model that the configuration has as a program", refused.stderr.decode())
            self.assertEqual([world.pid(f"{name}/0") for name in "mpq"], before)

    def test_programs_go_along_in_a_live_upgrade(self):
        with World("", start=False) as world:
            fd, told, probe, task = (world.fifo(name) for name in ("fd", "told", "probe", "task"))
            sick = os.path.join(world.directory, "sick")
            world.write(model("after: [task]"), programs(
                program("fd", f"wait {fd} fd stay", "ready: fd"),
                program("told", f"wait {told} notify READY=1 stay", "ready: notify"),
                program("asked", "stay", f"ready: {{exec: [sh, -c, 'cat {probe} >/dev/null'], timeout: 30s, interval: 10ms}}"),
                program("live", "stay", f"live: {{exec: [sh, -c, 'test ! -e {sick}'], interval: 10ms, failures: 2}}, {FAST}"),
                program("done", "exit 0", "oneshot: true"),
                program("task", f"wait {task} exit 0", "oneshot: true")))
            world.start(wait=False)
            world.wait_event("slot.done", slot="done/0")
            for name in ("fd", "told", "asked"):
                wait_until(lambda: world.slot(f"{name}/0")["state"] == "loading", f"{name} is not started")
            wait_until(lambda: world.slot("task/0")["pid"], "the task is not started")
            pids = {name: world.pid(f"{name}/0") for name in ("fd", "told", "asked", "live", "task")}
            world.ctl("upgrade")
            self.assertEqual({name: world.pid(f"{name}/0") for name in pids}, pids)
            self.assertEqual((world.slot("done/0")["state"], world.slot("done/0")["starts"]), ("done", 1))
            self.assertEqual(world.slot("m/0")["waits_for"], "task")
            mark = world.mark()
            for gate in (fd, told, probe, task):
                world.release(gate)
            for name in ("fd", "told", "asked", "m"):
                world.wait_event("slot.ready", slot=f"{name}/0")
            put(sick, "")
            world.wait_event("slot.hung", since=mark, slot="live/0")
            self.assertEqual(world.slot("task/0")["state"], "done")

    def test_an_upgrade_that_is_refused_leaves_probes_asked(self):
        with World("", start=False) as world:
            sick = os.path.join(world.directory, "sick")
            world.write("", programs(program("p", "stay", f"live: {{exec: [sh, -c, 'test ! -e {sick}'], interval: 10ms, "
                                                          f"failures: 2}}, {FAST}")))
            world.start()
            changing = os.path.join(world.directory, "changing")  # the last that is looked at before the next one comes
            put(changing, f'#!/bin/sh\necho "#" >>"$0"\nexec {BUILD}/hasupd "$@"\n')
            os.chmod(changing, 0o755)
            for _ in range(20):
                done = world.ctl("upgrade", "--binary", changing, check=False)
                self.assertIn("the binary or the configuration changed while it was checked", done.stderr.decode())
            put(sick, "")
            world.wait_event("slot.hung", slot="p/0")


if __name__ == "__main__":
    unittest.main()

"""hasupd as PID 1 of a namespace of its own, as in a container: it serves, reaps, leaves nothing, and stops when told."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from contained import NO_NAMESPACE, Contained, children, tree  # noqa: E402
from world import BUILD, LIMIT, WORKER, alive, wait_until  # noqa: E402

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")
JOIN = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]


class Nowhere(Contained):
    """Nothing is kept, and there is no local door: only signals and HTTP reach it."""

    def write(self, models, top=""):
        program = json.dumps(["/usr/bin/python3", "-B", f"{self.directory}/program.py", "notify", "READY=1", "stay"])
        with open(self.config, "w") as file:
            file.write("state_dir: off\nruntime_dir: off\nlisten: {http: '127.0.0.1:0', unix: off}\n" + top +
                       "models:\n" + models.replace("{D}", self.directory) +
                       f"\nprograms: {{p: {{command: {program}, ready: notify}}}}\n")

    def child(self, name):
        for pid in children(self.init):
            with open(f"/proc/{pid}/comm") as file:
                if file.read() == f"{name}\n":
                    return pid
        raise AssertionError(f"no {name}")


@unittest.skipIf(NO_NAMESPACE, NO_NAMESPACE)
class PidOne(unittest.TestCase):
    MODEL = f"  m: {{command: [{WORKER}], workers: 2}}"

    def contained(self, *args, **options):
        world = Contained(*args, **options)
        self.addCleanup(world.close)
        return world

    def test_promise_10_it_serves_and_reaps_strangers_orphans_meanwhile(self):
        world = self.contained(self.MODEL)
        self.assertEqual(world.wait_event("hasupd.started")["pid"], 1)
        workers = set(children(world.init))
        storm = subprocess.Popen(["nsenter", *JOIN, f"--target={world.init}", "--pid", "--mount", sys.executable, "-B", "-c",
                                  "import os\nfor _ in range(1000):\n  pid = os.fork()\n  if pid == 0:\n    os.fork()\n    os._exit(0)\n"
                                  "  os.waitpid(pid, 0)"])
        served = 0
        while storm.poll() is None:
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            served += 1
        self.assertEqual(storm.returncode, 0)
        self.assertGreater(served, 0)
        wait_until(lambda: set(children(world.init)) == workers, "orphans stay")

    def test_promise_10_what_a_worker_left_goes_with_it_however_it_hid(self):
        hides = f"setsid setsid sleep 1000 & exec {WORKER}"
        world = self.contained(f"  m: {{command: [/bin/sh, -c, '{hides}']}}")

        def hidden():
            found = []
            for pid in tree(world.init):
                try:
                    with open(f"/proc/{pid}/comm") as file:
                        if file.read() == "sleep\n":
                            found.append(pid)
                except FileNotFoundError:
                    pass
            return found
        wait_until(hidden, "nobody hides")
        (first,) = hidden()
        self.assertEqual(os.getsid(first), first)
        worker = next(pid for pid in children(world.init) if pid != first)
        since = world.mark()
        os.kill(worker, signal.SIGKILL)
        world.wait_event("slot.ready", since=since)
        wait_until(lambda: hidden() not in ([], [first]), "the next one hides nobody")
        self.assertFalse(alive(first))
        (second,) = hidden()
        world.signal(signal.SIGTERM)
        self.assertEqual(world.exit_code(), 0)
        self.assertFalse(alive(second))

    def test_term_lets_what_was_accepted_finish_and_it_exits_0(self):
        for signo in signal.SIGTERM, signal.SIGINT:
            world = self.contained(self.MODEL)
            path = world.fifo("fifo")
            waiting = world.begin("m", f"wait {path}")
            wait_until(lambda: world.status()["models"][0]["inflight"] == 1, "it never began")
            world.signal(signo)
            world.wait_event("shutdown.started")
            world.release(path)
            self.assertEqual(world.finish(waiting)[2], b"done")
            self.assertEqual(world.exit_code(), 0)

    def test_a_term_that_comes_before_its_first_line_is_not_lost(self):
        world = self.contained(self.MODEL, "kill -TERM $$; exec \"$@\"", start=False, before=lambda: signal.pthread_sigmask(
            signal.SIG_BLOCK, [signal.SIGTERM]))
        done = subprocess.run([world.program, "-c", world.config], stderr=subprocess.PIPE, text=True, timeout=LIMIT,
                              preexec_fn=world.before)
        self.assertEqual(done.returncode, 0)
        self.assertIn("shutdown.started", done.stderr)

    def test_a_second_term_hastens(self):
        world = self.contained(self.MODEL, top="shutdown: {grace: 1h}")
        waiting = world.begin("m", f"wait {world.fifo('fifo')}")
        wait_until(lambda: world.status()["models"][0]["inflight"] == 1, "it never began")
        world.signal(signal.SIGTERM)
        world.wait_event("shutdown.started")
        world.signal(signal.SIGTERM)
        self.assertEqual(world.finish(waiting)[0], 503)
        self.assertEqual(world.exit_code(), 0)

    def test_a_third_term_kills_what_is_left(self):
        for signo in signal.SIGTERM, signal.SIGINT:
            world = self.contained(f"  m: {{command: [{WORKER}], timeouts: {{stop: 1h}}}}", top="shutdown: {grace: 1h}")
            waiting = world.begin("m", f"wait {world.fifo('fifo')}")
            wait_until(lambda: world.status()["models"][0]["inflight"] == 1, "it never began")
            (worker,) = children(world.init)
            os.kill(worker, signal.SIGSTOP)  # no TERM reaches it
            for event in "shutdown.started", "shutdown.hastened", "shutdown.killed":
                world.signal(signo)
                world.wait_event(event)
            self.assertEqual(world.finish(waiting)[0], 503)
            self.assertEqual(world.exit_code(), 0)

    READ_ONLY = 'D=$(dirname "$3"); %s mount -o remount,bind,ro / && exec "$@"'

    def test_with_a_read_only_root_it_serves_and_refuses_what_it_could_not_keep(self):
        with tempfile.TemporaryDirectory(prefix="hasup-state.") as state:
            world = self.contained(self.MODEL, self.READ_ONLY % 'mount --bind "$D" "$D" && cd "$D" &&', state=state)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            self.assertEqual(world.post("m", "echo x", {"Idempotency-Key": "1"})[0], 503)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            world.signal(signal.SIGTERM)
            self.assertEqual(world.exit_code(), 0)
            self.assertEqual(os.listdir(state), [])

    def test_with_nowhere_to_write_it_says_so_at_once(self):
        with tempfile.TemporaryDirectory(prefix="hasup-state.") as state:
            for place, key in ((state, "runtime_dir|sock"), (f"{state}/none", "state_dir")):
                world = self.contained(self.MODEL, self.READ_ONLY % "", state=place, start=False)
                done = subprocess.run([world.program, "-c", world.config], stderr=subprocess.PIPE, text=True, timeout=LIMIT)
                self.assertEqual(done.returncode, 2)
                advice = "state_dir: off" if key == "state_dir" else "runtime_dir: off and listen.unix: off"
                self.assertRegex(done.stderr.splitlines()[-1], rf"^hasupd: .*({key}).*: Read-only file system; .*: {advice}")

    def nowhere(self):
        """One that may write nothing: every file system of its namespace is read-only, and it is nobody known where the test
        is root."""
        somebody = "setpriv --reuid=4242 --regid=4343 --clear-groups" if os.geteuid() == 0 else ""
        models = (f"  m: {{command: [{{D}}/worker], workers: 2}}\n"
                  f"  counter: {{command: [{{D}}/counter], checkpoint: {{interval: 100ms}}, timeouts: {{watchdog: 30s}}}}")
        inside = (f'D=$(dirname "$3"); chmod 755 "$D"; cp "$1" {WORKER} {BUILD}/examples/counter {PROGRAM} "$D" && chmod 644 "$3" && shift && '
                  'mount --make-rprivate / && cut -d" " -f5 /proc/self/mountinfo | sort -u | '
                  'while read -r place; do mount -o remount,bind,ro "$place"; done; '
                  f'exec {somebody} "$D/hasupd" "$@"')
        world = Nowhere(models, inside, start=False)
        self.addCleanup(world.close)
        return world

    def test_where_nothing_may_be_written_it_serves_runs_programs_reloads_and_stops(self):
        world = self.nowhere()
        world.start(wait=False)
        with open(f"/proc/{world.init}/mountinfo") as file:
            places = {line.split()[4] for line in file}
        self.assertIn("/", places)
        for place in places:
            self.assertTrue(os.statvfs(f"/proc/{world.init}/root{place}").f_flag & os.ST_RDONLY, place)
        if os.geteuid() == 0:
            self.assertEqual(os.stat(f"/proc/{world.init}").st_uid, 4242)
        self.assertNotIn("unix", world.wait_event("hasupd.started"))
        for slot in "m/0", "m/1", "counter/0", "p/0":
            world.wait_event("slot.ready", slot=slot)
        self.assertEqual(world.post("m", "echo x")[2], b"x")
        self.assertEqual(world.post("m", "echo x", {"Idempotency-Key": "1"})[0], 503)
        large = b"echo " + b"x" * (4 << 20)
        self.assertEqual(world.post("m", large)[2], large[5:])
        self.assertEqual([world.post("counter", "")[2] for _ in range(3)], [b"1\n", b"2\n", b"3\n"])
        since = world.mark()
        os.kill(world.child("counter"), signal.SIGKILL)
        world.wait_event("slot.ready", since=since, slot="counter/0")
        self.assertEqual(world.post("counter", "")[2], b"4\n")
        with open(world.config) as file:
            before = file.read()
        with open(world.config, "w") as file:
            file.write(before.replace("workers: 2", "workers: 3"))
        world.signal(signal.SIGHUP)
        world.wait_event("config.reloaded")
        world.wait_event("slot.ready", slot="m/2")
        with open(world.config, "w") as file:
            file.write(before.replace("state_dir: off", "state_dir: /var/lib/hasup"))
        world.signal(signal.SIGHUP)
        self.assertIn("needs a restart", world.wait_event("config.refused")["message"])
        self.assertEqual(world.post("m", "echo x")[2], b"x")
        world.signal(signal.SIGTERM)
        self.assertEqual(world.exit_code(), 0)
        world.wait_event("hasupd.stopped", exit_code=0)
        self.assertEqual([e for e in world.events if e.get("level") == "error" and e["event"] != "config.refused"], [])

    @unittest.skipUnless(os.geteuid() == 0, "only root can be somebody else")
    def test_as_any_user(self):
        inside = f'D=$(dirname "$3"); export D; cp "$1" {WORKER} "$D" && chown -R 4242:4343 "$D" && shift && ' \
                 'exec setpriv --reuid=4242 --regid=4343 --clear-groups "$D/hasupd" "$@"'
        world = self.contained("  m: {command: [/bin/sh, -c, 'exec $D/worker']}", inside)
        self.assertEqual(os.stat(world.socket).st_uid, 4242)
        self.assertEqual(world.post("m", "echo x")[2], b"x")
        world.signal(signal.SIGTERM)
        self.assertEqual(world.exit_code(), 0)

    def test_with_standard_descriptors_closed(self):
        world = self.contained(self.MODEL, 'exec "$@" <&- >&- 2>&-', start=False)
        world.process = subprocess.Popen([world.program, "-c", world.config], stderr=subprocess.PIPE)
        wait_until(lambda: world.ctl("wait", "m", "--ready", check=False).returncode == 0, "it never serves")
        self.assertEqual(world.ctl("infer", "m", input=b"echo x").stdout, b"x")
        (init,) = children(world.process.pid)
        self.assertEqual([os.readlink(f"/proc/{init}/fd/{fd}") for fd in range(3)], ["/dev/null"] * 3)
        os.kill(init, signal.SIGTERM)
        self.assertEqual(world.exit_code(), 0)


if __name__ == "__main__":
    unittest.main()

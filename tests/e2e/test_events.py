"""hasupctl events: what is chosen of them, live and of earlier runs, and what a reader hears that is too slow for them."""
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, WORKER, World  # noqa: E402

MODELS = f"  m: {{command: [{WORKER}], workers: 2}}\n  n: {{command: [{WORKER}]}}\n"
KEY = {"Idempotency-Key": "k"}


def told(world, *args):
    return [json.loads(line) for line in world.ctl("--json", "events", *args).stdout.splitlines()]


class Follower:
    """hasupctl --json events -f, read by a test or not at all."""

    def __init__(self, world, *args):
        self.process = subprocess.Popen([f"{BUILD}/hasupctl", "-s", world.socket, "--json", "events", "-f", *args],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.read = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate(timeout=LIMIT)

    def next(self):
        stdout = self.process.stdout.fileno()
        while b"\n" not in self.read:
            assert select.select([stdout], [], [], LIMIT)[0], "nothing is told"
            more = os.read(stdout, 4096)
            assert more, self.process.stderr.read()
            self.read += more
        line, self.read = self.read.split(b"\n", 1)
        return json.loads(line)


def broken(world, count):
    """As many clients that break the protocol, each an event client.broke."""
    for _ in range(count):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(world.socket)
            client.sendall(b"\xff" * 64)
            client.recv(1)  # until hasupd has closed it


class Chosen(unittest.TestCase):
    def die(self, world, slot):
        mark = world.mark()
        world.kill(slot)
        world.wait_event("slot.exited", since=mark, slot=slot)
        world.wait_event("slot.ready", since=mark, slot=slot)

    def test_by_name_kind_level_and_target_and_the_last_n_of_those(self):
        with World(MODELS) as world:
            for slot in ("m/0", "m/1", "n/0", "m/0"):
                self.die(world, slot)
            exits = told(world, "--event", "slot.exited")
            self.assertEqual([e["slot"] for e in exits], ["m/0", "m/1", "n/0", "m/0"])
            self.assertEqual([e["slot"] for e in told(world, "--event", "slot.exited", "m")], ["m/0", "m/1", "m/0"])
            self.assertEqual(told(world, "--event", "slot.exited", "-n", "2", "m/0"), [exits[0], exits[3]])
            self.assertEqual(told(world, "--event", "slot.exited", "-n", "1"), exits[3:])
            self.assertEqual(told(world, "--event", "slot.exited", "--tail", "all"), exits)
            self.assertEqual({e["event"].split(".")[0] for e in told(world, "--event", "slot")}, {"slot"})
            self.assertEqual(told(world, "--event", "slot.*"), told(world, "--event", "slot"))
            self.assertEqual({e["event"] for e in told(world, "--event", "hasupd.started,slot.exited")},
                             {"hasupd.started", "slot.exited"})
            self.assertEqual(told(world, "--event", "hasupd.started", "--event", "slot.exited"),
                             told(world, "--event", "slot.exited,hasupd.started"))
            self.assertEqual({e["level"] for e in told(world, "--level", "warning")}, {"warning"})
            self.assertEqual(told(world, "--level", "error"), [])
            self.assertIn("debug", {e["level"] for e in told(world, "--level", "debug")})
            shown = world.ctl("events", "--event", "slot.exited", "n").stdout.decode()
            self.assertRegex(shown, r"^\d\d:\d\d:\d\d\.\d{3} n/0 +slot\.exited killed by signal 9 \(Killed\) .*\n$")

    def test_only_what_is_chosen_is_followed_also_over_an_upgrade(self):
        with World(MODELS) as world, Follower(world, "--event", "slot.exited", "m") as follower:
            self.die(world, "m/0")
            self.assertEqual(follower.next()["slot"], "m/0")  # it is there, and follows
            self.die(world, "n/0")
            pid = world.kill("m/1")
            first = follower.next()
            self.assertEqual((first["event"], first["slot"], first["pid"]), ("slot.exited", "m/1", pid))
            world.wait_event("slot.ready", since=world.events.index(world.wait_event("slot.exited", pid=pid)), slot="m/1")
            world.ctl("upgrade")
            world.wait_event("hasupd.upgraded")
            self.die(world, "n/0")
            pid = world.kill("m/0")
            self.assertEqual(follower.next()["pid"], pid)

    def test_since_and_follow_tell_each_event_once_and_in_order(self):
        with World(MODELS) as world:
            world.post("n", "echo x", KEY)  # there is a journal
            self.die(world, "m/0")
            self.assertEqual(world.stop(), 0)
            world.start()
            self.die(world, "m/1")
            died = ("--event", "slot.exited", "--level", "warning")  # at a stop they are told at level info
            with Follower(world, "--since", "1h", *died) as follower:
                self.assertEqual([follower.next()["slot"] for _ in range(2)], ["m/0", "m/1"])
                pid = world.kill("n/0")
                self.assertEqual(follower.next()["pid"], pid)
            with Follower(world, "--all", "-n", "1", *died) as follower:
                self.assertEqual(follower.next()["pid"], pid)
            self.assertEqual(world.stop(), 0)
            done = subprocess.run([f"{BUILD}/hasupctl", "-s", world.socket, "events", "--all", "-f"], capture_output=True,
                                  timeout=LIMIT)
            self.assertEqual((done.returncode, done.stdout), (3, b""))

    def test_wrong_ones_are_refused_with_what_would_be_right(self):
        with World(MODELS) as world:
            for args, code, said in (
                    (("--event", "slot.exitd"), 2, 'there is no event "slot.exitd"; did you mean "slot.exited"?'),
                    (("--event", "exited"), 2, 'did you mean "slot.exited"?'),
                    (("--event", "slots"), 2, 'did you mean "slot"?'),
                    (("--event", "slot.exited,modle"), 2, 'there is no event "modle"; did you mean "model"?'),
                    (("--event", "slot.died"), 2, "slot has aborting, backoff, broke,"),
                    (("--event", "slot."), 2, "slot has aborting, backoff, broke,"),
                    (("--event", "worker.stdout"), 2, "what workers print is no event; hasupctl logs has it"),
                    (("--event", "log.dropped"), 2, "log has files_failing,"),
                    (("--event", "xyzzy"), 2, "kinds are checkpoint, checkpoints, client,"),
                    (("--event",), 2, "--event wants a name such as slot.exited, or a kind: slot"),
                    (("--event", "slot,"), 2, "--event wants a name"),
                    (("--event", ",".join(["slot.exited"] * 17)), 2, "--event takes 16 names at most"),
                    (("-n", "x"), 2, "-n wants a number, or all"),
                    (("-S", "5"), 2, "-S wants a duration"),
                    (("--level", "warn"), 2, 'debug, info, warning or error, not "warn"'),
                    (("--filter", "event=die"), 2, "unknown option --filter; --help has those"),
                    (("-f", "x"), 1, 'there is no model "x"'),
                    (("--all", "-f", "mm"), 1, 'there is no model "mm"'),
                    (("m/7",), 1, "did you mean m/0 or m/1?")):
                done = world.ctl("events", *args, check=False)
                self.assertEqual((done.returncode, done.stdout), (code, b""), args)
                self.assertIn(said, done.stderr.decode(), args)
            done = world.ctl("--state-dir", world.state, "events", "--all", "-f", check=False)
            self.assertIn("-f asks hasupd", done.stderr.decode())


class Slow(unittest.TestCase):
    FLOOD = 4000

    def test_a_reader_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed(self):
        with World(MODELS, top="limits: {stream_bytes: 64KiB}") as world:
            broken(world, 1)
            with Follower(world, "--event", "client.broke") as follower:
                fcntl.fcntl(follower.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
                self.assertEqual(follower.next()["event"], "client.broke")  # it is there, and follows
                before = memory_kib(world.process.pid)
                broken(world, self.FLOOD)
                self.assertEqual(world.post("m", "echo on")[2], b"on")  # nobody waits for the reader
                if "asan" not in BUILD:  # which keeps for a while what was freed
                    self.assertLess(memory_kib(world.process.pid) - before, 1024)
                heard = lost = 0
                while heard + lost < self.FLOOD:  # the last are told of, though nothing more happens
                    event = follower.next()
                    heard += event["event"] == "client.broke"
                    if event["event"] == "events.lost":
                        self.assertLessEqual({"time", "level", "message"}, set(event))
                        lost += event["lines"]
                self.assertEqual(heard + lost, self.FLOOD)
                self.assertGreater(lost, 0)
                self.assertGreater(heard, 0)
                broken(world, 1)
                self.assertEqual(follower.next()["event"], "client.broke")

    def test_for_eyes_the_loss_is_said_on_standard_error(self):
        with World(MODELS, top="limits: {stream_bytes: 64KiB}") as world:
            broken(world, 600)  # more than its queue takes, and than a connection takes at once
            asked = ("-n", "600", "--event", "client.broke")
            lost = sum(event.get("lines", 1) for event in told(world, *asked)) - len(told(world, *asked)) + 1
            self.assertGreater(lost, 1)
            done = world.ctl("events", *asked)
            self.assertEqual(done.stderr.decode(), f"hasupctl: {lost} events were lost: this reader was too slow\n")
            self.assertEqual(len(done.stdout.splitlines()), len(told(world, *asked)) - 1)
            done = world.ctl("events", "--all", "--event", "client.broke")
            self.assertRegex(done.stderr.decode(), r"^hasupctl: \d+ events were lost: ")


def memory_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


if __name__ == "__main__":
    unittest.main(verbosity=1)

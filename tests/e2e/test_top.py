"""hasupctl top in a real terminal (tmux, with a server of its own): its screen is captured and read."""
import os
import re
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, WORKER, World, alive, wait_until  # noqa: E402

MODELS = (f"  one: {{command: [{WORKER}], workers: 2}}\n"
          f"  two: {{command: [{WORKER}]}}\n")
MANY = f"  m: {{command: [{WORKER}], workers: 12}}\n"
BROKEN = (f"  bad: {{command: [{WORKER}, --die], "
          "restart: {backoff_min: 10ms, start_limit: 2, breaker: 1h}}\n")


class Screen:
    """hasupctl top in a terminal; a shell says its exit code when it left."""

    def __init__(self, world, width=80, height=24, options="", environment=""):
        self.socket = os.path.join(world.directory, "tmux")
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
                  # LeakSanitizer's look at the end hangs, spinning, in a process whose terminal is gone.
                  f"env -u NO_COLOR ASAN_OPTIONS=detect_leaks=0 {environment} "
                  f"{BUILD}/hasupctl -s {world.socket} top {options}; "
                  "echo left with $?; exec cat")

    def tmux(self, *args):
        return subprocess.run(["tmux", "-S", self.socket, *args], check=True, capture_output=True,
                              timeout=LIMIT).stdout.decode()

    def lines(self):
        return self.tmux("capture-pane", "-p").rstrip("\n").split("\n")

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def wait(self, pattern):
        """The lines of the first screen in which a line matches."""
        seen = []

        def matches():
            seen[:] = self.lines()
            return any(re.search(pattern, line) for line in seen)

        try:
            wait_until(matches, "")
        except AssertionError:
            raise AssertionError(f"never {pattern!r} on the screen; the last one:\n" + "\n".join(seen)) from None
        return list(seen)

    def pids(self):
        """Of the terminal's shell's children: hasupctl, while it runs."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").strip()
        with open(f"/proc/{shell}/task/{shell}/children") as file:
            return [int(pid) for pid in file.read().split()]

    def pid(self):
        return self.pids()[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        left = self.pids()
        self.tmux("kill-server")
        wait_until(lambda: not any(alive(pid) for pid in left), "it runs on without its terminal")


def rows(lines):
    """The names in the table, from top to bottom."""
    return [line.split()[0] for line in lines[3:-1] if line.strip()]


class Top(unittest.TestCase):
    def test_at_80_by_24_models_and_slots_stand_with_their_numbers(self):
        with World(MODELS) as world, Screen(world) as screen:
            self.assertEqual(world.post("one", "echo hi")[0], 200)
            lines = screen.wait(r"^one +2/2 .* \d+\.\d +\d+[um]s +\d+[um]s")
            self.assertRegex(lines[0], rf"^hasupd \S+  ready  up \S+  pid {world.process.pid}$")
            self.assertRegex(lines[1], r"^2 models, 3 slots, 3 ready, \d+\.\d req/s$")
            self.assertEqual(lines[2].split(), ["NAME*", "STATE", "FOR", "CRASH", "RUN", "QUEUE", "MEM", "REQ/S",
                                                "P50", "P99", "CKPT", "NEXT"])
            self.assertEqual(rows(lines), ["one", "one/0", "one/1", "two", "two/0"])
            self.assertRegex(lines[4], r"^ one/0 +ready +\d+m?s +0 +0 +0 +\d[\d.]*[kM] *$")
            self.assertEqual(len(lines), 24)
            self.assertIn("q quit  h help  sort by:  n name  m memory  r rate  c crashes  u queue", lines[23])

    def test_a_killed_worker_is_counted_and_orders_the_models(self):
        with World(MODELS) as world, Screen(world, options="-d 0.2") as screen:
            self.assertEqual(rows(screen.wait(r"^ two/0 +ready"))[0], "one")
            world.kill("two/0")
            screen.wait(r"^ two/0 +ready +\S+ +1 ")
            screen.keys("c")
            self.assertEqual(rows(screen.wait(r"\*CRASH")), ["two", "two/0", "one", "one/0", "one/1"])
            screen.keys("n")
            self.assertEqual(rows(screen.wait(r"NAME\*"))[0], "one")

    def test_a_broken_slot_shows_when_it_is_tried(self):
        with World(BROKEN, wait=False) as world, Screen(world) as screen:
            world.wait_event("slot.broken", slot="bad/0")
            screen.wait(r"^ bad/0 +broken .* \d+m$")

    def test_it_follows_the_size_of_its_terminal(self):
        with World(MODELS) as world, Screen(world) as screen:
            screen.wait(r"^ two/0 +ready")
            screen.tmux("resize-window", "-x", "40", "-y", "12")
            lines = screen.wait(r"^NAME\* +STATE +CRASH QUEUE REQ/S$")
            self.assertEqual(rows(lines), ["one", "one/0", "one/1", "two", "two/0"])
            self.assertEqual((len(lines), lines[11]), (12, "q quit h help n m r c u"))
            self.assertLessEqual(max(map(len, lines)), 40)
            screen.keys("m")
            screen.wait(r"^NAME +STATE +CRASH +\*MEM REQ/S$")
            screen.tmux("resize-window", "-x", "120", "-y", "30")
            self.assertEqual(len(screen.wait(r"STATE +FOR STARTS CRASH")), 30)
            screen.tmux("resize-window", "-x", "3", "-y", "2")
            screen.wait(r"^has$")
            screen.tmux("resize-window", "-x", "80", "-y", "24")
            screen.wait(r"^ two/0 +ready")

    def test_more_slots_than_lines_scroll_in_40_columns(self):
        with World(MANY) as world, Screen(world, 40, 12) as screen:
            self.assertEqual(rows(screen.wait(r"1-8 of 13")), ["m", *(f"m/{i}" for i in range(7))])
            screen.keys("Down")
            self.assertEqual(rows(screen.wait(r"2-9 of 13"))[0], "m/0")
            screen.keys("End")
            self.assertEqual(rows(screen.wait(r"6-13 of 13"))[-1], "m/11")
            screen.keys("Up")
            screen.wait(r"5-12 of 13")
            screen.keys("Home")
            screen.wait(r"1-8 of 13")

    def test_hasupd_goes_and_comes_back(self):
        with World(MODELS) as world, Screen(world, options="-d 0.2") as screen:
            screen.wait(r"^ two/0 +ready")
            world.stop(signal.SIGKILL)
            lines = screen.wait(r"^hasupd is away for .*, trying again: ")
            self.assertEqual(rows(lines)[0], "one")
            world.start()
            self.assertIn(f"pid {world.process.pid}", screen.wait(r"^2 models, 3 slots, 3 ready")[0])

    def test_a_hasupd_that_does_not_answer_is_told_and_keys_go_on(self):
        with World(MODELS) as world, Screen(world, options="-d 0.2") as screen:
            screen.wait(r"^ two/0 +ready")
            world.process.send_signal(signal.SIGSTOP)
            try:
                screen.wait(r"^no answer from hasupd for ")
                screen.keys("m")
                screen.wait(r"\*MEM")
            finally:
                world.process.send_signal(signal.SIGCONT)
            screen.wait(r"^2 models, 3 slots, 3 ready")

    def test_help_comes_and_goes_and_q_leaves_the_terminal_as_it_was(self):
        with World(MODELS) as world, Screen(world) as screen:
            screen.wait(r"^ two/0 +ready")
            screen.keys("?")
            screen.wait(r"^m +by memory$")
            screen.keys("h")
            screen.wait(r"^ two/0 +ready")
            screen.keys("q")
            self.assertEqual([line for line in screen.wait(r"^left with") if line], ["left with 0"])

    def test_sigterm_and_ctrl_c_leave_the_terminal_as_it_was(self):
        for end in (lambda s: os.kill(s.pid(), signal.SIGTERM), lambda s: s.keys("C-c")):
            with World(MODELS) as world, Screen(world) as screen:
                screen.wait(r"^ two/0 +ready")
                end(screen)
                wait_until(lambda: not any("two/0" in line for line in screen.lines()), "it stays")

    def test_colour_is_there_but_with_no_color(self):
        for environment, colours in (("A=b", True), ("NO_COLOR=1", False), ("TERM=vt100", False)):
            with World(MODELS) as world, Screen(world, environment=environment) as screen:
                screen.wait(r"^ two/0 +ready")
                self.assertEqual(b"\x1b[32m" in screen.tmux("capture-pane", "-ep").encode(), colours, environment)


class Refused(unittest.TestCase):
    def test_what_is_no_terminal_is_sent_to_status(self):
        with World(MODELS) as world:
            for args in (["top"], ["--json", "top"]):
                done = world.ctl(*args, check=False)
                self.assertEqual((done.returncode, done.stdout), (2, b""))
                self.assertIn(b"hasupctl", done.stderr)
                self.assertIn(b"status", done.stderr)
            for delay in ("0", "x", "nan", "1e9", "-1"):
                done = world.ctl("top", "-d", delay, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertIn(b"-d SECONDS, from 0.1 to 3600", done.stderr)

    def test_a_terminal_that_is_not_known_is_named(self):
        with World(MODELS) as world, Screen(world, environment="TERM=nosuch") as screen:
            screen.wait(r"TERM is nosuch, which terminfo does not know")
            screen.wait(r"^left with 2$")


if __name__ == "__main__":
    unittest.main()

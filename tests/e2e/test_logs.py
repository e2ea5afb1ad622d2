"""What workers print: whose line it is, floods, slow readers, bytes that are no text, and last words."""
import ctypes
import datetime
import glob
import json
import os
import pty
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_disk import Disk, own_mounts  # noqa: E402
from world import BUILD, LIMIT, WORKER, World, wait_until  # noqa: E402

SDK_WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "sdk_worker.py")
MODEL = f"  m: {{command: [{WORKER}]}}"
TWO = f"{MODEL}\n  quiet: {{command: [{WORKER}]}}"


def hexed(text):
    return (text if isinstance(text, bytes) else text.encode()).hex()


def lines_of(world, *args):
    """What hasupctl logs knows, as JSON."""
    return [json.loads(line) for line in world.ctl("--json", "logs", *args).stdout.splitlines()]


def lines_when(world, count, *args):
    """Once there are so many."""
    got = []

    def there():
        got[:] = lines_of(world, *args)
        return len(got) >= count
    wait_until(there, f"never {count} lines of {args}")
    return got


class Follower:
    """hasupctl logs -f, read by lines."""

    def __init__(self, world, *args):
        self.process = subprocess.Popen([f"{BUILD}/hasupctl", "-s", world.socket, "--json", "logs", "-f", *args],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def line(self):
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


class Lines(unittest.TestCase):
    def test_a_line_has_its_slot_stream_pid_and_request(self):
        with World(MODEL) as world:
            world.post("m", "utter " + hexed("to be\n"), {"X-Request-Id": "r-1"})
            world.post("m", "mutter " + hexed("or not\n"), {"X-Request-Id": "r-2"})
            out, err = lines_when(world, 2, "--grep", "o", "-n", "2")
            pid = world.pid("m/0")
            self.assertEqual([(e["event"], e["message"], e["slot"], e["pid"], e.get("request")) for e in (out, err)],
                             [("worker.stdout", "to be", "m/0", pid, "r-1"),
                              ("worker.stderr", "or not", "m/0", pid, "r-2")])
            self.assertIn("time", out)
            shown = world.ctl("logs", "-n", "1").stdout.decode()
            self.assertRegex(shown, r"^\d\d:\d\d:\d\d\.\d{3} m/0 +\[r-2\] or not\n$")

    def test_each_of_many_lines_bears_its_own_request_or_none(self):
        """A worker that prints and answers at once, one request behind the other: never another's id."""
        with World(MODEL) as world:
            connection = world.connect()
            for i in range(300):
                connection.request("POST", "/models/m/invoke", "utter " + hexed(f"of {i}\n"), {"X-Request-Id": f"r-{i}"})
                self.assertEqual(connection.getresponse().read(), b"")
            connection.close()
            told = 0
            for line in lines_when(world, 300, "--grep", "of ", "-n", "1000"):
                if "request" in line:
                    told += 1
                    self.assertEqual(line["request"], "r-" + line["message"].split()[1])
            self.assertGreater(told, 250)

    def test_a_line_of_a_worker_with_two_requests_is_nobody_s(self):
        with World(MODEL) as world:
            gates = [world.fifo(f"gate-{i}") for i in range(3)]
            bodies = [f"wait {gates[0]}", f"amble 2 {gates[1]} progress", f"wait {gates[2]}"]
            begun = []
            for i, body in enumerate(bodies):  # it takes them one behind the other, and has all in its hand
                begun.append(world.begin("m", body))
                wait_until(lambda: world.slot("m/0")["inflight"] == i + 1, "never in flight")
            world.release(gates[0])
            line = lines_when(world, 1, "--grep", "begins at byte")[0]
            self.assertNotIn("request", line)
            for gate in gates[1:]:
                world.release(gate)
            for connection in begun:
                self.assertEqual(world.finish(connection)[0], 200)

    def test_what_there_is_not_is_said_and_no_silence(self):
        with World(f"  m: {{command: [{WORKER}], workers: 2, spares: 1}}") as world:
            world.post("m", "utter " + hexed("one\n"), {"X-Request-Id": "r-17"})
            lines_when(world, 1, "--grep", "one")
            slot = next(line["slot"] for line in lines_of(world, "--request", "r-17"))
            self.assertEqual(world.ctl("logs", "m/spare-0", "m/1", "m/0").stderr, b"")
            for words, said in ((["n"], 'there is no model "n"; hasupctl status lists them'),
                                (["m/2"], 'there is no slot "m/2"; did you mean m/0 or m/1?'),
                                (["m/"], 'there is no slot "m/"; did you mean m/0 or m/1?'),
                                (["m/00"], 'there is no slot "m/00"; did you mean m/0 or m/1?'),
                                (["-f", "m/spare-1"], 'there is no slot "m/spare-1"; did you mean m/0 or m/1?'),
                                (["--request", "r-1"], 'no line is about a request "r-1"; did you mean "r-17"?'),
                                ([slot, "-r", "[r-17]"], 'no line is about a request "[r-17]"; did you mean "r-17"?'),
                                (["-r", "x"], 'no line that is kept is about a request "x"; hasupctl logs shows whose a line '
                                              'is in [brackets]')):
                with self.subTest(words=words):
                    done = world.ctl("logs", *words, check=False)
                    self.assertEqual((done.returncode, done.stdout, said in done.stderr.decode()), (1, b"", True), done.stderr)
            with Follower(world, "--request", "r-18") as follower:  # which may come
                wait_until(lambda: world.ctl("logs", "-r", "r-18", check=False).returncode == 1, "it was there")
                world.post("m", "utter " + hexed("two\n"), {"X-Request-Id": "r-18"})
                self.assertEqual(follower.line()["message"], "two")
            for words in (["m"], ["-t"], ["--tail", "3"], ["-f"]):
                done = world.ctl("logs", "--reopen", *words, check=False)
                self.assertEqual((done.returncode, b"it stands alone" in done.stderr), (2, True), done.stderr)
            self.assertEqual(world.ctl("--json", "logs", "--reopen").returncode, 0)

    def several_in_hand(self, command):
        """Three requests at once in one worker, each says its own name before and after it waits."""
        with World(f"  m: {{command: {command}, max_attempts: 1}}") as world:
            gates = [world.fifo(f"gate-{i}") for i in range(3)]
            begun = []
            for i, gate in enumerate(gates):  # in C they run in their order
                begun.append(world.begin("m", f"log {gate} of r-{i}", {"X-Request-Id": f"r-{i}"}))
                wait_until(lambda: world.slot("m/0")["inflight"] == i + 1, "never in flight")
            for gate in gates:
                world.release(gate)
            for connection in begun:
                self.assertEqual(world.finish(connection)[0], 200)
            lines = lines_when(world, 6, "--grep", "of r-")
            self.assertEqual([line.get("request") for line in lines], [line["message"][3:] for line in lines])
            self.assertEqual(len(lines), 6)
            of_one = [(e["message"], e["request"]) for e in lines_of(world, "--request", "r-1")]
            self.assertEqual(of_one, [("of r-1", "r-1")] * 2)
            shown = world.ctl("logs", "--request", "r-2").stdout.decode()
            self.assertRegex(shown, r"^(\S+ m/0 +\[r-2\] of r-2\n){2}$")
            own = [e for e in world.events[:world.mark()] if e["event"] == "worker.stderr" and "of r-" in e["message"]]
            self.assertEqual(len(own), 6)
            self.assertNotIn("\\x1b", "".join(e["message"] for e in own))

    def test_a_line_that_says_whose_it_is_is_that_one_s_however_many_are_in_hand(self):
        self.several_in_hand(f"[{WORKER}]")

    def test_so_it_is_in_python_with_threads(self):
        self.several_in_hand(f"[/usr/bin/python3, -B, {SDK_WORKER}, plain, '4']")

    def test_a_client_s_text_cannot_say_whose_line_it_is(self):
        """What looks like a mark and has not the worker's word is text."""
        with World(MODEL) as world:
            world.post("m", "mutter " + hexed(b"\x1b_0123456789abcdef=r-9\x1b\\forged\n"), {"X-Request-Id": "r-1"})
            line = lines_when(world, 1, "--grep", "forged")[0]
            self.assertIn(line.get("request"), ("r-1", None))
            self.assertIn("\\x1b_0123456789abcdef=r-9", line["message"])

    def test_text_that_cannot_be_encoded_costs_its_request_and_not_the_worker(self):
        with World(f"  m: {{command: [/usr/bin/python3, -B, {SDK_WORKER}, plain, 2], environment: {{PYTHONIOENCODING: 'utf-8:strict'}}}}") as world:
            pid = world.pid("m/0")
            status, _, body = world.post("m", "print-surrogate")
            self.assertEqual((status, b"UnicodeEncodeError" in body), (500, True), body)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            self.assertEqual(world.pid("m/0"), pid)

    def test_marked_lines_are_limited_like_all_others(self):
        with World(MODEL, top="log: {rate: {lines: 10, burst: 10}}") as world:
            for i in range(100):
                world.post("m", f"log - line {i}", {"X-Request-Id": f"r-{i}"})
            kept = [e for e in lines_when(world, 5, "--grep", "line ", "-n", "1000") if "dropped" not in e["message"]]
            self.assertLess(len(kept), 100)
            for line in kept:
                self.assertEqual(line["request"], "r-" + line["message"].split()[1])

    def test_bytes_that_are_no_text_are_escaped(self):
        with World(MODEL) as world:
            world.post("m", "utter " + hexed(b"a\x1b[31mb \xff\xc3( \xc3\xbc\tx \x00 \xc2\x9b!\r\n"))
            line = lines_when(world, 1, "--grep", "!")[0]
            self.assertEqual(line["message"], "a\\x1b[31mb \\xff\\xc3( ü\tx \\x00 \\xc2\\x9b!")
            shown = world.ctl("logs", "--grep", "!").stdout
            self.assertNotIn(b"\x1b", shown)
            self.assertEqual(shown.count(b"\n"), 1)

    def test_a_long_line_comes_in_parts_that_say_so(self):
        with World(MODEL, top="log: {line_max: 256}") as world:
            pieces = ["begin" + "ü" * 100, "ü" * 100, "ü" * 100 + "end"]
            for piece in pieces:
                world.post("m", "utter " + hexed(piece))
            world.post("m", "utter " + hexed("\n"))
            text = "".join(pieces)
            parts = lines_when(world, 4, "--since", "1h", "--stream", "stdout")[1:]
            self.assertEqual("".join(p["message"] for p in parts), text)
            self.assertEqual([p.get("more") for p in parts], [True, True, None])
            self.assertIn("[...]", world.ctl("logs", "--grep", "begin").stdout.decode())

    def test_what_a_dying_worker_did_not_finish_is_there(self):
        with World(MODEL) as world:
            world.post("m", "utter " + hexed("the last words"))
            pid = world.kill("m/0")
            world.wait_event("slot.exited", pid=pid)
            line = lines_when(world, 1, "--grep", "last words")[0]
            self.assertEqual((line["partial"], line["pid"]), (True, pid))

    def test_last_words_are_in_status_and_in_the_history(self):
        with World(f"  m: {{command: [{WORKER}], max_attempts: 1}}") as world:
            self.assertEqual(world.post("m", "segv the model is broken", {"X-Request-Id": "r-9"})[0], 422)
            wait_until(lambda: (world.slot("m/0")["last_death"] or {}).get("lines"), "no last lines")
            last = world.slot("m/0")["last_death"]["lines"]
            self.assertEqual([(e["stream"], e["request"], e["text"]) for e in last],
                             [("stdout", None, "hello from m"), ("stderr", "r-9", "the model is broken")])
            note = next(e for e in map(json.loads, world.ctl("--json", "events").stdout.splitlines())
                        if e["event"] == "slot.last_lines")
            self.assertEqual((note["slot"], note["lines"]), ("m/0", "hello from m\nthe model is broken"))
            self.assertIn("| the model is broken", world.ctl("events").stdout.decode())


class Reading(unittest.TestCase):
    def test_lines_are_chosen_by_slot_stream_time_text_and_number(self):
        with World(TWO) as world:
            for i in range(5):
                world.post("m", "utter " + hexed(f"out {i}\n"))
                world.post("quiet", "mutter " + hexed(f"err {i}\n"))
            lines_when(world, 10, "--grep", " ")
            texts = lambda *args: [e["message"] for e in lines_of(world, *args)]  # noqa: E731
            self.assertEqual(texts("m", "-n", "2"), ["out 3", "out 4"])
            self.assertEqual(texts("quiet/0", "--stream", "stderr", "--tail", "1"), ["err 4"])
            self.assertEqual(texts("quiet", "--stream", "stdout"), ["hello from quiet"])
            self.assertEqual(texts("--grep", "2"), ["out 2", "err 2"])
            self.assertEqual(texts("m", "--since", "1h", "-n", "1"), ["out 4"])
            self.assertEqual(len(texts("--since", "1h")), 12)
            self.assertEqual(texts("-n", "0"), [])

    def test_several_models_and_slots_and_streams(self):
        with World(f"{TWO}\n  third: {{command: [{WORKER}], workers: 2}}") as world:
            lines_when(world, 4, "--grep", "hello")
            world.post("m", "mutter " + hexed("an error\n"))
            lines_when(world, 1, "--grep", "an error")
            slots = lambda *args: sorted(e["slot"] for e in lines_of(world, *args))  # noqa: E731
            self.assertEqual(slots("m", "third/1"), ["m/0", "m/0", "third/1"])
            self.assertEqual(slots("third", "quiet"), ["quiet/0", "third/0", "third/1"])
            self.assertEqual(slots("--stderr"), ["m/0"])
            self.assertEqual(slots("m", "--stdout"), ["m/0"])
            self.assertEqual(slots("m", "--stdout", "--stderr"), ["m/0", "m/0"])
            self.assertEqual(slots("m", "--stream", "stdout", "--stream", "stderr"), ["m/0", "m/0"])

    def test_times_as_docker_logs_and_journalctl_take_them(self):
        with World(MODEL) as world:
            time_of = {}
            for i in range(3):
                world.post("m", "utter " + hexed(f"line {i}\n"))
                line = lines_when(world, 1, "--grep", f"line {i}")[0]
                time_of[i] = line["time"]
                wait_until(lambda: datetime.datetime.now(datetime.timezone.utc) >
                           datetime.datetime.fromisoformat(line["time"]) + datetime.timedelta(milliseconds=2), "no time")
            texts = lambda *args: [e["message"] for e in lines_of(world, "-g", "line", *args)]  # noqa: E731
            self.assertEqual(texts("-S", time_of[1]), ["line 1", "line 2"])
            self.assertEqual(texts("--until", time_of[1]), ["line 0", "line 1"])
            self.assertEqual(texts("-S", time_of[1], "-U", time_of[1]), ["line 1"])
            self.assertEqual(texts("-S", time_of[1], "-n", "1"), ["line 2"])
            there = datetime.datetime.fromisoformat(time_of[2]).astimezone(datetime.timezone(-datetime.timedelta(hours=5.5)))
            self.assertEqual(texts("-S", there.isoformat(timespec="milliseconds")), ["line 2"])
            self.assertEqual(texts("-S", time_of[2][11:-1], "-n", "all"), ["line 2"])  # as it is shown
            self.assertEqual(texts("-S", "yesterday"), ["line 0", "line 1", "line 2"])
            self.assertEqual(texts("-S", f"@{int(time.time()) - 3600}"), ["line 0", "line 1", "line 2"])
            tomorrow = (datetime.date.today() + datetime.timedelta(days=2)).isoformat()
            for form in (tomorrow, tomorrow + " 10:00", tomorrow + "T10:00:00Z"):
                self.assertEqual(texts("-S", form), [])

    def test_lines_with_their_day_or_bare(self):
        with World(MODEL) as world:
            world.post("m", "utter " + hexed("bare text\n"))
            line = lines_when(world, 1, "-g", "bare")[0]
            self.assertEqual(world.ctl("logs", "-g", "bare", "--no-prefix").stdout, b"bare text\n")
            self.assertTrue(world.ctl("logs", "-g", "bare", "-t").stdout.decode().startswith(line["time"] + " m/0 "))

    def on_a_terminal(self, world, **environment):
        ours, theirs = pty.openpty()
        done = subprocess.run([f"{BUILD}/hasupctl", "-s", world.socket, "logs"], stdin=subprocess.DEVNULL, stdout=theirs,
                              env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **environment}, timeout=LIMIT)
        os.close(theirs)
        self.assertEqual(done.returncode, 0)
        text = os.read(ours, 65536).decode()
        os.close(ours)
        return text

    def test_colours_tell_slots_apart_on_a_terminal_alone(self):
        with World(f"  m: {{command: [{WORKER}], workers: 3}}") as world:
            lines_when(world, 3, "--grep", "hello")
            text = self.on_a_terminal(world)
            colours = re.findall(r"\x1b\[(\d+)mm/\d +\x1b\[0m hello from m\r\n", text)
            self.assertEqual(len(set(colours)), 3, text)
            self.assertNotIn("\x1b", self.on_a_terminal(world, NO_COLOR="1"))
            self.assertNotIn("\x1b", self.on_a_terminal(world, TERM="dumb"))
            self.assertNotIn(b"\x1b", world.ctl("logs").stdout)

    def test_wrong_words_are_told(self):
        with World(MODEL) as world:
            for args, told in ((("n",), 'no model "n"'), (("--since", "x"), "duration"), (("-n", "x"), "number"),
                               (("--stream", "x"), "stdout, stderr"), (("--bogus",), "unknown option"),
                               (("m", "n"), 'no model "n"'), (("m",) * 17, "16 models"), (("-f", "-U", "1m"), "--until does not"),
                               (("-S", "25:00"), "a time"), (("-U", "2026-11-25T19:00+1"), "a time"), (("-r", ""), "a text"),
                               (("-r", "x" * 129), "128")):
                done = world.ctl("logs", *args, check=False)
                self.assertIn(told, done.stderr.decode())
                self.assertIn(done.returncode, (1, 2))

    def test_a_follower_has_each_line_as_it_comes(self):
        with World(MODEL) as world, Follower(world, "-n", "1") as follower:
            self.assertEqual(follower.line()["message"], "hello from m")
            for i in range(50):
                world.post("m", "utter " + hexed(f"live {i}\n"))
                self.assertEqual(follower.line()["message"], f"live {i}")

    def test_one_who_talks_much_pushes_nobody_out(self):
        with World(TWO, top="log: {memory: 64KiB, rate: {lines: 0, bytes: 0}}") as world:
            world.post("quiet", "utter " + hexed("I was here\n"))
            world.post("m", "flood 8")
            lines_when(world, 100, "m", "-n", "200")
            self.assertEqual(lines_of(world, "quiet", "-n", "1")[0]["message"], "I was here")

    def test_a_slow_follower_loses_lines_is_told_and_holds_nobody_up(self):
        with World(TWO, top="log: {memory: 64KiB, reader: 16KiB, rate: {lines: 0, bytes: 0}}") as world:
            with Follower(world, "m", "-n", "1") as follower:
                self.assertEqual(follower.line()["message"], "hello from m")
                sent = 0

                def behind():
                    nonlocal sent
                    sent += int(world.post("m", "flood 2")[2])
                    return sent > 300000
                wait_until(behind, "the flood never ended")  # and nobody has read a line of it
                world.post("m", "utter " + hexed("the end\n"))
                got, lost = 0, 0
                while True:
                    line = follower.line()
                    if line["event"] == "logs.lost":
                        lost += line["lines"]
                    elif line["message"] == "the end":
                        break
                    else:
                        got += 1
                self.assertEqual(got + lost, sent)
                self.assertGreater(lost, 0)


class Floods(unittest.TestCase):
    def test_a_flood_is_cut_and_every_line_of_it_accounted_for(self):
        with World(MODEL) as world:
            sent = int(world.post("m", "flood 32")[2])
            world.kill("m/0")

            def sum_up():
                lines = lines_of(world, "m", "-n", "1000000")
                dropped = sum(int(e["message"].split()[0]) for e in lines if e["event"] == "worker.dropped")
                return dropped, [e for e in lines if e["message"].startswith("flood")]
            wait_until(lambda: sum_up()[0] + len(sum_up()[1]) >= sent, "lines are not accounted for")
            dropped, kept = sum_up()
            self.assertEqual(dropped + len(kept), sent)
            self.assertGreaterEqual(len(kept), 5000)
            self.assertEqual(kept[0]["message"], "flood line 000000000000")

    def test_a_flood_of_100_megabytes_a_second_does_not_disturb_others(self):
        with World(TWO) as world:
            begun = time.monotonic()
            flooding = world.begin("m", "flood 300")
            times = []
            connection = world.connect()
            while not times or not flooding.sock or not select_ready(flooding):
                start = time.monotonic()
                connection.request("POST", "/models/quiet/invoke", "echo x")
                self.assertEqual(connection.getresponse().read(), b"x")
                times.append(time.monotonic() - start)
            connection.close()
            self.assertEqual(world.finish(flooding)[0], 200)
            rate = 300 / (time.monotonic() - begun)
            self.assertGreater(rate, 5, "the worker was held up")  # several hundred where nothing else runs
            self.assertLess(statistics.median(times), 0.1)

    def test_a_worker_is_not_held_up_by_hasupd_s_own_output(self):
        """Nobody reads hasupd's standard error; its pipe is full, and nothing waits for it."""
        with World(MODEL, top="log: {rate: {lines: 0, bytes: 0}}") as world:
            self.assertEqual(world.post("m", "flood 16")[0], 200)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            world.wait_event("log.dropped")


class OwnLog(unittest.TestCase):
    """What hasupd says itself."""

    def first_lines(self, environment, top=""):
        """Until it has started, on a terminal."""
        ours, theirs = pty.openpty()
        world = World(MODEL, top=top, start=False)
        process = subprocess.Popen([f"{BUILD}/hasupd", "-c", world.config], stdin=subprocess.DEVNULL, stderr=theirs,
                                   env={**os.environ, **environment})
        os.close(theirs)
        try:
            text = b""
            while b"hasupd.started" not in text or not text.endswith(b"\n"):
                text += os.read(ours, 65536)
            return text
        finally:
            process.terminate()
            process.wait(LIMIT)
            os.close(ours)
            world.close()

    def test_text_with_colour_on_a_terminal_without_where_nobody_wants_it(self):
        self.assertIn(b"\x1b[32mINFO", self.first_lines({"NO_COLOR": ""}))
        self.assertRegex(self.first_lines({"NO_COLOR": "1"}), rb"^\d\d:\d\d:\d\d\.\d{3} INFO  hasupd\.started ")
        self.assertTrue(self.first_lines({}, "log: {format: json}").startswith(b'{"time":'))

    def test_a_terminal_that_is_stopped_holds_nobody_up(self):
        """Its buffer is full and nobody reads: Ctrl-S."""
        ours, theirs = pty.openpty()
        world = World(MODEL, top="log: {rate: {lines: 0, bytes: 0}}", start=False)
        process = subprocess.Popen([f"{BUILD}/hasupd", "-c", world.config], stdin=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        try:
            wait_until(lambda: world.ctl("status", check=False).returncode == 0 and
                       world.slot("m/0")["state"] == "ready", "not ready")
            world.port = world.status()["http_port"]
            self.assertEqual(world.post("m", "flood 8")[0], 200)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
        finally:
            process.terminate()
            code = process.wait(LIMIT)
            os.close(ours)
            world.close()
        self.assertEqual(code, 0)

    def test_a_reader_that_goes_away_ends_nothing(self):
        with World(MODEL) as world:
            world.process.stderr.close()
            world.process.stderr = open(os.devnull)
            self.assertEqual(world.post("m", "flood 1")[0], 200)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            self.assertEqual(world.stop(), 0)

    def on_a_socket(self, kind):
        """A hasupd that says what it says there, and to it belongs standard output, too; the world, and what the reader has."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        world = World(MODEL, top="log: {rate: {lines: 0, bytes: 0}, buffer: 64KiB}", start=False)
        process = subprocess.Popen([f"{BUILD}/hasupd", "-c", world.config], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
        theirs.close()
        self.addCleanup(world.close)
        self.addCleanup(ours.close)
        self.addCleanup(process.wait, LIMIT)
        self.addCleanup(process.kill)
        wait_until(lambda: world.ctl("wait", "m", "--ready", check=False).returncode == 0, "not ready")
        world.port = world.status()["http_port"]
        return world, process, ours

    def test_a_socket_of_packets_gets_whole_lines_and_a_slow_reader_of_it_holds_nobody_up(self):
        for kind in socket.SOCK_DGRAM, socket.SOCK_SEQPACKET:
            with self.subTest(kind=kind):
                world, process, ours = self.on_a_socket(kind)
                self.assertEqual(world.post("m", "flood 8")[0], 200)  # nobody reads
                self.assertEqual(world.post("m", "echo x")[2], b"x")
                ours.settimeout(LIMIT)
                events = []
                while "log.dropped" not in events:
                    packet = ours.recv(1 << 20)
                    self.assertTrue(packet.endswith(b"\n"), packet)
                    events += [json.loads(line)["event"] for line in packet.splitlines()]
                self.assertEqual(events[0], "hasupd.started")
                self.assertIn("worker.stdout", events)
                process.terminate()
                while "hasupd.stopped" not in events:
                    events += [json.loads(line)["event"] for line in ours.recv(1 << 20).splitlines()]
                self.assertEqual(process.wait(LIMIT), 0)

    def test_a_reader_of_packets_that_goes_away_ends_nothing(self):
        for kind in socket.SOCK_DGRAM, socket.SOCK_SEQPACKET:
            with self.subTest(kind=kind):
                world, process, ours = self.on_a_socket(kind)
                ours.close()
                self.assertEqual(world.post("m", "flood 1")[0], 200)
                self.assertEqual(world.post("m", "echo x")[2], b"x")
                process.terminate()
                self.assertEqual(process.wait(LIMIT), 0)

    def test_reload_takes_another_level(self):
        with World(MODEL) as world:
            world.write(MODEL, "log: {level: error}")
            mark = world.mark()
            world.ctl("reload")
            world.post("m", "utter " + hexed("not in the log\n"))
            lines_when(world, 1, "--grep", "not in the log")
            world.mark()
            self.assertNotIn("worker.stdout", [e["event"] for e in world.events[mark:]])


def content(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def unpacked(data):
    """A zstd file's bytes, frame by frame."""
    zstd = ctypes.CDLL("libzstd.so.1")
    for name in ("ZSTD_findFrameCompressedSize", "ZSTD_decompress"):
        getattr(zstd, name).restype = ctypes.c_size_t
    out = b""
    while data:
        size = zstd.ZSTD_findFrameCompressedSize(data, ctypes.c_size_t(len(data)))
        room = ctypes.create_string_buffer(1 << 20)
        got = zstd.ZSTD_decompress(room, ctypes.c_size_t(1 << 20), data, ctypes.c_size_t(size))
        out, data = out + room.raw[:got], data[size:]
    return out


class Files(unittest.TestCase):
    FREE = "rate: {lines: 0, bytes: 0}"

    def world(self, files, models=MODEL, more=FREE):
        return World(models, top="log: {%s, files: {directory: logs, %s}}" % (more, files))

    @staticmethod
    def numbers(world, pattern):
        """The numbers of the flood's lines in files, oldest file first."""
        text = b""
        for path in sorted(glob.glob(os.path.join(world.directory, "logs", pattern))):
            with open(path, "rb") as file:
                data = file.read()
            text += unpacked(data) if path.endswith(".zst") else data
        assert not text or text.endswith(b"\n")
        for line in text.splitlines():
            assert re.match(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z m/\d stdout (\[[^]]+\] )?\S", line), line
        return [int(n) for n in re.findall(rb"flood line (\d+)$", text, re.M)]

    def test_lines_of_each_slot_or_of_all_as_text_or_json(self):
        with self.world("each_slot: true", TWO) as world:
            world.post("m", "mutter " + hexed("to a file\n"), {"X-Request-Id": "r-1"})
            lines_when(world, 1, "--grep", "to a file")
            world.ctl("logs", "--reopen")
            with open(os.path.join(world.directory, "logs/m/0.log")) as file:
                self.assertRegex(file.read(), r"T\S+Z m/0 stdout hello from m\n\S+ m/0 stderr \[r-1\] to a file\n$")
            self.assertTrue(os.path.exists(os.path.join(world.directory, "logs/quiet/0.log")))
            self.assertEqual(os.stat(os.path.join(world.directory, "logs/m/0.log")).st_mode & 0o777, 0o600)
        with self.world("each_slot: false, format: json", TWO) as world:
            world.post("m", "utter " + hexed(b"\xff\n"))
            lines_when(world, 1, "--grep", "xff")
            world.ctl("logs", "--reopen")
            with open(os.path.join(world.directory, "logs/workers.log")) as file:
                lines = [json.loads(line) for line in file]
            self.assertEqual({line["slot"] for line in lines}, {"m/0", "quiet/0"})
            self.assertIn("\\xff", [line["message"] for line in lines])

    def test_hasupd_s_own_log_has_a_file_from_its_start_to_its_end(self):
        for format in ("text", "json"):
            with self.world(f"hasupd: true, format: {format}") as world:
                world.post("m", "utter " + hexed("of a worker\n"))
                world.kill("m/0")
                world.wait_event("slot.exited")
                self.assertEqual(world.stop(), 0)
                path = os.path.join(world.directory, "logs/hasupd.log")
                lines = content(path).splitlines()
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
                if format == "json":
                    events = [json.loads(line)["event"] for line in lines]
                else:
                    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?:INFO |WARN |ERROR) (\S+)"
                    events = [re.match(stamp, line).group(1) for line in lines]
                want = [e["event"] for e in world.events if not e["event"].startswith("worker.")]
                self.assertEqual(events[:len(want)], want)  # as on standard error
                self.assertLess(events.index("hasupd.started"), events.index("slot.exited"))
                self.assertEqual(events[-1], "hasupd.stopped")

    def test_hasupd_s_own_file_is_rotated_and_reopened_like_the_others(self):
        with self.world("hasupd: true, size: 64KiB, keep: 2, compress: false") as world:
            path = os.path.join(world.directory, "logs/hasupd.log")
            world.write(f"  m: {{command: [{WORKER}], {', '.join(f'bogus{i}: 1' for i in range(50))}}}",
                        "log: {files: {directory: logs, hasupd: true, size: 64KiB, keep: 2, compress: false}}")
            while not glob.glob(path + ".*"):
                world.ctl("reload", check=False)
            os.rename(path, path + ".mine")
            world.ctl("logs", "--reopen")
            world.ctl("reload", check=False)
            world.ctl("logs", "--reopen")
            self.assertIn("config.refused", content(path))

    def test_a_file_of_hasupd_s_own_without_a_directory_is_refused(self):
        with World(MODEL, top="log: {files: {hasupd: true}}", start=False) as world:
            done = subprocess.run([f"{BUILD}/hasupd", "--check", world.config], capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("log.files.directory", done.stderr + done.stdout)

    def test_rotation_under_load_loses_and_tears_no_line(self):
        with self.world("size: 256KiB, keep: 1000, compress: true, queue: 256MiB") as world:
            sent = sum(int(world.post("m", "flood 4")[2]) for _ in range(3))
            world.kill("m/0")
            world.wait_event("slot.exited")
            wait_until(lambda: not [n for n in glob.glob(os.path.join(world.directory, "logs/m/0.log.*"))
                                    if not n.endswith(".zst")] or world.ctl("logs", "--reopen") is None, "never packed")
            world.ctl("logs", "--reopen")
            self.assertEqual(world.stop(), 0)
            self.assertGreater(len(glob.glob(os.path.join(world.directory, "logs/m/0.log.*.zst"))), 20)
            old, new = self.numbers(world, "m/0.log.*"), self.numbers(world, "m/0.log")
            self.assertEqual(old + new, list(range(sent // 3)) * 3)

    def test_old_files_go(self):
        with self.world("size: 64KiB, keep: 3, compress: false, queue: 64MiB") as world:
            sent = int(world.post("m", "flood 2")[2])
            wait_until(lambda: world.ctl("logs", "--reopen") and sent - 1 in self.numbers(world, "m/0.log*"), "never")
            self.assertEqual(len(glob.glob(os.path.join(world.directory, "logs/m/0.log.*"))), 3)

    def rotated_from_outside(self, reopen):
        """As logrotate does it: renamed under load, then told."""
        with self.world("size: 1GiB, age: never, queue: 256MiB") as world:
            path = os.path.join(world.directory, "logs/m/0.log")
            wait_until(lambda: os.path.exists(path), "no file")
            flooding = world.begin("m", "flood 16")
            for i in range(10):
                os.rename(path, f"{path}.{i}")
                reopen(world)
                wait_until(lambda: os.path.exists(path), "not opened anew")
            sent = int(world.finish(flooding)[2])
            world.post("m", "utter " + hexed("behind it\n"))
            lines_when(world, 1, "--grep", "behind it")
            self.assertEqual(world.stop(), 0)
            self.assertEqual(self.numbers(world, "m/0.log.?") + self.numbers(world, "m/0.log"), list(range(sent)))

    def test_rename_and_reopen_under_load_loses_no_line(self):
        self.rotated_from_outside(lambda world: world.ctl("logs", "--reopen"))

    def test_rename_and_sighup_under_load_loses_no_line(self):
        self.rotated_from_outside(lambda world: world.process.send_signal(signal.SIGHUP))

    def test_after_reopen_the_renamed_file_is_not_written_any_more(self):
        with self.world("size: 1GiB") as world:
            path = os.path.join(world.directory, "logs/m/0.log")
            world.ctl("logs", "--reopen")
            os.rename(path, path + ".1")
            world.ctl("logs", "--reopen")
            size = os.stat(path + ".1").st_size
            world.post("m", "utter " + hexed("new\n"))
            wait_until(lambda: "new" in content(path), "not opened anew")
            self.assertEqual(os.stat(path + ".1").st_size, size)

    def test_a_pipe_or_a_link_in_place_of_a_file_stops_neither_the_others_nor_hasupd(self):
        with self.world("hasupd: true") as world:
            logs = os.path.join(world.directory, "logs")
            victim = os.path.join(world.directory, "victim")
            for name, make in (("m/0.log", os.mkfifo), ("hasupd.log", lambda path: os.symlink(victim, path))):
                path = os.path.join(logs, name)
                wait_until(lambda: os.path.exists(path), "no file")
                os.rename(path, path + ".mine")
                make(path)
            world.ctl("logs", "--reopen")

            def said():
                world.post("m", "utter " + hexed("into a pipe\n"))
                return {e["message"] for e in world.events[:world.mark()] if e["event"] == "log.files_failing"}
            wait_until(lambda: len(said()) >= 2, "not told of both")
            self.assertEqual(said(), {f"cannot open {logs}/m/0.log: is not a file",
                                      f"cannot open {logs}/hasupd.log: is a symbolic link"})
            self.assertFalse(os.path.exists(victim))
            world.ctl("logs", "--reopen")
            self.assertEqual(world.stop(), 0)

    def test_a_full_disk_is_told_once_and_serving_goes_on(self):
        with Disk("1m") as disk, World(MODEL, top=f"log: {{files: {{directory: '{disk.path}/logs'}}}}") as world:
            path = os.path.join(disk.path, "logs/m/0.log")
            wait_until(lambda: os.path.exists(path), "no file")
            disk.fill()
            for i in range(2000):  # what is left of the last page takes some
                self.assertEqual(world.post("m", "utter " + hexed(f"line {i} " + "x" * 200 + "\n"))[0], 200)
                if i % 100 == 99 and any(e["event"] == "log.files_failing" for e in world.events[:world.mark()]):
                    break
            failing = world.wait_event("log.files_failing")
            self.assertIn("No space left", failing["message"])
            disk.free()

            def recovered():
                world.post("m", "utter " + hexed("once more\n"))
                world.mark()
                return any(e["event"] == "log.files_recovered" for e in world.events)
            wait_until(recovered, "never recovered")
            self.assertGreater(world.wait_event("log.files_recovered")["lost"], 0)
            self.assertEqual([e["event"] for e in world.events].count("log.files_failing"), 1)
            world.ctl("logs", "--reopen")
            with open(path) as file:
                text = file.read()
            self.assertIn("(hasupd: ", text)
            self.assertNotRegex(text, r"x{1,199}\d{4}-")  # nothing is torn

    def test_reload_takes_another_directory(self):
        with self.world("keep: 1") as world:
            world.write(MODEL, "log: {files: {directory: elsewhere}}")
            world.ctl("reload")
            path = os.path.join(world.directory, "elsewhere/m/0.log")

            def moved():  # what still waits for the thread at the change takes its successors along to the old place
                world.post("m", "utter " + hexed("moved\n"))
                return "moved" in content(path)
            wait_until(moved, "not moved")


def select_ready(connection):
    import select
    return select.select([connection.sock], [], [], 0)[0]


if __name__ == "__main__":
    why = own_mounts()
    if why:
        print("skipped: Files.test_a_full_disk_is_told_once_and_serving_goes_on:", why)
        del Files.test_a_full_disk_is_told_once_and_serving_goes_on
    unittest.main(verbosity=2)

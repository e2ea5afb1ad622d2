"""`hasupd run`: one command under a minimal init, as PID 1 and not, with a terminal and without."""
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, wait_until  # noqa: E402

RUN = [f"{BUILD}/hasupd", "run"]
UNSHARE = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--pid", "--fork", "--mount-proc"]
NO_NAMESPACE = subprocess.run([*UNSHARE, "true"], capture_output=True).stderr.decode().strip()
PYTHON = [sys.executable, "-B", "-c"]

# Says each signal that it gets, by its number; KILL ends it.
LISTENER = PYTHON + [textwrap.dedent("""
    import signal
    signals = set(range(1, 65)) - {9, 19, 32, 33}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    print("ready", flush=True)
    while True:
        print(signal.sigwaitinfo(signals).si_signo, flush=True)
""")]
# What a process is given by who starts it.
GIVEN = PYTHON + [textwrap.dedent("""
    import os
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
    print(status["SigBlk"].strip(), status["SigIgn"].strip(), fds, os.getcwd(), sorted(os.environ.items()), os.nice(0),
          os.umask(0))
""")]


def run(*words, **options):
    return subprocess.run([*RUN, *words], capture_output=True, text=True, timeout=LIMIT, **options)


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


class Codes(unittest.TestCase):
    def test_its_exit_code_is_the_commands(self):
        for code in 0, 1, 7, 255:
            self.assertEqual(run("sh", "-c", f"exit {code}").returncode, code)
        for signo in signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMIN + 3:
            self.assertEqual(run("--", "sh", "-c", f"ulimit -c 0; kill -{int(signo)} $$").returncode, 128 + signo)

    def test_what_cannot_be_started_is_named(self):
        with tempfile.TemporaryDirectory() as place:
            plain = os.path.join(place, "plain")
            open(plain, "w").close()
            for command, code, why in (("no-such-command", 127, "No such file or directory"),
                                       (f"{place}/gone", 127, "No such file or directory"),
                                       (plain, 126, "Permission denied"), (place, 126, "Permission denied")):
                done = run(command)
                self.assertEqual((done.returncode, done.stdout, done.stderr),
                                 (code, "", f"hasupd run: {command}: {why}\n"))

    def test_an_interpreter_that_is_missing_is_named(self):
        with tempfile.TemporaryDirectory() as place:
            def made(name, content):
                with open(os.path.join(place, name), "wb") as file:
                    file.write(content)
                os.chmod(file.name, 0o755)
                return file.name
            with open("/bin/true", "rb") as file:
                elf = file.read()
            loader = re.search(rb"/lib[^\0]*/ld-[^\0]*\0", elf).group(0)
            for name, content, missing in (
                    ("plain", b"#!/no/such/shell -e\nexit 3\n", "/no/such/shell"), ("nameless-end", b"#! /no/such", "/no/such"),
                    ("dos", b"#!/bin/sh\r\nexit 3\r\n", "/bin/sh\\r"),
                    ("elf", elf.replace(loader, b"/no/ld.so".ljust(len(loader), b"\0"), 1), "/no/ld.so")):
                path = made(name, content)
                for command, where in (path, {}), (name, {"env": {"PATH": f"/usr/bin:{place}"}}):
                    done = run(command, **where)
                    self.assertEqual((done.returncode, done.stderr), (
                        127, f"hasupd run: {command}: its interpreter {missing}: No such file or directory\n"))
            self.assertEqual(run(made("good", b"#!/bin/sh\nexit 3\n")).returncode, 3)
            self.assertIn("nested: No such file or directory", run(made("nested", b"#!%s\n" % made("x", b"#!/no\n").encode())).stderr)

    def test_what_is_nowhere_is_not_found_though_not_all_of_path_may_be_searched(self):
        def nobody():
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(4242)
        with tempfile.TemporaryDirectory() as place:
            closed, there = os.path.join(place, "closed"), os.path.join(place, "plain")
            os.mkdir(closed, 0)
            open(there, "w").close()
            os.chmod(place, 0o755)
            fd = os.open(f"{BUILD}/hasupd", os.O_RDONLY)
            for command, code in ("no-such-command", 127), ("plain", 126):
                done = subprocess.run([f"/proc/self/fd/{fd}", "run", command], pass_fds=[fd], preexec_fn=nobody, cwd="/",
                                      env={"PATH": f"{closed}:{place}"}, capture_output=True, timeout=LIMIT)
                self.assertEqual(done.returncode, code, done.stderr)
            os.close(fd)

    def test_wrong_words_are_refused_with_the_usage(self):
        for words, why in (([], "which command?"), (["-g"], "which command?"), (["-x", "true"], "invalid option"),
                           (["-r", "TERM", "true"], "-r wants SIG:SIG, such as TERM:INT or HUP:0: TERM"),
                           (["-r", "TERM:NONE", "true"], "TERM:NONE"), (["-r", "65:1", "true"], "65:1"),
                           (["-r", "0:1", "true"], "0:1"), (["-w", "soon", "true"], "whole seconds"),
                           (["-r", "KILL:INT", "true"], "KILL and STOP can be caught by nobody, so nothing else can be handed on: -r KILL:INT"),
                           (["-r", "SIGSTOP:0", "true"], "-r SIGSTOP:0"), (["-r", "9:15", "true"], "-r 9:15")):
            done = run(*words)
            self.assertEqual((done.returncode, done.stdout), (2, ""), words)
            self.assertIn(why, done.stderr)
            self.assertIn("usage: hasupd run", done.stderr)
        self.assertEqual(run("-h").returncode, 0)


class Signals(unittest.TestCase):
    def listen(self, *options):
        process = subprocess.Popen([*RUN, *options, *LISTENER], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def end(self, process):
        os.kill(children(process.pid)[0], signal.SIGKILL)
        self.assertEqual(process.wait(LIMIT), 137)

    def test_every_signal_is_handed_on(self):
        process = self.listen()
        for signo in (*range(1, 32), *range(34, 65)):
            if signo in (signal.SIGKILL, signal.SIGSTOP):
                continue
            process.send_signal(signo)
            self.assertEqual(process.stdout.readline(), f"{signo}\n")
        self.end(process)

    def test_signals_are_rewritten(self):
        process = self.listen("-r", "TERM:INT", "-r", "SIGHUP:0", "-r", "12:RTMIN+1", "-r", "RTMAX:1")
        for signo, comes in ((signal.SIGTERM, signal.SIGINT), (12, signal.SIGRTMIN + 1), (signal.SIGHUP, None),
                             (signal.SIGRTMAX, 1), (signal.SIGINT, signal.SIGINT)):
            process.send_signal(signo)
            if comes:
                self.assertEqual(process.stdout.readline(), f"{int(comes)}\n")
        self.end(process)

    def test_to_the_whole_group_where_that_is_asked_for(self):
        both = PYTHON + [textwrap.dedent("""
            import os, signal, sys
            signal.pthread_sigmask(signal.SIG_BLOCK, {15})
            child = os.fork()
            if child:
                print("ready", flush=True)
            signal.sigwait({15})
            os.write(1, b"own\\n" if child else b"child\\n")  # whole, whoever else writes
            if child and sys.argv[1] == "group":
                os.wait()
        """)]
        for words, said in (([], ["own\n"]), (["-g"], ["child\n", "own\n"])):
            with self.subTest(words=words):
                process = subprocess.Popen([*RUN, *words, *both, "group" if words else "alone"], stdout=subprocess.PIPE,
                                           text=True)
                self.addCleanup(process.kill)
                self.assertEqual(process.stdout.readline(), "ready\n")
                process.terminate()
                self.assertEqual(sorted(process.communicate(timeout=LIMIT)[0].splitlines(True)), said)
                self.assertEqual(process.returncode, 0)

    def test_those_that_the_c_library_keeps_for_itself_are_handed_on_and_blocked_as_given(self):
        block = "import ctypes, os, sys; libc = ctypes.CDLL(None); " \
                "libc.syscall(14, 2, (ctypes.c_ulong * 1)(1 << 32), None, 8); os.execv(sys.argv[1], sys.argv[1:])"
        shows = ["grep", "SigBlk", "/proc/self/status"]
        if os.uname().machine == "x86_64":  # rt_sigprocmask has another number elsewhere
            done = subprocess.run([*PYTHON, block, *RUN, *shows], stdout=subprocess.PIPE, timeout=LIMIT)
            self.assertEqual(int(done.stdout.split()[1], 16), 1 << 32)
            # Who starts programs by posix_spawn, as make does, may leave them ignored.
            noticed = "import ctypes, os, sys; libc = ctypes.CDLL(None); act = (ctypes.c_ulong * 4)(); " \
                      "[libc.syscall(13, signo, act, None, 8) for signo in (32, 33)]; os.execv(sys.argv[1], sys.argv[1:])"
            start = [*PYTHON, noticed, *RUN]
        else:
            start = RUN
        for signo in 32, 33:
            process = subprocess.Popen([*start, "sh", "-c", "echo ready; exec sleep 1000"], stdout=subprocess.PIPE)
            self.addCleanup(process.stdout.close)
            self.assertEqual(process.stdout.readline(), b"ready\n")
            process.send_signal(signo)
            self.assertEqual(process.wait(LIMIT), 128 + signo)

    def test_a_term_that_comes_before_the_first_line_is_not_lost(self):
        waits = PYTHON + ["import signal; print(signal.sigwait({15}))"]

        def pend():
            signal.pthread_sigmask(signal.SIG_BLOCK, {15})
            os.kill(os.getpid(), 15)
        for _ in range(5):
            done = subprocess.run([*RUN, *waits], stdout=subprocess.PIPE, timeout=LIMIT, preexec_fn=pend)
            self.assertEqual((done.returncode, done.stdout), (0, b"15\n"))


class Verbose(unittest.TestCase):
    ORPHAN = textwrap.dedent("""
        import os
        own = os.getpid()
        if os.fork() == 0:
            while os.getppid() == own:
                os.sched_yield()
            os._exit(5)
    """)
    SCRIPT = "\"$PYTHON\" -c \"$ORPHAN\"; kill -HUP $PPID; kill -USR1 $PPID; echo there; read x; (setsid sleep 1000 &); exit 3"

    def test_it_says_what_it_does(self):
        given = os.environ | {"PYTHON": sys.executable, "ORPHAN": self.ORPHAN}
        for option in ["-v"], ["--verbose"], ["-v", "-v"]:
            process = subprocess.Popen([*RUN, *option, "-r", "HUP:0", "sh", "-c", f"trap '' USR1; {self.SCRIPT}"], text=True,
                                       env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.assertEqual(process.stdout.readline(), "there\n")
            wait_until(lambda: len(children(process.pid)) == 1, "an orphan stays")
            (command,) = children(process.pid)
            begin, *middle = process.communicate("\n", timeout=LIMIT)[1].splitlines()
            self.assertEqual(process.returncode, 3)
            self.assertEqual(begin, f"hasupd run: sh was started as pid {command}")
            for line in ("HUP came, nothing is handed on to sh", "USR1 came, USR1 is handed on to sh",
                         f"sh (pid {command}) exited with code 3", "what sh has left is killed"):
                self.assertIn(f"hasupd run: {line}", middle)
            orphans = [line for line in middle if "an orphan" in line]
            if option == ["-v", "-v"]:
                self.assertRegex(orphans[0], r"\Ahasupd run: an orphan \(pid \d+\) exited with code 5\Z")
                self.assertRegex(orphans[-1], r"\Ahasupd run: an orphan \(pid \d+\) was ended by KILL\Z")
            else:
                self.assertEqual(orphans, [])

    def test_without_it_nothing_is_said(self):
        done = run("sh", "-c", "kill -USR1 $$")
        self.assertEqual((done.returncode, done.stderr), (128 + signal.SIGUSR1, ""))

    def test_who_does_not_read_that_stops_nothing(self):
        command = PYTHON + ["import os, signal; [os.kill(os.getppid(), signal.SIGURG) or signal.sigwait({23}) "
                            "for _ in range(5000)]; exit(signal.SIGPIPE in signal.sigpending())"]
        block = lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG, signal.SIGPIPE})  # noqa: E731
        full, gone = os.pipe(), os.pipe()
        os.close(gone[0])
        for fd in full[1], gone[1]:
            self.assertEqual(subprocess.run([*RUN, "-v", *command], stderr=fd, preexec_fn=block, timeout=LIMIT).returncode, 0)
        for fd in *full, gone[1]:
            os.close(fd)
        for kind in socket.SOCK_DGRAM, socket.SOCK_SEQPACKET:
            for reads in True, False:
                ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
                if not reads:
                    ours.close()
                done = subprocess.run([*RUN, "-v", *command], stdout=theirs, stderr=theirs, preexec_fn=block, timeout=LIMIT)
                self.assertEqual(done.returncode, 0)
                if reads:
                    self.assertRegex(ours.recv(512), rb"\Ahasupd run: .* was started as pid \d+\n\Z")
                    ours.close()
                theirs.close()


class AsGiven(unittest.TestCase):
    def test_the_command_gets_what_hasupd_got(self):
        def ignore():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR1, 40})
            os.umask(0o27)
        held = os.open("/dev/null", os.O_RDONLY)
        for before in None, ignore:
            options = dict(pass_fds=[held], cwd="/usr", env={"A": "b c", "PATH": os.environ["PATH"]}, preexec_fn=before,
                           stdout=subprocess.PIPE, timeout=LIMIT)
            plain = subprocess.run(GIVEN, **options)
            under = subprocess.run([*RUN, *GIVEN], **options)
            self.assertEqual((under.returncode, under.stdout), (0, plain.stdout))
        os.close(held)

    def test_ignored_deaths_are_noticed_and_stay_ignored_for_the_command(self):
        ignores = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
        ignored = "import signal, sys; sys.exit(3 if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN else 4)"
        done = subprocess.run([*PYTHON, ignores, *RUN, *PYTHON, ignored], timeout=LIMIT)
        self.assertEqual(done.returncode, 3)

    def test_without_a_terminal_it_does_not_stop_with_the_command(self):
        process = subprocess.Popen([*RUN, *LISTENER], stdout=subprocess.PIPE, bufsize=0, start_new_session=True)
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.readline(), b"ready\n")
        (command,) = children(process.pid)
        os.kill(command, signal.SIGSTOP)
        wait_until(lambda: state(command) == "T", "the command to stop")
        process.send_signal(signal.SIGWINCH)  # taken behind the news of the stop, which has a lower number
        os.kill(command, signal.SIGCONT)
        for signo in signal.SIGCONT, signal.SIGWINCH:
            self.assertTrue(select.select([process.stdout], [], [], LIMIT)[0])
            self.assertEqual(process.stdout.readline(), b"%d\n" % signo)
        self.assertNotEqual(state(process.pid), "T")
        os.kill(command, signal.SIGKILL)
        self.assertEqual(process.wait(LIMIT), 137)

    def test_closed_standard_descriptors_stay_closed_and_do_no_harm(self):
        with tempfile.TemporaryDirectory() as place:
            script = f"ls /proc/self/fd > {place}/fds 2>&1; exit 4"
            done = subprocess.run([*RUN, "sh", "-c", script], preexec_fn=lambda: os.closerange(0, 3), close_fds=False,
                                  timeout=LIMIT)
            self.assertEqual(done.returncode, 4)
            self.assertTrue(os.path.exists(f"{place}/fds"))

    @unittest.skipUnless(os.geteuid() == 0, "only root can be somebody else")
    def test_any_user_with_nowhere_to_write(self):
        def nobody():
            os.chdir("/proc")
            os.setgroups([])
            os.setgid(65534)
            os.setuid(4242)
        done = subprocess.run(["/proc/self/fd/9", "run", "id", "-u"], preexec_fn=nobody, capture_output=True, timeout=LIMIT,
                              pass_fds=[self.binary()])
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"4242\n", b""))

    def binary(self):
        fd = os.open(f"{BUILD}/hasupd", os.O_RDONLY)
        os.dup2(fd, 9)
        os.close(fd)
        self.addCleanup(os.close, 9)
        return 9


STORM = """
import os, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
print("over", flush=True)
sys.stdin.read(1)
"""


class Trees(unittest.TestCase):
    def storm(self, prefix):
        process = subprocess.Popen([*prefix, *RUN, *PYTHON, STORM, "500"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), b"over\n")
        init = process.pid if not prefix else children(process.pid)[0]
        wait_until(lambda: len(children(init)) == 1, "orphans stay")
        process.communicate(b"x", timeout=LIMIT)
        self.assertEqual(process.returncode, 0)

    def test_orphans_are_reaped(self):
        self.storm([])

    @unittest.skipIf(NO_NAMESPACE, NO_NAMESPACE)
    def test_orphans_are_reaped_by_pid_1(self):
        self.storm(UNSHARE)

    def test_nothing_of_the_tree_is_left(self):
        script = "setsid setsid sh -c 'echo $$; exec sleep 1000' & read x; exit 3"
        process = subprocess.Popen([*RUN, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        left = int(process.stdout.readline())
        self.assertFalse(is_gone(left))
        process.communicate(b"\n", timeout=LIMIT)
        self.assertEqual(process.returncode, 3)
        self.assertTrue(is_gone(left))

    def test_what_is_left_gets_time_where_that_is_asked_for(self):
        polite = "setsid sh -c 'trap \"echo bye; exit\" TERM; echo there; while :; do sleep 0.01; done' & read x"
        for words, said in ([], b""), (["-w", "60"], b"bye\n"):
            process = subprocess.Popen([*RUN, *words, "sh", "-c", polite], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.assertEqual(process.stdout.readline(), b"there\n")
            self.assertEqual(process.communicate(b"\n", timeout=LIMIT)[0], said)  # and no longer than it takes

    # Says how often it was asked to end.
    COUNTER = textwrap.dedent("""
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        print("there", flush=True)
        signal.sigwaitinfo([signal.SIGTERM])
        print(2 if signal.sigtimedwait([signal.SIGTERM], 0.2) else 1, flush=True)
    """)

    def test_everybody_who_is_left_is_asked_once(self):
        below = "setsid sh -c 'trap exit TERM; \"$PYTHON\" -c \"$COUNTER\" & wait' & read x"
        beside = "\"$PYTHON\" -c \"$COUNTER\" & read x"
        given = os.environ | {"PYTHON": sys.executable, "COUNTER": self.COUNTER}
        for script in below, beside:
            process = subprocess.Popen([*RUN, "-w", "60", "sh", "-c", script], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, env=given)
            self.assertEqual(process.stdout.readline(), b"there\n")
            self.assertEqual(process.communicate(b"\n", timeout=LIMIT)[0], b"1\n", script)

    def test_who_is_left_and_stopped_is_asked_too(self):
        stopped = "setsid sh -c 'trap \"echo bye; exit\" TERM; echo there; kill -STOP $$; read y' & read x"
        process = subprocess.Popen([*RUN, "-w", "60", "sh", "-c", stopped], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), b"there\n")
        self.assertEqual(process.communicate(b"\n", timeout=LIMIT)[0], b"bye\n")

    def test_the_time_that_is_left_is_whole(self):
        deaf = "setsid sh -c 'trap \"\" TERM; echo there; exec sleep 1000' & read x"
        process = subprocess.Popen([*RUN, "-w", "1", "sh", "-c", deaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), b"there\n")
        begun = time.monotonic()
        process.communicate(b"\n", timeout=LIMIT)
        self.assertGreaterEqual(time.monotonic() - begun, 1)

    def test_a_second_term_hastens_what_is_left(self):
        deaf = "trap 'exit 0' TERM; setsid sh -c 'trap \"\" TERM; echo there; while :; do sleep 1000; done' & wait"
        for signo in signal.SIGTERM, signal.SIGINT:
            process = subprocess.Popen([*RUN, "-v", "-w", "3600", "sh", "-c", deaf], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, bufsize=0)
            self.assertEqual(process.stdout.readline(), b"there\n")
            process.terminate()
            while b"gets TERM, and 3600 s" not in process.stderr.readline():
                pass
            self.assertIsNone(process.poll())
            process.send_signal(signo)
            self.assertIn(b"what sh has left is killed", process.communicate(timeout=LIMIT)[1])
            self.assertEqual(process.returncode, 0)

    @unittest.skipIf(NO_NAMESPACE, NO_NAMESPACE)
    def test_as_pid_1(self):
        done = subprocess.run([*UNSHARE, *RUN, "sh", "-c", "cat /proc/1/comm; (setsid sleep 1000 &); exit 9"],
                              capture_output=True, timeout=LIMIT)
        self.assertEqual((done.returncode, done.stdout), (9, b"hasupd\n"))
        done = subprocess.run([*UNSHARE, *RUN, "sh", "-c", "kill -TERM 1; sleep 1000"], timeout=LIMIT)
        self.assertEqual(done.returncode, 143)  # PID 1 is told, and tells the command


class Terminal:
    """A process of its own session with a terminal, and what it shows."""

    def __init__(self, *command):
        self.shown = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            for signo in signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU:
                signal.signal(signo, signal.SIG_DFL)  # whoever runs the tests in the background ignores some
            os.environ["PS1"] = "$ "
            os.environ["TERM"] = "dumb"
            os.execvp(command[0], command)

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait(self, pattern):
        """Until it shows that; what stood before is forgotten."""
        ends = time.monotonic() + LIMIT
        while not (match := re.search(pattern.encode(), self.shown)):
            assert select.select([self.fd], [], [], max(ends - time.monotonic(), 0))[0], (pattern, self.shown)
            try:
                self.shown += os.read(self.fd, 65536)
            except OSError:
                raise AssertionError((pattern, self.shown)) from None
        self.shown = self.shown[match.end():]
        return match

    def close(self):
        os.close(self.fd)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return os.waitpid(self.pid, 0)[1]


class Terminals(unittest.TestCase):
    FOREGROUND = "import os; print('foreground', os.tcgetpgrp(0) == os.getpgrp() != os.getppid(), flush=True); input()"

    MINE = 'import os; print("mine", os.tcgetpgrp(0) == os.getpgrp(), flush=True)'

    def start(self, *command):
        terminal = Terminal(*command)
        self.addCleanup(terminal.close)
        return terminal

    def test_the_command_has_the_terminal_and_its_keys(self):
        terminal = self.start(*RUN, *PYTHON, self.FOREGROUND)
        terminal.wait("foreground True")
        terminal.type("\x03")
        terminal.wait("KeyboardInterrupt")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]), 130)
        terminal.pid = os.spawnlp(os.P_NOWAIT, "true", "true")  # for close()

    def test_the_terminal_is_whichever_standard_descriptor_is_one(self):
        asks = "import os, sys; fd = int(sys.argv[1]); " \
               "os.write(fd, b\"own %s\\n\" % (b\"yes\" if os.tcgetpgrp(fd) == os.getpgrp() != os.getppid() else b\"no\"))"
        for fd, others in ((0, "1>&- 2>/dev/null"), (1, "</dev/null 2>&-"), (2, "</dev/null >/dev/null"), (2, "<&- >&-")):
            terminal = self.start("sh", "-c", f"{' '.join(RUN)} {' '.join(PYTHON)} '{asks}' {fd} {others}; "
                                              f"{' '.join(PYTHON)} '{self.MINE}'")
            terminal.wait("own yes")
            terminal.wait("mine True")

    @unittest.skipIf(NO_NAMESPACE, NO_NAMESPACE)
    def test_as_pid_1_it_takes_no_terminal_from_the_foreground(self):
        init = " ".join([*UNSHARE, *RUN, "-v"])
        terminal = self.start("bash", "--norc", "-i")
        terminal.wait(r"\$ ")
        terminal.type(f"{init} true\n")
        terminal.wait(r"as pid 2, with the terminal\r\n")
        terminal.wait(r"\$ ")
        terminal.type(f"{init} sh -c 'while sleep 0.01; do :; done' &\n")
        terminal.wait(r"as pid 2\r\n")
        terminal.type("echo mi''ne\n")
        terminal.wait("\nmine\r\n")
        terminal.type("kill %1; wait; echo o''ver\n")
        terminal.wait("\nover\r\n")

    def test_the_terminal_comes_back_from_what_cannot_be_started(self):
        terminal = self.start("sh", "-c", f"{' '.join(RUN)} /does/not/exist; {' '.join(PYTHON)} '{self.MINE}'")
        terminal.wait("mine True")

    def test_it_stops_and_goes_on_as_a_shells_job(self):
        cat = f"{' '.join(RUN)} sh -c 'echo u''p; exec cat'"
        terminal = self.start("bash", "--norc", "-i")
        terminal.wait(r"\$ ")
        terminal.type(f"{cat}\n")
        terminal.wait("\nup\r\n")
        terminal.type("once\n")
        terminal.wait("once\r\nonce\r\n")
        terminal.type("\x1a")
        terminal.wait("Stopped")
        terminal.type("echo mi''ne\n")  # the shell has its terminal back
        terminal.wait("\nmine\r\n")
        terminal.type("fg\n")
        terminal.wait("exec cat'\r\n")
        terminal.type("again\n")
        terminal.wait("again\r\nagain\r\n")
        terminal.type("\x03")
        terminal.wait(r"\$ ")
        terminal.type("echo code $?\n")
        terminal.wait("code 130")
        terminal.type(f"{cat} &\n")  # who reads from the background stops
        terminal.wait("up\r\n")
        told = b""
        while told != b"Stopped":  # the shell continues only what it knows to have stopped
            terminal.type("jobs\n")
            told = terminal.wait(r"\[1\]\+  (Running|Stopped) .*\r\n").group(1)
        terminal.type("echo so''on\n")
        terminal.wait("\nsoon\r\n")  # and all is read that was said before
        terminal.type("fg\n")
        terminal.wait("exec cat'\r\n")
        terminal.type("third\n")
        terminal.wait("third\r\nthird\r\n")
        terminal.type("\x04")
        terminal.wait(r"\$ ")
        terminal.type("echo code $?\n")
        terminal.wait("code 0")


if __name__ == "__main__":
    unittest.main()

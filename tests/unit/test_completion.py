"""Completion: what bash, zsh and fish offer for hasupctl and hasupd, with a hasupd that runs and without one."""
import glob
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
from world import BUILD, LIMIT, WORKER, World  # noqa: E402

FILES = os.path.join(ROOT, "completion")
NOBODY = "/nonexistent/hasup.sock"
BASH = """. "$1"; shift; function=$1; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); $function
          printf '%s\\n' "${COMPREPLY[@]}" """
# The functions of zsh's own completion that are called, as far as what is offered shows.
ZSH = """file=$1; shift; words=("$@"); CURRENT=$#
         _describe() { print -l -- ${(M)${(P)@[-1]}:#$words[CURRENT]*}; }; _files() { print :files; }; _normal() { print :command; }
         complete_it() { . $file; }; complete_it"""


def run(*command, socket_path=NOBODY, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL,
                          env={**os.environ, "HASUP_SOCKET": socket_path, "LC_ALL": "C.UTF-8"}, **more)
    if done.stderr:
        raise AssertionError(f"{command}: {done.stderr}")
    return done.stdout


def lines(*command, **more):
    return run(*command, **more).splitlines()


def asked(*words, **more):
    """What hasupctl says itself, the helps left away."""
    return [line.split("\t")[0] for line in lines(f"{BUILD}/hasupctl", "--complete", *words, **more)]


def bash(*words, program="hasupctl", **more):
    offered = lines("bash", "--norc", "-c", BASH, "bash", f"{FILES}/hasup.bash", "_" + program, f"{BUILD}/{program}", *words,
                    **more)
    return [line for line in offered if line]


def zsh(*words, program="hasupctl", **more):
    offered = lines("zsh", "-f", "-c", ZSH, "zsh", f"{FILES}/_{program}", f"{BUILD}/{program}", *words, **more)
    return [line.split(":")[0] or line for line in offered if line]


def fish(*words, program="hasupctl", **more):
    with tempfile.TemporaryDirectory(prefix="hasup-fish.") as home:
        script = f'source {FILES}/{program}.fish; set -x PATH {BUILD} $PATH; complete -C "{" ".join((program,) + words)}"'
        found = lines("env", f"HOME={home}", f"XDG_CONFIG_HOME={home}", f"XDG_DATA_HOME={home}", "fish", "--no-config", "-c",
                      script, **more)
    return [line.split("\t")[0] for line in found]


SHELLS = [shell for shell in (bash, zsh, fish) if shutil.which(shell.__name__)]
for absent in {"zsh", "fish"} - {shell.__name__ for shell in SHELLS}:
    print(f"completion: no {absent} here, its file is not tried", file=sys.stderr)


def usage_options(text):
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", text))


class Source(unittest.TestCase):
    """hasupctl --complete, which all three ask."""

    def test_every_verb_of_help_completes_and_every_option_of_its_help_does(self):
        verbs = asked("")
        with open(os.path.join(ROOT, "hasupctl/main.c"), encoding="utf-8") as source:
            table = source.read().split("VERBS[] = {")[1].split("};")[0]
        self.assertEqual(verbs, re.findall(r'^    \{"(\w+)"', table, re.M))
        for verb in verbs:
            usage = run(f"{BUILD}/hasupctl", verb, "--help")
            second = asked(verb, "") if verb in ("requests", "checkpoint") else []
            offered = set(asked(verb, "-"))
            for word in second:
                offered |= set(asked(verb, word, "-"))
                self.assertIn(f"\n  {word}", usage.replace("[", ""))
            named = usage_options(re.sub(r"   .*", "", usage.split("\n", 1)[0] + re.sub(r"(?m)(?<=\S)   .*", "", usage)))
            self.assertEqual(offered, named | {"--json", "--help"}, verb)

    def test_options_that_the_sources_read_are_offered(self):
        """What a verb compares its words with is in its usage, else nobody could find it."""
        offered = set(asked("-"))
        for verb in asked(""):
            offered |= set(asked(verb, "-"))
            for word in asked(verb, ""):
                offered |= set(asked(verb, word, "-"))
        for file in glob.glob(os.path.join(ROOT, "hasupctl/*.c")):
            with open(file, encoding="utf-8") as source:
                text = source.read()
            named = re.findall(r'is_option\(word, (?:"-\w"|NULL), "(--[a-z-]+)"\)', text)
            for name in named + re.findall(r'strcmp\(\w+(?:->argv\[\w+\])?(?:\[\w+\])?, "(--[a-z-]+)"\)', text):
                self.assertIn(name, offered, file)

    def test_words(self):
        self.assertEqual(asked("sta"), ["status", "start"])
        self.assertEqual(asked("checkpoint", ""), ["now", "list", "show", "export", "import", "prune"])
        self.assertEqual(asked("requests", ""), ["list", "show", "drop", "retry", "letters"])
        self.assertEqual(asked("requests", "show", "x", "--b"), ["--body"])
        self.assertEqual(asked("requests", "--m"), ["--model"])
        self.assertEqual(asked("checkpoint", "prune", "m", "--"), ["--keep", "--hourly", "--daily", "--all", "--json", "--help"])
        self.assertEqual(asked("wait", "m", "--"), ["--ready", "--stopped", "--idle", "--timeout", "--json", "--help"])
        self.assertEqual(asked("shutdown", "--"), ["--explain", "--now", "--json", "--help"])
        self.assertEqual(asked("--json", "-s", "x", "conf"), ["config"])
        self.assertEqual(asked("events", "--level", ""), ["debug", "info", "warning", "error"])
        self.assertEqual(asked("events", "-f", "--event", "slot.exi"), ["slot.exited"])
        self.assertEqual(asked("events", "--event", "upgr"), ["upgrade", "upgrade.asked", "upgrade.failed"])
        self.assertEqual(asked("events", "--event", "slot.exited,state_"),
                         ["slot.exited,state_dir", "slot.exited,state_dir.shared"])
        for words in (("audit", "-c", ""), ("-s", ""), ("--key-file", "x"), ("upgrade", "--binary", ""), ("infer", "m", ""),
                      ("infer", "--key", "k", "--async", "m", ""), ("checkpoint", "import", ""),
                      ("checkpoint", "export", "m/0", "")):
            self.assertEqual(asked(*words), [":files"], words)
        for words in (("--state-dir", ""), ("audit", "--state-dir", "")):
            self.assertEqual(asked(*words), [":directories"], words)
        for words in ((), ("nonsense", ""), ("nonsense", "-"), ("scale", "m", ""), ("config", ""), ("checkpoint", "nonsense", ""),
                      ("infer", "m", "x", ""), ("events", "-n", ""), ("events", "--event", "x" * 5000 + ","), ("events", "--event", "nosuch"),
                      ("-s",) * 60, ("status", "m" * 5000),
                      ("x" * 5000, ""), ("requests", "-" * 5000, "")):
            self.assertIn(asked(*words), ([], [":files"]), words)

    def test_a_hasupd_that_does_not_answer_holds_nobody_up(self):
        with tempfile.TemporaryDirectory(prefix="hasup-mute.") as directory, socket.socket(socket.AF_UNIX) as mute:
            path = os.path.join(directory, "s")
            mute.bind(path)
            mute.listen(4)
            self.assertEqual(asked("status", "", socket_path=path), [])


class Shells(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World(f"  digits: {{command: [{WORKER}], workers: 2}}\n  other: {{command: [{WORKER}]}}\n")
        cls.addClassCleanup(cls.world.close)

    def each(self, expected, *words, **more):
        for shell in SHELLS:
            with self.subTest(shell=shell.__name__, words=words):
                self.assertEqual(sorted(shell(*words, **more)), sorted(expected))

    def test_verbs_and_options(self):
        self.each(["status", "start"], "sta")
        self.each(["list", "letters"], "requests", "l")
        self.each(["--ready"], "wait", "digits", "--r")
        self.each(["warning"], "events", "-f", "--level", "w")
        self.each(["socket", "socket.closed", "socket.failed", "socket.listens"], "events", "--event", "so")

    def test_names_of_the_hasupd_that_runs(self):
        here = {"socket_path": self.world.socket}
        self.each(["digits", "other"], "status", "", **here)
        self.each(["digits", "digits/0", "digits/1"], "restart", "digits", **here)
        self.each(["digits/1"], "why", "digits/1", **here)
        self.each(["digits/0", "digits/1", "other/0"], "checkpoint", "export", "", **here)
        self.each(["other"], "requests", "--model", "o", **here)
        self.each(["other"], "logs", "-f", "digits/0", "digits/1", "o", **here)
        self.each(["other"], "-s", self.world.socket, "stop", "o")
        self.each(["other"], "audit", "--restore-test", "o", **here)

    def test_nothing_and_silence_without_one(self):
        self.each([], "status", "")

    def test_a_path_where_one_is_wanted(self):
        begun = self.world.config[:-len(".yaml")]
        for program, words in (("hasupctl", ("audit", "-c")), ("hasupd", ("-c",)), ("hasupd", ("--check",))):
            self.assertEqual(bash(*words, begun, program=program), [self.world.config])
            if zsh in SHELLS:
                self.assertEqual(zsh(*words, begun, program=program), [":files"])
            if fish in SHELLS:
                self.assertEqual(fish(*words, begun, program=program), [self.world.config])
        state, = bash("--state-dir", self.world.directory + "/sta")
        self.assertEqual(state, self.world.state)

    def test_hasupd(self):
        self.each(["--check", "--help", "--version"], "--", program="hasupd")
        self.each(["run"], "ru", program="hasupd")
        self.each(["-g", "-r", "-v", "-w"], "run", "-", program="hasupd")
        self.each(["-g", "-r", "-v", "-w"], "run", "-r", "TERM:INT", "-", program="hasupd")
        self.assertIn("sleep", bash("run", "-g", "slee", program="hasupd"))
        self.assertIn("sleep", bash("run", "--", "slee", program="hasupd"))

    @unittest.skipUnless(zsh in SHELLS, "no zsh here")
    def test_zsh_itself_takes_what_is_offered(self):
        """With its own completion system, on a terminal, where a key is pressed."""
        pid, screen = pty.fork()
        if pid == 0:
            os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "HASUP_SOCKET": self.world.socket, "TERM": "xterm", "PS1": "% ",
                                                   "PATH": f"{BUILD}:{os.environ['PATH']}"})
        try:
            self.type(screen, f"fpath=({FILES} $fpath); autoload -Uz compinit; compinit -u -D; PS1=rea''dy-\n", "ready-")
            self.type(screen, "hasupctl checkpoint \t", "verifies its hashes")
            self.type(screen, "\x15hasupctl restart ot\t", "her")
            self.type(screen, "\x15hasupd run -\t", "whole process group")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(screen)

    def type(self, screen, keys, expected):
        os.write(screen, keys.encode())
        shown, end = b"", time.monotonic() + LIMIT
        while expected.encode() not in shown:
            self.assertTrue(select.select([screen], [], [], max(0, end - time.monotonic()))[0], shown)
            shown += os.read(screen, 65536)


if __name__ == "__main__":
    unittest.main()

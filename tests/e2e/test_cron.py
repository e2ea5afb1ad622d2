"""The audit as Debian's cron itself runs it, with the lines of deploy/cron/hasup-audit.

cron runs in namespaces of its own, with a clock of its own that libfaketime makes run two minutes a second, from just
before the hour of the nightly line; what it starts has the true time.
"""
import glob
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, ROOT, World, wait_until  # noqa: E402

CTL = os.path.abspath(f"{BUILD}/hasupctl")
COUNTER = f"  counter: {{command: [{BUILD}/examples/counter], journal: always, checkpoint: {{interval: 30s}}}}"
# Only these lines are in its tables, and /usr/sbin has a sendmail that keeps what it is given.
MACHINE = """
set -e
mount --make-rprivate /
mount --bind "$1/cron.d" /etc/cron.d
mount --bind /dev/null /etc/crontab
mount -t tmpfs none /var/spool/cron
mkdir /var/spool/cron/crontabs
mount -t tmpfs none /run
mkdir /run/lock
mount --bind "$1/sbin" /usr/sbin
exec /usr/bin/env LD_PRELOAD="$2" FAKETIME='@2026-01-02 03:13:00 x120' /usr/sbin/cron -f
"""


@unittest.skipUnless(os.geteuid() == 0, "cron is root's")
class Cron(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.mkdtemp(prefix="hasup-cron.")
        self.addCleanup(shutil.rmtree, self.place)
        self.mail = os.path.join(self.place, "mail")
        self.world = World(COUNTER)
        self.addCleanup(self.world.close)
        for name in "cron.d", "sbin":
            os.mkdir(os.path.join(self.place, name))
        shutil.copy("/usr/sbin/cron", os.path.join(self.place, "sbin"))
        sendmail = os.path.join(self.place, "sbin/sendmail")
        self.write(sendmail, f"#!/bin/sh\ncat >'{self.place}/new' && cat '{self.place}/new' >>'{self.mail}'\n")
        os.chmod(sendmail, 0o755)
        with open(os.path.join(ROOT, "deploy/cron/hasup-audit")) as file:
            text = file.read()
        for there, here in ("/usr/bin/hasupctl", CTL), ("/etc/hasup.yaml", self.world.config):
            self.assertIn(there, text)
            text = text.replace(there, here)
        table = os.path.join(self.place, "cron.d/hasup-audit")
        self.write(table, text)
        os.chmod(table, 0o644)

    @staticmethod
    def write(path, text):
        with open(path, "w") as file:
            file.write(text)

    def start(self):
        (library,) = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        cron = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", MACHINE,
                                 "sh", self.place, library], stdin=subprocess.DEVNULL)

        def end():
            with open(f"/proc/{cron.pid}/task/{cron.pid}/children") as file:
                for pid in file.read().split():
                    os.kill(int(pid), signal.SIGKILL)  # its PID 1, and it is gone after all that it started
            cron.wait(LIMIT)
        self.addCleanup(end)
        return cron

    def audits(self):
        path = os.path.join(self.world.state, "audits.jsonl")
        if not os.path.exists(path):
            return []
        with open(path) as file:
            return [json.loads(line) for line in file.read().split("\n")[:-1]]

    def mailed(self):
        try:
            with open(self.mail) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def test_cron_audits_tests_a_restore_at_night_and_mails_what_is_found(self):
        world = self.world
        self.assertEqual(world.post("counter", "")[0], 200)
        world.ctl("checkpoint", "now", "counter")
        cron = self.start()

        def ran(count):
            self.assertIsNone(cron.poll())
            return {len(entry["restored"]) for entry in self.audits()} == {0, 1} and len(self.audits()) >= count
        wait_until(lambda: ran(3), "cron runs neither line")
        self.assertEqual({entry["verdict"] for entry in self.audits()}, {"sound"})
        self.assertEqual(self.mailed(), "")
        journal = os.path.join(world.state, "journal.db")
        self.assertEqual(stat.S_IMODE(os.stat(journal).st_mode), 0o600)
        os.chmod(journal, 0o644)
        wait_until(lambda: "to do: chmod 0600" in self.mailed(), "cron mails nothing")
        self.assertRegex(self.mailed(), re.compile(r"^Subject: Cron <root@.*> +/usr/bin/flock -n .*hasupctl audit ", re.M))
        self.assertRegex(self.mailed(), re.compile(r"^permissions: \S+journal.db: mode 0644 lets others in$", re.M))
        self.assertIn("findings", {entry["verdict"] for entry in self.audits()})


if __name__ == "__main__":
    unittest.main()

"""A hasupd as PID 1 of a namespace of its own, as in a container, in a world that tests it from outside."""
import os
import signal
import subprocess
import tempfile

from world import BUILD, LIMIT, World

UNSHARE = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--pid", "--fork", "--mount-proc"]
NO_NAMESPACE = subprocess.run([*UNSHARE, "true"], capture_output=True).stderr.decode().strip()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def tree(pid):
    """Everybody below it, by their numbers out here."""
    below = []
    for child in children(pid):
        below += [child, *tree(child)]
    return below


class Contained(World):
    """`inside` runs in the namespace, and execs "$@", which is hasupd."""

    def __init__(self, models, inside='exec "$@"', top="", **options):
        self.wrapper = tempfile.NamedTemporaryFile("w", prefix="hasup-pid1.", delete=False)
        self.wrapper.write(f"#!/bin/sh\nset -- {BUILD}/hasupd \"$@\"\nexec {' '.join(UNSHARE)} sh -c '{inside}' sh \"$@\"\n")
        self.wrapper.close()
        os.chmod(self.wrapper.name, 0o755)
        super().__init__(models, top, program=self.wrapper.name, **options)

    def start(self, wait=True):
        super().start(wait)
        (self.init,) = children(self.process.pid)

    def signal(self, signo):
        os.kill(self.init, signo)

    def exit_code(self):
        return self.process.wait(LIMIT)

    def close(self):
        if self.process and self.process.returncode is None:
            for pid in children(self.process.pid):
                os.kill(pid, signal.SIGKILL)  # and with it all of its namespace
        super().close()
        os.unlink(self.wrapper.name)

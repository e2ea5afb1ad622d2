"""A process that has loaded once and forks workers, which share its memory copy-on-write.  Each becomes a child of
hasupd: a process in the middle forks it and is gone at once.  What cannot be forked (threads, a GPU in use) is refused
with a reason, never tried: the worker would hang or crash later, far from the cause."""
from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import sys
from typing import Iterator, Tuple

PR_SET_PDEATHSIG = 1
UNFORKABLE = "unforkable"  # hasupd looks for this word: no later SPAWN will do better

_libc = None


def prepare() -> None:
    """Once, after the load: what is there now is no garbage, and is not to be touched, and so copied, to find out."""
    global _libc
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.getenv.restype = ctypes.c_void_p
    gc.collect()
    gc.freeze()


def obstacle() -> str:
    """Why this process cannot be forked; "": it can."""
    others = sorted(os.listdir("/proc/self/task"), key=int)[1:]
    if others:
        with open(f"/proc/self/task/{others[0]}/comm") as file:
            name = file.read().strip()
        return (f'{len(others)} other thread{"s" if len(others) > 1 else ""} ("{name}") would not be there after a '
                "fork: start threads in `forked`, or leave preload off")
    for number in os.listdir("/proc/self/fd"):
        try:
            device = os.readlink("/proc/self/fd/" + number)
        except OSError:
            continue  # it was the list's own
        if device.startswith("/dev/nvidia") or device == "/dev/kfd":
            return (f"{device} is open, and a GPU in use does not survive a fork: use it in `forked`, or leave preload "
                    "off")
    with open("/proc/self/maps") as file:
        if any("/libcuda.so" in line for line in file):
            return ("libcuda is loaded, and a CUDA context does not survive a fork: use the GPU in `forked`, or leave "
                    "preload off")
    return ""


class Birth:
    """One fork.  `pid` is 0 in the worker, which waits until `known`, and is then hasupd's child."""

    def __init__(self) -> None:
        self.hasupd = os.getppid()
        self.told, telling = os.pipe()
        waiting, self.held = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            middle = os.fork()
            if middle == 0:
                self._middle(telling, waiting)
                return
        except OSError:
            os.close(self.told)
            os.close(self.held)
            raise
        finally:
            os.close(telling)
            os.close(waiting)
        try:
            os.waitpid(middle, 0)
        except ChildProcessError:
            pass  # somebody else's handler took it
        said = os.read(self.told, 8)
        os.close(self.told)
        number = int.from_bytes(said, "little", signed=True)
        if number <= 0:
            os.close(self.held)
            raise OSError(-number, os.strerror(-number)) if said else OSError("the process in the middle died")
        self.pid = number

    def _middle(self, telling: int, waiting: int) -> None:
        """Returns in the worker alone."""
        try:
            said = os.fork()
        except OSError as error:
            said = -(error.errno or 1)
        if said:
            os.write(telling, said.to_bytes(8, "little", signed=True))
            os._exit(0)
        self.pid = 0
        os.close(self.held)
        os.close(self.told)
        os.setpgid(0, 0)
        if os.read(waiting, 1) != b"\1" or not self._belongs():
            os._exit(1)  # nobody knows of it

    def _belongs(self) -> bool:
        """Waits until who is in the middle is gone: then hasupd is the parent, and dies after all of its workers."""
        parent = os.getppid()
        if parent != self.hasupd:
            try:
                middle = os.pidfd_open(parent)
                while os.getppid() == parent:
                    select.select([middle], [], [])
                os.close(middle)
            except ProcessLookupError:
                pass  # gone already
        assert _libc
        return _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) == 0 and os.getppid() == self.hasupd

    def known(self) -> None:
        os.write(self.held, b"\1")

    def close(self) -> None:
        os.close(self.held)


def _variables(body: bytes) -> Iterator[Tuple[str, str]]:
    for variable in body.split(b"\0")[:-1]:
        name, _, value = os.fsdecode(variable).partition("=")
        yield name, value


def set_environment(body: bytes) -> None:
    """Where a new value has the old one's length it takes its place, so that /proc shows it: by it hasupd knows whose
    a process is that left its group."""
    assert _libc
    for name, value in _variables(body):
        old, new = os.environ.get(name), os.fsencode(value)
        if old is not None and len(os.fsencode(old)) == len(new):
            place = _libc.getenv(os.fsencode(name))
            if place:
                ctypes.memmove(place, new, len(new))
        os.environ[name] = value
    if "LISTEN_PID" in os.environ:  # the sockets are this process's, too
        os.environ["LISTEN_PID"] = str(os.getpid())
    for name in ("HASUP_FD", "HASUP_ZYGOTE"):
        os.environ.pop(name, None)

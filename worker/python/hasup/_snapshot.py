"""How a worker's state is taken: `save` runs here, between two requests, or in a forked child that has the state as
it was at the fork, while this process goes on serving.  The child says through a pipe what came of it; if it dies, the
state has failed and nothing else has.  It never touches hasupd's socket, and dies with this process."""
from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import signal
import sys
import traceback
from typing import Callable, NamedTuple, Optional, Union

PR_SET_PDEATHSIG = 1
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Bytes = Union[bytes, bytearray, memoryview]


class Taken(NamedTuple):
    """A state in a memfd, which is the taker's to close; or why there is none."""
    descriptor: int
    length: int
    why: str


def _write(descriptor: int, state: Bytes) -> int:
    with memoryview(state) as whole, whole.cast("B") as view:
        done = 0
        while done < len(view):
            done += os.write(descriptor, view[done:done + (1 << 30)])
        return done


def take(save: Callable[[], Bytes]) -> Taken:
    """Runs `save` here."""
    descriptor = os.memfd_create("hasup-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        return Taken(descriptor, _write(descriptor, save()), "")
    except Exception as error:
        traceback.print_exc()
        os.close(descriptor)
        return Taken(-1, 0, f"save: {error}")


class Snapshot:
    """A child that runs `save`.  OSError: none could be made."""

    def __init__(self, save: Callable[[], Bytes], meta: bytes, socket: int) -> None:
        self.meta = meta
        self.descriptor = os.memfd_create("hasup-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        prctl = ctypes.CDLL(None).prctl
        self.result, told = os.pipe()
        parent = os.getpid()
        sys.stdout.flush()
        try:
            self.child = os.fork()
        except OSError:
            self.close()
            raise
        finally:
            if os.getpid() == parent:
                os.close(told)
        if self.child == 0:
            self._child(save, told, socket, parent, prctl)

    def _child(self, save: Callable[[], Bytes], told: int, socket: int, parent: int, prctl: Callable[..., int]) -> None:
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent's to hear; it waits for this
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                gc.disable()  # it would touch, and so copy, every object
                os.close(socket)
                length = _write(self.descriptor, save())
                os.write(told, length.to_bytes(8, "little"))
                code = 0
        except Exception as error:
            traceback.print_exc()
            os.write(told, b"save: " + str(error).encode()[:1000])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def close(self) -> None:
        os.close(self.result)
        os.close(self.descriptor)

    def end(self) -> Taken:
        """What came of it; waits for it."""
        said = b""
        while len(said) < 8:
            more = os.read(self.result, 1 << 16)
            if not more:
                break
            said += more
        os.close(self.result)
        status: Optional[int] = None
        try:
            status = os.waitpid(self.child, 0)[1]
        except ChildProcessError:
            pass  # somebody else's handler took it
        if len(said) == 8:
            return Taken(self.descriptor, int.from_bytes(said, "little"), "")
        os.close(self.descriptor)
        if said:
            return Taken(-1, 0, said.decode(errors="replace"))
        if status is not None and os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            return Taken(-1, 0, f"the process that took the state was killed by signal {number} "
                                f"({signal.strsignal(number)})")
        return Taken(-1, 0, "the process that took the state exited before it was done")

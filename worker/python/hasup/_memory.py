"""Shared memory that a large body stands in."""
from __future__ import annotations

import fcntl
import mmap
import os

from . import _frames as f


class Memory:
    """A memfd with a large body: hasupd's, or one of the worker's own."""

    def __init__(self, number: int, descriptor: int, size: int, ours: bool) -> None:
        self.number, self.descriptor, self.size, self.busy = number, descriptor, size, False
        access = mmap.PROT_READ | (mmap.PROT_WRITE if ours else 0)
        self.map = mmap.mmap(descriptor, size, mmap.MAP_SHARED, access)

    @staticmethod
    def make(number: int, length: int) -> "Memory":
        size = f.INLINE_MAX
        while size < length:
            size *= 2
        descriptor = os.memfd_create("hasup-answer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return Memory(number, descriptor, size, True)

    def close(self) -> None:
        os.close(self.descriptor)
        try:
            self.map.close()
        except BufferError:
            pass  # somebody still holds a view; the mapping goes with it

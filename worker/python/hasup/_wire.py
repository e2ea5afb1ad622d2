"""A worker's side of the socket: frames that leave, and the shared memory that large bodies stand in."""
from __future__ import annotations

import os
import socket
import threading
from typing import Dict, List, Optional, Union

from . import _frames as f
from ._memory import Memory
from ._worker import Body


def _data(body: Body) -> Union[bytes, bytearray, memoryview]:
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, memoryview):
        return body.cast("B") if body.contiguous else bytes(body)
    if isinstance(body, (bytes, bytearray)):
        return body
    raise TypeError(f"an answer is bytes, str, Reply or a generator of those, not {type(body).__name__}")


class Wire:
    def __init__(self, sock: socket.socket) -> None:
        self.channel = f.Channel(sock)
        self.theirs: Dict[int, Memory] = {}
        self.ours: List[Memory] = []
        self.gone: Optional[Memory] = None  # the last one withdrawn: given back in a pause, as it takes long
        self.numbers = 0  # of buffers that were announced
        self.lock = threading.RLock()  # of the channel's sending side
        self.released = threading.Condition(self.lock)  # a buffer of the worker's own was
        self.inline_max = f.INLINE_MAX

    # ---- sending ----

    def send(self, kind: int, number: int = 0, meta: bytes = b"", body: Body = b"", seq: int = 0) -> None:
        data = _data(body)
        with self.lock:
            if len(data) <= self.inline_max:
                self.channel.send(f.encode(kind, number, meta, data, seq=seq))
                return
            memory = self.take_memory(len(data))
            memory.map[:len(data)] = data
            memory.busy = True
            meta += f.field(f.TAG_BUFFER_ID, memory.number)
            self.channel.send(f.encode(kind, number, meta, b"", f.FLAG_BUFFER, seq, len(data)))

    def take_memory(self, length: int) -> Memory:
        while True:
            idle = [memory for memory in self.ours if not memory.busy]
            for memory in idle:
                if memory.size >= length:
                    return memory
            if len(self.ours) < f.BUFFERS_MAX - 1:  # one is for a state, which goes as soon as it came
                break
            if idle:
                self.withdraw(idle[0])
            else:
                self.await_release()
        self.numbers += 1
        memory = Memory.make(self.numbers, length)
        self.ours.append(memory)
        self.announce(memory.number, memory.size, memory.descriptor)
        return memory

    def await_release(self) -> None:
        """Until hasupd gave a buffer back, or may have."""
        raise NotImplementedError

    def withdraw(self, memory: Memory) -> None:
        self.ours.remove(memory)
        memory.close()
        self.send(f.BUFFER_GONE, meta=f.field(f.TAG_BUFFER_ID, memory.number))

    def rest(self) -> None:
        """Gives back what memory the next answer does not need; one buffer is kept."""
        self.free_gone()
        with self.lock:
            for memory in [memory for memory in self.ours if not memory.busy][1:]:
                self.withdraw(memory)
            self.flush()

    def may_rest(self) -> bool:
        return bool(self.gone) or sum(not memory.busy for memory in self.ours) > 1

    def announce(self, number: int, size: int, descriptor: int) -> None:
        meta = f.field(f.TAG_BUFFER_ID, number) + f.field(f.TAG_BUFFER_SIZE, size, wide=True)
        self.channel.send_descriptor(f.encode(f.BUFFER, meta=meta, flags=f.FLAG_FD), descriptor)

    def flush(self) -> None:
        with self.lock:
            self.channel.flush()

    # ---- buffers of hasupd ----

    def buffer_frame(self, frame: f.Frame) -> None:
        values = dict(f.fields(frame.meta))
        number = f.U32.unpack(values.get(f.TAG_BUFFER_ID, b"\0" * 4))[0]
        if frame.type == f.RELEASE:
            with self.released:
                for memory in self.ours:
                    if memory.number == number:
                        memory.busy = False
                self.released.notify_all()
        elif frame.type == f.BUFFER_GONE:
            gone = self.theirs.pop(number, None)
            if gone:
                self.free_gone()
                self.gone = gone
        else:
            size = f.U64.unpack(values.get(f.TAG_BUFFER_SIZE, b"\0" * 8))[0]
            if frame.descriptor < 0 or not size or os.fstat(frame.descriptor).st_size < size:
                raise f.ProtocolError("a buffer is smaller than it says")
            self.theirs[number] = Memory(number, os.dup(frame.descriptor), size, False)

    def free_gone(self) -> None:
        if self.gone:
            self.gone.close()
        self.gone = None

    def body_of(self, frame: f.Frame) -> Union[bytes, memoryview]:
        if not frame.flags & f.FLAG_BUFFER:
            return frame.body
        values = dict(f.fields(frame.meta))
        memory = self.theirs.get(f.U32.unpack(values.get(f.TAG_BUFFER_ID, b"\0" * 4))[0])
        offset = f.U64.unpack(values.get(f.TAG_BUFFER_OFFSET, b"\0" * 8))[0]
        if memory is None or offset + frame.body_len > memory.size:
            raise f.ProtocolError("a body stands in a buffer that was never announced")
        return memoryview(memory.map)[offset:offset + frame.body_len]

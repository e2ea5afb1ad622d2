"""Five times what the workers can do, for a while: what is answered in time, and how much memory that takes.

    overload.py [SECONDS]    60

One connection of the Unix socket, requests at a steady rate, each with a second's deadline; whoever is refused does not
come again.  Exits 1 where less than nine tenths of what the workers can do is answered in time, where the p99 of what
is answered is above the deadline, or where hasupd's memory grows with what it refuses.
"""
import os
import select
import socket
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "unit")]
import fake_hasupd as f  # noqa: E402
from world import LIMIT, WORKER, World  # noqa: E402

WORKERS, TAKES_MS, TIMES, DEADLINE_S = 4, 10, 5, 1.0
MODELS = f"  m: {{command: [{WORKER}, --concurrency, '1'], workers: {WORKERS}}}"
DEADLINE = 10


def memory_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


class Load(f.Peer):
    def __init__(self, world, seconds):
        super().__init__(socket.socket(socket.AF_UNIX))
        self.socket.connect(world.socket)
        self.count = int(seconds * WORKERS * 1000 / TAKES_MS * TIMES)
        self.each = seconds / self.count
        self.sent, self.took, self.refused, self.late = {}, [], 0, 0
        self.meta = f.field(f.TAG_MODEL, "m") + f.field(f.TAG_ROUTE, "invoke")
        self.meta += f.field(DEADLINE, struct.pack("<Q", int(DEADLINE_S * 1e9)))

    def run(self):
        begin, number = time.monotonic(), 0
        while number < self.count or self.sent:
            while number < self.count and time.monotonic() >= begin + number * self.each:
                number += 1
                self.sent[number] = time.monotonic()
                self.send(f.REQUEST, number, self.meta, f"take {TAKES_MS}".encode())
            ahead = begin + number * self.each - time.monotonic() if number < self.count else LIMIT
            while select.select([self.socket], [], [], max(ahead, 0))[0]:
                self.hear()
                ahead = 0
        return time.monotonic() - begin

    def hear(self):
        _, number, status, _, _ = self.receive()
        took = time.monotonic() - self.sent.pop(number)
        if status == 200:
            self.took.append(took)
        elif status == 504:
            self.late += 1
        else:
            assert status == 429, status
            self.refused += 1


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with World(MODELS) as world:
        for _ in range(10 * WORKERS):
            assert world.post("m", f"take {TAKES_MS}")[0] == 200
        load = Load(world, seconds)
        before = memory_kib(world.process.pid)
        span = load.run()
        grown = memory_kib(world.process.pid) - before
    in_time = sorted(t for t in load.took if t <= DEADLINE_S)
    goodput = len(in_time) / (span * WORKERS * 1000 / TAKES_MS)
    p99 = sorted(load.took)[len(load.took) * 99 // 100]
    print(f"{load.count} requests in {span:.1f} s: {len(in_time)} answered in time, {goodput:.1%} of what {WORKERS} workers of "
          f"{TAKES_MS} ms can do; p99 {p99:.3f} s of {DEADLINE_S} s; {load.refused} refused, {load.late} expired; hasupd grew by {grown} KiB")
    return 0 if goodput >= 0.9 and p99 <= DEADLINE_S and grown <= 8192 else 1


if __name__ == "__main__":
    sys.exit(main())

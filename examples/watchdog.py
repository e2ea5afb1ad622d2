#!/usr/bin/python3
"""A worker that feeds its watchdog while it computes: the primes below the number in the request's body.

    models:
      primes:
        command: [examples/watchdog.py]
        timeouts: {watchdog: 10s}
"""
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker", "python"))
import hasup  # noqa: E402


class Watchdog:
    """Says at most twice in the time it has that the worker lives; without NOTIFY_SOCKET it does nothing."""

    def __init__(self):
        self.address = os.environ.get("NOTIFY_SOCKET")
        self.every = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        self.last = 0.0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def alive(self):
        now = time.monotonic()
        if self.address and now - self.last >= self.every:
            self.last = now
            self.socket.sendto(b"WATCHDOG=1", self.address)


class Primes(hasup.Worker):
    def load(self):
        self.watchdog, self.busy = Watchdog(), threading.Lock()
        threading.Thread(target=self.while_idle, daemon=True).start()

    def while_idle(self):
        """Nobody waits for anything: that the process runs is enough.  While it computes, the computation speaks."""
        while True:
            time.sleep(max(self.watchdog.every / 2, 0.1))
            if self.busy.acquire(blocking=False):
                self.watchdog.alive()
                self.busy.release()

    def infer(self, request):
        with self.busy:
            below, primes = int(bytes(request.body)), []
            for n in range(2, below):
                if n % 1000 == 0:
                    self.watchdog.alive()
                if all(n % p for p in primes if p * p <= n):
                    primes.append(n)
            return " ".join(map(str, primes))


if __name__ == "__main__":
    hasup.serve(Primes())

#!/usr/bin/env python3
"""A model that is loaded once and shared by all of its workers: 64 MiB of weights, and a thread in each worker that a
fork would not bear.  Put it into a configuration and kill one of its workers; the next answer comes in milliseconds.

    models:
      shared: {command: [python3, examples/preload.py], workers: 4, spares: 1, preload: true}
"""
import os
import queue
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker", "python"))
import hasup  # noqa: E402


class Shared(hasup.Worker):
    def load(self):  # once, in the zygote; or in the worker, where there is none
        self.weights = bytearray(os.urandom(1 << 20)) * 64
        self.log = None

    def forked(self):  # in each worker
        self.log = queue.SimpleQueue()
        threading.Thread(target=self.write, daemon=True).start()

    def write(self):
        while True:
            print("asked for", self.log.get())

    def infer(self, request):
        if self.log:
            self.log.put(request.request_id)
        return f"{sum(self.weights[:1 + len(request.body)])} by {os.getpid()}, loaded by {'a zygote' if self.log else 'itself'}\n"


hasup.serve(Shared())

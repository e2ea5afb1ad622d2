#!/usr/bin/python3
"""A worker of some version.

Its first argument is what it answers.  --never: it says why, and exits before it is ready; --hangs: it is never ready;
--fails: it answers errors; --dies: it dies of every request; --counts: it keeps state; --gate=FIFO: it is ready when
somebody wrote there.
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402

STATEFUL = "--counts" in sys.argv


class Versioned(hasup.Worker):
    metadata = json.dumps({"platform": sys.argv[1]})
    total = 0

    def load(self):
        for gate in (argument[7:] for argument in sys.argv if argument.startswith("--gate=")):
            file = os.open(gate, os.O_RDONLY)
            os.read(file, 1)
            os.close(file)
        if "--never" in sys.argv:
            print("there is no file weights.bin", file=sys.stderr, flush=True)
            os._exit(3)
        if "--hangs" in sys.argv:
            print("waiting for the device", file=sys.stderr, flush=True)
            os.read(os.pipe()[0], 1)

    def infer(self, request):
        if "--dies" in sys.argv:
            os._exit(9)
        if "--fails" in sys.argv:
            raise hasup.Error(500, "this version fails")
        self.total += 1
        if STATEFUL:
            return f"{sys.argv[1]} {self.total}".encode()
        return hasup.Reply(sys.argv[1].encode(), content_type="text/plain")

    if STATEFUL:
        def save(self):
            return str(self.total).encode()

        def restore(self, state):
            self.total = int(state)


hasup.serve(Versioned())

"""A worker in Python that takes batches: see batched.c, of which it knows count, wait, fail, all, crash and sum."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402


class Batched(hasup.Worker):
    max_batch = 8

    def infer_batch(self, requests):
        bodies = [bytes(request.body) for request in requests]
        for body in bodies:
            if body == b"crash":
                os.kill(os.getpid(), signal.SIGABRT)
            if body.startswith(b"wait "):
                with open(body[5:], "rb") as gate:
                    gate.read(1)
        if b"all" in bodies:
            raise RuntimeError("as a whole")
        return [hasup.Error(418, "this one fails") if body == b"fail" else
                str(sum(body)) if body.startswith(b"sum ") else str(len(bodies)) for body in bodies]


hasup.serve(Batched())

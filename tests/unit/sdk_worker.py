"""A worker of the Python SDK that does what tests/e2e/worker.c and examples/counter.c do."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402


class Plain(hasup.Worker):
    def load(self):
        if "--fail-load" in sys.argv:
            raise RuntimeError("the weights are not there")

    def infer(self, request):
        body = bytes(request.body)
        word, _, rest = body[:500].partition(b" ")
        if word == b"echo":
            return body[5:]
        if word == b"fail":
            raise hasup.Error(503, rest.decode())
        if word == b"raise":
            raise ValueError("no such thing")
        if word == b"big":
            return bytes(i * 31 & 255 for i in range(256)) * (int(rest) // 256)
        if word == b"wait":
            with open(rest, "rb") as gate:
                gate.read(1)
            return b"done"
        if word == b"stream":
            return (b"part %d of %d\n" % (i + 1, int(rest)) for i in range(int(rest)))
        if word == b"until-cancelled":
            end = time.monotonic() + 30
            while not request.cancelled and time.monotonic() < end:
                pass
            return b"cancelled" if request.cancelled else b"never"
        if word == b"log":
            gate, _, text = rest.decode().partition(" ")
            request.log(text)
            if gate != "-":
                with open(gate, "rb") as file:
                    file.read(1)
            print(text, file=sys.stderr)
            return b""
        if word == b"print-surrogate":  # of a file's name that is no UTF-8, for example
            print("\udcff", end="")
            return b"printed"
        if word == b"session":
            return request.session
        if word == b"about":
            return "|".join([request.route, request.content_type, request.headers.get("x-a", ""),
                             str(request.attempt), str(request.replay)])
        return f"{len(body)} {sum(body)}"


class Counter(hasup.Worker):
    total = 0

    def infer(self, request):
        self.total += 1
        return f"{self.total}\n"

    def save(self):
        return self.total.to_bytes(8, "little")

    def restore(self, state):
        self.total = int.from_bytes(state, "little")


class Snapshotter(Counter):
    """Its state is taken by a child; what the environment names goes wrong there."""
    snapshot = True

    def save(self):
        if "SAVE_GATE" in os.environ:
            with open(os.environ["SAVE_GATE"], "rb") as gate:
                gate.read(1)
        if "SAVE_FAILS" in os.environ:
            raise RuntimeError("no such state")
        if "SAVE_DIES" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.total.to_bytes(8, "little") + bytes(int(os.environ.get("STATE_MORE", 0)))

    def restore(self, state):
        super().restore(state[:8])


if __name__ == "__main__":
    if sys.argv[1] == "snapshot":
        hasup.serve(Snapshotter(), concurrency=16)
    if sys.argv[1] == "counter":
        hasup.serve(Counter(), concurrency=16)
    hasup.serve(Plain(), concurrency=int(sys.argv[2]) if sys.argv[2:] and sys.argv[2].isdigit() else 1)

"""A worker in Python that takes batches: see batched.c, which does the same."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402


def parts_of(count):
    return (b"part %d of %d\n" % (i + 1, count) for i in range(count))


class Batched(hasup.Worker):
    max_batch = 8

    def infer_batch(self, requests):
        bodies = [bytes(request.body) for request in requests]
        for request, body in zip(requests, bodies):
            if body == b"crash":
                os.kill(os.getpid(), signal.SIGABRT)
            if body.startswith(b"wait ") and not request.replay:
                with open(body[5:], "rb") as gate:
                    gate.read(1)
        if b"all" in bodies:
            raise RuntimeError("as a whole")
        return [self.answer(request, body, place + 1, len(bodies))
                for place, (request, body) in enumerate(zip(requests, bodies))]

    def answer(self, request, body, place, count):
        word, _, rest = body.partition(b" ")
        if word == b"log":
            request.log(rest.decode())
        if word == b"fail":
            return hasup.Error(418, "this one fails")
        if word == b"big":
            return (bytes(i * 31 & 255 for i in range(256)) * (int(rest) // 256 + 1))[:int(rest)]
        if word == b"stream":
            return parts_of(int(rest))
        if word == b"key":
            return f"{request.batch_key} {count}"
        while word == b"until-cancelled" and not request.cancelled:
            pass
        if word == b"until-cancelled":
            return "cancelled"
        return str(sum(body) if word == b"sum" else place if word == b"order" else count)


class Stateful(Batched):
    ran = 0

    def answer(self, request, body, place, count):
        self.ran += 1
        answer = super().answer(request, body, place, count)
        return f"{self.ran} of {count}" if answer == str(count) else answer

    def save(self):
        return self.ran.to_bytes(8, "little")

    def restore(self, state):
        self.ran = int.from_bytes(state, "little")


if __name__ == "__main__":
    worker = Stateful() if "--stateful" in sys.argv else Batched()
    if "--most" in sys.argv:
        worker.max_batch = int(sys.argv[sys.argv.index("--most") + 1])
    hasup.serve(worker, concurrency=4 if "--threads" in sys.argv else 1)

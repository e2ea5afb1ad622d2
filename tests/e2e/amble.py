"""The end-to-end tests' worker that goes on in the middle, in Python: `amble N PATH HOW`, as tests/e2e/worker.c."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402


def wait_for(path):
    """Blocks until somebody writes to the FIFO; an end of file is the end of who wrote to the one before."""
    while True:
        with open(path, "rb", buffering=0) as file:
            if file.read(1):
                return


class Amble(hasup.Worker):
    resumable = True

    def infer(self, request):
        _, count, path, how = bytes(request.body).decode().split()
        return self.amble(request, int(count), path, how)

    def amble(self, request, count, path, how):
        done, at = 0, 0
        if how == "progress" and request.progress is not None:
            done, at = struct.unpack("<i", request.progress)[0], request.progress_at
        elif how == "sent" and request.sent is not None:
            done, at = request.sent.count(b"\n"), request.sent_len
        elif how == "lie" and request.resumed and request.attempt == 2:
            at = 7
        print(f"attempt {request.attempt} begins at byte {at}", file=sys.stderr, flush=True)
        if at:
            yield hasup.ResumeAt(at)
        while done < count:
            if path != "-" and done == count - 1:
                wait_for(path)
            done += 1
            yield f"part {done} of {count}\n"
            yield hasup.Progress(struct.pack("<i", done))


hasup.serve(Amble())

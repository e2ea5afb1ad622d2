"""What test_spares.py asks of tests/e2e/worker.c, in Python: does what the body says.  --thread: load() starts one;
--map PATH: it maps that file."""
import ctypes
import mmap
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402


class Preloaded(hasup.Worker):
    def load(self):
        self.weights = [object() for _ in range(100000)]
        if "--thread" in sys.argv:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        if "--map" in sys.argv:
            with open(sys.argv[sys.argv.index("--map") + 1], "rb") as file:
                self.mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def infer(self, request):
        word, _, rest = bytes(request.body).partition(b" ")
        if word == b"echo":
            return rest
        if word == b"pid":
            return str(os.getpid())
        if word == b"slot":
            return os.environ["HASUP_SLOT"]
        if word == b"print":
            print(rest.decode())
            return b""
        if word == b"segv":
            sys.stderr.write(rest.decode() + "\n")
            sys.stderr.flush()
            ctypes.string_at(0)
        if word == b"child":
            child = subprocess.Popen(["tail", "-f", "/dev/null"], start_new_session=True)
            self.child = child
            return str(child.pid)
        raise ValueError("no such word")


hasup.serve(Preloaded())

#!/usr/bin/python3
"""A worker that hangs where it is told to, and feeds its watchdog.

Bodies: echo TEXT; hang: in a function of that name; deaf: feeds its watchdog no more; trigger: says that it hangs;
environment: what it has of systemd's variables; grow N: keeps N bytes more;
bear N: leaves a child that keeps N bytes; pid.
Arguments: --load hangs in load; --deaf ignores SIGABRT; --beat SECONDS feeds its watchdog that often; --stateful counts its
requests and answers their number to `count`.
"""
import os
import signal
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402

KEPT = []


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


def wait_for_the_device():
    os.read(os.pipe()[0], 1)


class Watched(hasup.Worker):
    deaf = threading.Event()

    def load(self):
        if "--deaf" in sys.argv:
            signal.signal(signal.SIGABRT, signal.SIG_IGN)
        if "--load" in sys.argv:
            wait_for_the_device()
        if "--beat" in sys.argv:
            every = float(sys.argv[sys.argv.index("--beat") + 1])
            threading.Thread(target=self.beat, args=(every,), daemon=True).start()

    def beat(self, every):
        count = 0
        while not self.deaf.wait(every):
            count += 1
            notify(f"STATUS=beat {count}\nWATCHDOG=1\n")

    def infer(self, request):
        word, _, rest = bytes(request.body).decode().partition(" ")
        if word == "hang":
            wait_for_the_device()
        if word == "deaf":
            self.deaf.set()
        if word == "trigger":
            notify("WATCHDOG=trigger")
            wait_for_the_device()
        if word == "environment":
            return " ".join(f"{name}={os.environ.get(name)}" for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"))
        if word == "bear":
            there, here = os.pipe()
            lives = os.pipe()  # its end is the worker's end, also where a test kills hasupd
            if not os.fork():
                held = os.urandom(1) * int(rest)
                os.close(lives[1])
                os.write(here, b"held")
                os.read(lives[0], 1)
                del held
                os._exit(0)
            os.read(there, 4)
            KEPT.append(lives)
        if word == "grow":
            KEPT.append(os.urandom(1) * int(rest))
        if word == "pid":
            return str(os.getpid())
        return rest


if __name__ == "__main__":
    hasup.serve(Watched())

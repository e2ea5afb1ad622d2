#!/usr/bin/python3
"""A worker with a state of its size in bytes, which misbehaves in a restore test as the file MOOD says."""
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402

MOOD = ""
if os.environ.get("HASUP_RESTORE_TEST"):
    with open(os.environ["MOOD"]) as file:
        MOOD = file.read().strip()


class Moody(hasup.Worker):
    def load(self):
        self.state = bytes(8)
        if MOOD == "slow":
            while True:
                os.read(os.pipe()[0], 1)
        if MOOD.startswith("waits "):
            with open(MOOD.split()[1], "w") as file:
                print(os.getpid(), os.environ["TMPDIR"], sep="\n", file=file)
            os.read(os.pipe()[0], 1)
        if MOOD == "noisy":
            print("cannot find the GPU", file=sys.stderr, flush=True)
            os._exit(3)
        if MOOD == "parent":  # a child that would outlive it, in a session of its own
            child = subprocess.Popen(["/bin/sh", "-c", "trap '' TERM HUP; exec cat"], stdin=subprocess.PIPE,
                                     start_new_session=True)
            with open(os.environ["MOOD"] + ".pid", "w") as pid:
                pid.write(str(child.pid))
        if MOOD.startswith("call "):
            try:
                socket.create_connection(("127.0.0.1", int(MOOD.split()[1])), timeout=10).close()
                called = "yes"
            except OSError as error:
                called = str(error)
            with open(os.environ["MOOD"] + ".called", "w") as file:
                file.write(called)
        if MOOD == "where":
            with open(os.environ["MOOD"] + ".where", "w") as file:
                file.write("\n".join([os.environ["TMPDIR"], str(os.getpgid(0) == os.getpid()), os.getcwd()]))
            with open(os.path.join(os.environ["TMPDIR"], "left"), "w") as file:
                file.write("x")

    def infer(self, request):
        """Its body is the size of the state."""
        count = int.from_bytes(self.state[:8], "little") + 1
        size = int(bytes(request.body) or b"8")
        self.state = count.to_bytes(8, "little") + bytes(i * 7 % 251 for i in range(256)) * (size // 256)
        return str(count)

    def save(self):
        if MOOD == "refuses":
            raise hasup.Error(500, "the disk of the model is gone")
        if MOOD == "shorter":
            return self.state[:-1]
        if MOOD == "other":
            return self.state[:5] + b"!" + self.state[6:]
        return self.state

    def restore(self, state):
        if MOOD == "cannot":
            raise ValueError("made by version 2")
        if MOOD == "dies":
            os.abort()
        self.state = bytes(state)


if __name__ == "__main__":
    hasup.serve(Moody())

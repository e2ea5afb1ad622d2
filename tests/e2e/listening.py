"""A worker that serves the sockets that hasupd gave it: who connects reads the socket's name and this process's id."""
import json
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../worker/python"))
import hasup  # noqa: E402


class Listening(hasup.Worker):
    def load(self):
        if "HASUP_ZYGOTE" not in os.environ:
            self.forked()

    def forked(self):
        if os.environ.get("LISTEN_PID") != str(os.getpid()):
            return  # they are not for this process
        for number, name in enumerate(os.environ["LISTEN_FDNAMES"].split(":")):
            threading.Thread(target=self.serve_socket, args=(socket.socket(fileno=3 + number), name), daemon=True).start()

    def serve_socket(self, listener, name):
        while True:
            with listener.accept()[0] as client:
                client.sendall(f"{name} {os.getpid()}\n".encode())

    def infer(self, request):
        names = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "HASUP_FD")
        return json.dumps({"pid": os.getpid(), "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
                           **{name: os.environ.get(name) for name in names}})


if __name__ == "__main__":
    hasup.serve(Listening())

#!/usr/bin/python3
"""A program that knows nothing of requests.  Its arguments are what it does, one after the other:

say TEXT, wait FIFO, exit CODE, stay, fd (a line to its readiness descriptor), close-fd, notify TEXT, barrier (until hasupd has
read what was told), http PORT FILE (answers
with the status that FILE holds), listen PORT, trap SIGNAL TEXT (says it and ends), ignore SIGNAL, leave FILE (a grandchild in a
session of its own, whose pid is in FILE), variable NAME, accept (a connection at the first of LISTEN_FDS).
"""
import http.server
import os
import select
import signal
import socket
import sys
import threading


def say(text):
    os.write(1, f"{text}\n".encode())


class Answer(http.server.BaseHTTPRequestHandler):
    path_of_status = ""

    def do_GET(self):
        with open(self.path_of_status) as file:
            self.send_response(int(file.read()))
        self.end_headers()

    def log_message(self, *_):
        pass


def leave(path):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            with open(f"{path}.new", "w") as file:
                file.write(str(os.getpid()))
            os.rename(f"{path}.new", path)
            while True:
                signal.pause()
        os._exit(0)
    os.wait()


def main(words):
    words = iter(words)
    kept = []
    for word in words:
        if word == "say":
            say(next(words))
        elif word == "wait":
            with open(next(words), "rb") as file:
                file.read(1)
        elif word == "exit":
            os._exit(int(next(words)))
        elif word == "stay":
            while True:
                signal.pause()
        elif word == "fd":
            fd = int(os.environ["HASUP_READY_FD"])
            say(f"readiness at {fd}")
            os.write(fd, b"\n")
            os.close(fd)
        elif word == "close-fd":
            os.close(int(os.environ["HASUP_READY_FD"]))
        elif word == "notify":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.sendto(next(words).encode(), os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
        elif word == "barrier":  # as sd_notify_barrier(3)
            ours, theirs = os.pipe()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
                socket.send_fds(to, [b"BARRIER=1"], [theirs])
            os.close(theirs)
            if not select.select([ours], [], [], 30)[0]:
                sys.exit("the barrier does not end")
            os.close(ours)
        elif word == "http":
            server = http.server.ThreadingHTTPServer(("127.0.0.1", int(next(words))), Answer)
            Answer.path_of_status = next(words)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        elif word == "listen":
            kept.append(socket.create_server(("127.0.0.1", int(next(words)))))
        elif word == "trap":
            name, text = next(words), next(words)

            def end(*_, text=text):
                say(text)
                os._exit(0)
            signal.signal(getattr(signal, f"SIG{name}"), end)
        elif word == "ignore":
            signal.signal(getattr(signal, f"SIG{next(words)}"), signal.SIG_IGN)
        elif word == "leave":
            leave(next(words))
        elif word == "variable":
            name = next(words)
            say(f"{name}={os.environ.get(name)}")
        elif word == "accept":
            with socket.socket(fileno=3) as server:
                client, _ = server.accept()
                client.sendall(f"{os.environ['LISTEN_FDNAMES']}\n".encode())
                client.close()
        else:
            sys.exit(f"there is no {word}")


main(sys.argv[1:])

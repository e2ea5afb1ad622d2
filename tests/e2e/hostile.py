"""An HTTP server that does what servers should not, by the path that it is asked for; for test_adapter.py.

What it does only the first time goes by X-Hasup-Attempt.  It appends each request to the file that COUNT names.
"""
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading

PLACE = sys.argv[1]
BIG = b"0123456789abcdef" * 65536 * 3  # 3 MiB


class Request:
    def __init__(self, reader):
        line = reader.readline()
        if not line:
            raise EOFError
        self.method, self.target, self.version = line.decode().split()
        self.path, _, self.query = self.target.partition("?")
        self.headers = {}
        while (line := reader.readline().strip()):
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()
        self.length = int(self.headers.get("content-length", 0))
        self.reader = reader
        self.first = self.headers.get("x-hasup-attempt", "1") == "1"

    def body(self):
        return self.reader.read(self.length)


def head(status, **fields):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def whole(body, status="200 OK", **fields):
    return head(status, Content_Length=len(body), **fields) + body


def chunk(data):
    return b"%x;ext=1\r\n%s\r\n" % (len(data), data)


class Gone(Exception):
    """The connection ends without another word."""


def slow_head(connection, request):
    for byte in whole(b"slow", X_Long="y" * 3000):
        connection.sendall(bytes([byte]))


def middle(connection, request):
    connection.sendall(head("200 OK", Content_Length=1000) + b"x" * 500)
    if request.first:
        raise Gone
    connection.sendall(b"x" * 500)


def chunked_middle(connection, request):
    connection.sendall(head("200 OK", Transfer_Encoding="chunked", Content_Type="text/plain") + chunk(b"one "))
    if request.first:
        raise Gone
    connection.sendall(chunk(b"two") + b"0\r\n\r\n")


def reset(connection, request):
    if request.first:
        raise Gone
    connection.sendall(whole(b"second"))


def dies(connection, request):
    if request.first:
        os._exit(3)
    connection.sendall(whole(b"second"))


def chunked(connection, request):
    connection.sendall(head("200 OK", Transfer_Encoding="chunked", Content_Type="text/plain", Trailer="X-After"))
    for part in (b"a", b"b" * 70000, b"c"):
        connection.sendall(chunk(part))
    connection.sendall(b"0\r\nX-After: no\r\n\r\n")


def json_parts(connection, request):
    connection.sendall(head("200 OK", Transfer_Encoding="chunked", Content_Type="application/json") + chunk(b'{"a":'))
    if request.first:
        raise Gone
    connection.sendall(chunk(b" 1}") + b"0\r\n\r\n")


def old(connection, request):
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"old" * 1000)
    raise Gone


def old_dies(connection, request):
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"old" * 500)
    if request.first:
        os.kill(os.getpid(), signal.SIGKILL)
    connection.sendall(b"old" * 500)
    raise Gone


def early(connection, request):
    connection.sendall(whole(b"too much", "413 Content Too Large", Connection="close"))
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass
    raise Gone


def blocked(connection, request):
    """Sends for ever, and tells at the FIFO how much went before nobody took any more."""
    connection.sendall(head("200 OK", Transfer_Encoding="chunked", Content_Type="text/plain"))
    connection.setblocking(False)
    part, sent = chunk(b"z" * 65536), 0
    while sent < 64 << 20:
        left = part
        while left:
            if not select.select([], [connection], [], 1)[1]:
                with open(request.query, "w") as fifo:
                    fifo.write(str(sent))
                select.select([], [connection], [])
            left = left[connection.send(left):]
        sent += 65536
    connection.setblocking(True)
    connection.sendall(b"0\r\n\r\n")


def endless(connection, request):
    """Sends until nobody takes it any more, and tells at the FIFO how much that was."""
    part, sent = chunk(b"z" * 65536), 0
    try:
        connection.sendall(head("200 OK", Transfer_Encoding="chunked", Content_Type="text/plain"))
        while sent < 1 << 30:
            connection.sendall(part)
            sent += 65536
    except OSError:
        pass
    with open(request.query, "w") as fifo:
        fifo.write(str(sent))
    raise Gone


def gone(connection, request):
    """Tells at the FIFO when its client has left."""
    connection.sendall(head("200 OK", Transfer_Encoding="chunked", Content_Type="text/plain") + chunk(b"begun"))
    assert connection.recv(1) == b""
    with open(request.query, "w") as fifo:
        fifo.write("gone")
    raise Gone


def waits(connection, request):
    with open(request.query) as fifo:
        fifo.read(1)
    connection.sendall(whole(b"waited"))


def family(connection, request):
    """A child that would outlive it, with a group of its own."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=request.query == "session")
    connection.sendall(whole(json.dumps([os.getpid(), child.pid]).encode()))


def closes(connection, request):
    connection.sendall(whole(b"bye"))  # it does not say so
    raise Gone


def shuts(connection, request):
    if request.first:
        LISTENER.shutdown(socket.SHUT_RDWR)  # nobody gets in any more
    connection.sendall(whole(b"shut"))


ANSWERS = {
    "/slow-head": slow_head, "/middle": middle, "/chunked-middle": chunked_middle, "/reset": reset, "/dies": dies,
    "/chunked": chunked, "/json-parts": json_parts, "/old": old, "/old-dies": old_dies, "/blocked": blocked,
    "/gone": gone, "/waits": waits, "/family": family, "/closes": closes, "/shuts": shuts,
    "/fine": lambda c, r: c.sendall(whole(b"fine")),
    "/order": dies, "/endless": endless,
    "/large": lambda c, r: c.sendall(whole(b"l" * ((1 << 20) + 1))),  # above what goes in a frame
    "/big": lambda c, r: c.sendall(whole(BIG)),
    "/big-chunked": lambda c, r: c.sendall(
        head("200 OK", Transfer_Encoding="chunked", Content_Type="application/json") + chunk(BIG) + b"0\r\n\r\n"),
    "/garbage": lambda c, r: c.sendall(b"this is no HTTP\r\n\r\n"),
    "/long-head": lambda c, r: c.sendall(whole(b"", **{f"X-{i}": "v" * 4000 for i in range(30)})),
    "/interim": lambda c, r: c.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + whole(b"after", Set_Cookie="a=1")),
    "/created": lambda c, r: c.sendall(whole(b"", "201 Created", Location="/made/1", Content_Type="text/x")),
    "/teapot": lambda c, r: c.sendall(
        head("418 Teapot", Transfer_Encoding="chunked", Content_Type="text/plain") + chunk(b"short ") + chunk(b"and stout") +
        b"0\r\n\r\n"),
    "/nothing": lambda c, r: c.sendall(head("204 No Content")),
}


def echo(connection, request):
    connection.sendall(whole(request.body(), Content_Type=request.headers.get("content-type", "none")))


def told(connection, request):
    fields = {"method": request.method, "target": request.target, **request.headers}
    body = json.dumps(fields).encode()
    connection.sendall(head("200 OK", Content_Length=len(body)) + (b"" if request.method == "HEAD" else body))


def serve(connection):
    reader = connection.makefile("rb")
    try:
        while True:
            request = Request(reader)
            with open(os.environ["COUNT"], "a") as count:
                count.write(request.path + "\n")
            if request.path == "/early":
                early(connection, request)
            elif request.path == "/echo":
                echo(connection, request)
            else:
                request.body()
                ANSWERS.get(request.path, told)(connection, request)
    except (EOFError, Gone, BrokenPipeError, ConnectionResetError):
        connection.close()
        reader.close()


def main():
    global LISTENER
    if PLACE.isdigit():
        listener = socket.create_server(("127.0.0.1", int(PLACE)))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(PLACE)
        listener.listen()
    LISTENER = listener
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            signal.pause()
        if listener.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=[connection], daemon=True).start()


main()

"""A proxy that asks for a token and hands on what has it.  It serves at the socket that it inherits, says by sd_notify when
it is ready, and finishes what it has when it is told to end.  A small one, to show how: no streams, no TLS."""
import hmac
import http.client
import http.server
import os
import signal
import socket


class Front(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not hmac.compare_digest(self.headers.get("Authorization", ""), f"Bearer {os.environ['TOKEN']}"):
            self.answer(401, b"a token, please\n")
            return
        behind = http.client.HTTPConnection(os.environ["BEHIND"])
        kept = ("content-type", "idempotency-key", "x-session-id")
        behind.request("POST", self.path, body, {k: v for k, v in self.headers.items() if k.lower() in kept})
        answer = behind.getresponse()
        self.answer(answer.status, answer.read())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_):
        pass


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.sendto(text, os.environ["NOTIFY_SOCKET"])


assert os.environ["LISTEN_FDS"] == "1"
server = http.server.ThreadingHTTPServer(("", 0), Front, bind_and_activate=False)
server.daemon_threads = False  # server_close waits for them
server.socket.close()
server.socket = socket.socket(fileno=3)
notify(b"READY=1")
try:
    server.serve_forever()
except KeyboardInterrupt:  # stop_signal: INT
    signal.signal(signal.SIGINT, signal.SIG_IGN)
server.server_close()

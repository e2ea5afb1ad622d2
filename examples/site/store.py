"""A feature store that knows nothing of hasup: GET /NAME answers the numbers of that name.  store.py FILE PORT"""
import http.server
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    FEATURES = json.load(file)


class Store(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.lstrip("/")
        found = "well" if name == "healthz" else FEATURES.get(name)
        body = json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_):
        """Nothing: it is asked once a second whether it is well."""


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Store).serve_forever()

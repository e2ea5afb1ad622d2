"""Any HTTP server as a worker: what it says reaches the client as it is, and what it breaks off is run again or, where
that must not be, refused.  hostile.py is a server that does what servers should not."""
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(1, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "unit"))
import fake_hasupd  # noqa: E402
from test_promises import without_cgroups  # noqa: E402
from world import BUILD, LIMIT, ROOT, World, alive, wait_until  # noqa: E402

HOSTILE = os.path.join(ROOT, "tests/e2e/hostile.py")
TAG_METHOD, TAG_PATH, TAG_HEADER, TAG_BUFFER_ID = 37, 38, 13, 23
PING, PONG, CANCEL, BUFFER, RELEASE = 12, 13, 9, 17, 19


def model(place="{port}", keys="", more=""):
    """A model `h` of hostile.py, which counts into the file `count` beside the configuration."""
    return f"""  h:
    command: [{sys.executable}, -B, {HOSTILE}, "{place}"]
    environment: {{COUNT: count}}
    restart: {{backoff_min: 1ms, backoff_max: 1ms, start_limit: 100}}
    adapter: {{kind: http, {keys}}}
{more}"""


def peak(pid):
    """The most memory that it has had, in bytes."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


class Adapted(World):
    def ask(self, path, method="GET", body=None, headers=None, name="h"):
        """Status, headers, body; the body is None where it is cut."""
        connection = self.connect()
        connection.request(method, f"/models/{name}/proxy{path}", body, headers or {})
        answer = connection.getresponse()
        try:
            data = answer.read()
        except http.client.IncompleteRead:
            data = None
        connection.close()
        return answer.status, answer.headers, data

    def count(self, path):
        """How often the server was asked for it."""
        with open(os.path.join(self.directory, "count")) as file:
            return sum(line == path + "\n" for line in file)


class AsItIs(unittest.TestCase):
    """What does not break the server off comes as the server said it."""

    @classmethod
    def setUpClass(cls):
        cls.w = Adapted(model())

    @classmethod
    def tearDownClass(cls):
        cls.w.close()

    def tearDown(self):
        self.assertEqual(self.w.slot("h/0")["crashes"], 0)

    def test_heads_and_bodies_in_every_framing(self):
        big = b"0123456789abcdef" * 65536 * 3
        for path, status, body in (("/slow-head", 200, b"slow"), ("/chunked", 200, b"a" + b"b" * 70000 + b"c"),
                                   ("/old", 200, b"old" * 1000), ("/big", 200, big), ("/big-chunked", 200, big),
                                   ("/interim", 200, b"after"), ("/teapot", 418, b"short and stout"),
                                   ("/created", 201, b""), ("/nothing", 204, b""), ("/closes", 200, b"bye")):
            got = self.w.ask(path)
            self.assertEqual((path, got[0], got[2]), (path, status, body))
            self.assertNotEqual(got[1].get("X-Hasup-Attempts", "1"), "2")
        self.assertEqual(self.w.ask("/created")[1]["Location"], "/made/1")
        self.assertEqual(self.w.ask("/created")[1]["Content-Type"], "text/x")
        self.assertEqual(self.w.ask("/interim")[1]["Set-Cookie"], "a=1")
        self.assertIsNone(self.w.ask("/interim")[1]["Link"])
        self.assertEqual(len(self.w.ask("/slow-head")[1]["X-Long"]), 3000)

    def test_bodies_go_up_in_every_size(self):
        for size in (0, 1, 70000, 1 << 20, (1 << 20) + 1, 5 << 20):
            body = os.urandom(size)
            status, headers, data = self.w.ask("/echo", "PUT", body, {"Content-Type": "application/x-y"})
            self.assertEqual((status, headers["Content-Type"]), (200, "application/x-y"))
            self.assertTrue(data == body)

    def test_the_request_is_the_clients(self):
        headers = {"Accept": "a/b", "Authorization": "Bearer x", "Cookie": "c=d", "Range": "bytes=0-1", "X-Own": "1",
                   "Prefer": "return=minimal", "Last-Event-ID": "their own", "Connection": "keep-alive, X-Hop", "X-Hop": "no",
                   "X-Hasup-Attempt": "9", "TE": "trailers", "Host": "example.org", "X-Request-Id": "mine", "X-Empty": ""}
        told = json.loads(self.w.ask("/told/a%20b/?q=%2F..&x", "PATCH", b"1", headers)[2])
        for name in ("Accept", "Authorization", "Cookie", "Range", "X-Own", "Prefer", "Last-Event-ID", "Host", "X-Request-Id",
                     "X-Empty"):
            self.assertEqual(told[name.lower()], headers[name], name)
        self.assertEqual((told["method"], told["target"]), ("PATCH", "/told/a%20b/?q=%2F..&x"))
        self.assertEqual((told["x-hasup-attempt"], told["content-length"]), ("1", "1"))
        self.assertAlmostEqual(float(told["x-request-timeout"]), 60, delta=20)
        for name in ("x-hop", "te", "connection", "expect", "content-type"):
            self.assertNotIn(name, told)
        for method in ("GET", "DELETE", "OPTIONS", "POST"):
            self.assertEqual(json.loads(self.w.ask("/told", method)[2])["method"], method)
        for path, target in (("", "/"), ("/", "/"), ("?q", "/?q"), ("//a//", "//a//")):
            self.assertEqual(json.loads(self.w.ask(path)[2])["target"], target)

    def test_a_head_has_the_length_of_its_get(self):
        status, headers, data = self.w.ask("/told", "HEAD")
        self.assertEqual((status, data), (200, b""))
        self.assertGreater(int(headers["Content-Length"]), 50)

    def test_what_is_no_http_is_an_error_and_no_crash(self):
        for path, word in (("/garbage", "cannot be passed on"), ("/long-head", "longer than")):
            status, _, data = self.w.ask(path)
            self.assertEqual(status, 502)
            self.assertIn(word, json.loads(data)["error"]["message"])

    def test_an_answer_before_the_body_was_read_is_the_answer(self):
        status, _, data = self.w.ask("/early", "POST", b"x" * (8 << 20))
        self.assertEqual((status, data), (413, b"too much"))

    def test_paths_that_lead_elsewhere_are_refused(self):
        for path in ("/a/../b", "/..", "/a/%2e%2E/b", "/a/..%2fb", "/a/.", "/..;x/b", "/a\\..\\b"):
            status, _, data = self.w.ask(path)
            self.assertEqual(status, 400, path)
            self.assertIn("dots", json.loads(data)["error"]["message"])
        self.assertEqual(json.loads(self.w.ask("/told/...a/.b/a..b?../c")[2])["target"], "/told/...a/.b/a..b?../c")

    def test_a_connection_that_ends_as_it_is_used_again_costs_nothing(self):
        for i in range(60):
            method = "GET" if i % 3 else "POST"
            self.assertEqual(self.w.ask("/closes", method)[2], b"bye")
            self.assertEqual(self.w.ask("/fine", method)[2], b"fine")

    def test_routes_of_hasups_own_go_to_the_same_in_the_server(self):
        for path, target in (("/models/h/invoke", "/"), ("/v2/models/h/infer", None), ("/v2/models/h/generate", None),
                             ("/v2/models/h/versions/3/infer", None), ("/v1/chat/completions", None),
                             ("/v1/completions", None)):
            status, _, data = self.w.post("h", b'{"model": "h"}', path=path)
            told = json.loads(data)
            self.assertEqual((status, told["method"], told["target"]), (200, "POST", target or path))
            self.assertNotIn("model-version", told)
        self.assertEqual(json.loads(self.w.ctl("infer", "h", input=b"1").stdout)["target"], "/")


class Broken(unittest.TestCase):
    """What the server breaks off."""

    def test_promise_1_what_may_run_twice_is_answered_whatever_breaks(self):
        with Adapted(model(more="    max_attempts: 100\n")) as w:
            for path, body in (("/reset", b"second"), ("/dies", b"second"), ("/middle", b"x" * 1000),
                               ("/json-parts", b'{"a": 1}'), ("/chunked-middle", b"one two"), ("/old-dies", b"old" * 1000)):
                status, headers, data = w.ask(path)
                self.assertEqual((path, status, data), (path, 200, body))
                self.assertEqual(w.ask("/fine")[0], 200)  # and the model is well
            self.assertEqual(w.slot("h/0")["crashes"], 6)

    def test_promise_1_what_may_not_run_twice_is_refused_and_ran_once(self):
        with Adapted(model("{socket}", "idempotent: [POST /dies]")) as w:
            status, headers, data = w.ask("/order", "POST", b"one")
            error = json.loads(data)["error"]
            self.assertEqual((status, error["code"], headers["X-Hasup-Attempts"]), (502, "interrupted", "1"))
            self.assertIn("may have taken effect", error["message"])
            self.assertEqual(w.count("/order"), 1)
            status, headers, data = w.ask("/dies", "POST", b"two")  # the configuration says that it may
            self.assertEqual((status, data, headers["X-Hasup-Attempts"]), (200, b"second", "2"))
            status, headers, data = w.ask("/order", "POST", b"three", {"Idempotency-Key": "k"})  # its client says so
            self.assertEqual((status, data), (200, b"second"))
            self.assertEqual(w.count("/order"), 3)

    def test_promise_1_what_no_server_took_has_not_begun_and_runs_again(self):
        for place in "{socket}", "{port}":
            with self.subTest(place=place), Adapted(model(place)) as w:
                self.assertEqual(w.ask("/shuts", "POST", b"")[2], b"shut")
                status, headers, data = w.ask("/fine", "POST", b"x")
                self.assertEqual((status, data, headers["X-Hasup-Attempts"]), (200, b"fine", "2"))
                self.assertEqual(w.count("/fine"), 1)
                self.assertEqual(w.slot("h/0")["crashes"], 1)

    def test_promise_2_what_may_not_run_twice_does_not_after_the_death_of_hasupd(self):
        with Adapted(model()) as w:
            fifo = w.fifo("go")
            status, headers, _ = w.ask(f"/waits?{fifo}", "POST", b"", {"Prefer": "respond-async"})
            self.assertEqual(status, 202)
            wait_until(lambda: os.path.exists(w.directory + "/count") and w.count("/waits"), "the server was not asked")
            w.kill_and_start()
            connection = w.connect()
            connection.request("GET", headers["Location"], headers={"Prefer": "wait=30"})
            answer = connection.getresponse()
            self.assertEqual((answer.status, json.loads(answer.read())["error"]["code"]), (502, "interrupted"))
            self.assertEqual(w.count("/waits"), 1)

    def test_who_leaves_takes_his_request_out_of_the_server(self):
        with Adapted(model()) as w:
            fifo = w.fifo("left")
            connection = w.connect()
            connection.request("GET", f"/models/h/proxy/gone?{fifo}")
            self.assertEqual(connection.getresponse().read(5), b"begun")
            connection.close()
            with open(fifo) as file:
                self.assertEqual(file.read(), "gone")

    def test_who_does_not_read_is_cut_off_in_bounded_memory_and_nobody_else_notices(self):
        with Adapted(model()) as w:
            fifo, processes = w.fifo("slow"), (w.process.pid, w.pid("h/0"))
            before = list(map(peak, processes))
            connection = w.connect()
            connection.connect()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            connection.request("GET", f"/models/h/proxy/endless?{fifo}", headers={"X-Request-Id": "sleeper"})
            connection.getresponse()  # and not a byte of its body
            with open(fifo) as file:
                self.assertLess(int(file.read()), 64 << 20)
            event = w.wait_event("client.cut_off", door="http", request="sleeper")
            self.assertIn("limits.stream_bytes", event["message"])
            self.assertGreater(event["unread"], 4 << 20)
            for pid, least in zip(processes, before):
                self.assertLess(peak(pid) - least, 24 << 20)
            self.assertEqual(w.ask("/fine")[2], b"fine")
            self.assertEqual(w.slot("h/0")["crashes"], 0)
            connection.close()

    def test_a_drain_finishes_what_is_in_hand(self):
        with Adapted(model()) as w:
            fifo = w.fifo("go")
            connection = w.connect()
            connection.request("GET", f"/models/h/proxy/waits?{fifo}")
            wait_until(lambda: os.path.exists(w.directory + "/count") and w.count("/waits"), "the server was not asked")
            pid = w.pid("h/0")
            w.ctl("restart", "h")
            w.release(fifo)
            self.assertEqual(w.finish(connection)[2], b"waited")
            w.wait_event("slot.exited", slot="h/0", pid=pid)
            self.assertEqual(w.ask("/fine")[0], 200)
            self.assertEqual(w.slot("h/0")["crashes"], 0)
            self.assertEqual(w.stop(), 0)


class Trees(unittest.TestCase):
    def killed(self, before):
        with Adapted(model(), before=before) as w:
            self.assertEqual(w.status()["cgroups"], before is None and w.status()["cgroups"])
            for query in ("", "?session"):
                tree = json.loads(w.ask(f"/family{query}")[2])
                self.assertTrue(all(map(alive, tree)))
                mark = w.mark()
                w.kill("h/0")
                wait_until(lambda: not any(map(alive, tree)), "a part of the tree outlives its worker")
                w.wait_event("slot.ready", since=mark, slot="h/0")
                self.assertEqual(w.ask("/fine")[0], 200)
            tree = json.loads(w.ask("/family")[2])
            mark = w.mark()
            os.kill(tree[0], 9)  # the server itself
            event = w.wait_event("slot.exited", since=mark, slot="h/0")
            self.assertIn("signal 9", event["message"])
            wait_until(lambda: not any(map(alive, tree)), "a child outlives the server")

    def test_the_whole_tree_goes_with_cgroups(self):
        self.killed(None)

    def test_the_whole_tree_goes_without_cgroups(self):
        self.killed(without_cgroups)


class Start(unittest.TestCase):
    def test_a_server_that_cannot_start_says_why(self):
        with Adapted(model().replace("hostile.py", "no_such.py"), wait=False) as w:
            event = w.wait_event("slot.exited", slot="h/0")
            self.assertIn("exited with code 2", event["message"])
            w.wait_event("worker.stderr", message="hasup-http: the server exited with code 2")

    def test_a_port_that_is_taken_is_an_error(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with Adapted(model(keys=f"port: {port}"), wait=False) as w:
                event = w.wait_event("slot.exited", slot="h/0")
                self.assertIn(f"could not load: port {port} is in use", event["message"])

    def test_slots_have_places_of_their_own_and_ready_is_asked_for(self):
        keys = "ready: {path: /told, interval: 5ms}, concurrency: 2"
        for place in ("{port}", "{socket}"):
            with Adapted(model(place, keys).replace("environment", "workers: 3\n    environment")) as w:
                self.assertEqual([slot["state"] for slot in w.slots()], ["ready"] * 3)
                self.assertGreaterEqual(w.count("/told"), 3)
                self.assertEqual(w.ask("/fine")[0], 200)

    def test_a_model_without_an_adapter_has_no_paths(self):
        with World(f"  e:\n    command: [{BUILD}/examples/echo]\n") as w:
            status, data = w.get("/models/e/proxy/x")
            self.assertEqual(status, 404)
            self.assertIn("no adapter", json.loads(data)["error"]["message"])


class Shim(unittest.TestCase):
    """hasup-http alone, with this test in the place of hasupd."""

    def setUp(self):
        self.world = World("", start=False)
        self.addCleanup(self.world.close)
        place = os.path.join(self.world.directory, "s")
        os.environ["COUNT"] = os.path.join(self.world.directory, "count")
        self.worker = fake_hasupd.Worker([f"{BUILD}/hasup-http", "--concurrency=4", "--whole-max=4194304",
                                          f"--socket={place}", "--", sys.executable, "-B", HOSTILE, "{socket}"])
        self.addCleanup(self.worker.end)

    def begin(self, number, path, flags=0, method="GET", header=b""):
        meta = fake_hasupd.field(TAG_METHOD, method) + fake_hasupd.field(TAG_PATH, path)
        if header:
            meta += fake_hasupd.field(TAG_HEADER, header)
        self.worker.send(fake_hasupd.REQUEST, number, meta, seq=1, flags=flags)

    def test_a_ping_is_answered_while_the_server_is_busy(self):
        fifo = self.world.fifo("go")
        self.begin(1, f"/waits?{fifo}")
        self.worker.send(PING, 7)
        self.assertEqual(self.worker.receive()[:2], (PONG, 7))
        self.begin(2, "/fine")
        self.assertEqual(self.worker.receive()[1:3], (2, 200))
        self.worker.send(CANCEL, 1)
        self.assertEqual(self.worker.receive()[:3], (fake_hasupd.REPLY, 1, 499))
        self.world.release(fifo)
        self.assertEqual(self.worker.close(), 0)

    def test_a_server_is_not_read_from_while_hasupd_does_not_read(self):
        fifo = self.world.fifo("blocked")
        self.begin(1, f"/blocked?{fifo}")
        with open(fifo) as file:
            sent = int(file.read())
        self.assertLess(sent, 16 << 20)
        total = 0
        while True:
            kind, _, _, _, body = self.worker.receive()
            total += len(body)
            if kind == fake_hasupd.REPLY:
                break
        self.assertEqual(total, 64 << 20)
        self.assertEqual(self.worker.close(), 0)

    def test_large_answers_wait_for_a_buffer_where_hasupd_has_all(self):
        buffers, most = [], 255
        for number in range(1, most + 1):
            self.begin(number, "/large")
            kind, got, _, meta, _ = self.worker.receive()
            self.assertEqual(kind, BUFFER)
            buffers.append(fake_hasupd.fields(meta)[TAG_BUFFER_ID])
            self.assertEqual(self.worker.receive()[:3], (fake_hasupd.REPLY, number, 200))
        for number in most + 1, most + 2, most + 3:
            self.begin(number, "/large")
        self.begin(900, "/told")  # a small one, asked for last: all four are with the server
        self.assertEqual(self.worker.receive()[:3], (fake_hasupd.REPLY, 900, 200))
        self.worker.send(CANCEL, most + 2)
        self.assertEqual(self.worker.receive()[:3], (fake_hasupd.REPLY, most + 2, 499))
        came = set()
        for buffer in buffers[:2]:
            self.worker.send(RELEASE, meta=fake_hasupd.field(TAG_BUFFER_ID, buffer))
            kind, number, status, meta, _ = self.worker.receive()
            self.assertEqual((kind, status), (fake_hasupd.REPLY, 200))
            self.assertEqual(fake_hasupd.fields(meta)[TAG_BUFFER_ID], buffer)
            came.add(number)
        self.assertEqual(came, {most + 1, most + 3})
        self.assertEqual(self.worker.close(), 0)

    def test_fields_that_would_break_the_request_are_refused(self):
        for number, (path, method, header) in enumerate((
                ("/fine\r\nX: y", "GET", b""), ("fine", "GET", b""), ("/fine", "GET X", b""),
                ("/fine", "GET", b"x-a\0b\r\nc: d"), ("/fine", "GET", b"x a\0b")), 1):
            self.begin(number, path, 0, method, header)
            kind, got, status, _, _ = self.worker.receive()
            self.assertEqual((kind, got, status), (fake_hasupd.REPLY, number, 400))
        self.begin(9, "/told", 0, "GET", b"content-length\x0099")  # not the client's to say
        self.assertEqual(self.worker.receive()[1:3], (9, 200))
        self.assertEqual(self.worker.close(), 0)


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])


class UnderFire(unittest.TestCase):
    """Two real servers in two languages, killed under load."""

    CLIENTS, KILLS = 6, 5

    def fire(self, name, ask, victim, orders):
        """What was not answered right while KILLS servers were killed, and how many requests were answered."""
        w, wrong, pids, over = self.w, [], [], threading.Event()

        def client(number):
            turn = 0
            while not over.is_set():
                turn += 1
                path, body, check = ask(number * 1000 + turn)
                status, _, data = w.ask(path, "POST", json.dumps(body), name=name)
                answer = json.loads(data)
                if status != 200 or not check(answer):
                    wrong.append((status, answer))
                pids.append(answer.get("pid"))
                if turn % 10 == 0:
                    orders.append(w.ask("/orders", "POST", b"", name=name)[0])
        threads = [threading.Thread(target=client, args=[n]) for n in range(self.CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(self.KILLS):
                mark, seen = w.mark(), len(pids)
                wait_until(lambda: len(pids) > seen + 20, "nothing is answered")
                os.kill(victim(pids[-1]), 9)  # who answered last is the one that serves
                w.wait_event("slot.ready", since=w.events.index(w.wait_event("slot.exited", since=mark)))
        finally:
            over.set()
            for thread in threads:
                thread.join()
        return wrong, len(pids)

    def test_promise_1_nothing_that_may_run_twice_is_lost(self):
        with open(os.path.join(ROOT, "examples/adapters/supervisor.yaml")) as file:
            text = file.read().partition("models:\n")[2]
        text = text.replace("workers: 2\n", "workers: 2\n    max_attempts: 100\n"
                            f"    directory: {ROOT}/examples/adapters\n")
        self.w = Adapted(text)
        self.addCleanup(self.w.close)
        for name, victim, ask in (
                ("node", int, lambda n: ("/score", {"text": "a" * (n % 50) + str(n)},
                                    lambda a: (a["letters"], a["digits"]) == (n % 50, len(str(n))))),
                ("wsgi", parent_of, lambda n: ("/predict", {"x": [n, n + 2]}, lambda a: a["mean"] == n + 1))):
            orders = []
            wrong, answered = self.fire(name, ask, victim, orders)
            self.assertEqual(wrong, [])
            self.assertGreater(answered, 20 * self.KILLS)
            self.assertTrue(set(orders) <= {201, 502}, orders)

    def test_a_stream_goes_on_after_its_server_was_killed(self):
        with open(os.path.join(ROOT, "examples/adapters/supervisor.yaml")) as file:
            text = file.read().partition("models:\n")[2].partition("  wsgi:")[0]
        with Adapted(text.replace("workers: 2\n", f"workers: 2\n    directory: {ROOT}/examples/adapters\n")) as w:
            whole = w.ask("/words?n=30&ms=1", name="node")[2]
            connection = w.connect()
            connection.request("GET", "/models/node/proxy/words?n=30&ms=5")
            answer = connection.getresponse()
            begun = answer.read(20)
            busy = next(slot["slot"] for slot in w.slots() if slot["inflight"])
            w.kill(busy)
            self.assertEqual(begun + answer.read(), whole)


if __name__ == "__main__":
    unittest.main()

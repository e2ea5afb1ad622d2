"""When a durable request's row goes, and what of it outlives hasupd."""
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "unit")]
import fake_hasupd as f  # noqa: E402
from world import BUILD, LIMIT, WORKER, World, events_of, wait_until  # noqa: E402

ALWAYS = f"  m: {{command: [{WORKER}], journal: always}}"


def rows(world, table="request"):
    db = sqlite3.connect(f"file:{world.state}/journal.db?mode=ro", uri=True, timeout=LIMIT)
    try:
        return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    finally:
        db.close()


class Durable(unittest.TestCase):
    def test_promise_2_what_was_accepted_without_a_key_runs_after_hasupd_was_killed(self):
        with World(ALWAYS) as world:
            gate, waiting = world.occupy()
            world.kill_and_start()
            waiting.close()
            self.assertEqual(world.wait_event("journal.unclean")["unfinished"], 1)
            wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight again")
            self.assertEqual(rows(world), 1)
            world.release(gate)
            wait_until(lambda: rows(world) == 0, "its row stays")
            world.kill_and_start()
            self.assertEqual(world.wait_event("journal.unclean")["unfinished"], 0)

    def test_an_answer_that_nobody_can_come_back_for_is_not_kept(self):
        with World(ALWAYS) as world:
            for i in range(40):
                self.assertEqual(world.post("m", f"echo {i}")[2], b"%d" % i)
            wait_until(lambda: rows(world) == 0, "rows stay though nothing comes after them")
            self.assertEqual(rows(world, "result"), 0)
            self.assertEqual(world.post("m", "echo x")[2], b"x")
            world.process.send_signal(signal.SIGTERM)
            self.assertEqual(world.process.wait(LIMIT), 0)
            self.assertEqual(rows(world), 0)
            world.process.stderr.close()

    def test_promise_3_one_key_has_one_answer_when_hasupd_was_killed(self):
        with World(ALWAYS) as world:
            key = {"Idempotency-Key": "k"}
            first = world.post("m", "pid", key)[2]
            world.kill_and_start()
            self.assertEqual(world.post("m", "pid", key)[2], first)
            self.assertNotEqual(world.post("m", "pid")[2], first)

    def test_promise_2_what_waits_for_room_runs_once_beside_what_comes_now(self):
        """More than the table has room for; what this run accepts is not taken for an earlier run's."""
        later, both = {"Prefer": "respond-async"}, f"{ALWAYS}\n{ALWAYS.replace('m:', 'n:')}"
        with World(both, "limits: {requests: 64}") as world:
            old, new = world.fifo("old"), world.fifo("new")
            for _ in range(40):
                self.assertEqual(world.post("m", f"wait {old}", later)[0], 202)
            world.write(both, "limits: {requests: 16}")
            world.kill_and_start()
            late = [world.post("n", f"wait {new}", later) for _ in range(2)]
            self.assertEqual([status for status, _, _ in late], [202, 202])
            gates = [os.open(gate, os.O_RDWR) for gate in (old, new)]  # what one does not read waits for the next
            os.write(gates[0], bytes(64))
            wait_until(lambda: world.slot("m/0")["answered"] == 40, "not all of the earlier run's ran")
            os.write(gates[1], bytes(64))
            for _, headers, _ in late:
                wait_until(lambda: world.get(headers["Location"])[0] == 200, "a late one never ran")
            wait_until(lambda: world.slot("n/0")["inflight"] == 0, "one runs again")
            self.assertEqual(world.slot("n/0")["answered"], 2)
            self.assertEqual(world.stop(), 0)
            for gate in gates:
                os.close(gate)

    def test_promise_2_who_heard_a_whole_stream_is_not_told_that_it_is_damaged(self):
        """A browser comes again after the last event, too; nothing follows it but the end."""
        with World(ALWAYS) as world:
            key = {"Idempotency-Key": "k", "Accept": "text/event-stream"}
            heard = world.post("m", "stream 3", key)[2]
            run = re.search(rb"id: ([0-9a-f]+-)4\nevent: end\n", heard).group(1).decode()
            for last in ("3", "4", "5", "4294967297"):  # the last two are none that this server gave
                status, _, body = world.post("m", "stream 3", {**key, "Last-Event-ID": run + last})
                self.assertEqual(status, 200, body)
                self.assertNotIn(b"part", body)
                self.assertIn(b"event: end\n", body)
            mark = world.mark()
            self.assertNotIn("journal.result_lost", [e["event"] for e in world.events[:mark]])

    def test_promise_5_who_heard_another_run_does_not_go_on_with_this_one(self):
        with World(f"  m: {{command: [{WORKER}], workers: 2}}") as world:
            key = {"Idempotency-Key": "k", "Accept": "text/event-stream"}
            gate = world.fifo("gate")
            first = world.begin("m", f"stream 3 {gate}", key)
            event, number, _, _ = next(events_of(first.getresponse()))
            self.assertEqual(number, 1)
            row = json.loads(world.ctl("--json", "requests").stdout)[0]
            world.ctl("requests", "drop", row["id"])  # the key is free again
            second = world.begin("m", f"stream 3 {gate}", key)
            again, _, _, data = next(events_of(second.getresponse()))
            self.assertEqual((again.rpartition("-")[2], data), ("1", "part 1 of 3\n"))
            self.assertNotEqual(event, again)
            for stale in (event, "1"):
                status, _, body = world.post("m", f"stream 3 {gate}", {**key, "Last-Event-ID": stale})
                self.assertEqual((status, json.loads(body)["error"]["code"]), (410, "gone"))
            world.release(gate)
            for connection in (first, second):
                connection.close()

    def test_promise_2_one_that_finds_no_room_any_more_holds_up_no_other(self):
        """limits.body_bytes was made smaller than what is in the journal: said, and kept for larger limits."""
        later = {"Prefer": "respond-async"}
        small = ALWAYS.replace("journal", "body_max: 64KiB, journal")
        with World(ALWAYS) as world:
            gate = world.fifo("gate")
            held = os.open(gate, os.O_RDWR)
            bodies = [f"wait {gate}", "sum" + "x" * 200000, "echo small"]
            places = [world.post("m", body, later)[1]["Location"] for body in bodies]
            world.write(small, "limits: {body_bytes: 64KiB}")
            world.kill_and_start()
            said = world.wait_event("journal.too_large")
            self.assertIn("limits.body_bytes", said["message"])
            self.assertEqual((said["requests"], said["largest"]), (1, 200003))
            os.write(held, b"x")
            wait_until(lambda: world.get(places[2])[0] == 200, "held up for ever")
            world.write(ALWAYS)
            world.kill_and_start()
            wait_until(lambda: world.get(places[1])[0] == 200, "not kept")
            os.close(held)

    def test_promise_3_a_stored_answer_that_is_damaged_is_said_and_not_told(self):
        with World(ALWAYS) as world:
            key = {"Idempotency-Key": "k"}
            self.assertEqual(world.post("m", "echo x", key)[2], b"x")
            with sqlite3.connect(f"{world.state}/journal.db", timeout=LIMIT) as db:
                db.execute("UPDATE result SET body = x'79'")
            db.close()
            status, _, body = world.post("m", "echo x", key)
            self.assertEqual(status, 404)
            self.assertIn(b"the stored answer is damaged or gone", body)
            world.wait_event("journal.result_lost")

    def test_a_dropped_request_is_gone_in_words_too(self):
        with World(ALWAYS) as world:
            gate = world.fifo("gate")
            place = world.post("m", f"wait {gate}", {"Prefer": "respond-async"})[1]["Location"]
            waiting = world.connect()
            waiting.request("GET", place, headers={"Prefer": "wait=50"})
            wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight")
            drop = world.connect()
            drop.request("DELETE", place)
            self.assertEqual(drop.getresponse().status, 200)
            answer = waiting.getresponse()
            self.assertEqual((answer.status, answer.reason), (410, "Gone"))
            drop.close()
            waiting.close()
            world.release(gate)


class LaterOnEveryRoute(unittest.TestCase):
    """`Prefer: respond-async`: 202 at once, and the answer is fetched, also from the next hasupd."""
    BODIES = {"/v2/models/textgen/generate": {"text_input": "The Light", "parameters": {"max_tokens": 20, "seed": 7}},
              "/v1/completions": {"model": "textgen", "prompt": "The Light", "max_tokens": 20, "seed": 7},
              "/v1/chat/completions": {"model": "textgen", "messages": [{"role": "user", "content": "The Light"}],
                                       "max_tokens": 20, "seed": 7},
              "/models/textgen/invoke": {"prompt": "The Light", "n": 20, "seed": 7}}

    @staticmethod
    def same_but_for_ids(body):
        try:
            return {name: value for name, value in json.loads(body).items() if name not in ("id", "created")}
        except ValueError:
            return body

    def test_promise_2_the_answer_is_there_later_as_it_would_have_been_told(self):
        models = f"  textgen: {{command: [{BUILD}/examples/textgen]}}"
        with World(models) as world:
            places = {}
            for path, body in self.BODIES.items():
                body = json.dumps(body)
                status, _, told = world.post(None, body, {}, path)
                self.assertEqual((path, status), (path, 200))
                status, headers, ticket = world.post(None, body, {"Prefer": "respond-async"}, path)
                self.assertEqual((path, status), (path, 202))
                self.assertEqual(headers["Preference-Applied"], "respond-async")
                self.assertTrue(json.loads(ticket)["id"] in headers["Location"], (ticket, headers["Location"]))
                places[path] = headers["Location"], told
            for again in False, True:
                if again:
                    world.kill_and_start()
                for path, (place, told) in places.items():
                    with self.subTest(path=path, again=again):
                        connection = world.connect()
                        connection.request("GET", place, headers={"Prefer": "wait=30"})
                        answer = connection.getresponse()
                        self.assertEqual(answer.status, 200)
                        self.assertEqual(self.same_but_for_ids(answer.read()), self.same_but_for_ids(told))
                        connection.close()

    def test_promise_2_a_refusal_comes_as_the_route_says_it_at_once(self):
        with World(f"  textgen: {{command: [{BUILD}/examples/textgen]}}") as world:
            later = {"Prefer": "respond-async"}
            status, _, body = world.post(None, "{}", later, "/v2/models/nobody/infer")
            self.assertEqual((status, list(json.loads(body))), (404, ["error"]))
            status, _, body = world.post(None, '{"model": "nobody", "prompt": "x"}', later, "/v1/completions")
            self.assertEqual((status, json.loads(body)["error"]["code"]), (404, "model_not_found"))


class Bounds(unittest.TestCase):
    def test_promise_8_the_bytes_of_kept_answers_are_bounded_also_by_a_smaller_limit_at_the_next_start(self):
        models = f"  m: {{command: [{WORKER}]}}"
        with World(models, top="journal: {result_bytes: 100KiB}") as world:
            for i in range(12):
                self.assertEqual(world.post("m", f"big {16384 + i}", {"Idempotency-Key": f"k{i}"})[0], 200)
            self.assertEqual(world.status()["journal"]["results"], 6)
            wait_until(lambda: rows(world, "result") == 6, "their rows stay")
            answered = world.slot("m/0")["answered"]
            self.assertEqual(len(world.post("m", f"big {16384 + 11}", {"Idempotency-Key": "k11"})[2]), 16384 + 11)
            self.assertEqual(world.slot("m/0")["answered"], answered)  # the newest are kept
            self.assertEqual(world.stop(), 0)
            world.write(models, top="journal: {result_bytes: 64KiB}")
            world.start()
            self.assertEqual(world.status()["journal"]["results"], 3)
            wait_until(lambda: rows(world, "result") == 3, "their rows stay")

    def test_promise_8_what_is_larger_than_journal_body_max_is_refused_by_what_it_is(self):
        key, most = {"Idempotency-Key": "k"}, 64 << 10
        with World(f"  m: {{command: [{WORKER}]}}", top="journal: {body_max: 64KiB}") as world:
            status, _, said = world.post("m", "echo " + "x" * most, key)
            self.assertEqual((status, json.loads(said)["error"]["code"]), (413, "too_large"))
            self.assertIn(b"journal.body_max", said)
            self.assertEqual(world.post("m", "echo " + "x" * most)[0], 200)  # nobody asked that it be kept
            self.assertEqual(world.post("m", f"big {most}", key)[0], 200)
            status, _, said = world.post("m", f"big {most + 1}", key | {"Idempotency-Key": "l"})
            self.assertEqual((status, json.loads(said)["error"]["code"]), (507, "answer_too_large"))
            self.assertEqual(world.post("m", "echo well", key | {"Idempotency-Key": "l"})[2], b"well")  # it is free
            status, headers, _ = world.post("m", f"big {most + 1}", key | {"Idempotency-Key": "n", "Prefer": "respond-async"})
            self.assertEqual(status, 202)
            where = headers["Location"]
            wait_until(lambda: world.get(where)[0] == 507, "its refusal is not told")
            self.assertFalse(world.status()["journal"]["failing"])
            world.kill_and_start()
            self.assertEqual(world.get(where)[0], 507)


class Local(f.Peer):
    """A client of the Unix socket that says what it will not wait for (docs/protocol.md)."""
    CODE, KEY, PREFER, NO_WAIT = 18, 28, 36, 2

    def __init__(self, world):
        super().__init__(socket.socket(socket.AF_UNIX))
        self.socket.connect(world.socket)

    def meta(self, key, no_wait=False):
        meta = f.field(f.TAG_MODEL, "m") + f.field(f.TAG_ROUTE, "invoke") + f.field(self.KEY, key)
        return meta + (f.field(self.PREFER | 0x8000, struct.pack("<I", self.NO_WAIT)) if no_wait else b"")

    def ask(self, key, body, no_wait=False):
        self.send(f.REQUEST, 1, self.meta(key, no_wait), body.encode())

    def ask_often(self, count, key, body):
        self.socket.sendall(b"".join(self.frame(f.REQUEST, i + 1, self.meta(key), body.encode()) for i in range(count)))

    def answer(self):
        """Status, code, body."""
        _, _, status, meta, body = self.receive()
        return status, f.fields(meta).get(self.CODE, b"").decode(), body


class Keys(unittest.TestCase):
    ROUTES = ("/models/m/invoke", "/v2/models/m/infer", "/v2/models/m/versions/1/infer", "/v2/models/m/generate",
              "/v2/models/m/versions/1/generate", "/v2/models/m/generate_stream")

    def request(self, world, path, body, key, **headers):
        connection = world.connect()
        connection.request("POST", path, body, {"Idempotency-Key": f'"{key}"'} | headers)
        return connection

    def refused(self, connection):
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    def test_promise_3_who_comes_while_it_runs_joins_or_hears_409_or_422_on_every_route(self):
        with World(f"  m: {{command: [{WORKER}], concurrency_max: 1}}") as world:
            for number, path in enumerate(self.ROUTES):
                with self.subTest(path=path):
                    key, gate = f"k{number}", world.fifo(f"gate{number}")
                    body = f"wait {gate}"
                    first = self.request(world, path, body, key)
                    wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight")
                    second = self.request(world, path, body, key)  # joins: nothing else runs it
                    status, said = self.refused(self.request(world, path, body, key, Prefer="wait=0"))
                    self.assertEqual((status, b"still runs" in said), (409, True), said)
                    status, said = self.refused(self.request(world, path, body + "x", key))
                    self.assertEqual((status, b"another body" in said), (422, True), said)
                    local = Local(world)
                    local.ask(key, body, no_wait=True)
                    self.assertEqual(local.answer()[:2], (409, "in_progress"))
                    local.ask(key, "other")
                    self.assertEqual(local.answer()[:2], (422, "key_reused"))
                    local.ask(key, body)  # joins, too
                    wait_until(lambda: world.status()["requests"]["count"] == 3, "they never joined")
                    world.release(gate)
                    for connection in (first, second):
                        self.assertIn(b"done", world.finish(connection)[2])
                    self.assertEqual(local.answer(), (200, "", b"done"))
                    local.socket.close()
                    answered = world.slot("m/0")["answered"]
                    status, said = self.refused(self.request(world, path, body, key, Prefer="wait=0"))  # it has ended
                    self.assertEqual((status, b"done" in said), (200, True))
                    self.assertEqual(self.refused(self.request(world, path, "y", key))[0], 422)
                    self.assertEqual(world.slot("m/0")["answered"], answered)

    def test_promise_3_a_key_belongs_to_one_model(self):
        with World(f"{ALWAYS}\n{ALWAYS.replace('m:', 'n:')}") as world:
            key = {"Idempotency-Key": "k"}
            for again in range(2):  # from memory, then from the journal
                with self.subTest(again=again):
                    self.assertEqual(world.post("m", "echo of m", key)[::2], (200, b"of m"))
                    self.assertEqual(world.post("n", "echo of n", key)[::2], (200, b"of n"))
                    self.assertEqual(world.post("n", "echo of m", key)[0], 422)
                world.kill_and_start()

    def test_promise_8_stored_answers_on_their_way_count_as_requests(self):
        often = 100
        with World(f"  m: {{command: [{WORKER}]}}", top="limits: {requests: 4}\n") as world:
            local = Local(world)
            local.ask("k", "echo well")
            self.assertEqual(local.answer(), (200, "", b"well"))
            local.ask_often(often, "k", "echo well")
            answers = [local.answer()[:2] for _ in range(often)]
            self.assertEqual(set(answers), {(200, ""), (429, "overloaded")})
            local.ask("k", "echo well")
            self.assertEqual(local.answer(), (200, "", b"well"))
            local.socket.close()


if __name__ == "__main__":
    unittest.main(verbosity=1)

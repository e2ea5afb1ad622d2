"""Promise 5 over and over: 2,000 characters whose workers are killed after every k-th part, and hasupd too.

The client reconnects with its key and Last-Event-ID; what it put together has the undisturbed text's SHA-256.
"""
import hashlib
import http.client
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from killed import MARK, kill_worker  # noqa: E402
from world import BUILD, LIMIT, WORKER, World, events_of  # noqa: E402

LENGTH, BLOWS = 2000, 40  # at most so many on one stream
STREAMS = 20  # at most, until hasupd dies in the middle of one
BODY = json.dumps({"prompt": "The Light", "n": LENGTH, "seed": 7})
TOUGH = "max_attempts: 100, restart: {start_limit: 1000, backoff_min: 10ms, backoff_max: 20ms}"
TEXTGEN = f"  textgen: {{command: [{BUILD}/examples/textgen], workers: 2, {TOUGH}}}"
LOST = (OSError, http.client.HTTPException)


class Reader:
    """Puts a stream together, whatever connections it takes."""

    def __init__(self, world, model, body, key):
        self.world, self.path, self.body, self.key = world, f"/models/{model}/invoke", body, key
        self.text, self.last, self.last_event, self.connections, self.error = "", 0, None, 0, None

    def code(self):
        return self.error and self.error["error"]["code"]

    def events(self):
        """Yields after each part that came; ends with the stream, comes back where the connection is lost."""
        while True:
            try:
                yield from self.connection()
                return
            except LOST:
                yield self.last  # hasupd may have to be started first

    def take(self, name, data):
        """Whether it was the stream's last event."""
        if name:
            self.error = json.loads(data) if name == "error" else None
        else:
            self.text += data
        return bool(name)

    def connection(self):
        self.connections += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.world.port, timeout=LIMIT)
        try:
            connection.request("POST", self.path, self.body,
                               {"Accept": "text/event-stream", "Idempotency-Key": self.key,
                                **({"Last-Event-ID": self.last_event} if self.last else {})})
            answer = connection.getresponse()
            if answer.status != 200:
                self.error = json.loads(answer.read())
                return
            for event, number, name, data in events_of(answer):
                assert number == self.last + 1, (event, self.last)
                if self.take(name, data):
                    return
                self.last, self.last_event = number, event
                yield self.last
            raise http.client.IncompleteRead(b"")
        finally:
            connection.close()


class Fire:
    """Kills workers, or hasupd, and starts it again."""

    def __init__(self, world):
        self.world, self.workers, self.hasupds = world, 0, 0

    def kill_workers(self):
        """Those that were last said to be ready; one that is gone already is not struck."""
        self.world.mark()
        ready = {event["slot"]: event["pid"] for event in self.world.events if event["event"] == "slot.ready"}
        gone = {event["pid"] for event in self.world.events if event["event"] == "slot.exited"}
        for pid in set(ready.values()) - gone:
            self.workers += kill_worker(pid)

    def kill_hasupd(self):
        self.world.kill_and_start(wait=False)
        self.hasupds += 1


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def read_under_fire(reader, fire, every, hasupd_every=0):
    """Strikes after each `every` parts, and hasupd itself at each `hasupd_every`-th blow."""
    struck, blows = 0, 0
    for last in reader.events():
        if last < struck + every or blows == BLOWS:
            continue
        struck, blows = last, blows + 1
        if hasupd_every and blows % hasupd_every == 0:
            fire.kill_hasupd()
        else:
            fire.kill_workers()


class Streams(unittest.TestCase):
    def undisturbed(self, world):
        status, _, data = world.post("textgen", BODY)
        self.assertEqual((status, len(data)), (200, LENGTH))
        return hashlib.sha256(data).hexdigest()

    def read_under_fire(self, world, key, every, hasupd_every=0):
        reader, fire = Reader(world, "textgen", BODY, key), Fire(world)
        read_under_fire(reader, fire, every, hasupd_every)
        self.assertIsNone(reader.error)
        self.assertEqual(len(reader.text), LENGTH)
        return reader, fire

    def test_promise_5_2000_characters_whose_workers_die_after_every_kth_part(self):
        with World(TEXTGEN, environment={MARK: "streams"}) as world:
            wanted = self.undisturbed(world)
            for every in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
                with self.subTest(every=every):
                    reader, fire = self.read_under_fire(world, f"k{every}", every)
                    self.assertEqual(digest(reader.text), wanted)
                    self.assertEqual(reader.connections, 1)  # the client never noticed
                    self.assertGreater(fire.workers, 0)

    def test_promises_2_and_5_2000_characters_and_hasupd_dies_too(self):
        with World(TEXTGEN, environment={MARK: "streams"}) as world:
            wanted = self.undisturbed(world)
            for every, hasupd_every in ((4, 3), (9, 2), (20, 1), (50, 2)):
                with self.subTest(every=every, hasupd_every=hasupd_every):
                    for stream in range(STREAMS):
                        reader, fire = self.read_under_fire(world, f"k{every}.{stream}", every, hasupd_every)
                        self.assertEqual(digest(reader.text), wanted)
                        self.assertGreater(fire.hasupds, 0)
                        if reader.connections > 1:
                            break  # else all of it was on its way when hasupd died
                    self.assertGreater(reader.connections, 1)

    def plain(self, body, strike):
        """A worker that cannot go on: how its stream ends when somebody strikes after the first parts.  And how one
        that comes after that.  No run says its last part before the strike: there is always one to run again."""
        with World(f"  m: {{command: [{WORKER}], workers: 2, {TOUGH}}}", environment={MARK: "streams"}) as world:
            gate = world.fifo("gate")
            body = f"{body} {gate}"
            reader, fire, struck = Reader(world, "m", body, "k"), Fire(world), False
            for last in reader.events():
                if last >= 3 and not struck:
                    struck = True
                    getattr(fire, strike)()
                    world.unlock(gate)
            later = Reader(world, "m", body, "k")
            later.last, later.last_event = reader.last, reader.last_event
            list(later.events())
            return reader, later

    def test_promise_5_a_worker_that_runs_again_says_the_same(self):
        for strike in ("kill_workers", "kill_hasupd"):
            with self.subTest(strike=strike):
                reader, later = self.plain("stream 500", strike)
                self.assertEqual((reader.error, later.error, later.text), (None, None, ""))
                self.assertEqual(reader.text, "".join(f"part {i + 1} of 500\n" for i in range(500)))

    def test_promise_5_a_worker_that_says_something_else_is_found_out(self):
        """Nothing of the second run is spliced in: all that came is by one process, then an error says why."""
        for strike in ("kill_workers", "kill_hasupd"):
            with self.subTest(strike=strike):
                reader, later = self.plain("noise 5000", strike)
                # Where hasupd found it out before its client was back, it knows the stream no more.
                self.assertIn(reader.code(), ("diverged",) if strike == "kill_workers" else ("diverged", "gone"))
                self.assertEqual((later.code(), later.text), ("gone", ""))
                self.assertEqual(len({line.split()[-1] for line in reader.text.splitlines()}), 1)


if __name__ == "__main__":
    unittest.main()

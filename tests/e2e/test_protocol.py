"""Who breaks the protocol loses its own place and nothing else: workers and local clients, over real sockets."""
import os
import socket
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "unit")]
import raw_worker  # noqa: E402
import vectors  # noqa: E402
from world import LIMIT, WORKER, World, wait_until  # noqa: E402

RAW = f"[/usr/bin/python3, -B, {HERE}/raw_worker.py]"
RESTART = "restart: {backoff_min: 1ms, backoff_max: 1ms, start_limit: 1000}"
MODELS = (f"  liar: {{command: {RAW}, max_attempts: 1, {RESTART}}}\n"
          f"  m: {{command: [{WORKER}]}}\n"
          f"  held: {{command: [{WORKER}], timeouts: {{attempt: never, request: never}}}}")
# These end without a word that breaks the protocol: the worker's own exit or silence is the reason.
QUIET = {"half_a_frame_and_leaves", "closes_its_socket"}


def open_files(world):
    folder, found = f"/proc/{world.process.pid}/fd", []
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(os.path.join(folder, name)))
        except FileNotFoundError:
            pass
    return found


def descriptors(world):
    """Without the journal, which the first dead letter opens."""
    return sum("journal.db" not in path for path in open_files(world))


def memory_files(world):
    """The memfds that hasupd holds: buffers of peers that are gone would be among them."""
    return sum("memfd:lie" in path for path in open_files(world))


class Workers(unittest.TestCase):
    def test_a_worker_that_breaks_the_protocol_is_killed_and_restarted_and_the_rest_goes_on(self):
        with World(MODELS) as world:
            self.assertEqual(world.post("liar", "echo")[2], b"echo")
            before, gate = descriptors(world), world.fifo("gate")
            waiting = world.begin("held", f"wait {gate}")
            for lie in raw_worker.LIES:
                with self.subTest(lie):
                    pid, mark = world.pid("liar/0"), world.mark()
                    self.assertEqual(world.post("liar", lie)[0], 422)
                    if lie not in QUIET:
                        self.assertIn("broke the protocol", world.wait_event("slot.broke", since=mark)["message"])
                    world.wait_event("slot.ready", since=mark, slot="liar/0")
                    self.assertNotEqual(world.pid("liar/0"), pid)
                    self.assertEqual(world.post("liar", "echo")[::2], (200, b"echo"))
                    self.assertEqual(world.post("m", "echo x")[::2], (200, b"x"))
                    self.assertEqual(memory_files(world), 0)
            world.release(gate)
            self.assertEqual(world.finish(waiting)[::2], (200, b"done"))
            self.assertEqual([world.slot(name)["crashes"] for name in ("m/0", "held/0")], [0, 0])
            self.assertEqual(world.slot("liar/0")["crashes"], len(raw_worker.LIES))
            wait_until(lambda: descriptors(world) <= before, "descriptors are left")

    def test_a_request_beside_a_lie_is_answered_by_another_worker(self):
        models = f"  liar: {{command: {RAW}, workers: 2, max_attempts: 2, {RESTART}}}"
        with World(models) as world:
            lies = [world.begin("liar", "reply_to_nobody")] + [world.begin("liar", "echo") for _ in range(8)]
            answers = [world.finish(connection)[::2] for connection in lies]
            self.assertEqual(answers[0][0], 422)
            self.assertEqual(answers[1:], [(200, b"echo")] * 8)


    def test_progress_in_a_batch_breaks_the_protocol_and_alone_it_does_not(self):
        with World("", start=False) as world:
            gate = world.fifo("gate")
            world.write(f"  liar: {{command: {RAW[:-1]}, {gate}], max_attempts: 1, {RESTART}}}")
            world.start(wait=False)
            both = [world.begin("liar", "progress_ungranted") for _ in range(2)]
            wait_until(lambda: world.ctl("--json", "status").stdout.count(b'"queued": 2'), "never queued")
            world.release(gate)
            self.assertIn("broke the protocol", world.wait_event("slot.broke")["message"])
            world.release(gate)  # each comes alone now
            for connection in both:
                connection.close()

    def test_a_load_that_fails_before_the_welcome_is_a_failed_load(self):
        with World(f"  m: {{command: {RAW[:-1]}, --fail-load]}}", wait=False) as world:
            self.assertIn("could not load: no weights", world.wait_event("slot.exited", slot="m/0")["message"])

    def test_an_idle_worker_whose_next_request_takes_longer_than_a_ping_may_is_no_hang(self):
        clock = f"  clock: {{command: [{WORKER}], max_attempts: 1, timeouts: {{attempt: 900ms}}}}"
        for name, command in (("C", f"[{WORKER}]"),
                              ("Python", f"[/usr/bin/python3, -B, {HERE}/../unit/sdk_worker.py, plain]")):
            models = f"  m: {{command: {command}, timeouts: {{ping: 300ms, ping_after: 1ms}}}}\n{clock}"
            with self.subTest(name), World(models) as world:
                pid, gate = world.pid("m/0"), world.fifo("gate")
                waiting = world.begin("m", f"wait {gate}")
                self.assertEqual(world.post("clock", "hang")[0], 422)  # three times as long as the ping's limit
                world.release(gate)
                self.assertEqual(world.finish(waiting)[::2], (200, b"done"))
                self.assertEqual(world.pid("m/0"), pid)


class Clients(unittest.TestCase):
    def connect(self, world):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(LIMIT)
        connection.connect(world.socket)
        self.addCleanup(connection.close)
        return connection

    def refused(self, world, data):
        """Sends it; the connection must be closed without a word."""
        connection = self.connect(world)
        connection.sendall(data)
        try:
            self.assertEqual(connection.recv(1), b"")
        except ConnectionResetError:
            pass  # something unread
        connection.close()

    def test_a_client_that_breaks_the_protocol_loses_its_connection_and_nothing_else_happens(self):
        malformed = {v.name: v.bytes for v in vectors.frames() if v.kind == "malformed"}
        sound = {v.name: v.bytes for v in vectors.frames() if v.kind == "frame"}
        foreign = ("hello-counter", "welcome-plain", "ready", "reply-200", "chunk-0", "state-2", "drain", "spawn",
                   "request-buffer", "release-1", "buffer-gone-1")
        with World(f"  m: {{command: [{WORKER}]}}") as world:
            world.post("m", "echo x")
            before, pid = descriptors(world), world.pid("m/0")
            for name, data in list(malformed.items()) + [(name, sound[name]) for name in foreign]:
                with self.subTest(name):
                    self.refused(world, data)
                    self.assertEqual(world.post("m", "echo x")[::2], (200, b"x"))
            self.assertEqual(world.pid("m/0"), pid)
            wait_until(lambda: descriptors(world) <= before, "descriptors are left")

    def test_a_local_client_is_answered_as_the_vectors_say(self):
        frames = {v.name: v.bytes for v in vectors.frames()}
        with World(f"  m: {{command: [{WORKER}]}}") as world:
            connection = self.connect(world)
            connection.sendall(frames["client-request"])
            want = frames["reply-200"]
            self.assertEqual(connection.recv(len(want), socket.MSG_WAITALL).hex(" "), want.hex(" "))
            connection.sendall(frames["ping-77"])
            want = frames["pong-77"]
            self.assertEqual(connection.recv(len(want), socket.MSG_WAITALL).hex(" "), want.hex(" "))


if __name__ == "__main__":
    unittest.main(verbosity=1)

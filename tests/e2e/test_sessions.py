"""Requests of one session run in one slot: while it lives, after its worker died, and after hasupd did."""
import os
import socket
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "unit")]
import fake_hasupd as f  # noqa: E402
from world import BUILD, ROOT, WORKER, World, wait_until  # noqa: E402

SESSION = 16
STATELESS = f"  m: {{command: [{WORKER}], workers: 4}}"
STATEFUL = f"  c: {{command: [{os.path.join(BUILD, 'examples', 'counter')}], workers: 3, journal: always}}"


def session(name):
    return {"X-Session-Id": name}


class Sessions(unittest.TestCase):
    def pid(self, world, name):
        status, _, body = world.post("m", "pid", session(name))
        self.assertEqual(status, 200)
        return int(body)

    def test_a_session_stays_in_its_slot_moves_while_that_is_down_and_comes_back(self):
        with World(STATELESS) as world:
            names = [f"s{i}" for i in range(40)]
            seats = {name: self.pid(world, name) for name in names}
            self.assertEqual(len(set(seats.values())), 4)  # all have some
            for name in names * 3:
                self.assertEqual(self.pid(world, name), seats[name])
            slots = {slot["pid"]: slot["slot"] for slot in world.slots()}
            gone = seats["s0"]
            at = world.mark()
            world.kill(slots[gone])
            for name in names:  # the others never notice
                if seats[name] != gone:
                    self.assertEqual(self.pid(world, name), seats[name])
            new = world.wait_event("slot.ready", since=at, slot=slots[gone])["pid"]
            for name in names:
                self.assertEqual(self.pid(world, name), new if seats[name] == gone else seats[name])

    def test_it_waits_for_its_slot_where_it_is_told_to(self):
        with World("", start=False) as world:
            gate = world.fifo("load")
            for workers in (1, 2):  # never two at one gate
                world.write(f"  m: {{command: [{WORKER}, --load, {gate}], workers: {workers}, "
                            "session: {on_lost: wait}}")
                if workers == 1:
                    world.start(wait=False)
                else:
                    world.ctl("reload")
                world.release(gate)
                world.wait_event("slot.ready", slot=f"m/{workers - 1}")
            slots = {slot["pid"]: slot["slot"] for slot in world.slots()}
            seats = {name: slots[self.pid(world, name)] for name in (f"s{i}" for i in range(20))}
            mine, other = (next(n for n in seats if seats[n] == slot) for slot in ("m/0", "m/1"))
            at = world.mark()
            world.kill("m/0")
            world.wait_event("slot.exited", since=at, slot="m/0")  # what it has in hand is tried elsewhere
            waiting = world.begin("m", "pid", session(mine))
            wait_until(lambda: world.slot("m/0")["queued"] == 1, "it never waited")
            self.assertEqual(self.pid(world, other), world.pid("m/1"))
            world.release(gate)
            status, _, body = world.finish(waiting)
            self.assertEqual((status, int(body)), (200, world.pid("m/0")))

    def test_the_unix_socket_has_the_same_sessions(self):
        with World(STATELESS) as world:
            peer = f.Peer(socket.socket(socket.AF_UNIX))
            peer.socket.connect(world.socket)
            for name in (f"s{i}" for i in range(12)):
                meta = f.field(f.TAG_MODEL, "m") + f.field(f.TAG_ROUTE, "invoke") + f.field(SESSION, name)
                peer.send(f.REQUEST, 1, meta, b"pid")
                self.assertEqual(int(peer.receive()[4]), self.pid(world, name))
            peer.socket.close()

    def test_promise_4_a_sessions_state_is_there_after_its_worker_and_hasupd_died(self):
        with World(STATEFUL) as world:
            def count():
                status, _, body = world.post("c", "", session("only"))
                self.assertEqual(status, 200)
                return int(body)

            self.assertEqual([count() for _ in range(5)], [1, 2, 3, 4, 5])
            (slot,) = [s["slot"] for s in world.slots() if s["answered"]]
            world.kill(slot)
            self.assertEqual([count() for _ in range(3)], [6, 7, 8])  # waited for it
            world.kill_and_start()
            self.assertEqual(count(), 9)
            self.assertEqual([s["slot"] for s in world.slots() if s["answered"]], [slot])


class Counters(unittest.TestCase):
    """Many sessions, each with a counter of its own in some slot: who finds another counter has moved."""

    NAMES = [f"user-{i}" for i in range(60)]

    def model(self, workers):
        command = f"[{sys.executable}, -B, {ROOT}/examples/sessions.py]"
        return f"  c: {{command: {command}, workers: {workers}, journal: always}}"

    def ask(self, world):
        """Each session's count; all are under way at once."""
        asked = {name: world.begin("c", "hello", session(name)) for name in self.NAMES}
        counts = {}
        for name, connection in asked.items():
            status, _, body = world.finish(connection)
            self.assertEqual(status, 200, body)
            counts[name] = int(body.split(b":")[0])
        return counts

    def scale(self, world, before, after):
        at = world.mark()
        world.write(self.model(after))
        world.ctl("reload")
        for slot in range(before, after):
            world.wait_event("slot.ready", since=at, slot=f"c/{slot}")
        for slot in range(after, before):
            self.assertIn("begin anew", world.wait_event("slot.state_left", since=at, slot=f"c/{slot}")["message"])
            world.wait_event("slot.stopped", since=at, slot=f"c/{slot}")

    def test_promise_4_no_count_is_lost_by_workers_that_die_with_many_sessions_in_hand(self):
        with World(self.model(3)) as world:
            for count in range(1, 5):
                at = world.mark()
                pids = [world.kill(f"c/{slot}") for slot in range(3)] if count > 2 else []
                self.assertEqual(self.ask(world), dict.fromkeys(self.NAMES, count))
                for slot in range(len(pids)):
                    world.wait_event("slot.ready", since=at, slot=f"c/{slot}")
            world.kill_and_start()
            self.assertEqual(self.ask(world), dict.fromkeys(self.NAMES, 5))
            status, _, body = world.post("c", "hello")
            self.assertEqual((status, b"X-Session-Id" in body), (400, True))
            sequence = '{"inputs": [], "parameters": {"sequence_id": "user-7"}}'
            _, _, body = world.post("c", sequence, path="/v2/models/c/infer")
            self.assertEqual(body, b"6: " + sequence.encode())  # the same session

    def test_scaling_moves_one_session_in_n_and_no_other_notices(self):
        with World(self.model(4)) as world:
            self.assertEqual(self.ask(world), dict.fromkeys(self.NAMES, 1))
            self.scale(world, 4, 5)
            counts = self.ask(world)
            moved = [name for name in self.NAMES if counts[name] == 1]
            self.assertEqual({counts[name] for name in self.NAMES if name not in moved}, {2})
            self.assertTrue(0 < len(moved) <= 2 * len(self.NAMES) / 5, len(moved))  # 12 are expected
            self.scale(world, 5, 4)
            counts = self.ask(world)  # back where they were: what they left there is there
            self.assertEqual({counts[name] for name in moved}, {2})
            self.assertEqual({counts[name] for name in self.NAMES if name not in moved}, {3})
            self.scale(world, 4, 5)
            counts = self.ask(world)  # and so it is in the slot that came back
            self.assertEqual({counts[name] for name in moved}, {2})
            self.assertEqual({counts[name] for name in self.NAMES if name not in moved}, {4})


if __name__ == "__main__":
    unittest.main(verbosity=1)

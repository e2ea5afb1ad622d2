"""Requests of one session run in one slot: while it lives, after its worker died, and after hasupd did."""
import os
import unittest

from world import BUILD, WORKER, World

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


if __name__ == "__main__":
    unittest.main(verbosity=1)

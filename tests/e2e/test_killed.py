"""Promises 1 to 5 under the death of hasupd itself, at every named point of the durability path.

The client, the lives and what is checked: killed.py.  More of the same at random: make soak.
"""
import os
import random
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from killed import FAULTY, NotReached, Run, points, random_faults  # noqa: E402
from world import BUILD, LIMIT  # noqa: E402

# These come once in a life, at its start, and need something to recover.
ONCE = ("recovery_begin", "recovery_marked", "recovery_end")
SECOND = ONCE + ("recovery_log", "recovery_result", "recovery_request", "checkpoint_loaded", "restore_sent",
                 "replay_dispatched")
BEFORE = "accept_after_commit:25"  # what is accepted and not begun is there to be recovered
RANDOM_RUNS = 12
SECOND_LIVES = 5  # tries


def symbols(program):
    return subprocess.run(["nm", program], capture_output=True, timeout=LIMIT, check=True).stdout.decode()


class Killed(unittest.TestCase):
    def play(self, faults, seed, strict=True):
        with self.subTest(faults=faults, seed=seed):
            Run(faults, seed, strict=strict, patience=20 if strict else 2).play()

    def play_second(self, name, seed):
        """What the first life leaves to recover is chance (a checkpoint may have covered the log): another one, then."""
        for again in range(SECOND_LIVES):
            try:
                Run([BEFORE, f"{name}:1"], seed + 1000 * again, strict=True, patience=5).play()
                return
            except NotReached:
                continue
        self.fail(f"{name} was not reached in {SECOND_LIVES} lives")

    def test_promises_1_to_5_hold_wherever_hasupd_is_killed(self):
        for seed, name in enumerate(points()):
            if name in SECOND:
                with self.subTest(point=name, seed=2 * seed):
                    self.play_second(name, 2 * seed)
            else:
                for count in (1,) if name.startswith("letter_") else (1, 4):  # one body kills, and is known then
                    self.play([f"{name}:{count}"], 2 * seed + count % 2)

    def test_promises_1_to_5_hold_when_hasupd_is_killed_while_it_recovers(self):
        for seed, name in enumerate(("recovery_result:5", "recovery_log:2", "recovery_end:1", "replay_dispatched:2")):
            self.play([BEFORE, "answer_before_told:7", name, name], 2 * seed, strict=False)

    def test_promises_1_to_5_hold_at_random_points(self):
        names = points()
        for seed in range(RANDOM_RUNS):
            self.play(random_faults(random.Random(seed), names), seed, strict=False)

    def test_what_ships_has_no_fault_points(self):
        with open(f"{BUILD}/hasupd", "rb") as file:
            shipped = file.read()
        with open(FAULTY, "rb") as file:
            faulty = file.read()
        for word in (b"HASUP_FAULT", b"accept_before_commit", b"recovery_marked"):
            self.assertIn(word, faulty)
            self.assertNotIn(word, shipped)
        for name in ("fault_reached", "fault_commit"):
            self.assertIn(name, symbols(FAULTY))
            self.assertNotIn(name, symbols(f"{BUILD}/hasupd"))


if __name__ == "__main__":
    unittest.main()

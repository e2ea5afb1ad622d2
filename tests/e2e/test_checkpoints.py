"""Checkpoints from outside: keys, files to carry away, what list shows, and retention."""
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, OBJECTS, World  # noqa: E402

COUNTER = f"  counter: {{command: [{BUILD}/examples/counter], checkpoint: {{interval: never}}}}"
CREATED, HASH = 24, 32  # of an exported file: where its time stands, how long the hash at its end is
KEY_A, KEY_B = "a1" * 32, "b2" * 32


def ctl(state, *args, key=None, data=None):
    env = dict(os.environ, HASUP_SOCKET="/nonexistent")
    if key:
        env["HASUP_KEY_FILE"] = key
    return subprocess.run([f"{BUILD}/hasupctl", "--state-dir", state, *args], env=env, input=data,
                          capture_output=True, timeout=LIMIT)


def key_file(world, *keys):
    path = os.path.join(world.directory, "keys")
    with open(path, "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write("\n".join(keys) + "\n")
    return path


class Base(unittest.TestCase):
    def ok(self, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def count(self, world, first, last):
        for i in range(first, last + 1):
            self.assertEqual(world.post("counter", "")[2], b"%d\n" % i)

    def restart(self, world, top="", models=COUNTER):
        self.assertEqual(world.stop(), 0)
        world.write(models, top)
        world.start()


class Sizes(Base):
    """bulky's state has 256 KiB."""

    @staticmethod
    def models(state_max):
        return (f"  counter: {{command: [{OBJECTS}/tests/e2e/bulky], "
                f"checkpoint: {{interval: never, state_max: {state_max}}}}}")

    def limit(self, world, state_max):
        world.write(self.models(state_max))
        self.ok(world.ctl("reload"))

    def refused(self, world):
        since = world.mark()
        done = world.ctl("--json", "checkpoint", "now", "counter", check=False)
        self.assertEqual(done.returncode, 1)
        said = "counter/0 could not save: its state has 262144 bytes, " \
               "models.counter.checkpoint.state_max is 262143; the checkpoint before stays"
        self.assertEqual(json.loads(done.stdout)["checkpoints"]["counter/0"]["error"], said)
        self.assertEqual(world.wait_event("checkpoint.failed", since=since, slot="counter/0")["message"], said)

    def test_promise_3_a_state_over_its_limit_is_refused_and_the_checkpoint_before_stays(self):
        with World(self.models(262143)) as world:
            pid = world.pid("counter/0")
            self.count(world, 1, 3)
            self.refused(world)  # with no checkpoint before it, too
            self.count(world, 4, 5)
            self.limit(world, 262144)
            self.ok(world.ctl("checkpoint", "now", "counter"))
            self.limit(world, 262143)
            self.count(world, 6, 9)
            self.refused(world)
            shown = world.slot("counter/0")
            self.assertEqual((shown["checkpoint"]["position"], shown["pid"]), (5, pid))
            world.kill("counter/0")
            self.count(world, 10, 10)  # what is stored is restored though it is over the limit by now
            self.assertEqual(world.slot("counter/0")["replayed"], 4)
            world.process.send_signal(signal.SIGTERM)
            lost = world.wait_event("checkpoint.lost", slot="counter/0")
            self.assertEqual((lost["position"], lost["stored_position"]), (10, 5))
            self.assertEqual(world.process.wait(LIMIT), 1)  # a stop that loses a state says so


class Scaled(Base):
    """Two counters, each asked in turn."""

    @staticmethod
    def models(workers):
        return (f"  counter: {{command: [{BUILD}/examples/counter], workers: {workers}, policy: round_robin, "
                f"journal: always, checkpoint: {{interval: never}}}}")

    def scale(self, world, workers, event):
        since = world.mark()
        world.write(self.models(workers))
        self.ok(world.ctl("reload"))
        world.wait_event(event, since=since, slot="counter/1")

    def test_promise_3_a_slot_that_goes_leaves_its_state_for_when_it_comes_back(self):
        with World(self.models(2)) as world:
            totals = [0, 0]
            for _ in range(10):  # the last state may be stored before its worker is gone, or after
                for _ in range(4):
                    answer = int(world.post("counter", "")[2])
                    self.assertIn(answer - 1, totals)
                    totals[totals.index(answer - 1)] += 1
                self.scale(world, 1, "slot.stopped")
                self.scale(world, 2, "slot.ready")
            self.assertEqual(totals, [20, 20])
            self.assertEqual(world.stop(), 0)


class Keys(Base):
    def bytes_of(self, path):
        with open(path, "rb") as file:
            return file.read()

    def start_fails(self, world, top):
        world.write(COUNTER, top)
        done = subprocess.run([f"{BUILD}/hasupd", "-c", world.config], capture_output=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 2)
        return done.stderr.decode()

    def test_promise_12_without_its_key_a_state_is_neither_restored_nor_lost(self):
        with World(COUNTER) as world:
            keys = key_file(world, KEY_A)
            top = f"checkpoints: {{key_file: {keys}, encrypt: true}}"
            self.restart(world, top)
            self.count(world, 1, 3)
            self.assertEqual(world.stop(), 0)
            database = os.path.join(world.state, "checkpoints.db")
            before = self.bytes_of(database)
            [one] = json.loads(self.ok(ctl(world.state, "--json", "checkpoint", "list")))
            self.assertIn(f"sealed with key {one['key']}, and no key file is named", self.start_fails(world, ""))
            key_file(world, KEY_B)
            said = self.start_fails(world, top)
            self.assertIn(f"key {one['key']}, which {keys} does not hold", said)
            self.assertIn("Nothing was changed", said)
            os.chmod(keys, 0o644)
            self.assertIn("chmod 0600", self.start_fails(world, top))
            self.assertEqual(self.bytes_of(database), before)
            os.chmod(keys, 0o600)
            key_file(world, KEY_B, KEY_A)  # the key is changed
            world.start()
            self.count(world, 4, 5)
            self.restart(world, top)
            key_file(world, KEY_B)
            self.restart(world, top)
            self.count(world, 6, 6)

    def test_the_audit_and_show_know_the_key_from_the_configuration(self):
        with World(COUNTER) as world:
            keys = key_file(world, KEY_A)
            self.restart(world, f"checkpoints: {{key_file: {keys}}}")
            self.count(world, 1, 2)
            world.ctl("checkpoint", "now", "counter")
            [one] = json.loads(self.ok(ctl(world.state, "--json", "checkpoint", "list")))
            self.ok(ctl(world.state, "checkpoint", "show", str(one["id"])))
            self.ok(ctl(world.state, "audit", "--deep"))
            os.rename(os.path.join(world.state, "running.json"), os.path.join(world.directory, "noted"))
            done = ctl(world.state, "audit")
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"missing: counter/0", done.stdout)
            self.assertIn(b"--key-file", done.stdout)
            self.ok(ctl(world.state, "audit", key=keys))
            os.rename(os.path.join(world.directory, "noted"), os.path.join(world.state, "running.json"))
            os.unlink(keys)
            done = ctl(world.state, "audit")
            self.assertEqual(done.returncode, 2)
            self.assertIn(keys.encode(), done.stderr)


class Files(Base):
    def test_a_state_is_carried_to_another_place(self):
        with World(COUNTER) as world, World(COUNTER) as other:
            self.count(world, 1, 5)
            world.ctl("checkpoint", "now", "counter")
            path = os.path.join(world.directory, "state.hasup")
            self.ok(world.ctl("checkpoint", "export", "counter/0", path))
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            self.count(other, 1, 2)
            refused = other.ctl("checkpoint", "import", path, check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertIn(b"hasupd runs", refused.stderr)
            self.assertEqual(other.stop(), 0)
            self.assertIn(b"counter/0 goes on", self.ok(ctl(other.state, "checkpoint", "import", path)))
            other.start()
            self.count(other, 6, 7)
            self.ok(ctl(other.state, "audit", "--deep"))

    def export_and_go_on(self, world):
        """An export at position 3; hasupd is killed at 8."""
        self.count(world, 1, 3)
        world.ctl("checkpoint", "now", "counter")
        export = self.ok(ctl(world.state, "checkpoint", "export", "counter/0", "-"))
        self.count(world, 4, 8)
        self.assertEqual(world.stop(signal.SIGKILL), -signal.SIGKILL)
        return export

    def older(self, data, by):
        """An exported file as if it had been saved `by` seconds earlier (docs/portable.md)."""
        at, = struct.unpack_from("<q", data, CREATED)
        data = data[:CREATED] + struct.pack("<q", at - by * 10**9) + data[CREATED + 8:-HASH]
        return data + hashlib.blake2b(data, digest_size=HASH).digest()

    def test_promise_11_an_import_beside_what_is_there_is_in_order(self):
        with World(COUNTER) as world:
            self.count(world, 1, 3)
            self.assertEqual(world.stop(), 0)
            export = self.ok(ctl(world.state, "checkpoint", "export", "counter/0", "-"))
            world.start()
            self.count(world, 4, 8)
            self.assertEqual(world.stop(), 0)
            for data in (export, self.older(export, 7200), export):  # behind, older, at one that is there
                self.assertIn(b"position 8", self.ok(ctl(world.state, "checkpoint", "import", "-", data=data)))
                self.assertEqual(self.audit(world), [])
            world.start()
            self.count(world, 4, 5)
            self.assertEqual(world.stop(), 0)
            self.assertEqual(self.audit(world), [])

    def test_promise_11_nothing_of_a_slots_log_runs_again_on_an_imported_state(self):
        with World(COUNTER.replace("checkpoint:", "journal: always, checkpoint:")) as world:
            export = self.export_and_go_on(world)
            self.assertIn(b"position 8", self.ok(ctl(world.state, "checkpoint", "import", "-", data=export)))
            self.assertEqual(self.audit(world), [])
            world.start()
            self.count(world, 4, 5)
            self.assertEqual(world.slot("counter/0")["replayed"], 0)

    def test_promise_11_where_the_journal_cannot_be_read_an_import_says_so_and_needs_force(self):
        with World(COUNTER.replace("checkpoint:", "journal: always, checkpoint:")) as world:
            export = self.export_and_go_on(world)
            for name in os.listdir(world.state):
                if name.startswith("journal.db-"):
                    os.unlink(os.path.join(world.state, name))
            with open(os.path.join(world.state, "journal.db"), "wb") as file:
                file.write(b"no database" * 1000)
            refused = ctl(world.state, "checkpoint", "import", "-", data=export)
            self.assertEqual(refused.returncode, 1)
            for word in (b"log of counter/0", b"journal.db", b"--force"):
                self.assertIn(word, refused.stderr)
            forced = ctl(world.state, "checkpoint", "import", "-", "--force", data=export)
            self.assertIn(b"goes on from it", self.ok(forced))
            self.assertIn(b"behind the slot's checkpoints alone", forced.stderr)

    def test_promise_4_an_export_and_the_log_bring_a_lost_state_back(self):
        with World(COUNTER.replace("checkpoint:", "journal: always, checkpoint:")) as world:
            export = self.export_and_go_on(world)
            os.unlink(os.path.join(world.state, "checkpoints.db"))
            self.assertIn(b"position 3", self.ok(ctl(world.state, "checkpoint", "import", "-", data=export)))
            self.assertEqual(self.audit(world), [])
            world.start()
            self.count(world, 9, 9)  # its answer comes behind those of the log, which a ready slot may still run
            self.assertEqual(world.slot("counter/0")["replayed"], 5)

    def audit(self, world):
        found = json.loads(ctl(world.state, "--json", "audit", "--deep").stdout)["findings"]
        return [one for one in found if one["code"] in ("order", "gap", "damaged", "incomplete", "missing")]

    def test_promise_11_a_damaged_file_changes_nothing(self):
        with World(COUNTER) as world:
            self.count(world, 1, 3)
            self.assertEqual(world.stop(), 0)
            whole = self.ok(ctl(world.state, "checkpoint", "export", "counter/0", "-"))
            before = self.ok(ctl(world.state, "--json", "checkpoint", "list"))
            for at in (0, 20, 140, len(whole) - 1):
                bad = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:]
                self.assertEqual(ctl(world.state, "checkpoint", "import", "-", data=bad).returncode, 1)
            self.assertEqual(ctl(world.state, "checkpoint", "import", "-", data=whole[:-1]).returncode, 1)
            after = json.loads(self.ok(ctl(world.state, "--json", "checkpoint", "list")))
            self.assertEqual([one["id"] for one in after], [one["id"] for one in json.loads(before)])

    def test_a_file_that_is_no_database_is_named_and_left_alone(self):
        with World(COUNTER) as world:
            self.count(world, 1, 3)
            self.assertEqual(world.stop(), 0)
            path, garbage = os.path.join(world.state, "checkpoints.db"), b"no database " * 400
            with open(path, "wb") as file:
                file.write(garbage)
            world.events, world.buffer = [], b""
            world.start()
            damaged = world.wait_event("checkpoint.damaged", slot="counter/0")
            self.assertIn("not a database", damaged["message"])
            self.assertEqual(damaged["file"], path)
            self.assertIn("move the file", damaged["to_do"])
            world.wait_event("checkpoints.failing", slot="counter/0")
            world.wait_event("slot.state_lost", slot="counter/0")
            self.count(world, 1, 2)  # it serves, from the beginning
            missing = world.ctl("checkpoint", "now", "counter", check=False)
            self.assertEqual(missing.returncode, 1)
            self.assertIn(b"not a database", missing.stdout + missing.stderr)
            world.kill("counter/0")  # and the state in memory is not forgotten for it
            self.count(world, 3, 4)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), garbage)
            os.rename(path, path + ".broken")  # what it said is to be done
            world.ctl("checkpoint", "now", "counter")
            world.wait_event("checkpoints.recovered")
            self.assertEqual(world.stop(), 0)
            world.events, world.buffer = [], b""
            world.start()
            self.count(world, 5, 6)
            self.assertEqual(world.stop(), 0)

    def test_a_broken_file_that_nobody_moved_makes_a_stop_fail_loudly(self):
        with World(COUNTER) as world:
            self.assertEqual(world.stop(), 0)
            path = os.path.join(world.state, "checkpoints.db")
            with open(path, "wb") as file:
                file.write(b"no database " * 400)
            world.events, world.buffer = [], b""
            world.start()
            self.count(world, 1, 2)
            self.assertEqual(world.stop(), 1)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), b"no database " * 400)

    def test_a_file_of_another_model_is_refused_unless_told(self):
        two = COUNTER + f"\n  second: {{command: [{BUILD}/examples/counter], checkpoint: {{interval: never}}}}"
        with World(two) as world:
            self.count(world, 1, 4)
            self.assertEqual(world.stop(), 0)
            whole = self.ok(ctl(world.state, "checkpoint", "export", "counter/0", "-"))
            done = ctl(world.state, "checkpoint", "import", "-", "second/0", data=whole)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"it is of the model counter; --force", done.stderr)
            self.ok(ctl(world.state, "checkpoint", "import", "-", "second/0", "--force", data=whole))
            world.start()
            self.assertEqual(world.post("second", "")[2], b"5\n")

    def test_an_export_with_a_key_is_encrypted(self):
        with World(COUNTER) as world:
            keys = key_file(world, KEY_A)
            self.restart(world, f"checkpoints: {{key_file: {keys}}}")
            self.count(world, 1, 3)
            self.assertEqual(world.stop(), 0)
            closed = self.ok(ctl(world.state, "checkpoint", "export", "counter/0", "-"))
            with World(COUNTER) as other:
                self.assertEqual(other.stop(signal.SIGKILL), -signal.SIGKILL)
                done = ctl(other.state, "checkpoint", "import", "-", data=closed)
                self.assertEqual(done.returncode, 1)
                self.assertIn(b"encrypted with key", done.stderr)
                plain = self.ok(ctl(world.state, "checkpoint", "export", "counter/0", "-", "--plain"))
                self.ok(ctl(other.state, "checkpoint", "import", "-", data=plain))


class Kept(Base):
    def test_prune_lets_go_of_all_but_the_newest(self):
        with World(COUNTER.replace("never", "never, keep: 20")) as world:
            for i in range(1, 9):
                self.count(world, i, i)
                world.ctl("checkpoint", "now", "counter")
            rows = self.ok(world.ctl("checkpoint", "list")).decode().splitlines()
            self.assertEqual(len(rows), 9)
            self.assertRegex(rows[0], r"SLOT +ID +POSITION +SIZE +WRITTEN +SHARED +AGE")
            self.assertIn(b"6 checkpoints are gone", self.ok(world.ctl("checkpoint", "prune", "counter", "--keep", "2")))
            self.count(world, 9, 9)
            world.ctl("checkpoint", "now", "counter")
            self.assertEqual(len(json.loads(world.ctl("--json", "checkpoint", "list").stdout)), 3)
            refused = world.ctl("checkpoint", "prune", "counter", "--all", check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertEqual(world.stop(), 0)
            self.ok(ctl(world.state, "checkpoint", "prune", "counter", "--all"))
            self.assertEqual(self.ok(ctl(world.state, "--json", "checkpoint", "list")).strip(), b"[]")


if __name__ == "__main__":
    unittest.main()

"""What a process is started with: its slot's number and name, variables from files."""
import json
import os
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, WORKER, World, wait_until  # noqa: E402


def model(keys):
    return f"  m: {{command: [{WORKER}], restart: {{backoff_min: 10ms, backoff_max: 10ms, start_limit: 1000}}, {keys}}}"


def environment(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return dict(os.fsdecode(item).split("=", 1) for item in file.read().split(b"\0") if item)


def arguments(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return [os.fsdecode(item) for item in file.read().split(b"\0")[:-1]]


class Placeholders(unittest.TestCase):
    def test_each_slot_has_its_own(self):
        keys = (f"""  m:
    command: [{WORKER}, "--port={{slot+8000}}", '{{"json": {{"slot": 1}}}}', "${{slot}} {{}} {{{{slot}}}}"]
    workers: 2
    directory: "d{{slot}}"
    environment: {{NAME: "{{model}}-{{slot}}"}}""")
        with World(keys, start=False) as world:
            for name in ("d0", "d1"):
                os.mkdir(os.path.join(world.directory, name))
            world.start()
            for slot in range(2):
                pid = world.pid(f"m/{slot}")
                self.assertEqual(arguments(pid)[1:], [f"--port={8000 + slot}", '{"json": {"slot": 1}}', "${slot} {} {slot}"])
                self.assertEqual(environment(pid)["NAME"], f"m-{slot}")
                self.assertEqual(os.path.basename(os.readlink(f"/proc/{pid}/cwd")), f"d{slot}")


class Files(unittest.TestCase):
    def put(self, world, name, text):
        """Whole or not at all: a start may read it at any time."""
        path = os.path.join(world.directory, name)
        with open(f"{path}.new", "w") as file:
            file.write(text)
        os.rename(f"{path}.new", path)

    def test_variables_come_from_files_at_each_start(self):
        with World(model("environment: {OWN: own}, environment_files: [a.env, '{slot}.env', -none.env]"), start=False,
                   environment={"OUTSIDE": "hasupd"}) as world:
            self.put(world, "a.env", "# secrets\nFIRST=a\nSECOND=a\nOWN=file\nOUTSIDE=file\nHOME_OF=$HOME\n")
            self.put(world, "0.env", 'SECOND="b c"\n')
            world.start()
            found = environment(world.pid("m/0"))
            self.assertEqual([found[name] for name in ("FIRST", "SECOND", "OWN", "OUTSIDE", "HOME_OF")],
                             ["a", "b c", "own", "file", "$HOME"])
            self.put(world, "0.env", "SECOND=changed\n")
            mark = world.mark()
            world.kill("m/0")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertEqual(environment(world.pid("m/0"))["SECOND"], "changed")

    def test_a_file_that_is_missing_or_wrong_is_a_start_that_fails(self):
        with World(model("environment_files: [a.env]"), wait=False) as world:
            path = os.path.join(world.directory, "a.env")
            world.wait_event("slot.start_failed", slot="m/0")
            self.assertEqual(world.slot("m/0")["last_death"]["reason"],
                             f"could not start: environment_files: {path}: No such file or directory")
            self.put(world, "a.env", "GOOD=1\npassword\n")
            reason = f"could not start: environment_files: {path}:2: expected NAME=VALUE, and there is no \"=\""
            wait_until(lambda: (world.slot("m/0")["last_death"] or {}).get("reason") == reason, "it is not told")
            check = subprocess.run([f"{BUILD}/hasupd", "--check", world.config], capture_output=True, text=True)
            self.assertEqual(check.returncode, 2)
            self.assertIn(f"models.m.environment_files: {path}:2: expected NAME=VALUE", check.stderr)
            self.assertNotIn("password", check.stderr)
            self.put(world, "a.env", "GOOD=1\n")
            world.wait_event("slot.ready", slot="m/0")
            self.assertEqual(environment(world.pid("m/0"))["GOOD"], "1")

    def test_a_forked_worker_has_what_the_files_say_when_it_begins(self):
        with World(model("preload: true, environment_files: [a.env]").replace(WORKER, f"{os.path.dirname(WORKER)}/preloaded"),
                   start=False) as world:
            self.put(world, "a.env", "SAID=before\n")
            world.start()
            self.assertEqual(world.post("m", "env SAID")[2], b"before")
            self.put(world, "a.env", "SAID=afterwards\n")
            mark = world.mark()
            world.kill("m/0")
            world.wait_event("slot.ready", since=mark, slot="m/0")
            self.assertEqual(world.post("m", "env SAID")[2], b"afterwards")


LISTENING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "listening.py")


def ask(address):
    """What the process behind a socket says: its name there, and its pid."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(60)
        client.connect(address)
        return client.makefile().readline().split()


class Sockets(unittest.TestCase):
    def world(self, keys, **how):
        return World(f"""  m:
    command: [{sys.executable}, -B, {LISTENING}]
    restart: {{backoff_min: 10ms, backoff_max: 10ms, start_limit: 1000}}
    {keys}""", **how)

    def port(self, world):
        return ("127.0.0.1", world.wait_event("socket.listens", socket="web")["port"])

    BOTH = "sockets: {web: {tcp: '127.0.0.1:0'}, local: {unix: local.sock, mode: '0640', backlog: 7}}"

    def test_each_process_gets_them_as_sd_listen_fds_has_it(self):
        with self.world(self.BOTH + "\n    workers: 2") as world:
            path = os.path.join(world.directory, "local.sock")
            told = json.loads(world.post("m", "")[2])
            self.assertEqual([told[name] for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "HASUP_FD")],
                             [str(told["pid"]), "2", "web:local", "5"])
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o640)
            pids = {str(world.pid(f"m/{slot}")) for slot in range(2)}
            name, pid = ask(self.port(world))
            self.assertEqual((name, pid in pids), ("web", True))
            self.assertEqual(ask(path)[0], "local")
            world.ctl("shutdown")
            world.process.wait(60)
            self.assertFalse(os.path.exists(path))

    def test_status_shows_them(self):
        with self.world(self.BOTH) as world:
            path, (_, port) = os.path.join(world.directory, "local.sock"), self.port(world)
            self.assertEqual(world.status()["models"][0]["sockets"], [
                {"name": "web", "address": f"127.0.0.1:{port}", "backlog": 4096, "open": True},
                {"name": "local", "address": path, "backlog": 7, "open": True}])
            shown = f"    socket web: 127.0.0.1:{port}, backlog 4096\n    socket local: {path}, backlog 7\n  m/0 "
            self.assertIn(shown, world.ctl("status", "m").stdout.decode())
            self.assertNotIn("socket", world.ctl("status").stdout.decode())

    def test_status_shows_one_that_cannot_be_opened(self):
        with self.world("sockets: {local: {unix: none/local.sock}}", wait=False) as world:
            world.wait_event("slot.start_failed", slot="m/0")
            path = os.path.join(world.directory, "none/local.sock")
            self.assertIn(f"    socket local: {path}, NOT open; backlog 4096\n", world.ctl("status").stdout.decode())
            self.assertFalse(world.status()["models"][0]["sockets"][0]["open"])

    def test_who_connects_while_no_process_runs_waits_for_the_next(self):
        with self.world(self.BOTH) as world:
            path, address = os.path.join(world.directory, "local.sock"), self.port(world)
            world.ctl("stop", "m/0")
            wait_until(lambda: not world.slot("m/0")["pid"], "it does not stop")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local, socket.create_connection(address) as web:
                local.connect(path)
                mark = world.mark()
                world.ctl("start", "m/0")
                pid = str(world.wait_event("slot.ready", since=mark, slot="m/0")["pid"])
                self.assertEqual(local.makefile().readline().split(), ["local", pid])
                self.assertEqual(web.makefile().readline().split(), ["web", pid])

    def test_they_outlive_a_reload_and_an_upgrade_and_end_with_their_model(self):
        other = f"\n  keeps: {{command: [{WORKER}]}}"
        with self.world(self.BOTH + other) as world:
            path, address = os.path.join(world.directory, "local.sock"), self.port(world)
            before = os.stat(path).st_ino
            world.write(f"  m: {{command: [{sys.executable}, -B, {LISTENING}], environment: {{A: b}}, {self.BOTH}}}{other}")
            mark = world.mark()
            world.ctl("reload")
            world.wait_event("rollout.done", since=mark, model="m")
            wait_until(lambda: len(world.slots()) == 2, "the extra worker stays")  # it takes connections until it is gone
            self.assertEqual([ask(path)[0], ask(address)[0]], ["local", "web"])
            world.ctl("upgrade")
            self.assertEqual([ask(path)[0], ask(address)[0], os.stat(path).st_ino], ["local", "web", before])
            mark = world.mark()
            world.kill("m/0")
            world.wait_event("slot.exited", since=mark, slot="m/0")  # one that dies may still have taken a connection
            self.assertEqual([ask(path)[0], ask(address)[0]], ["local", "web"])
            world.write(other)
            mark = world.mark()
            world.ctl("reload")
            world.wait_event("model.removed", since=mark, model="m")
            for closed in (path, "127.0.0.1:0 m/web"):
                world.wait_event("socket.closed", since=mark, address=closed)
            self.assertFalse(os.path.exists(path))
            with self.assertRaises(ConnectionRefusedError):
                ask(address)

    def test_a_rollback_takes_their_mode_and_backlog_back(self):
        with self.world(self.BOTH) as world:
            path = os.path.join(world.directory, "local.sock")
            other = self.BOTH.replace("0640", "0666").replace("backlog: 7", "backlog: 9")
            world.write("  m: {command: [/bin/false], restart: {backoff_min: 10ms, backoff_max: 10ms, start_limit: 2}, "
                        + other + "}")
            mark = world.mark()
            world.ctl("reload")
            world.wait_event("rollout.rolled_back", since=mark, model="m")
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o640)
            self.assertEqual(ask(path)[0], "local")

    def test_a_socket_of_another_kind_is_in_the_way_and_stays(self):
        with self.world("sockets: {local: {unix: local.sock}}", start=False) as world:
            path = os.path.join(world.directory, "local.sock")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.bind(path)
                before = os.stat(path).st_ino
                world.start(wait=False)
                world.wait_event("slot.start_failed", slot="m/0")
                self.assertEqual(os.stat(path).st_ino, before)
            world.wait_event("slot.ready", slot="m/0")

    def test_an_address_that_hasupd_needs_yet_is_called_so(self):
        with self.world(self.BOTH) as world:
            _, port = self.port(world)
            world.write(f"  m: {{command: [{sys.executable}, -B, {LISTENING}], restart: {{backoff_min: 10ms, "
                        f"backoff_max: 10ms, start_limit: 2}}, sockets: {{web: {{tcp: '0.0.0.0:{port}'}}}}}}")
            said = world.ctl("reload", "--wait", check=False).stderr.decode()
            self.assertIn(f"0.0.0.0:{port}: Address already in use; hasupd listens at 127.0.0.1:0 m/web already", said)
            self.assertEqual(ask(("127.0.0.1", port))[0], "web")

    def test_one_that_is_taken_is_a_start_that_fails_until_it_is_free(self):
        with self.world("sockets: {local: {unix: local.sock}}", start=False) as world:
            path = os.path.join(world.directory, "local.sock")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                other.bind(path)
                other.listen(1)
                world.start(wait=False)
                world.wait_event("slot.start_failed", slot="m/0")
                self.assertEqual(world.slot("m/0")["last_death"]["reason"],
                                 f"could not start: sockets.local: another process listens on {path}")
            world.wait_event("slot.ready", slot="m/0")  # the file that is left is in nobody's way
            self.assertEqual(ask(path)[0], "local")

    def test_a_forked_worker_has_them_under_its_own_pid(self):
        with self.world("preload: true\n    " + self.BOTH) as world:
            told = json.loads(world.post("m", "")[2])
            self.assertEqual(told["LISTEN_PID"], str(told["pid"]))
            self.assertEqual(ask(self.port(world)), ["web", str(world.pid("m/0"))])


if __name__ == "__main__":
    unittest.main()

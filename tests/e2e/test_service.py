"""What hasupd tells a service manager (sd_notify): a socket of the test's own stands for systemd."""
import os
import shutil
import signal
import socket
import tempfile
import unittest

from world import BUILD, LIMIT, OBJECTS, World  # noqa: F401

ECHO = f"  echo:\n    command: [{BUILD}/examples/echo]\n"


class Manager:
    def __init__(self, test, abstract=False):
        self.directory = tempfile.mkdtemp(prefix="hasup-notify.")
        test.addCleanup(shutil.rmtree, self.directory)
        path = os.path.join(self.directory, "notify")
        self.name = "@" + path if abstract else path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        test.addCleanup(self.socket.close)
        self.socket.bind("\0" + path if abstract else path)
        self.socket.settimeout(LIMIT)
        self.heard = []

    def wait(self, line):
        """The first datagram from now on that has this line, as a dictionary."""
        while True:
            fields = dict(part.split("=", 1) for part in self.socket.recv(4096).decode().split("\n"))
            self.heard.append(fields)
            name, value = line.split("=")
            if fields.get(name) == value:
                return fields

    def is_silent(self):
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(LIMIT)


class Service(unittest.TestCase):
    def world(self, manager, **more):
        world = World(ECHO, top="shutdown: {grace: 7s}", environment={"NOTIFY_SOCKET": manager.name, **more})
        self.addCleanup(world.close)
        return world

    def test_its_life_is_told_in_order(self):
        for abstract in (False, True):
            with self.subTest(abstract=abstract):
                manager = Manager(self, abstract)
                world = self.world(manager)
                self.assertEqual(manager.wait("READY=1"), {"READY": "1", "STATUS": "serving"})
                world.process.send_signal(signal.SIGHUP)
                self.assertGreater(int(manager.wait("RELOADING=1")["MONOTONIC_USEC"]), 0)
                manager.wait("READY=1")
                world.ctl("reload")
                manager.wait("RELOADING=1")
                manager.wait("READY=1")
                world.process.send_signal(signal.SIGTERM)
                self.assertEqual(int(manager.wait("STOPPING=1")["EXTEND_TIMEOUT_USEC"]), 67_000_000)
                self.assertEqual(world.process.wait(LIMIT), 0)
                self.assertNotIn("WATCHDOG", {name for fields in manager.heard for name in fields})

    def test_a_reload_that_is_refused_is_told_and_over(self):
        manager = Manager(self)
        world = self.world(manager)
        with open(world.config, "a", encoding="utf-8") as file:
            file.write("nonsense: true\n")
        world.process.send_signal(signal.SIGHUP)
        manager.wait("RELOADING=1")
        self.assertIn("refused", manager.wait("READY=1")["STATUS"])

    def test_hasupctl_shutdown_is_told_too(self):
        manager = Manager(self)
        world = self.world(manager)
        world.ctl("shutdown")
        manager.wait("STOPPING=1")

    def test_the_watchdog_is_fed_at_half_its_time_while_the_loop_turns(self):
        manager = Manager(self)
        world = self.world(manager, WATCHDOG_USEC="100000")
        for _ in range(4):
            manager.wait("WATCHDOG=1")
        os.kill(world.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, world.process.pid, os.WSTOPPED)
        while not manager.is_silent():
            pass
        self.assertTrue(manager.is_silent())
        os.kill(world.process.pid, signal.SIGCONT)
        manager.wait("WATCHDOG=1")

    def test_a_watchdog_of_another_process_is_not_fed(self):
        manager = Manager(self)
        world = self.world(manager, WATCHDOG_USEC="1000", WATCHDOG_PID="1")
        manager.wait("READY=1")
        world.ctl("shutdown")
        manager.wait("STOPPING=1")
        self.assertNotIn("WATCHDOG", {name for fields in manager.heard for name in fields})

    def test_a_socket_that_is_not_there_is_said_once_and_hasupd_serves(self):
        world = World(ECHO, environment={"NOTIFY_SOCKET": "/nonexistent/notify", "WATCHDOG_USEC": "20000"})
        self.addCleanup(world.close)
        world.wait_event("service.untold")
        self.assertEqual(world.post("echo", b"hello")[2], b"hello")
        world.ctl("shutdown")
        world.process.wait(LIMIT)
        world.mark()
        self.assertEqual(sum(event["event"] == "service.untold" for event in world.events), 1)


if __name__ == "__main__":
    unittest.main(verbosity=1)

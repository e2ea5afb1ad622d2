"""examples/site does what it says: prepared, then served, through a proxy that asks for a token; nobody is refused who comes early."""
import http.client
import os
import shutil
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_programs import free_port  # noqa: E402
from world import LIMIT, ROOT, World  # noqa: E402

SITE = os.path.join(ROOT, "examples/site")


class Site(unittest.TestCase):
    def setUp(self):
        self.world = World("", start=False)
        self.addCleanup(self.world.close)
        self.site = os.path.join(self.world.directory, "site")
        shutil.copytree(SITE, self.site, ignore=shutil.ignore_patterns("data"))
        with open(os.path.join(SITE, "supervisor.yaml")) as file:
            programs, _, self.models = file.read().partition("models:\n")
        self.models = self.models.replace("../../worker/python", f"{ROOT}/worker/python")
        self.programs = programs.replace("127.0.0.1:8600", "127.0.0.1:0")
        self.store = str(free_port())
        self.configure("127.0.0.1:1")
        self.world.start(wait=False)
        self.configure(f"127.0.0.1:{self.world.port}")  # which is known only now
        self.world.ctl("reload")
        self.front = self.world.wait_event("socket.listens", socket="front")["port"]

    def configure(self, behind):
        texts = [text.replace("8601", self.store).replace("    command:", f"    directory: {self.site}\n    command:")
                 for text in (self.models, self.programs.replace("127.0.0.1:8080", behind))]
        self.world.write(*texts)

    def ask(self, name, token="Bearer open"):
        connection = http.client.HTTPConnection("127.0.0.1", self.front, timeout=LIMIT)
        connection.request("POST", "/models/score/invoke", name, {"Authorization": token})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def test_who_comes_early_waits_and_all_starts_and_stops_in_its_order(self):
        world = self.world
        self.assertEqual(self.ask("anna"), (200, b"5\n"))
        self.assertEqual(self.ask("ben"), (200, b"13\n"))
        self.assertEqual(self.ask("anna", "Bearer guessed")[0], 401)
        self.assertEqual(self.ask("otto")[0], 404)
        world.ctl("wait", "front", "--ready", "--timeout", "30s")
        world.process.terminate()
        world.wait_event("hasupd.stopped", exit_code=0)
        order = [(e["event"], e["slot"]) for e in world.events
                 if e["event"] in ("slot.done", "slot.ready") and e["slot"] != "front/0"]
        self.assertEqual(order, [("slot.done", "prepare/0"), ("slot.ready", "store/0"), ("slot.ready", "score/0")])
        stopped = [e["slot"] for e in world.events if e["event"] == "slot.stopped"]
        self.assertEqual(stopped, ["front/0", "score/0", "store/0", "prepare/0"])

    def test_nobody_is_refused_while_the_proxy_is_replaced(self):
        world = self.world
        self.assertEqual(self.ask("anna")[0], 200)
        world.ctl("wait", "front", "--ready", "--timeout", "30s")
        mark = world.mark()
        world.ctl("restart", "front")
        world.wait_event("slot.exited", since=mark, slot="front/0")
        self.assertEqual(self.ask("anna"), (200, b"5\n"))
        world.wait_event("rollout.done", since=mark, model="front")


if __name__ == "__main__":
    unittest.main(verbosity=1)

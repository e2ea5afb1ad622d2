"""The routes of OpenAI's clients: streams whose workers, and hasupd, are killed in the middle are put together to the
undisturbed text's SHA-256; and OpenAI's own client for Node.js (pinned in tests/e2e/openai) talks to textgen."""
import http.client
import json
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_streams as streams  # noqa: E402
from killed import MARK  # noqa: E402
from world import OBJECTS, ROOT, World  # noqa: E402

ASKED = {"model": "textgen", "max_tokens": streams.LENGTH, "seed": 7}
BODIES = {"/v1/completions": dict(ASKED, prompt="The Light"),
          "/v1/chat/completions": dict(ASKED, messages=[{"role": "user", "content": "The Light"}])}
CHAT = (f"  chat:\n    command: [node, {ROOT}/examples/adapters/chat.js]\n    workers: 2\n"
        "    adapter: {kind: http, concurrency: 16, ready: {path: /health}}\n")


def without_ids(stream):
    """Which events hasupd numbers depends on how they came from the server."""
    return [line for line in stream.splitlines() if not line.startswith(b"id: ")]


def text_of(choice):
    return choice["text"] if "text" in choice else choice.get("message", choice.get("delta"))["content"]


class Reader(streams.Reader):
    """Puts the deltas together."""

    def __init__(self, world, path, key):
        super().__init__(world, "textgen", json.dumps(dict(BODIES[path], stream=True)), key)
        self.path, self.done, self.names, self.finish = path, False, set(), None

    def take(self, name, data):
        assert name is None, name
        if data == "[DONE]":
            self.done = True
            return True
        told = json.loads(data)
        if "error" in told:
            self.error = told
            return True
        choice = told["choices"][0]
        self.names.add((told["id"], told["created"], told["model"]))
        self.finish = choice["finish_reason"]
        self.text += choice["text"] if "text" in choice else choice["delta"].get("content", "")
        return False


class Killed(unittest.TestCase):
    def wanted(self, world, path):
        status, _, data = world.post(None, json.dumps(BODIES[path]), path=path)
        self.assertEqual(status, 200)
        text = text_of(json.loads(data)["choices"][0])
        self.assertEqual(len(text), streams.LENGTH)
        return streams.digest(text)

    def read(self, world, path, key, every, hasupd_every=0):
        reader, fire = Reader(world, path, key), streams.Fire(world)
        streams.read_under_fire(reader, fire, every, hasupd_every)
        self.assertIsNone(reader.error)
        self.assertTrue(reader.done)
        self.assertEqual(reader.finish, "length")
        self.assertEqual(len(reader.names), 1)  # one id, one time of creation, whoever told it
        return reader, fire

    def test_promise_5_streams_whose_workers_die_after_every_kth_event(self):
        with World(streams.TEXTGEN, environment={MARK: "openai"}) as world:
            for path in BODIES:
                wanted = self.wanted(world, path)
                for every in (1, 3, 8, 21, 55):
                    with self.subTest(path=path, every=every):
                        reader, fire = self.read(world, path, f"{path}{every}", every)
                        self.assertEqual(streams.digest(reader.text), wanted)
                        self.assertEqual(reader.connections, 1)  # the client never noticed
                        self.assertGreater(fire.workers, 0)

    def test_promises_2_and_5_and_hasupd_dies_too(self):
        with World(streams.TEXTGEN, environment={MARK: "openai"}) as world:
            for path in BODIES:
                wanted = self.wanted(world, path)
                for every, hasupd_every in ((4, 3), (20, 1)):
                    with self.subTest(path=path, every=every, hasupd_every=hasupd_every):
                        reader, fire = self.read(world, path, f"{path}{every}", every, hasupd_every)
                        self.assertEqual(streams.digest(reader.text), wanted)
                        self.assertGreater(fire.hasupds, 0)
                        self.assertGreater(reader.connections, 1)

    def test_promise_3_one_key_has_one_answer(self):
        path = "/v1/chat/completions"
        with World(streams.TEXTGEN) as world:
            body, key = json.dumps(dict(BODIES[path], max_tokens=20)), {"Idempotency-Key": "k"}
            first, again = (world.post(None, body, key, path) for _ in range(2))
            self.assertEqual((first[0], first[2]), (200, again[2]))  # the same id and time of creation, too
            status, _, data = world.post(None, body.replace("20", "21"), key, path)
            self.assertEqual((status, json.loads(data)["error"]["code"]), (422, "key_reused"))


class Client(unittest.TestCase):
    """OpenAI's own client."""

    @classmethod
    def setUpClass(cls):
        missing = [program for program in ("node", "npm") if not shutil.which(program)]
        if missing:
            raise unittest.SkipTest(f"OpenAI's client: there is no {' and no '.join(missing)} (tools/setup check)")
        cls.directory = os.path.join(OBJECTS, "openai-client")
        os.makedirs(cls.directory, exist_ok=True)
        for name in ("package.json", "package-lock.json", "client.mjs"):
            shutil.copy(os.path.join(ROOT, "tests/e2e/openai", name), cls.directory)
        with open(os.path.join(cls.directory, "package-lock.json")) as file:
            pinned = json.load(file)["packages"]["node_modules/openai"]["version"]
        try:
            with open(os.path.join(cls.directory, "node_modules/openai/package.json")) as file:
                if json.load(file)["version"] == pinned:
                    return
        except (OSError, ValueError):
            pass
        got = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=cls.directory,
                             capture_output=True, text=True, timeout=120)
        if got.returncode:
            raise unittest.SkipTest(f"OpenAI's client {pinned} cannot be had: {got.stderr.strip()[-300:]}")

    def test_it_talks_to_textgen(self):
        with World(streams.TEXTGEN) as world:
            _, _, text = world.post("textgen", json.dumps({"prompt": "The Light", "n": 300, "seed": 7}))
            got = subprocess.run(["node", "client.mjs", f"http://127.0.0.1:{world.port}/v1", "textgen"],
                                 cwd=self.directory, capture_output=True, text=True, timeout=120)
        self.assertEqual((got.returncode, got.stderr), (0, ""))
        seen, text = json.loads(got.stdout), text.decode()
        usage = {"prompt_tokens": 9, "completion_tokens": 300, "total_tokens": 309}
        self.assertEqual((seen["models"], seen["retrieved"]), (["textgen"], "textgen"))
        for whole in (seen["chat"], seen["text"]):
            self.assertEqual(whole, {"text": text, "finish": "length", "usage": usage})
        self.assertEqual(seen["helper"], text)
        self.assertEqual(seen["text_stream"]["text"], text)
        self.assertGreater(seen["text_stream"]["chunks"], 30)
        stream = seen["chat_stream"]
        self.assertEqual((stream["text"], stream["finish"], stream["usage"]), (text, "length", usage))
        self.assertEqual(len(stream["ids"]), 1)
        self.assertGreater(stream["chunks"], 30)
        unknown = {"status": 404, "code": "model_not_found", "param": "model", "type": "invalid_request_error",
                   "message": "404 there is no such model", "kind": "NotFoundError"}
        self.assertEqual([seen["refused"][0], seen["refused"][3]], [unknown, unknown])
        for refused, why in zip(seen["refused"][1:3], ("400 n: a request has one answer here",
                                                       "400 messages: expected a list")):
            self.assertEqual((refused["status"], refused["message"]), (400, why))
            self.assertEqual(refused["kind"], "BadRequestError")

    def test_it_talks_to_a_server_behind_the_adapter(self):
        with World(CHAT) as world:
            got = subprocess.run(["node", "client.mjs", f"http://127.0.0.1:{world.port}/v1", "chat"],
                                 cwd=self.directory, capture_output=True, text=True, timeout=120)
            self.assertEqual(world.slot("chat/0")["crashes"], 0)
        self.assertEqual((got.returncode, got.stderr), (0, ""))
        seen = json.loads(got.stdout)
        text, usage = seen["chat"]["text"], seen["chat"]["usage"]
        self.assertEqual(len(text.split()), 300)
        self.assertEqual((seen["models"], seen["retrieved"]), (["chat"], "chat"))
        self.assertEqual((seen["chat"]["finish"], usage["completion_tokens"]), ("length", 300))
        self.assertEqual(seen["helper"], text)
        stream = seen["chat_stream"]
        self.assertEqual((stream["text"], stream["finish"], stream["usage"]), (text, "length", usage))
        self.assertEqual((len(stream["ids"]), stream["chunks"]), (1, 302))
        self.assertEqual((seen["text_stream"]["text"], seen["text"]["finish"]), (seen["text"]["text"], "length"))
        self.assertEqual([refused["kind"] for refused in seen["refused"]],
                         ["NotFoundError", "BadRequestError", "BadRequestError", "NotFoundError"])
        self.assertEqual([refused["message"] for refused in seen["refused"][1:3]],  # the server's own words
                         ["400 n: one answer to a request", "400 messages: expected a list"])


class Adapted(unittest.TestCase):
    """A server of those routes that knows nothing of hasup, killed in the middle of its streams."""

    @unittest.skipUnless(shutil.which("node"), "there is no node (tools/setup check)")
    def test_promise_5_a_stream_goes_on_where_its_server_was_killed(self):
        headers = {"X-Request-Id": "one"}
        for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "The Light"}]}),
                           ("/v1/completions", {"prompt": "The Light"})):
            body = json.dumps({**body, "model": "chat", "max_tokens": 200, "stream": True})
            with self.subTest(path=path), World(CHAT, environment={"TOKEN_MS": "1"}) as world:
                undisturbed = world.post(None, body, headers, path)[2]
                connection = world.connect()
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                got = answer.read(2000)
                world.kill(next(slot["slot"] for slot in world.slots() if slot["inflight"]))
                self.assertEqual(without_ids(got + answer.read()), without_ids(undisturbed))
                self.assertTrue(undisturbed.endswith(b"data: [DONE]\n\n"))
                connection.close()

    @unittest.skipUnless(shutil.which("node"), "there is no node (tools/setup check)")
    def test_promise_5_one_that_would_differ_ends_with_an_error(self):
        chat = CHAT.replace(f"{ROOT}/examples/adapters/chat.js", "chat.js")
        with World("", start=False) as world:
            with open(f"{ROOT}/examples/adapters/chat.js") as file:
                text = file.read()
            self.assertIn("asked.seed || 0", text)
            with open(os.path.join(world.directory, "chat.js"), "w") as file:
                file.write(text.replace("asked.seed || 0", "process.pid"))
            world.environment["TOKEN_MS"] = "1"
            world.write(chat)
            world.start()
            connection = world.connect()
            connection.request("POST", "/v1/completions", json.dumps({"model": "chat", "prompt": "x", "max_tokens": 200,
                                                                      "stream": True}))
            answer = connection.getresponse()
            answer.read(3000)
            world.kill(next(slot["slot"] for slot in world.slots() if slot["inflight"]))
            rest = answer.read()
            self.assertEqual(json.loads(rest.strip().rpartition(b"data: ")[2])["error"]["code"], "diverged")
            self.assertNotIn(b"[DONE]", rest)
            connection.close()


if __name__ == "__main__":
    unittest.main()

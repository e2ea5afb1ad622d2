"""The examples answer as they are described: digits right, text the same each time, state bit for bit."""
import json
import os
import socket
import struct
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HELLO, WELCOME, RESTORE, READY, REQUEST, REPLY, CHUNK, CHECKPOINT, STATE = 1, 2, 3, 4, 5, 6, 7, 10, 11
DRAIN = 14
TAG_ABILITIES, TAG_MODEL, TAG_SLOT, TAG_GRANTED, TAG_POSITION, TAG_TYPE, TAG_ROUTE = 4, 6, 7, 8, 9, 11, 12
RESTORING = 1 << 4
HEADER = struct.Struct("<BBBBIQQII")


def field(tag, value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<HHI", tag, 0, len(value)) + value


def fields(meta):
    found = {}
    while meta:
        tag, _, length = struct.unpack_from("<HHI", meta)
        found[tag] = meta[8:8 + length]
        meta = meta[8 + length:]
    return found


class Worker:
    """One example, driven as hasupd would."""

    def __init__(self, command, state=None, position=0):
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        self.socket = ours
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT,
                                        env=dict(os.environ, HASUP_FD=str(theirs.fileno())))
        theirs.close()
        kind, _, _, meta, _ = self.receive()
        assert kind == HELLO
        granted = fields(meta).get(TAG_ABILITIES, bytes(8))
        meta = field(TAG_MODEL, "m") + field(TAG_SLOT, struct.pack("<I", 0)) + field(TAG_GRANTED, granted)
        self.send(WELCOME, meta=meta, flags=RESTORING if state is not None else 0)
        if state is not None:
            self.send(RESTORE, meta=field(TAG_POSITION, struct.pack("<Q", position)), body=state)
        kind, _, _, meta, _ = self.receive()
        assert kind == READY, kind
        assert not meta, meta
        self.position = position

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the worker is gone"
            data += more
        return data

    def receive(self):
        _, _, kind, _, meta, number, body, seq, _ = HEADER.unpack(self.exactly(HEADER.size))
        meta = self.exactly(meta)
        return kind, number, seq, meta, self.exactly(body)

    def send(self, kind, number=0, meta=b"", body=b"", flags=0, seq=0):
        self.socket.sendall(HEADER.pack(0xA7, 1, kind, flags, len(meta), number, len(body), seq, 0) + meta + body)

    def ask(self, route, body):
        """Status, parts of the answer."""
        self.position += 1
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        meta = field(TAG_ROUTE, route) + field(TAG_POSITION, struct.pack("<Q", self.position))
        self.send(REQUEST, self.position, meta, body, seq=1)
        parts = []
        while True:
            kind, number, seq, _, part = self.receive()
            assert number == self.position
            parts += [part] if part else []
            if kind == REPLY:
                return seq, parts
            assert kind == CHUNK

    def state(self):
        self.send(CHECKPOINT, meta=field(TAG_POSITION, struct.pack("<Q", self.position)))
        kind, _, _, _, body = self.receive()
        assert kind == STATE
        return body

    def close(self):
        self.send(DRAIN)
        code = self.process.wait(timeout=60)
        self.socket.close()
        return code


def held_out():
    with open(os.path.join(ROOT, "examples/data/digits_held_out.csv")) as rows:
        return [[int(n) for n in row.split(",")] for row in rows]


def example(name):
    return [os.path.join(ROOT, os.environ.get("EXAMPLES", "build/examples"), name)]


def tensor(rows):
    return {"id": "a", "inputs": [{"name": "image", "shape": [len(rows), 64], "datatype": "FP32", "data": rows}]}


class Digits(unittest.TestCase):
    command, right = example("digits"), 351

    def test_it_reads_the_rows_it_never_saw(self):
        worker, rows = Worker(self.command), held_out()
        status, (answer,) = worker.ask("infer", tensor([row[:64] for row in rows]))
        self.assertIn(status, (0, 200))
        answer = json.loads(answer)
        self.assertEqual(answer["id"], "a")
        outputs = {o["name"]: o for o in answer["outputs"]}
        self.assertEqual(outputs["digit"]["shape"], [len(rows)])
        self.assertEqual(outputs["scores"]["shape"], [len(rows), 10])
        right = sum(d == row[64] for d, row in zip(outputs["digit"]["data"], rows))
        self.assertEqual(right, self.right)
        self.assertEqual(worker.close(), 0)

    def test_it_takes_numbers_bytes_and_flat_tensors(self):
        worker, row = Worker(self.command), held_out()[0][:64]
        flat = tensor([row])
        flat["inputs"][0]["data"] = row
        answers = set()
        for body in (flat, tensor([row])):
            answers.add(str(json.loads(worker.ask("infer", body)[1][0])["outputs"]))
        for body in (bytes(row), " ".join(map(str, row)).encode(), ",".join(map(str, row)).encode()):
            answers.add(str(json.loads(worker.ask("invoke", body)[1][0])["outputs"]))
        self.assertEqual(len(answers), 1)
        for body in (b"", b"{", b"1 2 3", {"inputs": []}, tensor([[1] * 63]), tensor([["x"] * 64])):
            self.assertEqual(worker.ask("infer", body)[0], 400)
        self.assertEqual(worker.close(), 0)


class Textgen(unittest.TestCase):
    def test_the_same_request_gives_the_same_text_in_any_worker(self):
        ask = {"prompt": "The Light", "n": 300, "seed": 7, "temperature": 0.5}
        first, second = Worker(example("textgen")), Worker(example("textgen"))
        _, parts = first.ask("invoke", ask)
        self.assertGreater(len(parts), 30)
        first.ask("invoke", dict(ask, seed=8))
        self.assertEqual(first.ask("invoke", ask)[1], parts)
        self.assertEqual(second.ask("invoke", ask)[1], parts)
        text = b"".join(parts).decode("ascii")
        self.assertEqual(len(text), 300)
        self.assertNotEqual(b"".join(second.ask("invoke", dict(ask, seed=8))[1]).decode(), text)
        ask = {"text_input": "The Light", "parameters": {"n": 300, "seed": 7, "temperature": 0.5}}
        self.assertEqual(json.loads(second.ask("generate", ask)[1][0])["text_output"], text)
        events = [json.loads(part)["text_output"] for part in second.ask("generate_stream", ask)[1]]
        self.assertEqual("".join(events), text)
        for body in (b"", b"[]", {"n": 0}, {"n": 10 ** 9}, {"prompt": 1}, {"seed": "x"}):
            self.assertEqual(second.ask("invoke", body)[0], 400)
        self.assertEqual((first.close(), second.close()), (0, 0))


class Learner(unittest.TestCase):
    def test_promise_4_its_state_comes_back_bit_for_bit(self):
        lessons = [{"image": row[:64], "label": row[64]} for row in held_out()[:200]]
        straight = Worker(example("learner"))
        for lesson in lessons[:100]:
            straight.ask("invoke", lesson)
        half = straight.state()
        self.assertTrue(160000 < len(half) < 180000, len(half))
        answers = [straight.ask("invoke", lesson) for lesson in lessons[100:]]
        restored = Worker(example("learner"), state=half, position=100)
        self.assertEqual(restored.state(), half)
        self.assertEqual([restored.ask("invoke", lesson) for lesson in lessons[100:]], answers)
        self.assertEqual(restored.state(), straight.state())
        again = Worker(example("learner"))
        for lesson in lessons:
            again.ask("invoke", lesson)
        self.assertEqual(again.state(), straight.state())
        self.assertEqual(json.loads(again.ask("invoke", {"image": lessons[0]["image"]})[1][0])["learned"], 200)
        self.assertEqual(again.ask("invoke", {"image": [1]})[0], 400)
        self.assertEqual(again.ask("invoke", dict(lessons[0], label=10))[0], 400)
        self.assertEqual([w.close() for w in (straight, restored, again)], [0, 0, 0])


if __name__ == "__main__":
    unittest.main()

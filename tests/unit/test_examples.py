"""The examples answer as they are described: digits right, text the same each time, state bit for bit."""
import json
import os
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fake_hasupd import ROOT, Worker  # noqa: E402

def held_out():
    with open(os.path.join(ROOT, "examples/data/digits_held_out.csv")) as rows:
        return [[int(n) for n in row.split(",")] for row in rows]


def example(name):
    return [os.path.join(ROOT, os.environ.get("EXAMPLES", "build/examples"), name)]


def tensor(rows):
    return {"id": "a", "inputs": [{"name": "image", "shape": [len(rows), 64], "datatype": "FP32", "data": rows}]}


def answered_alike(case, worker, rows, more=()):
    """64 at once, of one image or several or none, some of them wrong."""
    asked = [("infer", tensor([row[:64] for row in rows[at:at + at % 4]])) for at in range(58)]
    asked += [("infer", body) for body in (b"", b"{", tensor([[1] * 63]))] + (list(more) or asked[1:4])
    alone = [worker.ask(*one) for one in asked]
    together = worker.ask_together(asked)
    case.assertEqual(together, [(status, b"".join(parts)) for status, parts in alone])
    case.assertEqual(sum(status == 400 for status, _ in together), 4 if more else 3)


class Digits(unittest.TestCase):
    command, right = example("digits"), 351

    def test_it_reads_the_rows_it_never_saw(self):
        worker, rows = Worker(self.command), held_out()
        status, (answer,) = worker.ask("infer", tensor([row[:64] for row in rows]))
        self.assertEqual(status, 200)
        answer = json.loads(answer)
        self.assertEqual(answer["id"], "a")
        outputs = {o["name"]: o for o in answer["outputs"]}
        self.assertEqual(outputs["digit"]["shape"], [len(rows)])
        self.assertEqual(outputs["scores"]["shape"], [len(rows), 10])
        right = sum(d == row[64] for d, row in zip(outputs["digit"]["data"], rows))
        self.assertEqual(right, self.right)
        self.assertEqual(worker.close(), 0)

    def test_it_takes_numbers_bytes_and_tensors(self):
        worker, row = Worker(self.command), held_out()[0][:64]
        flat, binary = tensor([row]), tensor([row])
        flat["inputs"][0]["data"] = row
        del binary["inputs"][0]["data"]
        binary["inputs"][0]["parameters"] = {"binary_data_size": 256}
        answers = [json.loads(worker.ask("infer", body)[1][0]) for body in (flat, tensor([row]))]
        text = json.dumps(binary).encode()
        _, (answer,) = worker.ask("infer", text + struct.pack("<64f", *row),
                                  headers={"inference-header-content-length": str(len(text))})
        self.assertEqual([json.loads(answer)] * 2, answers)
        digit, = answers[0]["outputs"][0]["data"]
        for body in (bytes(row), " ".join(map(str, row)).encode(), ",".join(map(str, row)).encode()):
            self.assertEqual(json.loads(worker.ask("invoke", body)[1][0]), {"digit": digit})
        for body in (b"", b"{", b"1 2 3"):
            self.assertEqual(worker.ask("invoke", body)[0], 400)
        for body in (b"", b"{", {"inputs": []}, tensor([[1] * 63]), tensor([["x"] * 64])):
            self.assertEqual(worker.ask("infer", body)[0], 400)
        self.assertEqual(worker.close(), 0)

    def test_what_comes_together_is_answered_as_alone(self):
        worker, rows = Worker(self.command), held_out()
        answered_alike(self, worker, rows, [("invoke", bytes(rows[9][:64])), ("invoke", b"1 2 3"),
                                            ("invoke", " ".join(map(str, rows[8][:64])).encode())])
        self.assertEqual(worker.close(), 0)

    def test_it_says_what_it_takes(self):
        worker = Worker(self.command)
        self.assertEqual(json.loads(worker.metadata)["inputs"], [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}])
        self.assertEqual(worker.close(), 0)


# Debian's own Python has Debian's packages; `python3` on PATH may be another one.
DEBIAN_PYTHON = "/usr/bin/python3"
SKLEARN = subprocess.run([DEBIAN_PYTHON, "-c", "import sklearn"], capture_output=True, text=True)


@unittest.skipIf(SKLEARN.returncode, "tools/setup check installs python3-sklearn: " + SKLEARN.stderr[-80:].strip())
class DigitsPython(unittest.TestCase):
    def test_it_reads_the_rows_it_never_saw(self):
        worker = Worker([DEBIAN_PYTHON, "-B", os.path.join(ROOT, "examples/digits.py")])
        rows = held_out()
        status, (answer,) = worker.ask("infer", tensor([row[:64] for row in rows]))
        self.assertEqual(status, 200)
        found = json.loads(answer)["outputs"][0]["data"]
        self.assertEqual(sum(d == row[64] for d, row in zip(found, rows)), 355)
        self.assertEqual(worker.ask("infer", {"inputs": []})[0], 400)
        self.assertEqual(json.loads(worker.ask("infer", tensor([]))[1][0])["outputs"][0]["data"], [])
        answered_alike(self, worker, rows)
        self.assertEqual(worker.ask_together([("infer", tensor([]))] * 2), [worker.ask_together([("infer", tensor([]))])[0]] * 2)
        good = [("infer", tensor([row[:64]])) for row in rows[:64]]
        self.assertEqual([json.loads(body)["outputs"][0]["data"] for _, body in worker.ask_together(good)],
                         [[digit] for digit in found[:64]])
        self.assertEqual(json.loads(worker.metadata)["inputs"], [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}])
        self.assertEqual(worker.close(), 0)


class Textgen(unittest.TestCase):
    def test_the_same_request_gives_the_same_text_in_any_worker(self):
        ask = {"prompt": "The Light", "n": 300, "seed": 7, "temperature": 0.5}
        first, second = Worker(example("textgen")), Worker(example("textgen"))
        _, parts = first.ask("invoke", ask)
        self.assertGreater(len(parts), 30)
        self.assertEqual([at for at, _ in first.progress], [128, 256])
        for at, blob in first.progress:
            self.assertEqual(b"".join(second.ask("invoke", ask, (at, blob))[1]), b"".join(parts)[at:])
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
    if SKLEARN.returncode:
        print("skipped: DigitsPython: no scikit-learn for", DEBIAN_PYTHON, "(tools/setup check installs it)")
    unittest.main()

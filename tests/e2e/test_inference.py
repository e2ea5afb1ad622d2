"""The Open Inference Protocol through hasupd: metadata from the hello, JSON and binary tensors, large ones in shared memory,
errors with their reasons, and a worker that dies with a request.  Each with the C and the Python SDK."""
import json
import os
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import OBJECTS, ROOT, World  # noqa: E402

LENGTH = "Inference-Header-Content-Length"
COMMANDS = {"c": f"[{OBJECTS}/tests/e2e/helped", "py": f"[/usr/bin/python3, -B, {ROOT}/tests/unit/helped.py"}
MODELS = "\n".join(f"  {name}: {{command: {command}{more}], workers: 2}}" for lang, command in COMMANDS.items()
                   for name, more in ((lang, ""), (f"{lang}-signed", ", --signed")))
X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5]}


class Inference(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World(MODELS)

    @classmethod
    def tearDownClass(cls):
        assert cls.world.stop() == 0
        cls.world.close()

    def infer(self, model, body, tail=b"", version=""):
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, headers, data = self.world.post(None, text + tail, {LENGTH: str(len(text))} if tail else {},
                                                f"/v2/models/{model}{version}/infer")
        headers = {name.lower(): value for name, value in dict(headers).items()}
        length = int(headers.get(LENGTH.lower(), len(data)))
        self.assertEqual(headers["content-type"], "application/octet-stream" if length < len(data) else "application/json")
        return status, json.loads(data[:length]), data[length:]

    def test_get_tells_what_the_hello_said(self):
        for lang in COMMANDS:
            for version in ("", "/versions/2"):
                status, body = self.world.get(f"/v2/models/{lang}-signed{version}")
                self.assertEqual(status, 200)
                told = json.loads(body)
                self.assertEqual(list(told), ["name", "versions", "platform", "inputs", "outputs"])
                self.assertEqual((told["name"], told["versions"], told["platform"]),
                                 (f"{lang}-signed", ["1", '2 "b"'], "test"))
                self.assertEqual(told["inputs"], [{"name": "x", "datatype": "FP32", "shape": [-1, 2]},
                                                  {"name": "n", "datatype": "INT64", "shape": [1], "optional": True}])
            _, body = self.world.get(f"/v2/models/{lang}")
            self.assertEqual(json.loads(body), {"name": lang, "platform": "", "inputs": [], "outputs": []})

    def test_json_and_binary(self):
        for lang in COMMANDS:
            model = f"{lang}-signed"
            status, told, _ = self.infer(model, {"id": "7", "inputs": [X]}, version="/versions/2")
            self.assertEqual((status, told["model_name"], told["model_version"], told["id"]), (200, model, "2", "7"))
            self.assertEqual(told["outputs"][0]["data"], [1, 2.5])
            asked = {"inputs": [dict({k: v for k, v in X.items() if k != "data"}, parameters={"binary_data_size": 8})],
                     "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
            status, told, tail = self.infer(model, asked, struct.pack("<2f", 3, 4))
            self.assertEqual((status, tail), (200, struct.pack("<2f", 3, 4)))

    def test_large_tensors_in_shared_memory(self):
        rows = 600000  # 4.8 MB: above what a frame carries, in and out
        data = struct.pack("<f", 1.5) * (2 * rows)
        asked = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 2], "parameters": {"binary_data_size": len(data)}}],
                 "parameters": {"binary_data_output": True}}
        for lang in COMMANDS:
            for pad in range(4):  # wherever the JSON ends, the numbers are read
                status, told, tail = self.infer(lang, json.dumps(asked).encode() + b" " * pad, data)
                self.assertEqual((status, len(tail)), (200, len(data)))
                self.assertEqual(tail, data)

    def test_errors_have_their_reason(self):
        for lang in COMMANDS:
            for body, why in (({"inputs": [dict(X, shape=[2])]}, 'input "x": expected shape [-1, 2], got [2]'),
                              ({"inputs": [dict(X, datatype="INT8")]}, 'input "x": expected datatype FP32, got INT8'),
                              ({"inputs": [dict(X, data=[1])]}, 'input "x": shape [1, 2] has 2 elements, data has 1'),
                              ({"inputs": [dict(X, data=[1, "\u00e9"])]}, 'input "x": element 1 is not of datatype FP32'),
                              ({"inputs": [X], "outputs": [{"name": "z"}]}, 'the model has no output "z"'),
                              (b"{", "the body is not")):
                with self.subTest(lang=lang, why=why):
                    status, told, _ = self.infer(f"{lang}-signed", body)
                    self.assertEqual((status, list(told)), (400, ["error"]))
                    self.assertIn(why, told["error"])


if __name__ == "__main__":
    unittest.main()

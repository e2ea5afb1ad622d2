"""The helpers for the Open Inference Protocol, one set of tests for C and for Python, with numpy and without."""
import json
import math
import os
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fake_hasupd as f  # noqa: E402

OBJECTS = os.path.join(f.ROOT, os.environ.get("HASUP_OBJECTS", "build/release"))
PYTHON = "/usr/bin/python3"
TAG_METADATA, TAG_HEADER, TAG_ERROR = 5, 13, 17
LENGTH = "inference-header-content-length"
NUMPY = subprocess.run([PYTHON, "-c", "import numpy"], capture_output=True).returncode == 0

#: of each datatype: struct's code, values, and values that it cannot hold
TYPES = {
    "BOOL": ("?", [True, False, True], [2, "x", 1.5, None]),
    "UINT8": ("B", [0, 7, 255], [-1, 256, 1.0, True, "1"]),
    "UINT16": ("H", [0, 7, 65535], [-1, 65536, 1e2]),
    "UINT32": ("I", [0, 7, 2 ** 32 - 1], [-1, 2 ** 32]),
    "UINT64": ("Q", [0, 7, 2 ** 64 - 1], [-1, 2 ** 64, 0.5]),
    "INT8": ("b", [-128, 0, 127], [-129, 128, [1]]),
    "INT16": ("h", [-32768, 0, 32767], [-32769, 32768]),
    "INT32": ("i", [-2 ** 31, 0, 2 ** 31 - 1], [-2 ** 31 - 1, 2 ** 31]),
    "INT64": ("q", [-2 ** 63, 0, 2 ** 63 - 1], [-2 ** 63 - 1, 2 ** 63, 1.5]),
    "FP16": ("e", [-65504.0, 0.5, 5.960464477539063e-08], [65520, 1e300, "x", False]),
    "BF16": (None, [-1.5, 3.3895313892515355e38, 9.183549615799121e-41], [3.4e38, {}]),
    "FP32": ("f", [-1.5, 3.4028234663852886e38, 1.401298464324817e-45], [3.5e38, "1", True]),
    "FP64": ("d", [-0.1, 1.7976931348623157e308, 5e-324], ["1", None]),
    "BYTES": (None, ["", "\u00e9\n\"", "abc"], [1, None, ["x"]]),
}


def binary(datatype, values):
    if datatype == "BYTES":
        data = [v if isinstance(v, bytes) else v.encode() for v in values]
        return b"".join(struct.pack("<I", len(v)) + v for v in data)
    if datatype == "BF16":
        return b"".join(struct.pack("<f", v)[2:] for v in values)
    return struct.pack(f"<{len(values)}{TYPES[datatype][0]}", *values)


def tensor(name, datatype, shape, data=None, **parameters):
    made = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        made["data"] = data
    return dict(made, parameters=parameters) if parameters else made


class Asking:
    arguments = []

    @classmethod
    def setUpClass(cls):
        cls.worker = f.Worker(cls.command + cls.arguments)

    @classmethod
    def tearDownClass(cls):
        assert cls.worker.close() == 0

    def ask(self, body, tail=b"", length=None, headers=()):
        """Status, the answer's JSON (or the error's text), its binary data."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        meta = f.field(f.TAG_ROUTE, "infer")
        for name, value in headers:
            meta += f.field(TAG_HEADER, f"{name}\0{value}")
        if tail or length is not None:
            meta += f.field(TAG_HEADER, f"{LENGTH}\0{len(body) if length is None else length}")
        self.worker.send(f.REQUEST, 3, meta, body + tail, seq=1)
        kind, _, status, meta, answer = self.worker.receive()
        self.assertEqual(kind, f.REPLY)
        found = f.fields(meta)
        if TAG_ERROR in found:
            self.assertEqual(answer, b"")
            return status, found[TAG_ERROR].decode(), b""
        length = len(answer)
        if TAG_HEADER in found:
            name, _, value = found[TAG_HEADER].decode().partition("\0")
            self.assertEqual(name, LENGTH)
            length = int(value)
        self.assertEqual(found[f.TAG_TYPE], b"application/octet-stream" if TAG_HEADER in found else b"application/json")
        return status, json.loads(answer[:length]), answer[length:]

    def refused(self, body, why, *rest, status=400, **more):
        got, error, _ = self.ask(body, *rest, **more)
        self.assertEqual((got, error if not isinstance(error, str) or why not in error else why), (status, why))


class Echo(Asking):
    def same(self, datatype, got, values):
        kind = {"FP32": "f", "FP16": "e", "BF16": "f"}.get(datatype)
        if kind:
            got = [struct.unpack(kind, struct.pack(kind, v))[0] for v in got]
        self.assertEqual(got, values, datatype)
        self.assertEqual([type(v) for v in got], [type(v) for v in values])

    def test_every_datatype_in_json_and_binary_both_ways(self):
        for datatype, (_, values, _) in TYPES.items():
            data = binary(datatype, values)
            for sent in ("json", "binary"):
                for wanted in ("json", "binary"):
                    with self.subTest(datatype=datatype, sent=sent, wanted=wanted):
                        one = (tensor("a", datatype, [3], values) if sent == "json" else
                               tensor("a", datatype, [3], binary_data_size=len(data)))
                        status, answer, tail = self.ask(
                            {"inputs": [one], "parameters": {"binary_data_output": wanted == "binary"}},
                            data if sent == "binary" else b"")
                        self.assertEqual(status, 200, answer)
                        out, = answer["outputs"]
                        self.assertEqual((out["name"], out["datatype"], out["shape"]), ("a", datatype, [3]))
                        if wanted == "json":
                            self.same(datatype, out["data"], values)
                        else:
                            self.assertEqual(out["parameters"], {"binary_data_size": len(data)})
                            self.assertEqual(tail, data)

    def test_what_a_datatype_cannot_hold_is_named(self):
        for datatype, (_, values, wrong) in TYPES.items():
            for value in wrong:
                with self.subTest(datatype=datatype, value=value):
                    self.refused({"inputs": [tensor("a", datatype, [2], [values[0], value])]},
                                 f'input "a": element 1 is not of datatype {datatype}: {json.dumps(value)[:1]}')

    def test_halves_are_rounded_to_the_nearest_and_even(self):
        values = [1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -25, 1.5 * 2 ** -24, 65519.99, -2 ** -26, 0.1, 1 / 3]
        for datatype in ("FP16", "BF16"):
            _, answer, _ = self.ask({"inputs": [tensor("a", datatype, [8], values)]})
            got = answer["outputs"][0]["data"]
            for value, one in zip(values, got):
                if datatype == "FP16":
                    want = struct.unpack("<e", struct.pack("<e", value))[0]
                else:  # the nearer of both neighbours
                    low = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", value))[0] & 0xFFFF0000))[0]
                    high = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", low))[0] + 0x10000))[0]
                    want = low if abs(low - value) <= abs(high - value) else high
                self.assertEqual(struct.pack("f", one), struct.pack("f", want), (datatype, value))

    def test_data_is_flat_or_nested_as_the_shape_says(self):
        for shape, data in (([2, 3], [[1, 2, 3], [4, 5, 6]]), ([2, 3], [1, 2, 3, 4, 5, 6]), ([1, 2, 3, 1], [[[[1], [2], [3]],
                            [[4], [5], [6]]]]), ([6], [1, 2, 3, 4, 5, 6])):
            status, answer, _ = self.ask({"inputs": [tensor("a", "INT32", shape, data)]})
            self.assertEqual((status, answer["outputs"][0]["data"], answer["outputs"][0]["shape"]),
                             (200, [1, 2, 3, 4, 5, 6], shape))
        for shape, data in (([0], []), ([0, 64], []), ([3, 0], []), ([2, 0], [[], []]), ([], 5), ([], [5])):
            status, answer, _ = self.ask({"inputs": [tensor("a", "FP32", shape, data)]})
            self.assertEqual((status, answer["outputs"][0]["data"]), (200, [5] if not shape else []), (shape, data))
        for shape, data, why in (
                ([2, 2], [1, 2, 3], "shape [2, 2] has 4 elements, data has 3"),
                ([2, 2], [1, 2, 3, 4, 5], "shape [2, 2] has 4 elements, data has more"),
                ([3, 2], [[1, 2, 3], [4, 5, 6]], "items, as its shape says"),
                ([2, 3], [[1, 2], [3, 4]], "a list of data at depth 1 has not 3 items"),
                ([2, 1], [[1, 2], [3, 4]], "a list of data at depth 1 has not 1 items"),
                ([2, 2, 1], [[1, 2], [3, 4]], "data is nested 2 deep, its shape 3"),
                ([2, 1], [[[1]], [[2]]], "element 0 is not of datatype INT32: ["),
                ([2], [[1, 2]], 'input "a": '),
                ([], [], "shape [] has 1 elements, data has 0"),
                ([1000000, 1000000], [1], "shape [1000000, 1000000] has 1000000000000 elements, data has fewer"),
                ([2 ** 40, 2 ** 40, 0, -1], [], "shape: a list of integers of at least 0"),
                ([1], 5, "data: expected a list"), ([1], {"x": 1}, "data: expected a list")):
            with self.subTest(shape=shape, data=data):
                self.refused({"inputs": [tensor("a", "INT32", shape, data)]}, why)

    def test_several_tensors_mixed(self):
        body = {"id": "q \u00e9\"", "inputs": [
            tensor("a", "UINT8", [3], binary_data_size=3), tensor("b", "FP64", [1], [0.5]),
            tensor("c", "FP64", [2], binary_data_size=16), tensor("d", "BYTES", [2], binary_data_size=10)],
            "outputs": [{"name": "d"}, {"name": "c", "parameters": {"binary_data": True}},
                        {"name": "a", "parameters": {"binary_data": False}}]}
        tail = b"\1\2\3" + struct.pack("<2d", 1.5, -2) + binary("BYTES", ["", b"ab"])
        status, answer, got = self.ask(body, tail, headers=[("model-version", "7")])
        self.assertEqual((status, got), (200, struct.pack("<2d", 1.5, -2)))
        self.assertEqual(answer, {"model_name": "", "model_version": "7", "id": "q \u00e9\"", "outputs": [
            tensor("d", "BYTES", [2], ["", "ab"]), tensor("c", "FP64", [2], binary_data_size=16),
            tensor("a", "UINT8", [3], [1, 2, 3])]})
        body["parameters"] = {"binary_data_output": True}
        _, answer, got = self.ask(body, tail)
        self.assertEqual(got, tail[19:] + tail[3:19])
        self.assertEqual([list(o) for o in answer["outputs"]],
                         [["name", "datatype", "shape", "parameters"]] * 2 + [["name", "datatype", "shape", "data"]])

    def test_what_is_wrong_with_binary_data(self):
        def one(size, datatype="INT32", shape=(2,), **more):
            return {"inputs": [tensor("a", datatype, list(shape), binary_data_size=size, **more)]}
        for body, tail, why in (
                (one(8), b"\0" * 7, 'input "a": binary_data_size is 8, and 7 bytes are left of the body'),
                (one(8), b"\0" * 9, "1 bytes of the body are left behind the last tensor"),
                (one(12), b"\0" * 12, 'input "a": shape [2] of datatype INT32 has 8 bytes, binary_data_size is 12'),
                (one(-1), b"\0", 'input "a": binary_data_size is not a number of bytes'),
                (one("8"), b"\0", 'input "a": binary_data_size is not a number of bytes'),
                (one(2 ** 63), b"\0", "bytes are left of the body"),
                (one(6, "BYTES"), b"\0" * 6, "6 bytes of binary data cannot hold 2 elements"),
                (one(9, "BYTES"), b"\0\0\0\0\2\0\0\0x", "element 1 runs past the end of its binary data"),
                (one(9, "BYTES"), b"\xff\xff\xff\xff\2\0\0\0x", "element 0 runs past the end of its binary data"),
                (one(9, "BYTES", [1]), b"\1\0\0\0xyzzy", "4 bytes of its binary data are left behind the last element"),
                ({"inputs": [dict(one(1)["inputs"][0], data=[1, 2])]}, b"\0", "data and binary_data_size, and only one")):
            with self.subTest(why=why):
                self.refused(body, why, tail)
        body = json.dumps({"inputs": []}).encode()
        for length in (len(body) + 1, "x", "", "-1", "1 "):
            self.refused(body, "Inference-Header-Content-Length: ", length=length)

    def test_what_is_wrong_with_a_request(self):
        good = tensor("a", "INT32", [1], [1])
        for body, why in (
                (b"", "the body is not"), (b"[]", "the body is not a JSON object"), (b'{"inputs": [}', "the body is not JSON"),
                (b'{"inputs": [{"name": "a", "data": [1,], "shape": [1]}]}', "the body is not JSON"),
                ({"inputs": 1}, "inputs: expected a list"), ({"inputs": [1]}, "inputs[0]: expected an object"),
                ({"inputs": [{}]}, "inputs[0]: there is no name"), ({"inputs": [{"name": 5}]}, "inputs[0]: "),
                ({"inputs": [good, {"name": "b"}]}, 'input "b": there is no shape'),
                ({"inputs": [{"name": "b", "shape": [1]}]}, 'input "b": there is no datatype'),
                ({"inputs": [dict(good, datatype="INT33")]}, 'input "a": there is no datatype INT33'),
                ({"inputs": [dict(good, datatype=4)]}, 'input "a": expected datatype: a string'),
                ({"inputs": [dict(good, shape=4)]}, 'input "a": expected shape: a list of integers'),
                ({"inputs": [dict(good, shape=[1.5])]}, 'input "a": expected shape: a list of integers of at least 0'),
                ({"inputs": [dict(good, shape=[1] * 17)]}, 'input "a": its shape has more than 16 dimensions'),
                ({"inputs": [dict(good, parameters=[])]}, 'input "a": expected an object of parameters'),
                ({"inputs": [good, good]}, 'input "a" stands there twice'),
                ({"inputs": [tensor("a", "INT32", [1])]}, "there is no data, and no binary_data_size"),
                ({"inputs": [good], "id": 5}, "id: expected a string"),
                ({"inputs": [good], "parameters": 5}, "parameters: expected an object of parameters"),
                ({"inputs": [good], "parameters": {"binary_data_output": 1}},
                 'parameter "binary_data_output": expected true or false'),
                ({"inputs": [good], "outputs": {}}, "outputs: expected a list"),
                ({"inputs": [good], "outputs": ["a"]}, "outputs[0]: expected an object"),
                ({"inputs": [good], "outputs": [{}]}, "outputs[0]: there is no name"),
                ({"inputs": [good], "outputs": [{"name": "a"}, {"name": "a"}]}, 'output "a" stands there twice'),
                ({"inputs": [good], "outputs": [{"name": "b"}]}, 'the worker gave no output "b"'),
                ({"inputs": [good], "outputs": [{"name": "a", "parameters": {"binary_data": 1}}]},
                 'parameter "binary_data": expected true or false')):
            with self.subTest(body=body):
                self.refused(body, why)
        status, answer, _ = self.ask({"inputs": [good], "id": None, "parameters": None, "outputs": None, "x": [{}]})
        self.assertEqual((status, answer["outputs"]), (200, [good]))
        self.assertEqual(self.ask({"inputs": [], "outputs": []})[1]["outputs"], [])


class Spoiled:
    def test_what_json_cannot_say_is_an_error(self):
        for one, why in ((tensor("a", "FP32", [1], [1], spoil=True), "element 0 is not a finite number, which JSON cannot say"),
                         (tensor("a", "BYTES", [1], ["x"], spoil=True), "element 0 is not UTF-8, which JSON cannot say")):
            self.refused({"inputs": [one]}, why, status=500)
            status, _, tail = self.ask({"inputs": [one], "parameters": {"binary_data_output": True}})
            self.assertEqual((status, tail), (200, struct.pack("<f", math.inf) if one["datatype"] == "FP32" else b"\1\0\0\0\xff"))


class Signed(Asking):
    arguments = ["--signed"]
    x = tensor("x", "FP32", [2, 2], [1, 2, 3, 4.5])

    def test_what_the_signature_says(self):
        status, answer, _ = self.ask({"inputs": [self.x], "parameters": {"scale": 2}})
        self.assertEqual((status, answer["parameters"]), (200, {"done": True}))
        self.assertEqual(answer["outputs"], [tensor("y", "FP32", [2, 2], [2, 4, 6, 9]),
                                             tensor("word", "BYTES", [2], ["\u00e9", "odd"])])
        _, answer, _ = self.ask({"inputs": [self.x, tensor("n", "INT64", [1], [10])], "outputs": [{"name": "y"}]})
        self.assertEqual(answer["outputs"], [tensor("y", "FP32", [2, 2], [11, 12, 13, 14.5])])
        _, answer, _ = self.ask({"inputs": [dict(self.x, parameters={"n": 5})], "outputs": [{"name": "y"}]})
        self.assertEqual(answer["outputs"][0]["data"], [6, 7, 8, 9.5])

    def test_what_it_does_not_say_is_refused(self):
        for body, why in (
                ({"inputs": []}, 'there is no input "x"'),
                ({"inputs": [tensor("n", "INT64", [1], [1])]}, 'there is no input "x"'),
                ({"inputs": [dict(self.x, name="z")]}, 'the model has no input "z"; its first is "x"'),
                ({"inputs": [dict(self.x, datatype="FP64")]}, 'input "x": expected datatype FP32, got FP64'),
                ({"inputs": [dict(self.x, shape=[4, 1])]}, 'input "x": expected shape [-1, 2], got [4, 1]'),
                ({"inputs": [dict(self.x, shape=[4])]}, 'input "x": expected shape [-1, 2], got [4]'),
                ({"inputs": [self.x], "outputs": [{"name": "z"}]}, 'the model has no output "z"'),
                ({"inputs": [self.x], "parameters": {"scale": "big"}}, 'parameter "scale": expected a number')):
            with self.subTest(body=body):
                self.refused(body, why)

    def test_a_worker_that_gives_something_else_is_500(self):
        for wrong, why in (("name", 'output "z", which it never declared'), ("shape", "as of shape [-1, 2] and gave [2, 3]"),
                           ("datatype", 'declared output "y" as FP32 and gave FP64'),
                           ("missing", 'the worker gave no output "word"')):
            self.refused({"inputs": [self.x], "parameters": {"wrong": wrong}, "outputs": [{"name": "y"}, {"name": "word"}]},
                         why, status=500)

    def test_the_hello_tells_it(self):
        self.assertEqual(json.loads(self.worker.metadata), {
            "versions": ["1", '2 "b"'], "platform": "test",
            "inputs": [tensor("x", "FP32", [-1, 2]), dict(tensor("n", "INT64", [1]), optional=True)],
            "outputs": [tensor("y", "FP32", [-1, 2]), tensor("word", "BYTES", [-1])]})


C = [f"{OBJECTS}/tests/e2e/helped"]
IN_PYTHON = [PYTHON, "-B", os.path.join(f.ROOT, "tests/unit/helped.py")]


class EchoInC(Spoiled, Echo, unittest.TestCase):
    command = C


class EchoInPython(Spoiled, Echo, unittest.TestCase):
    command = IN_PYTHON


@unittest.skipUnless(NUMPY, f"no numpy for {PYTHON} (tools/setup check installs it with scikit-learn)")
class EchoWithNumpy(Echo, unittest.TestCase):
    command, arguments = IN_PYTHON, ["--numpy"]


class SignedInC(Signed, unittest.TestCase):
    command = C


class SignedInPython(Signed, unittest.TestCase):
    command = IN_PYTHON


if __name__ == "__main__":
    unittest.main()

"""The Python helpers live through any body: it is answered, or refused with hasup.Error and nothing else."""
import os
import random
import struct
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "worker", "python")]
import hasup  # noqa: E402

ROUNDS = int(os.environ.get("HASUP_FUZZ_ROUNDS", 6000))
SEED = int(os.environ.get("HASUP_FUZZ_SEED", 1))
SIGNATURE = hasup.Signature(inputs=[hasup.TensorSpec("x", "FP32", [-1, 2], True), hasup.TensorSpec("s", "BYTES", [-1], True)],
                            outputs=[])
TENSORS = (b'{"id":"a\\n","parameters":{"binary_data_output":false,"j":[1,{}]},"inputs":[{"name":"x","shape":[2,2],"datatype":'
           b'"FP32","data":[[1.5,-2e3],[0,4]]},{"name":"s","shape":[2],"datatype":"BYTES","data":["a\\u00e9",""]}],"outputs":[]}')
BINARY = (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}},{"name":"s","shape":[2],'
          b'"datatype":"BYTES","parameters":{"binary_data_size":9}}]}')
TAIL = struct.pack("<2f", 1, 2) + b"\1\0\0\0x\0\0\0\0"
CHAT = (b'{"model":"m","stream":true,"messages":[{"role":"system","content":"a\\ud83d\\ude00"},{"role":"user","content":'
        b'[{"type":"text","text":"b\\"c"}]}],"stop":["x"],"stream_options":{"include_usage":true},"max_tokens":5,"n":1}')


class Request:
    """What the helpers look at."""

    request_id = "r"

    def __init__(self, route, body, headers=None, signature=None):
        self.route, self.body, self.headers, self.signature = route, body, headers or {}, signature


def damage(chance, body):
    body = bytearray(body)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(body)) if body else 0
        how = chance.randrange(5)
        if how == 0 and body:
            body[at] = chance.choice(b'{}[]",:\\u0e.-+tfn19')
        elif how == 1 and body:
            body[at] = chance.randrange(256)
        elif how == 2:
            del body[at:at + 1 + chance.randrange(4)]
        elif how == 3:
            body[at:at] = body[at:at + 40]
        else:
            body[at:at] = b"9" * chance.randrange(30)
    return bytes(body)


class Damaged(unittest.TestCase):
    def each(self, answer):
        """Runs it with damage of each seed; most of the rounds must not be refused for nothing."""
        answered = 0
        for seed in range(SEED, SEED + ROUNDS):
            chance = random.Random(seed)
            with self.subTest(seed=seed):
                try:
                    answer(chance)
                    answered += 1
                except hasup.Error as error:
                    self.assertTrue(400 <= error.status < 600 and str(error), seed)
        self.assertGreater(answered, ROUNDS // 20)

    def test_inference_requests(self):
        def answer(chance):
            binary, signed = chance.random() < 0.5, chance.random() < 0.5
            body = damage(chance, BINARY if binary else TENSORS)
            headers = {"inference-header-content-length": str(len(body))} if binary else {}
            body += damage(chance, TAIL) if binary else b""
            asked = hasup.Infer(Request("infer", body, headers, SIGNATURE if signed else None))
            for tensor in asked.inputs.values():
                tensor.tolist()
            if not signed:
                asked.answer(asked.inputs)
        self.each(answer)

    def test_completions(self):
        def answer(chance):
            asked = hasup.Completion(Request("chat_completions", damage(chance, CHAT)))
            told = asked.answer([message.text for message in asked.messages])
            if asked.stream:
                self.assertEqual(list(told)[-1], "[DONE]")
        self.each(answer)


if __name__ == "__main__":
    unittest.main()

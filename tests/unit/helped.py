"""A worker made with the SDK's helpers, for tests; tests/e2e/helped.c does the same in C."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402


class Helped(hasup.Worker):
    resumable = True

    def infer(self, request):
        return self.echo(hasup.Infer(request)) if request.route == "infer" else self.complete(request)

    @staticmethod
    def echo(asked):
        for one, tensor in zip(asked.body.get("inputs", []), asked.inputs.values()):
            if (one.get("parameters") or {}).get("spoil"):
                tensor.data = [b"\xff" if tensor.datatype == "BYTES" else float("inf"), *list(tensor.data)[1:]]
        return asked.answer(asked.inputs)

    def complete(self, request):
        asked = hasup.Completion(request)
        words = (asked.messages[-1].text if asked.chat else asked.prompt).split(" ")
        words = [word for word in words if word]
        return asked.answer(self.tell(request, asked, words), prompt_tokens=len(words))

    @staticmethod
    def tell(request, asked, words):
        begin = 0
        if request.progress is not None:
            begin = struct.unpack("<q", request.progress)[0]
            yield hasup.ResumeAt(request.progress_at, begin)
        for done, word in enumerate(words):
            if asked.max_tokens and done == asked.max_tokens:
                return "length"
            if word == "fail!":
                raise hasup.Error(500, "it failed")
            if done >= begin:
                yield word
                yield hasup.Progress(struct.pack("<q", done + 1))


class Signed(Helped):
    signature = hasup.Signature(
        platform="test", versions=["1", '2 "b"'],
        inputs=[hasup.TensorSpec("x", "FP32", [-1, 2]), hasup.TensorSpec("n", "INT64", [1], optional=True)],
        outputs=[hasup.TensorSpec("y", "FP32", [-1, 2]), hasup.TensorSpec("word", "BYTES", [-1])])

    def echo(self, asked):
        x, wrong = asked["x"], asked.parameters.get("wrong")
        scale = asked.parameters.get("scale", 1)
        if not isinstance(scale, (int, float)):
            raise hasup.Error(400, 'parameter "scale": expected a number')
        more = asked["n"].data[0] if "n" in asked.inputs else asked.body["inputs"][0].get("parameters", {}).get("n", 0)
        rows = [[value * scale + more for value in row] for row in x.tolist()]
        answer = {"z" if wrong == "name" else "y": rows}
        if wrong == "shape":
            answer["y"] = [row + [0] for row in rows]
        if wrong == "datatype":
            answer["y"] = hasup.Tensor("y", "FP64", x.shape, [0.0] * len(x))
        if asked.wants("word") and wrong != "missing":
            answer["word"] = ["odd" if i % 2 else "\u00e9" for i in range(x.shape[0])]
        return asked.answer(answer, {"done": True})


class WithNumpy(Helped):
    """The same as Helped, through numpy."""

    @staticmethod
    def echo(asked):
        import numpy
        found = {}
        for name, tensor in asked.inputs.items():
            made = tensor.numpy()
            assert made.shape == tensor.shape and made.tolist() == tensor.tolist(), name
            assert numpy.asarray(tensor).dtype == made.dtype
            found[name] = hasup.Tensor(name, "BF16", made.shape, made.ravel().tolist()) \
                if tensor.datatype == "BF16" else made
        return asked.answer(found)


if __name__ == "__main__":
    hasup.serve({"--signed": Signed, "--numpy": WithNumpy}.get((sys.argv + [""])[1], Helped)())

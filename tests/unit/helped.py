"""A worker made with the SDK's helpers, for tests; tests/e2e/helped.c does the same in C."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
import hasup  # noqa: E402


class Helped(hasup.Worker):
    resumable = True

    def infer(self, request):
        return self.complete(request)

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


if __name__ == "__main__":
    hasup.serve(Helped())

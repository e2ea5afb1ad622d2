#!/usr/bin/python3
"""A worker with a state for each session: it counts what each X-Session-Id asked, and answers "3: hello".

    models:
      chat:
        command: [examples/sessions.py]
        workers: 4

Requests of one session come to one worker, one after the other, so nothing has to be shared.  The counts survive
every crash by checkpoint and log; docs/admission.md says what becomes of them when `workers` changes.
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker", "python"))
import hasup  # noqa: E402

SESSIONS_MAX = 10000  # of a worker; the one that was idle for the longest time is forgotten


class Sessions(hasup.Worker):
    def load(self):
        self.asked = {}

    def infer(self, request):
        if not request.session:
            raise hasup.Error(400, "who asks? X-Session-Id is missing")
        count = self.asked.pop(request.session, 0) + 1
        self.asked[request.session] = count  # the newest stands last
        if len(self.asked) > SESSIONS_MAX:
            del self.asked[next(iter(self.asked))]
        return f"{count}: {bytes(request.body).decode(errors='replace')}"

    def save(self):
        return json.dumps(list(self.asked.items())).encode()

    def restore(self, state):
        self.asked = dict(json.loads(bytes(state)))


if __name__ == "__main__":
    hasup.serve(Sessions())

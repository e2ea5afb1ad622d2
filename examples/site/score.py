"""A model that asks the store for what its client only names."""
import json
import os
import urllib.error
import urllib.parse
import urllib.request

import hasup


class Score(hasup.Worker):
    def infer(self, request):
        name = urllib.parse.quote(bytes(request.body).decode().strip(), safe="")
        try:
            with urllib.request.urlopen(f"http://{os.environ['STORE']}/{name}", timeout=5) as answer:
                numbers = json.load(answer)
        except urllib.error.HTTPError as error:
            raise hasup.Error(error.code, f"the store does not know {name}")
        return f"{sum(n * n for n in numbers) ** 0.5:g}\n"


hasup.serve(Score())

"""What the tests under fire share: clients side by side, kills in their midst, and the state in the end."""
import http.client
import os
import subprocess
import threading
import time

from world import LIMIT, OBJECTS


def state_of(directory, model):
    """The newest good checkpoint of its slot 0: position and bytes."""
    done = subprocess.run([os.path.join(OBJECTS, "tests/store-state"), f"{directory}/checkpoints.db", model, "0"],
                          capture_output=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return int(done.stderr), done.stdout


def pid_after(world, slot, killed):
    """The worker that follows those killed before."""
    end = time.monotonic() + LIMIT
    while (pid := world.pid(slot)) <= 1 or pid in killed:
        assert time.monotonic() < end, "no worker comes after the one that was killed"
    return pid


def ask_under_fire(world, model, bodies, clients, blows, strike, beside=lambda: None):
    """Asks every body once, by clients side by side.  After as many answers as each of `blows` says, one of them
    strikes, never two at once.  The answers as they came: (status, answer, body)."""
    answers, todo, at = [], list(bodies), sorted(blows)
    lock, striking = threading.Lock(), threading.Lock()

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=LIMIT)
        while True:
            with lock:
                if not todo:
                    break
                body = todo.pop()
            connection.request("POST", f"/models/{model}/invoke", body)
            answer = connection.getresponse()
            data = answer.read()
            with lock:
                answers.append((answer.status, data, body))
                strikes = at and len(answers) > at[0]
                if strikes:
                    at.pop(0)
            if strikes:
                with striking:
                    strike()
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    beside()
    for thread in threads:
        thread.join()
    return answers

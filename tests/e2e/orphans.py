"""`hasupd run` in a storm of orphans, as PID 1 and not: all are reaped, and few wait for it at any time.

    orphans.py [RATE [SECONDS]]    10000 10

Exits 1 where fewer came than nine tenths of that, where more than a second's worth waited at once, or where one is left.
"""
import os
import select
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from contained import NO_NAMESPACE, UNSHARE, children  # noqa: E402
from world import BUILD, LIMIT, OBJECTS, wait_until  # noqa: E402


def storm(prefix, rate, seconds):
    command = [*prefix, f"{BUILD}/hasupd", "run", f"{OBJECTS}/bench-workers/storm", str(rate), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if prefix:
            wait_until(lambda: children(process.pid), "no namespace")
        init = children(process.pid)[0] if prefix else process.pid
        most = 0
        while not select.select([process.stdout], [], [], 0.02)[0]:
            most = max(most, len(children(init)) - 1)
        made = int(process.stdout.readline())
        wait_until(lambda: len(children(init)) == 1, "orphans stay")
        process.communicate(timeout=LIMIT)
    print(f"{'as PID 1' if prefix else 'hasupd run'}: {made} orphans in {seconds} s, at most {most} not reaped at once")
    return made >= 0.9 * rate * seconds and most <= rate and process.returncode == 0


def main():
    rate, seconds = (int(word) for word in (sys.argv[1:] + ["10000", "10"][len(sys.argv) - 1:]))
    prefixes = [[]] if NO_NAMESPACE else [[], UNSHARE]
    sys.exit(not all([storm(prefix, rate, seconds) for prefix in prefixes]))


if __name__ == "__main__":
    main()

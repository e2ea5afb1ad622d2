"""How long hasupd answers nothing while it replaces itself under load, and with a thousand slots.

    pause.py [UPGRADES]    30

Under load: connections that ask one thing after the other of models without a state, with a journal, with a state, and for
streams.  Exits 1 where one request failed, or where the median pause is above 50 ms under load.  The median, because
a machine that does other things, too, may take the processor away from hasupd for longer than that at any time.
"""
import sys

from test_upgrade import MANY, upgrade, upgrades_under_load
from world import World, wait_until

MOST_MS, SLOTS = 50, 1000


def figures(what, pauses):
    pauses = sorted(pauses)
    median = pauses[len(pauses) // 2]
    print(f"{what}: {len(pauses)} upgrades, paused for {pauses[0]:.1f} to {pauses[-1]:.1f} ms, median {median:.1f} ms",
          flush=True)
    return median


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with World(MANY) as world:
        pauses, asked, wrong = upgrades_under_load(world, count)
    median = figures(f"under load, {asked} requests, {len(wrong)} clients with one that failed", pauses)
    for each in wrong:
        print(each)
    top = f"limits: {{slots: {SLOTS + 100}}}\nprograms: {{p: {{command: [sleep, inf], slots: {SLOTS}}}}}"
    with World("  {}", top, wait=False) as world:
        wait_until(lambda: all(slot["state"] == "ready" for slot in world.slots()), "they do not start")
        pauses = []
        for _ in range(count):
            world.mark()  # reads the log: an upgrade waits for who does
            pauses.append(upgrade(world)["pause_ms"])
        figures(f"{SLOTS} slots", pauses)
    return 1 if wrong or median > MOST_MS else 0


if __name__ == "__main__":
    sys.exit(main())

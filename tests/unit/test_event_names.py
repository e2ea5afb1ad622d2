"""The names of events: what hasupd logs, what hasupctl events takes and completes, and what docs/hasupd.md lists are the same."""
import glob
import os
import re
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("HASUP_BUILD", os.path.join(ROOT, "build"))
LIMIT = 60
NAME = r'"([a-z_]+\.[a-z_]+|signal)"'
# Which argument of a call is the event's name.
CALLS = {"LOG_EVENT": 1, "log_event": 1, "log_note": 0}
# Said to a reader that was too slow, instead of what it missed: nothing that happened, so nothing to choose.
NOTICES = {"events.lost", "logs.lost", "log.dropped"}
# Of what workers print, which hasupctl logs shows.
PRINTED = "worker."
# A core's notice that is told as slot.STATE.
STATE_NOTICE = "slot.state"


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def arguments(text):
    """Those of the call whose parenthesis `text` begins behind."""
    found, depth = [""], 1
    for token in re.findall(r'"(?:\\.|[^"\\])*"|.', text, re.S):
        depth += token in "([{"
        depth -= token in ")]}"
        if depth == 0:
            return found
        if token == "," and depth == 1:
            found.append("")
        else:
            found[-1] += token
    raise AssertionError(f"no end of a call: {text[:80]}")


def slot_states():
    return set(re.findall(r'^ *X\([A-Z_]+, "([a-z_]+)"\)', read("supervisor/core/core.h").split("CORE_SLOT_STATES")[1]
                          .split("\n\n")[0], re.M))


class Source:
    """What hasupd logs.  A name stands in the call; else it is returned by a function of the same file, or made of a state."""

    def __init__(self):
        self.logged, self.notices, self.elsewhere = set(), set(), set()
        for file in glob.glob(f"{ROOT}/supervisor/*.c") + glob.glob(f"{ROOT}/supervisor/http/*.c"):
            self.look(file, without_comments(read(file)))

    def look(self, file, text):
        self.notices |= set(re.findall(r"\.event = " + NAME, text))
        for call in re.finditer(r"(?<!void )\b(LOG_EVENT|log_event|log_note)\(", text):
            name = arguments(text[call.end():])[CALLS[call.group(1)]]
            literal = set(re.findall(NAME, name))
            self.logged |= literal
            if not literal:
                self.elsewhere.add(os.path.basename(file))
                for answer in re.findall(r"\breturn\b[^;]*;", text):
                    self.logged |= set(re.findall(NAME, answer))
                for kind in re.findall(r'snprintf\(event, [^"]*"([a-z_]+)\.%s"', text):
                    self.logged |= {f"{kind}.{state}" for state in slot_states()}
        self.logged.discard(STATE_NOTICE)


def known():
    return re.findall(r'^    "([^"]+)",$', read("hasupctl/event_names.c"), re.M)


def documented():
    """The names in the table of docs/hasupd.md; ".x" has the kind of the name before it, slot.STATE is one for each state."""
    table = read("docs/hasupd.md").split("| events | when |\n| --- | --- |\n")[1].split("\n\n")[0]
    names, kind = set(), ""
    for row in table.split("\n"):
        for name in re.findall(r"`([^`]+)`", row.split("|")[1]):
            kind = name.split(".")[0] or kind
            names.add(kind + name if name.startswith(".") else name)
    return names - {"slot.STATE"} | {f"slot.{state}" for state in slot_states()}


class EventNames(unittest.TestCase):
    def test_every_event_that_is_logged_is_known_and_no_other(self):
        source = Source()
        self.assertGreater(len(source.logged), 80)
        self.assertIn("slot.ready", source.logged)
        self.assertEqual(source.elsewhere, {"perform.c", "rollouts.c"})  # else look how that file makes its names
        self.assertEqual(source.notices, NOTICES)
        self.assertEqual(sorted(source.logged), known())  # and they stand in order

    def test_every_name_fits_the_filter(self):
        room = int(re.search(r"EVENT_NAME = (\d+)", read("supervisor/event_filter.h")).group(1))
        for name in known():
            self.assertLess(len(name), room, name)

    def test_the_documentation_lists_them_all(self):
        names = {name for name in documented() if not name.startswith(PRINTED)}
        self.assertEqual(names - NOTICES, set(known()))

    def test_all_are_offered_and_so_are_their_kinds(self):
        offered = subprocess.run([f"{BUILD}/hasupctl", "--complete", "events", "--event", ""], stdout=subprocess.PIPE,
                                 text=True, timeout=LIMIT, check=True).stdout
        words = [line.split("\t")[0] for line in offered.splitlines()]
        self.assertEqual(sorted(words), sorted(set(known()) | {name.split(".")[0] for name in known()}))


if __name__ == "__main__":
    unittest.main()

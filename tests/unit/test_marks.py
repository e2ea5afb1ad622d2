"""The Python SDK says whose a line is, whatever prints it: print, logging, tracebacks; from several threads at once."""
import io
import logging
import os
import re
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "worker", "python"))
from hasup import _frames as f  # noqa: E402
from hasup import _log  # noqa: E402
from hasup._worker import Request  # noqa: E402

MARK = re.compile(r"\x1b_word([=+])([!-~]+)\x1b\\")


def request(number, name=None):
    meta = f.field(f.TAG_REQUEST_ID, name) if name else b""
    return Request(f.Frame(f.REQUEST, 0, 1, number, meta, 0, b""), b"", None)


class Marks(unittest.TestCase):
    def setUp(self):
        _log.learn(b"word")
        self.out = io.StringIO()
        self.lines = _log.Lines(self.out)
        _log._installed.append(self.lines)

    def tearDown(self):
        _log._installed.remove(self.lines)
        _log.learn(b"")

    def said(self):
        """(request, text, whether it goes on) of each line; what stands before a mark is a line, as hasupd has it."""
        found = []
        for line in self.out.getvalue().splitlines():
            before, *rest = MARK.split(line)
            if before or not rest:
                found.append((None, before, False))
            found += [(name, text, kind == "+") for kind, name, text in zip(rest[::3], rest[1::3], rest[2::3])]
        return found

    def say(self, *words, **more):
        print(*words, **more, file=self.lines)

    def test_lines_printed_in_pieces_are_whole_and_marked(self):
        one = request(7, "r-1")
        with _log.about(one):
            self.say("a", 1, "\nb")
            self.say("end", end="")
        self.say("nobody's")
        self.assertEqual(self.said(), [("r-1", "a 1 ", False), ("r-1", "b", False), ("r-1", "end", False),
                                       (None, "nobody's", False)])

    def test_a_name_that_cannot_be_shown_is_the_number(self):
        for name in (None, "a b", "x" * 129, "\u00fc"):
            self.assertEqual(request(7, name).log_name, "7")
        self.assertEqual(request(7, "x" * 128).log_name, "x" * 128)

    def test_without_hasupd_nothing_is_marked(self):
        _log.learn(b"")
        with _log.about(request(7, "r-1")):
            self.say("plain")
        self.assertEqual(self.out.getvalue(), "plain\n")

    def test_what_was_flushed_is_there_and_nobody_else_s_joins_it(self):
        one, two = request(1, "r-1"), request(2, "r-2")
        with _log.running(one):
            self.say("half", end="", flush=True)
        self.assertTrue(self.out.getvalue().endswith("half"))
        with _log.running(one):
            self.say(" a line")
            self.say("again", end="", flush=True)
        with _log.running(two):
            self.say("other")
        with _log.running(one):
            self.say("open", end="", flush=True)
        self.say("nobody's")
        with _log.running(one):
            self.say("done", end="")
        _log.done(one)
        self.assertEqual(self.said(), [("r-1", "half a line", False), ("r-1", "again", False), ("r-2", "other", False),
                                       ("r-1", "open", False), (None, "nobody's", False), ("r-1", "done", False)])

    def test_a_long_line_is_written_in_parts_that_say_so(self):
        text = "\u00fc" * 5000 + "end"
        with _log.about(request(1, "r-1")):
            self.say(text)
            for _ in range(3):
                self.say("x" * 3000, end="")
        said = self.said()
        ends = [i for i, (_, _, more) in enumerate(said) if not more]
        self.assertEqual("".join(part for _, part, _ in said[:ends[0] + 1]), text)
        self.assertEqual("".join(part for _, part, _ in said[ends[0] + 1:]), "x" * 9000)
        for line in self.out.getvalue().splitlines():
            self.assertLess(len(line.encode()), 4096)

    def test_threads_do_not_mix_their_lines(self):
        def talk(number):
            with _log.about(request(number, f"r-{number}")):
                for i in range(200):
                    self.say("line", i, "of", f"r-{number}")
        threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        said = self.said()
        self.assertEqual(len(said), 800)
        for name, text, _ in said:
            self.assertRegex(text, rf"^line \d+ of {name}$")

    def test_handlers_of_logging_from_before_are_marked(self):
        logger, plain = logging.getLogger("before"), io.StringIO()
        handler = logging.StreamHandler(plain)
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        lines = _log.Lines(plain)
        _log._redirect(plain, lines)
        with _log.about(request(1, "r-1")):
            logger.warning("watch out")
        self.assertEqual(plain.getvalue(), "\x1b_word=r-1\x1b\\watch out\n")


if __name__ == "__main__":
    unittest.main()

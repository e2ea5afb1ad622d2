"""The Python SDK says whose a line is, whatever prints it: print, logging, tracebacks; from several threads at once."""
import io
import logging
import os
import re
import select
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

    def test_a_line_that_never_ends_has_a_last_part(self):
        one = request(1, "r-1")
        for flush in False, True:
            with self.subTest(flush=flush):
                self.out.truncate(self.out.seek(0))
                with _log.about(one):
                    self.say("x" * 9000, end="", flush=flush)
                *parts, last = self.said()
                self.assertEqual("".join(text for _, text, _ in parts) + last[1], "x" * 9000)
                self.assertEqual([more for _, _, more in parts] + [last[2]], [True] * len(parts) + [False])
                self.assertEqual({name for name, _, _ in self.said()}, {"r-1"})
                self.assertTrue(self.out.getvalue().endswith("x\n"))

    def test_what_follows_a_flush_is_of_its_line_however_long(self):
        with _log.about(request(1, "r-1")):
            self.say("begun ", end="", flush=True)
            self.say("x" * 9000, end="", flush=True)
            self.say("y" * 9000, end="")
            self.say("z" * 9000)
            self.say("next")
        self.assertEqual(self.said(), [("r-1", "begun " + "x" * 9000 + "y" * 9000 + "z" * 9000, False), ("r-1", "next", False)])

    def test_threads_of_one_request_do_not_join_what_is_flushed(self):
        one = request(1, "r-1")

        def talk():
            with _log.about(one):
                self.say("other")
        with _log.about(one):
            self.say("half", end="", flush=True)
            thread = threading.Thread(target=talk)
            thread.start()
            thread.join()
            self.say(" and half")
        self.assertEqual(self.said(), [("r-1", "half", False), ("r-1", "other", False), ("r-1", " and half", False)])

    def encoded(self, *how):
        """Each write that leaves, of a stream that encodes."""
        writes = []

        class Raw(io.RawIOBase):
            def writable(self):
                return True

            def write(self, data):
                writes.append(bytes(data))
                return len(data)
        stream = io.TextIOWrapper(io.BufferedWriter(Raw()), *how)
        self.lines._stream = stream
        return writes

    def test_what_cannot_be_encoded_fails_where_it_is_printed_as_without_marks(self):
        writes = self.encoded("utf-8", "strict")
        with _log.about(request(1, "r-1")):
            self.say("before", end="")
            for end in "", "\n":
                with self.assertRaises(UnicodeEncodeError):
                    self.say("a \udc80", end=end)
            self.say(" and after")
        self.assertEqual(b"".join(writes), b"\x1b_word=r-1\x1b\\before and after\n")

    def test_each_write_is_short_enough_whatever_its_characters_become(self):
        for how, text, becomes in ((("utf-8", "backslashreplace"), "\udc80", b"\\udc80"), (("utf-8", "surrogateescape"), "\udc80", b"\x80"),
                                   (("ascii", "backslashreplace"), "\U0001f600", b"\\U0001f600"),
                                   (("utf-8", "strict"), "\U0001f600", "\U0001f600".encode())):
            with self.subTest(how=how):
                writes = self.encoded(*how)
                with _log.about(request(1, "r-1")):
                    self.say(text * 3000)
                    self.say(text * 3000, end="", flush=True)
                    self.say(text * 3000)
                self.assertLessEqual(max(map(len, writes)), select.PIPE_BUF)
                plain = re.sub(rb"\x1b_word[=+]r-1\x1b\\|\n", b"", b"".join(writes))
                self.assertEqual(plain, becomes * 9000)

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

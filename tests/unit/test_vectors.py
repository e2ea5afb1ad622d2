"""The protocol's vectors hold for Python, both SDKs speak the conversations, and docs/protocol.md says the same."""
import array
import ctypes
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "worker", "python")]
import vectors  # noqa: E402
from hasup import _frames as f  # noqa: E402

OBJECTS = os.path.join(vectors.ROOT, os.environ.get("HASUP_OBJECTS", "build/release"))
BUILD = os.path.join(vectors.ROOT, os.environ.get("HASUP_BUILD", "build"))
HEADER = "ipc/frame.h"
TYPES = {name: int(number) for number, name in vectors.x_macro(HEADER, "HASUP_FRAME_TYPES")}
TAGS = {name: (int(number), kind) for number, name, kind in vectors.x_macro(HEADER, "HASUP_TAGS")}
FLAGS = dict(vectors.enum_bits(HEADER, "HASUP_FLAG_"))
ABILITIES = dict(vectors.enum_bits(HEADER, "HASUP_CAN_"))
VECTORS = {v.name: v for v in vectors.frames()}
OF_KIND = {kind: [v for v in VECTORS.values() if v.kind == kind] for kind in ("frame", "header", "malformed")}


def tag_number(tag):
    return TAGS[tag][0] if tag in TAGS else int(tag)


def encoded(v):
    meta = b"".join(f.field(tag_number(tag) | (f.CRITICAL if critical else 0), value,
                            wide=isinstance(value, int) and TAGS[tag][1] == "u64")
                    for tag, value, critical in v.fields)
    flags = sum(1 << FLAGS[name] for name in v.flags)
    return b"".join(f.encode(TYPES[v.type], v.id, meta, v.body, flags, v.seq, v.body_len))


def value_of(tag, data):
    kind = TAGS[tag][1] if tag in TAGS else "bytes"
    return data if kind == "bytes" else (f.U32 if kind == "u32" else f.U64).unpack(data)[0]


class Frames(unittest.TestCase):
    def channel(self):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        return f.Channel(ours), theirs

    def read(self, v, step):
        channel, theirs = self.channel()
        found = []
        for at in range(0, len(v.bytes), step):
            passed = at == 0 and "FD" in v.flags
            theirs.sendmsg([v.bytes[at:at + step]],
                           [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))] if passed else [])
            channel.fill()
            found += channel.frames()
        return found

    def test_every_frame_is_written_byte_for_byte(self):
        for v in OF_KIND["frame"]:
            with self.subTest(v.name):
                self.assertEqual(encoded(v).hex(" "), v.bytes.hex(" "))

    def test_every_frame_reads_as_it_says_in_one_piece_and_byte_by_byte(self):
        for v in OF_KIND["frame"]:
            for step in (len(v.bytes), 1):
                with self.subTest(v.name, step=step):
                    (frame,) = self.read(v, step)
                    self.assertEqual((frame.type, frame.id, frame.seq), (TYPES[v.type], v.id, v.seq))
                    self.assertEqual(frame.body, v.body)
                    self.assertEqual(frame.flags, sum(1 << FLAGS[name] for name in v.flags))
                    self.assertEqual(frame.body_len, len(v.body) if v.body_len is None else v.body_len)
                    got = list(f.fields(frame.meta))
                    self.assertEqual(len(got), len(v.fields))
                    for (number, data), (tag, value, _) in zip(got, v.fields):
                        self.assertEqual((number, value_of(tag, data)), (tag_number(tag), value))
                    self.assertEqual(frame.descriptor >= 0, "FD" in v.flags)
                    if frame.descriptor >= 0:
                        os.close(frame.descriptor)

    def test_every_sound_header_is_taken(self):
        for v in OF_KIND["header"]:
            with self.subTest(v.name):
                self.assertEqual(f.decode_header(v.bytes)[4:], (v.meta_len, v.body_len))

    def test_every_malformed_frame_is_refused(self):
        for v in OF_KIND["malformed"]:
            for step in (len(v.bytes), 1):
                with self.subTest(v.name, step=step), self.assertRaises(f.ProtocolError):
                    self.read(v, step)

    def test_a_flood_of_descriptors_is_refused(self):
        channel, theirs = self.channel()
        with self.assertRaises(f.ProtocolError):
            for _ in range(f.DESCRIPTORS_MAX + 1):
                theirs.sendmsg([b"\xa7"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
                channel.fill()
        for descriptor in channel.descriptors:
            os.close(descriptor)

    def test_every_type_tag_and_flag_has_a_vector(self):
        self.assertEqual({v.type for v in OF_KIND["frame"]}, set(TYPES))
        self.assertLessEqual(set(TAGS), {tag for v in OF_KIND["frame"] for tag, _, _ in v.fields})
        self.assertEqual({flag for v in OF_KIND["frame"] for flag in v.flags}, set(FLAGS))

    def test_python_names_everything_as_c_does(self):
        for name, number in TYPES.items():
            self.assertEqual(getattr(f, name), number)
        for name, (number, kind) in TAGS.items():
            self.assertEqual(getattr(f, "TAG_" + name), number)
            self.assertEqual(f.LENGTHS.get(number, 0), {"u32": 4, "u64": 8, "bytes": 0}[kind])
        for name, bit in FLAGS.items():
            self.assertEqual(getattr(f, "FLAG_" + name), 1 << bit)
        for name, bit in ABILITIES.items():
            self.assertEqual(getattr(f, "CAN_" + name), 1 << bit)


class Page(unittest.TestCase):
    """docs/protocol.md says what the vectors and ipc/frame.h say."""

    def setUp(self):
        with open(os.path.join(vectors.ROOT, "docs", "protocol.md")) as file:
            self.text = file.read()

    def table(self, heading, columns):
        """The first columns of the rows below a heading."""
        section = self.text.split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
        rows = re.findall(r"^\| (\d+ \|.*)\|$", section, re.M)
        return [tuple(cell.strip() for cell in row.split("|")[:columns]) for row in rows]

    def test_its_tables_are_those_of_the_header(self):
        self.assertEqual(self.table("Types", 2), [(str(number), name) for name, number in TYPES.items()])
        self.assertEqual(self.table("Fields", 3),
                         [(str(number), name, kind) for name, (number, kind) in TAGS.items()])
        self.assertEqual(self.table("Flags", 2), [(str(bit), name) for name, bit in FLAGS.items()])
        self.assertEqual(self.table("Abilities", 2), [(str(bit), name) for name, bit in ABILITIES.items()])

    def test_what_it_says_is_granted_is_what_hasupd_grants(self):
        with open(os.path.join(vectors.ROOT, "supervisor", "worker_frames.c")) as file:
            grants = re.search(r"\bGRANTS =\s*([^,}]*)[,}]", file.read()).group(1)
        granted = {name for _, name, yes in self.table("Abilities", 3) if yes == "yes"}
        self.assertEqual(granted, set(re.findall(r"HASUP_CAN_(\w+)", grants)))

    def test_its_limits_are_those_of_the_header(self):
        with open(os.path.join(vectors.ROOT, HEADER)) as file:
            header = file.read()
        for name in ("META_MAX", "INLINE_MAX", "BUFFERS_MAX", "PROGRESS_MAX", "DELIVERED_MAX"):
            product = re.search(rf"HASUP_{name} = ([\d *]+)", header).group(1)
            number = 1
            for factor in product.split("*"):
                number *= int(factor)
            self.assertRegex(self.text, rf"\b{number}\b", name)

    def test_the_bytes_that_it_quotes_are_those_of_the_vectors(self):
        quoted = re.findall(r"```vector (\S+)\n(.*?)```", self.text, re.S)
        self.assertGreater(len(quoted), 0)
        for name, text in quoted:
            with self.subTest(name):
                self.assertEqual(bytes.fromhex(text).hex(" "), VECTORS[name].bytes.hex(" "))

    def test_the_conversations_that_it_quotes_are_those_that_are_played(self):
        played = {name: lines for name, _, lines in vectors.conversations()}
        quoted = re.findall(r"```conversation (\S+)\n(.*?)```", self.text, re.S)
        self.assertGreater(len(quoted), 0)
        for name, text in quoted:
            with self.subTest(name):
                self.assertEqual(text.splitlines(), played[name])


class Conversation:
    """One played against a worker's process."""

    def __init__(self, case, command, environment):
        self.case, self.forked = case, []
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(60)
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE,
                                        env=dict(os.environ, HASUP_FD=str(theirs.fileno()), **environment))
        theirs.close()

    def close(self):
        for forked in self.forked:
            forked.close()
        self.socket.close()
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()

    def passed(self, words):
        """The frames' words, and the descriptors that go with them, one each."""
        if words[-1] == "descriptor":
            return words[:-1], [os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)]
        if words[-1] == "fork":
            pairs = [socket.socketpair() for _ in words[::2]]
            self.forked += [Forked(self.case, ours) for ours, _ in pairs]
            return words[::2], [theirs.detach() for _, theirs in pairs]
        if words[1:2] == ["memfd"]:
            memory = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(memory, int(words[2]))
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            return words[:1], [memory]
        return words, []

    def send(self, words):
        if words[0] == "bytes":
            self.socket.sendall(bytes.fromhex(words[1]))
            return
        words, descriptors = self.passed(words)
        frames = [VECTORS[word.replace("malformed:", "")].bytes for word in words]
        if not descriptors:
            self.socket.sendall(b"".join(frames))
            return
        for frame, descriptor in zip(frames, descriptors):
            self.socket.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
            os.close(descriptor)

    def expect(self, words):
        want, got, descriptors = VECTORS[words[0]].bytes, b"", array.array("i")
        while len(got) < len(want):
            part, ancillary, _, _ = self.socket.recvmsg(len(want) - len(got), 64)
            self.case.assertTrue(part, f"the worker left instead of {words[0]}; it said {got.hex(' ')}")
            got += part
            for _, _, value in ancillary:
                descriptors.frombytes(value)
        if words[2:] == ["sealed"]:
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            self.case.assertEqual(fcntl.fcntl(descriptors[0], fcntl.F_GET_SEALS) & seals, seals)
        if words[1:2] == ["forked"]:
            next(forked for forked in self.forked if not forked.pidfd).known_by(descriptors.pop(), got[-4:])
            got = got[:-4] + want[-4:]
        self.case.assertEqual(got.hex(" "), want.hex(" "), words[0])
        self.case.assertEqual(len(descriptors), int(words[1:2] == ["descriptor"]))
        for descriptor in descriptors:
            os.close(descriptor)

    def end(self, code):
        try:
            self.case.assertEqual(self.socket.fileno() >= 0 and self.socket.recv(1) or b"", b"")
        except ConnectionResetError:
            pass  # it left with something unread
        self.case.assertEqual(self.process.wait(60), code)

    def play(self, lines):
        for line in lines:
            key, *words = line.split()
            if key.startswith("@"):
                self.forked[int(key[1:]) - 1].play([" ".join(words)])
            elif key == ">":
                self.send(words)
            elif key == "<":
                self.expect(words)
            elif key == "says":
                want = bytes.fromhex("".join(words))
                self.case.assertEqual(self.process.stderr.read(len(want)), want)
            elif key == "hangup":
                self.socket.close()
            else:
                self.case.assertEqual(key, "exit", line)
                self.end(int(words[0]))


class Forked(Conversation):
    """One with a worker that was forked, whose parent this process is then, as hasupd would be."""

    def __init__(self, case, sock):
        self.case, self.socket, self.pidfd, self.forked = case, sock, 0, []
        self.socket.settimeout(60)

    def known_by(self, pidfd, pid):
        self.pidfd = pidfd
        with open(f"/proc/self/fdinfo/{pidfd}") as file:
            self.case.assertIn(f"Pid:\t{f.U32.unpack(pid)[0]}\n", file.read())

    def end(self, code):
        end = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        self.case.assertEqual((end.si_code, end.si_status), (os.CLD_EXITED, code))
        os.close(self.pidfd)
        self.pidfd = -1

    def close(self):
        self.socket.close()
        if self.pidfd > 0:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
            os.close(self.pidfd)


class Conversations:
    commands = {}

    def setUp(self):
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what a zygote forks is this process's

    def test_every_conversation_is_spoken_byte_for_byte(self):
        played = 0
        for name, worker, lines in vectors.conversations():
            with self.subTest(name):
                command = self.commands["plain" if worker == "zygote" else worker]
                conversation = Conversation(self, command, {"HASUP_ZYGOTE": "1"} if worker == "zygote" else {})
                try:
                    conversation.play(lines)
                    self.assertIsNotNone(conversation.process.returncode, "it has no exit line")
                    played += 1
                finally:
                    conversation.close()
        self.assertGreater(played, 0)


class InC(Conversations, unittest.TestCase):
    commands = {"plain": [f"{OBJECTS}/tests/e2e/worker", "--concurrency", "1"],
                "counter": [f"{BUILD}/examples/counter"],
                "snapshot": [f"{OBJECTS}/tests/e2e/ledger", "--snapshot"],
                "resumable": [f"{OBJECTS}/tests/e2e/worker", "--concurrency", "1", "--resumable"],
                "signed": [f"{OBJECTS}/tests/e2e/helped", "--signed"],
                "batched": [f"{OBJECTS}/tests/e2e/batched"],
                "batched-counter": [f"{OBJECTS}/tests/e2e/batched", "--stateful"]}


class InPython(Conversations, unittest.TestCase):
    commands = {name: ["/usr/bin/python3", "-B", os.path.join(HERE, "sdk_worker.py"), name]
                for name in ("plain", "counter", "snapshot")}
    commands["signed"] = ["/usr/bin/python3", "-B", os.path.join(HERE, "helped.py"), "--signed"]
    commands["batched"] = ["/usr/bin/python3", "-B", f"{HERE}/../e2e/batched.py"]
    commands["batched-counter"] = commands["batched"] + ["--stateful"]
    commands["resumable"] = ["/usr/bin/python3", "-B", f"{HERE}/../e2e/amble.py"]


if __name__ == "__main__":
    unittest.main()

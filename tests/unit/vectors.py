"""Reads tests/vectors: frames, malformed bytes and conversations."""
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "tests", "vectors")


class Vector:
    def __init__(self, kind, name):
        self.kind, self.name = kind, name
        self.type, self.flags, self.id, self.seq = None, [], 0, 0
        self.fields = []  # (tag's name or number, value, critical)
        self.body, self.body_len, self.meta_len = b"", None, None
        self.error, self.bytes = None, b""


def value(text):
    if text[0] == "x":
        return bytes.fromhex(text[1:])
    if text[0] == '"':
        return text[1:text.rindex('"')].encode()
    return int(text)


def lines(name):
    with open(os.path.join(FOLDER, name)) as file:
        for line in file:
            line = line.rstrip("\n")
            if line and not line.startswith("#"):
                yield line


def frames():
    """Every entry of frames.txt in order."""
    entry = None
    for line in lines("frames.txt"):
        key, _, rest = line.partition(" ")
        if entry is None:
            assert key in ("frame", "header", "malformed"), line
            entry = Vector(key, rest)
        elif key == "end":
            yield entry
            entry = None
        elif key in ("field", "critical"):
            tag, _, text = rest.partition(" ")
            entry.fields.append((tag, value(text), key == "critical"))
        elif key == "flags":
            entry.flags = rest.split()
        elif key == "bytes":
            entry.bytes += bytes.fromhex(rest)
        elif key == "body":
            entry.body = value(rest)
        elif key in ("type", "error"):
            setattr(entry, key, rest)
        else:
            assert key in ("id", "seq", "body_len", "meta_len"), line
            setattr(entry, key, int(rest))
    assert entry is None


def conversations():
    """(name, worker, lines)."""
    found = []
    for line in lines("conversations.txt"):
        if line.startswith("conversation "):
            _, name, worker = line.split()
            found.append((name, worker, []))
        else:
            found[-1][2].append(line)
    return found


def x_macro(header, name):
    """The rows of an X-macro of a C header, as tuples of text."""
    with open(os.path.join(ROOT, header)) as file:
        text = file.read()
    body = re.search(r"#define %s\(X\)(.*?[^\\])\n\n" % name, text, re.S).group(1)
    return [tuple(part.strip() for part in row.split(",")) for row in re.findall(r"X\(([^()]*)\)", body)]


def enum_bits(header, prefix):
    """(name, bit) of every enumerator `PREFIXname = 1 << bit`."""
    with open(os.path.join(ROOT, header)) as file:
        return [(name, int(bit)) for name, bit in re.findall(prefix + r"(\w+) = 1 << (\d+)", file.read())]

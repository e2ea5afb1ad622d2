"""What one hasupd hands to the next (docs/upgrade.md), as bytes: kept, altered, and given to a hasupd without the other.

Keeping what a version hands over, for those that come after it (tests/vectors/handed-*.json), as root:

    python3 -B tests/e2e/handed.py keep build/hasupd tests/vectors/handed-VERSION.json

What is kept names descriptors by their numbers, and times of a clock that had just begun (a time namespace), so that
it can be taken up by any machine later on.  Its config has no path of this machine.
"""
import base64
import fcntl
import json
import os
import random
import re
import socket
import subprocess
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import LIMIT, WORKER, World, wait_until  # noqa: E402

SUM, FORMAT_FIELD = 8, 2
HIGH = 400  # descriptors above are not in the way of those that are named


# ---- bytes ----

def sum_of(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return value.to_bytes(SUM, "little")


def number_at(data, at):
    """The number that stands there, and where the next one begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def with_format(data, add):
    """The whole of it as another format: the second field of the first record."""
    at = 0
    while True:
        field, at = number_at(data, at)
        value, end = number_at(data, at)
        if field == FORMAT_FIELD:
            assert value + add < 0x80
            return data[:at] + bytes([value + add]) + data[end:]
        at = end


ALTERED = {
    "nothing": lambda data: data,
    "a byte": lambda data: data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1:],
    "its end": lambda data: data[:-1],
    "all of it": lambda data: b"",
    "its format": lambda data: summed(with_format(data[:-SUM], 1)),
    # The last record of all ends with a 0; a field that nobody knows, with the value 1, before that.
    "a field more at the end": lambda data: summed(data[:-SUM - 1] + bytes([120, 1, 0])),
    "a record more": lambda data: summed(data[:-SUM] + bytes([1, 1, 0])),
    "bytes that are no records": lambda data: summed(data[:-SUM - 200] + b"\xff" * 200),
}


def summed(data):
    return data + sum_of(data)


def mutated(data, seed):
    """Damaged by chance, with a sum that is right."""
    chance, body = random.Random(seed), bytearray(data[:-SUM])
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at, how = chance.randrange(len(body)), chance.randrange(4)
        if how == 0:
            body[at] = chance.randrange(256)
        elif how == 1:
            body[at] ^= 1 << chance.randrange(8)
        elif how == 2:
            del body[at:at + chance.randrange(1, 9)]
        else:
            body[at:at] = chance.randbytes(chance.randrange(1, 9))
    return summed(bytes(body))


def memfd(data, sealed=True):
    fd = os.memfd_create("handed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    if sealed:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
    os.set_inheritable(fd, True)
    return fd


def read_all(fd):
    return os.pread(fd, os.fstat(fd).st_size, 0)


# ---- a hasupd that is given something else than was handed over ----

def altering(world, what):
    """The path of a binary that is hasupd, but is handed over `what` (of ALTERED, or "no seal")."""
    path = os.path.join(world.directory, "hasupd-" + re.sub("[^a-z]", "-", what))
    with open(path, "w") as file:
        file.write(f"#!{sys.executable}\nimport sys\nsys.dont_write_bytecode = True\n"
                   f"sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})\n"
                   f"import handed\nhanded.run_altered({world.program!r}, {what!r}, sys.argv)\n")
    os.chmod(path, 0o700)
    return path


def run_altered(program, what, argv):
    for option in ("--upgrade-check", "--upgrade"):
        if option in argv:
            at = argv.index(option) + 1
            data = read_all(int(argv[at]))
            argv[at] = str(memfd(ALTERED.get(what, ALTERED["nothing"])(data), what != "no seal"))
    os.execv(program, [program, *argv[1:]])


# ---- kept ----

CONFIG = """  slow: {command: [/bin/sh, -c, 'exec "$HASUP_TEST_WORKER" $HASUP_TEST_DIES'], directory: /, version: seven,
    workers: 2, timeouts: {request: never}, restart: {backoff_min: 1h, backoff_max: 1h, start_limit: 100}}
  killed: {command: [/bin/sh, -c, 'exec "$HASUP_TEST_WORKER"'], directory: /, max_attempts: 2, quarantine_ttl: 8000h,
    restart: {backoff_min: 10ms, backoff_max: 10ms}}"""


def keep(program, path):
    """A slot that backs off with requests that wait for it, one that killed is in quarantine, another is stopped."""
    with open("/proc/uptime") as file:
        ago = int(float(file.read().split()[0])) - 2
    command = ["unshare", "--time", f"--monotonic=-{ago}", f"--boottime=-{ago}", "--mount", "--fork", "--kill-child",
               "/bin/sh", "-c", f"mount -t tmpfs none /sys/fs/cgroup; exec {program} -c $0"]
    with World(CONFIG, start=False, program=program) as world:
        world.process = subprocess.Popen([*command, world.config], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                         env={**os.environ, "HASUP_TEST_WORKER": WORKER, "HASUP_TEST_DIES": "--die"})
        world.events, world.buffer = [], b""
        os.set_blocking(world.process.stderr.fileno(), False)
        started = world.wait_event("hasupd.started")
        world.port = started["http_port"]
        world.wait_event("slot.ready", slot="killed/0")
        assert world.post("killed", "echo x")[2] == b"x"
        assert world.post("killed", "crash")[0] == 422
        world.ctl("stop", "killed")
        world.ctl("wait", "killed", "--stopped")
        for slot in ("slow/0", "slow/1"):
            wait_until(lambda: world.slot(slot)["state"] == "backoff", f"{slot} does not back off")
        waiting = [world.begin("slow", f"echo {i}", {"X-Request-Id": f"kept-{i}"}) for i in range(3)]
        wait_until(lambda: world.status()["models"][0]["queued"] == 3, "never queued")
        saved = os.path.join(world.directory, "saved")
        binary = os.path.join(world.directory, "saver")
        with open(binary, "w") as file:
            file.write(f"#!/bin/sh\ncat /dev/fd/3 > {saved}\nls -l /proc/$PPID/fd > {saved}.fd\n"
                       f"cat /proc/$PPID/net/tcp > {saved}.tcp\ncat /proc/$PPID/net/unix > {saved}.unix\n"
                       "echo it is kept; exit 1\n")
        os.chmod(binary, 0o700)
        said = world.ctl("upgrade", "--binary", binary, check=False).stderr.decode()
        assert "it is kept" in said, said
        with open(saved, "rb") as file:
            data = file.read()
        ports = [connection.sock.getsockname()[1] for connection in waiting]
        told = {"version": subprocess.run([program, "--version"], capture_output=True).stdout.decode().split()[1],
                "models": CONFIG, "descriptors": roles(world, saved, ports),
                "why": json.loads(world.ctl("--json", "why", "slow/0").stdout)["slots"][0]["death"],
                "bytes": base64.b64encode(zlib.compress(data, 9)).decode()}
        with open(path, "w") as file:
            json.dump(told, file, indent=1)
            file.write("\n")
        for connection in waiting:
            connection.close()


def fields_of(path):
    with open(path) as file:
        return [line.split() for line in file][1:]


def roles(world, saved, ports):
    """Of each descriptor that is handed over: what it is."""
    inodes, found = {}, {}
    for fields in fields_of(saved + ".tcp"):
        local, remote = (int(field.split(":")[1], 16) for field in fields[1:3])
        if local == world.port:
            inodes[fields[9]] = "http" if fields[3] == "0A" else f"client {ports.index(remote)}"
    for fields in fields_of(saved + ".unix"):
        if fields[-1] == world.socket:
            inodes[fields[6]] = "unix" if fields[3] == "00010000" else "hasupctl"
    for fields in fields_of(saved + ".fd"):
        number, name = fields[-3], fields[-1]
        role = "activity" if name.endswith("/state/activity") else inodes.get(name[8:-1])
        if role:
            found[number] = role
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


class Handed:
    """A kept one."""

    def __init__(self, path):
        with open(path) as file:
            self.told = json.load(file)
        self.data = zlib.decompress(base64.b64decode(self.told["bytes"]))

    def take_over(self, world):
        """Makes `world`'s hasupd take it over.  The clients whose requests wait, in their order."""
        os.makedirs(world.state, 0o700)
        listener = socket.create_server(("127.0.0.1", 0))
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(world.socket)
        unix.listen()
        ends, clients, ours = {}, [], []
        for number, role in self.told["descriptors"].items():
            if role == "http":
                ends[number] = listener
            elif role == "unix":
                ends[number] = unix
            elif role == "activity":
                ends[number] = open(os.path.join(world.state, "activity"), "w+b")
            elif role == "hasupctl":
                ends[number], other = socket.socketpair()
                ours.append(other)
            else:
                client = socket.create_connection(listener.getsockname(), timeout=LIMIT)
                ends[number], _ = listener.accept()
                clients.append((int(role.split()[1]), client))
        for end in ends.values():
            os.set_blocking(end.fileno(), False)
        world.process = self.spawn(world, {int(number): end.fileno() for number, end in ends.items()})
        world.port, world.events, world.buffer = listener.getsockname()[1], [], b""
        os.set_blocking(world.process.stderr.fileno(), False)
        for end in ends.values():
            end.close()
        world.unlocked += ours
        return [client for _, client in sorted(clients, key=lambda pair: pair[0])]

    def spawn(self, world, descriptors):
        state = fcntl.fcntl(memfd(self.data), fcntl.F_DUPFD, HIGH)

        def put():
            high = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH) for number, fd in descriptors.items()}
            for number, fd in high.items():
                os.dup2(fd, number)
                os.close(fd)
        process = subprocess.Popen([world.program, "-c", world.config, "--upgrade", str(state)], preexec_fn=put,
                                   close_fds=False, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   env={**os.environ, "HASUP_TEST_WORKER": WORKER, "HASUP_TEST_DIES": ""})
        os.close(state)
        return process


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "keep":
        sys.exit(__doc__)
    keep(os.path.abspath(sys.argv[2]), sys.argv[3])

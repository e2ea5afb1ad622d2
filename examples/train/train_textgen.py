#!/usr/bin/python3
"""Trains the character model of examples/textgen.c: a GRU, back-propagation through time, Adam.

    train_textgen.py TEXT OUT

TEXT is Newton's Opticks (1730, public domain).  Debian 12 ships it in golang-1.19-src:

    apt-get download golang-1.19-src
    dpkg-deb --fsys-tarfile golang-1.19-src_*.deb | tar -x --wildcards '*/src/testdata/Isaac*'

OUT is "HSTG", u32 hidden units H, u32 characters V, V bytes of characters, and then float32, all little-endian:
wx[V][3H] wh[H][3H] b[3H] wo[H][V] bo[V], with the gates in the order reset, update, new.
"""
import collections
import re
import struct
import sys

import numpy as np

HIDDEN, BATCH, STEPS, UPDATES, SEED = 112, 48, 64, 2600, 1730


def read_text(path):
    text = open(path, encoding="utf-8").read()
    text = text[text.index("THE FIRST BOOK OF OPTICKS"):]
    text = "\n".join(line for line in text.split("\n") if "|" not in line)  # tables
    text = re.sub(r"\[[^\]]*\]", "", text).replace("_", "").replace("--", " - ")
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", text)  # a paragraph is one line
    text = re.sub(r"\s*\n\s*", "\n", text)
    common = collections.Counter(text)
    return "".join(c for c in text if c.isascii() and common[c] >= 40)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Model:
    def __init__(self, vocabulary, random):
        def weights(*shape):
            return random.uniform(-1, 1, shape).astype(np.float32) / np.sqrt(HIDDEN).astype(np.float32)
        v, h = vocabulary, HIDDEN
        self.p = {"wx": weights(v, 3 * h), "wh": weights(h, 3 * h), "b": np.zeros(3 * h, np.float32),
                  "wo": weights(h, v), "bo": np.zeros(v, np.float32)}
        self.m = {k: np.zeros_like(a) for k, a in self.p.items()}
        self.v = {k: np.zeros_like(a) for k, a in self.p.items()}
        self.updates = 0

    def forward(self, x, h):
        p, kept = self.p, []
        for t in range(len(x)):
            a, u = p["wx"][x[t]] + p["b"], h @ p["wh"]
            r = sigmoid(a[:, :HIDDEN] + u[:, :HIDDEN])
            z = sigmoid(a[:, HIDDEN:2 * HIDDEN] + u[:, HIDDEN:2 * HIDDEN])
            n = np.tanh(a[:, 2 * HIDDEN:] + r * u[:, 2 * HIDDEN:])
            kept.append((h, r, z, n, u[:, 2 * HIDDEN:]))
            h = (1 - z) * n + z * h
        return h, kept

    def loss(self, x, y, h):
        """Nats a character, the gradients, and the last hidden state."""
        p, vocabulary = self.p, len(self.p["bo"])
        last, kept = self.forward(x, h)
        hidden = np.stack([k[0] for k in kept[1:]] + [last])
        logits = hidden @ p["wo"] + p["bo"]
        logits -= logits.max(axis=2, keepdims=True)
        chance = np.exp(logits)
        chance /= chance.sum(axis=2, keepdims=True)
        t, b = np.indices(y.shape)
        loss = -np.log(chance[t, b, y] + 1e-12).mean()
        chance[t, b, y] -= 1
        dlogits = chance / y.size
        g = {"wo": hidden.reshape(-1, HIDDEN).T @ dlogits.reshape(-1, vocabulary),
             "bo": dlogits.sum(axis=(0, 1)), "wh": np.zeros_like(p["wh"])}
        dhidden, dh, das = dlogits @ p["wo"].T, 0, [None] * len(x)
        for t in range(len(x) - 1, -1, -1):
            before, r, z, n, un = kept[t]
            dh = dh + dhidden[t]
            dn = dh * (1 - z) * (1 - n * n)
            dz = dh * (before - n) * z * (1 - z)
            dr = dn * un * r * (1 - r)
            du = np.concatenate([dr, dz, dn * r], axis=1)
            das[t] = np.concatenate([dr, dz, dn], axis=1)
            g["wh"] += before.T @ du
            dh = dh * z + du @ p["wh"].T
        da = np.stack(das).reshape(-1, 3 * HIDDEN)
        g["wx"] = np.eye(vocabulary, dtype=np.float32)[x.reshape(-1)].T @ da
        g["b"] = da.sum(axis=0)
        return loss, g, last

    def update(self, g, rate):
        self.updates += 1
        norm = np.sqrt(sum(float((a * a).sum()) for a in g.values()))
        scale = min(1.0, 1.0 / norm)
        for k, a in g.items():
            a = a * scale
            self.m[k] += 0.1 * (a - self.m[k])
            self.v[k] += 0.005 * (a * a - self.v[k])
            m = self.m[k] / (1 - 0.9 ** self.updates)
            v = self.v[k] / (1 - 0.995 ** self.updates)
            self.p[k] -= (rate * m / (np.sqrt(v) + 1e-8)).astype(np.float32)


def write(model, characters, path):
    with open(path, "wb") as out:
        out.write(b"HSTG" + struct.pack("<II", HIDDEN, len(characters)))
        out.write("".join(characters).encode("ascii"))
        for name in ("wx", "wh", "b", "wo", "bo"):
            out.write(model.p[name].astype("<f4").tobytes())


def sample(model, characters, random, count):
    h, c, out = np.zeros((1, HIDDEN), np.float32), characters.index(" "), ""
    for _ in range(count):
        h, _ = model.forward(np.array([[c]]), h)
        logits = (h @ model.p["wo"] + model.p["bo"])[0] / 0.6
        chance = np.exp(logits - logits.max())
        c = random.choice(len(chance), p=chance / chance.sum())
        out += characters[c]
    return out


def main():
    text, path = read_text(sys.argv[1]), sys.argv[2]
    characters = sorted(set(text))
    random = np.random.default_rng(SEED)
    model = Model(len(characters), random)
    data = np.array([characters.index(c) for c in text])
    held, data = data[-20000:], data[:-20000]
    print(f"{len(text)} characters, {len(characters)} kinds: {''.join(characters)!r}")
    length = (len(data) - 1) // BATCH
    lanes = data[:length * BATCH].reshape(BATCH, length).T
    after = data[1:length * BATCH + 1].reshape(BATCH, length).T
    smooth, h = None, None
    for update in range(UPDATES):  # some seven minutes on one core
        t = update % ((length - 1) // STEPS) * STEPS
        if t == 0:
            h = np.zeros((BATCH, HIDDEN), np.float32)
        loss, g, h = model.loss(lanes[t:t + STEPS], after[t:t + STEPS], h)
        model.update(g, 4e-3 * max(0.05, 1 - update / UPDATES))
        smooth = loss if smooth is None else smooth + 0.02 * (loss - smooth)
        if update % 100 == 0:
            print(f"update {update}  {smooth:.3f} nats a character", flush=True)
    n = len(held) // 20
    x = held[:n * 20].reshape(20, n).T
    loss, _, _ = model.loss(x[:-1], x[1:], np.zeros((20, HIDDEN), np.float32))
    print(f"held out: {loss:.3f} nats a character ({loss / np.log(2):.2f} bits)")
    write(model, characters, path)
    print(sample(model, characters, random, 400))


main()

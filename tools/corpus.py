#!/usr/bin/env python3
"""Data that looks like a research site's, the same on every machine.

    corpus.py homes DIRECTORY [--files 70000] [--mib 2048]    home directories; 27 % of the bytes do not compress
    corpus.py bson COLLECTION [--mib 512]                     girder-like documents on stdout: item, file, user

Standard library only; nothing is copied from the machine it runs on. Text is shuffled from a pool in pieces too short
for a deduplicating backup to find again, so no program under comparison gets a gift.
"""
import argparse
import base64
import json
import math
import os
import random
import stat
import struct
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

VERSION = 1  # of the data: a cache of it is named by this
KIB, MIB = 1 << 10, 1 << 20
BASE_TIME = 1_700_000_000
POOL = 48 * MIB
PIECE = 8 * KIB

# kind, share of the bytes, smallest and largest size, where; the source files take what is left of bytes and files
BULK = [
    ("noise", 0.20, 30 * KIB, 48 * MIB, "Pictures/album {}/IMG_{:05}.jpg"),
    ("noise", 0.07, 2 * KIB, 60 * KIB, ".cache/thumbs/{}/{:05}.webp"),
    ("table", 0.07, 20 * KIB, 24 * MIB, "data/set{}/measure-{:05}.csv"),
    ("text", 0.05, 2 * KIB, 8 * MIB, "data/api{}/dump-{:05}.jsonl"),
    ("notebook", 0.035, 10 * KIB, 5 * MIB, "notebooks/course {}/Exercise {:05}.ipynb"),
    ("numbers", 0.055, 100 * KIB, 24 * MIB, "data/np{}/arr-{:05}.npy"),
]


def vocabulary(rng, count):
    starts, middles = "b c d f g h k l m n p r s t v w st tr pl".split(), "a e i o u ai ea or an er in".split()
    word = lambda: "".join(rng.choice(starts) + rng.choice(middles) for _ in range(rng.choice((1, 2, 2, 3))))
    return [word() for _ in range(count)]


def make_pool(size):
    """Lines like those of source code: indented, with words of very unequal frequency."""
    rng = random.Random(4)
    words = vocabulary(rng, 3000)
    weights = [1 / (rank + 3) for rank in range(len(words))]
    glue = [" ", " ", " ", "_", ".", "(", ") ", " = ", ", ", "\n    ", "\n        ", ":\n    ", "\n\n"]
    parts, have = [], 0
    while have < size:
        picked = zip(rng.choices(words, weights, k=50_000), rng.choices(glue, k=50_000))
        block = "".join(part for pair in picked for part in pair)
        parts.append(block)
        have += len(block)
    return "".join(parts)[:size].encode()


def text(rng, pool, size):
    pieces = (rng.randrange(len(pool) - PIECE) for _ in range(size // PIECE + 1))
    return b"".join(pool[at:at + PIECE - at % 97] for at in pieces).ljust(size, b"\n")[:size]


def table(rng, size):
    rows, have, when, value = [b"time,sensor,latitude,longitude,value,flag\n"], 0, BASE_TIME, 20.0
    while have < size:
        when += rng.randrange(1, 9)
        value += rng.random() - 0.5
        row = b"%d,S%04d,%.5f,%.5f,%.4f,%d\n" % (when, when % 300, 40 + value / 97, -70 + value / 89, value, when & 1)
        rows.append(row)
        have += len(row)
    return b"".join(rows)[:size]


def numbers(rng, size):
    value, series = 0.0, []
    for _ in range(size // 8):
        value += rng.random() - 0.5
        series.append(round(value, 3))
    return struct.pack(f"<{len(series)}d", *series)


def notebook(rng, pool, size):
    cells, have = [], 0
    while have < size:
        cell = {"cell_type": "code", "metadata": {}, "source": text(rng, pool, rng.randrange(200, 2000)).decode()}
        if rng.random() < 0.45:
            picture = base64.b64encode(rng.randbytes(rng.randrange(4000, 30_000))).decode()
            cell["outputs"] = [{"data": {"image/png": picture}, "output_type": "display_data"}]
            have += len(picture)
        cells.append(cell)
        have += len(cell["source"])
    return json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}, indent=1).encode()


def content(kind, rng, pool, size):
    if kind == "noise":
        return rng.randbytes(size)
    if kind == "table":
        return table(rng, size)
    if kind == "numbers":
        return numbers(rng, size)
    return (notebook if kind == "notebook" else text)(rng, pool, size)


def write(path, data, rng):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, rng.choice([0o644, 0o644, 0o644, 0o600, 0o755]))
    set_time(path, rng)


def set_time(path, rng):
    at = (BASE_TIME - rng.randrange(90_000_000)) * 10**9 + rng.randrange(10**9)
    os.utime(path, ns=(at, at), follow_symlinks=False)


def plan(files, size):
    """(kind, path, size) of every plain file."""
    rng, jobs, left = random.Random(1), [], size
    for kind, share, low, high, where in BULK:
        want, number = int(size * share), 0
        while want > 0:
            length = min(want, int(math.exp(rng.uniform(math.log(low), math.log(min(high, max(low + 1, size // 20)))))))
            jobs.append((kind, where.format(number % 7, number), length))
            want, left, number = want - length, left - length, number + 1
    count = max(10, files - len(jobs))
    weights = [rng.lognormvariate(0, 1.3) for _ in range(count)]
    scale = left / sum(weights)
    for number, weight in enumerate(weights):
        package = f"src/vendor/package-{number // 400:03}/src/{number // 25 % 16:02}"
        jobs.append(("text", f"{package}/module_{number:05}.py", int(weight * scale)))
    return jobs


def run_jobs(argument):
    root, jobs = argument
    pool = POOL_BYTES
    for seed, (kind, path, size) in jobs:
        rng = random.Random(seed)
        write(os.path.join(root, path), content(kind, rng, pool, size), rng)


POOL_BYTES = b""


def homes(root, files=70_000, mib=2048, report=lambda done, total: None):
    """Fill an empty directory; the same tree for the same numbers, wherever it is made."""
    global POOL_BYTES
    size = int(mib * MIB)
    POOL_BYTES = make_pool(max(MIB, min(POOL, size // 4)))  # before the workers fork, so that they share it
    os.makedirs(root, exist_ok=True)
    jobs = list(enumerate(plan(files - 800 if files > 4000 else files, size)))
    batches = [(root, jobs[at:at + 250]) for at in range(0, len(jobs), 250)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(run_jobs, batches), 1):
            report(done, len(batches))
    links(root, [path for _, (_, path, _) in jobs], files)
    odd(root)
    sparse(root, size)
    settle(root)


def links(root, paths, files):
    rng = random.Random(2)
    hard, soft = os.path.join(root, "hardlinks"), os.path.join(root, "links")
    os.makedirs(hard)
    os.makedirs(soft)
    for number, path in enumerate(rng.sample(paths, min(len(paths), max(3, files // 230)))):
        os.link(os.path.join(root, path), os.path.join(hard, f"h{number:03}"))
    for number, path in enumerate(rng.sample(paths, min(len(paths), max(3, files // 140)))):
        os.symlink(os.path.join("..", path), os.path.join(soft, f"s{number:03}"))
    for name, target in (("dangling", "/nonexistent/target"), ("loop", "."), ("to-folder", "../data")):
        os.symlink(target, os.path.join(soft, name))


ODD_NAMES = [
    b"with space", b" lead", b"trail ", b"new\nline", b"tab\there", b"-rf", b"--help", b"quote'\"q", b"back\\slash",
    b"glob*?[x]", "caf\u00e9-nfc".encode(), "cafe\u0301-nfd".encode(), b"\xff\xfe-not-utf8", b"latin1-\xe9",
    "日本語.txt".encode(), "😀.md".encode(), b"x" * 255, b"CON", b"a:b", b"$HOME", b"`id`", b"%s%n", b".hidden", b"~tilde",
]


def odd(root):
    """Names, modes and attributes that programs trip over; 300 empty files and 100 empty folders."""
    base = os.path.join(os.fsencode(root), b"odd")
    os.makedirs(base)
    put = lambda name, data: Path(os.fsdecode(os.path.join(base, name))).write_bytes(data)
    for number, name in enumerate(ODD_NAMES):
        put(name, name + b" %d\n" % number)
    deep = os.path.join(base, *(b"level-%02d-abcdefghijklmnop" % level for level in range(40)))
    os.makedirs(deep)
    put(os.path.join(deep, b"bottom.txt"), b"deep\n")
    for number in range(300):
        put(b"empty%03d" % number, b"")
    for number in range(100):
        os.mkdir(os.path.join(base, b"emptydir%03d" % number))
    os.mkfifo(os.path.join(base, b"fifo"))
    for name, mode in ((b"m000", 0), (b"m400", 0o400), (b"suid", 0o4755), (b"sgid", 0o2755), (b"wx", 0o311)):
        put(name, name)
        os.chmod(os.path.join(base, name), mode)
    os.mkdir(os.path.join(base, b"sticky"))
    os.chmod(os.path.join(base, b"sticky"), 0o1777)
    if os.geteuid() == 0:
        put(b"owned", b"by somebody else")
        os.chown(os.path.join(base, b"owned"), 1000, 1001)
    for name, value in (("user.comment", b"hello"), ("user.binary", bytes(range(64)))):
        try:
            os.setxattr(os.path.join(base, b"with space"), name, value)
        except OSError as why:
            print(f"corpus: no extended attributes here ({why})", file=sys.stderr)


def sparse(root, size):
    path = os.path.join(root, "vm", "disk.img")
    os.makedirs(os.path.dirname(path))
    whole, rng = max(MIB, size // 8), random.Random(3)
    with open(path, "wb") as f:
        f.truncate(whole)
        for at in (0, whole // 15, whole // 2, whole - whole // 64):
            f.seek(at)
            f.write(rng.randbytes(whole // 256))


def settle(root):
    """Times of everything that has none of its own yet, folders last, one of them before 1970."""
    rng = random.Random(5)
    for folder, folders, files in os.walk(os.fsencode(root), topdown=False):
        folders.sort()
        for name in sorted(files) + folders:
            path = os.path.join(folder, name)
            if os.lstat(path).st_mtime > BASE_TIME or stat.S_ISDIR(os.lstat(path).st_mode):
                set_time(path, rng)
    os.utime(os.path.join(os.fsencode(root), b"odd", b"with space"), ns=(0, -999_999_995))
    set_time(root, rng)


# --- documents ---

def field(kind, name, value):
    return bytes([kind]) + name + b"\0" + value


def string(name, value):
    return field(2, name, struct.pack("<i", len(value) + 1) + value + b"\0")


def sub(kind, name, fields):
    return field(kind, name, struct.pack("<i", len(fields) + 5) + fields + b"\0")


def object_id(collection, number):
    return struct.pack(">I", BASE_TIME + number // 50) + collection[:5].ljust(5, b"_") + struct.pack(">I", number)[1:]


def document(collection, number, rng, pool):
    """One girder-like document: an id, owners, times, sizes, a hash that does not compress, a note that does."""
    at = rng.randrange(len(pool) - 700)
    note = pool[at:at + 80 + number * 2654435761 % 420]
    body = [
        field(7, b"_id", object_id(collection, number)),
        string(b"name", b"%s-%07d.dat" % (collection, number)),
        field(7, b"creatorId", object_id(b"user", number % 9973)),
        field(9, b"created", struct.pack("<q", BASE_TIME * 1000 + number * 20)),
        field(18, b"size", struct.pack("<q", rng.getrandbits(30))),
        field(8, b"public", bytes([number % 5 == 0])),
        sub(3, b"access", sub(4, b"users", sub(3, b"0", field(7, b"id", object_id(b"user", number % 9973))
                                             + field(16, b"level", struct.pack("<i", 2))))),
        sub(3, b"meta", string(b"note", note) + field(1, b"score", struct.pack("<d", rng.random()))),
        field(5, b"sha", struct.pack("<i", 32) + b"\0" + rng.randbytes(32)),
    ]
    whole = b"".join(body)
    return struct.pack("<i", len(whole) + 5) + whole + b"\0"


def documents(collection, mib, out):
    """Write whole documents until the size is reached; returns how many."""
    rng, pool = random.Random(collection), make_pool(4 * MIB)
    want, number, parts, have = int(mib * MIB), 0, [], 0
    while want > 0:
        one = document(collection.encode(), number, rng, pool)
        parts.append(one)
        have, want, number = have + len(one), want - len(one), number + 1
        if have > MIB or want <= 0:
            out.write(b"".join(parts))
            parts, have = [], 0
    out.flush()
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("homes")
    verb.add_argument("directory")
    verb.add_argument("--files", type=int, default=70_000)
    verb.add_argument("--mib", type=float, default=2048)
    verb = verbs.add_parser("bson")
    verb.add_argument("collection")
    verb.add_argument("--mib", type=float, default=512)
    chosen = parser.parse_args()
    if chosen.verb == "homes":
        homes(chosen.directory, chosen.files, chosen.mib)
    else:
        documents(chosen.collection, chosen.mib, sys.stdout.buffer)


if __name__ == "__main__":
    main()

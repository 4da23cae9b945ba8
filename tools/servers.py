"""MongoDB servers for the demo and the benchmark, and as much of a client as these need. Standard library only.

Every server is tied to this process: the kernel kills it when the process ends, however it ends.
"""
import atexit
import ctypes
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

CACHE = Path(os.environ.get("BACKSTAY_CACHE") or Path.home() / ".cache" / "backstay")
BIN = CACHE / "bin"
SET = "rs1"
LIBC = ctypes.CDLL(None)


def tie():
    """In a child, before exec: die with the parent (prctl PR_SET_PDEATHSIG)."""
    LIBC.prctl(1, signal.SIGKILL)


def environment():
    """PATH with the pinned tools first."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}


# --- the wire: BSON and OP_MSG, the types that the demo uses ---

class Timestamp(int):
    """Milliseconds since 1970, BSON type 9."""


def encode(document):
    body = b"".join(element(name, value) for name, value in document.items())
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def element(name, value):
    key = str(name).encode() + b"\0"
    if isinstance(value, bool):
        return b"\x08" + key + bytes([value])
    if isinstance(value, Timestamp):
        return b"\x09" + key + struct.pack("<q", value)
    if isinstance(value, int):
        return b"\x12" + key + struct.pack("<q", value)
    if isinstance(value, float):
        return b"\x01" + key + struct.pack("<d", value)
    if isinstance(value, str):
        text = value.encode()
        return b"\x02" + key + struct.pack("<i", len(text) + 1) + text + b"\0"
    if isinstance(value, dict):
        return b"\x03" + key + encode(value)
    if isinstance(value, (list, tuple)):
        return b"\x04" + key + encode(dict(enumerate(value)))
    if value is None:
        return b"\x0a" + key
    raise TypeError(f"{name}: no BSON for {type(value).__name__}")


FIXED = {0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x01: 8, 0x7F: 0, 0xFF: 0}


def decode(data, start=0):
    """(document, end); values of types that are not needed stay raw bytes."""
    end = start + struct.unpack_from("<i", data, start)[0]
    at, found = start + 4, {}
    while data[at]:
        kind, stop = data[at], data.index(0, at + 1)
        name, at = data[at + 1:stop].decode(errors="surrogateescape"), stop + 1
        if kind in (0x03, 0x04):
            value, at = decode(data, at)
            found[name] = list(value.values()) if kind == 0x04 else value
            continue
        size = FIXED.get(kind)
        if size is None:
            length = struct.unpack_from("<i", data, at)[0]
            size = 4 + length + (1 if kind == 0x05 else 0)
        raw, at = data[at:at + size], at + size
        found[name] = scalar(kind, raw)
    return found, end


def scalar(kind, raw):
    if kind == 0x01:
        return struct.unpack("<d", raw)[0]
    if kind == 0x02:
        return raw[4:-1].decode(errors="surrogateescape")
    if kind == 0x08:
        return raw != b"\0"
    if kind == 0x10:
        return struct.unpack("<i", raw)[0]
    if kind in (0x09, 0x11, 0x12):
        return struct.unpack("<q", raw)[0]
    return None if kind == 0x0A else raw


class Failed(Exception):
    """The server's answer was an error."""


class Client:
    """One connection to one member."""

    def __init__(self, port, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.request = 0

    def command(self, database, **fields):
        """Run a command, its name first; the decoded answer, or Failed."""
        self.request += 1
        message = struct.pack("<i", 0) + b"\0" + encode({**fields, "$db": database})
        self.socket.sendall(struct.pack("<iiii", len(message) + 16, self.request, 0, 2013) + message)
        length = struct.unpack("<i", self.exactly(4))[0]
        answer, _ = decode(self.exactly(length - 4), 12 + 4 + 1)
        if not answer.get("ok"):
            raise Failed(f"{next(iter(fields))}: {answer.get('errmsg')}")
        return answer

    def exactly(self, count):
        parts = []
        while count:
            part = self.socket.recv(min(count, 1 << 20))
            if not part:
                raise ConnectionError("the server closed the connection")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def insert(self, database, collection, documents):
        for at in range(0, len(documents), 1000):
            answer = self.command(database, insert=collection, documents=documents[at:at + 1000])
            if answer.get("writeErrors"):
                raise Failed(f"insert into {database}.{collection}: {answer['writeErrors'][0]}")

    def find(self, database, collection):
        batch = self.command(database, find=collection, batchSize=10_000)["cursor"]
        found = batch["firstBatch"]
        while batch["id"]:
            batch = self.command(database, getMore=batch["id"], collection=collection)["cursor"]
            found += batch["nextBatch"]
        return found


# --- servers ---

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Mongo:
    """A server alone, or a replica set of as many members as asked for, each in a folder of its own below `root`."""

    def __init__(self, root, members=3, cache_gb=0.25):
        self.root, self.members, self.cache_gb = Path(root), members, cache_gb
        self.ports, self.processes = [], []
        atexit.register(self.stop)

    def start(self):
        """Start on folders that are empty or hold a single server's data; ready when it can be written to."""
        for number in range(max(1, self.members)):
            self.launch(number)
        if self.members:
            self.initiate()
        return self

    def launch(self, number):
        folder = self.root / str(number)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for _ in range(5):
            port = free_port()
            argv = [BIN / "mongod", "--bind_ip", "127.0.0.1", "--port", str(port), "--dbpath", folder / "data",
                    "--nounixsocket", "--wiredTigerCacheSizeGB", str(self.cache_gb),
                    "--setParameter", "diagnosticDataCollectionEnabled=false"]
            argv += ["--replSet", SET, "--oplogSize", "128"] if self.members else []
            with open(folder / "log", "w") as log:
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=tie,
                                           process_group=0)
            self.processes.append(process)
            if self.wait(process, port, lambda hello: True):
                self.ports.append(port)
                return
            self.processes.remove(process)  # the port was taken in between: the next one
        raise Failed(f"mongod does not start; see {folder / 'log'}")

    def initiate(self):
        members = [{"_id": n, "host": f"127.0.0.1:{port}", "priority": 2 if n == 0 else 1}
                   for n, port in enumerate(self.ports)]
        settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
        self.client().command("admin", replSetInitiate={"_id": SET, "members": members, "settings": settings})
        for number, port in enumerate(self.ports):
            ready = lambda hello: hello.get("isWritablePrimary") or (number and hello.get("secondary"))
            if not self.wait(self.processes[number], port, ready):
                raise Failed("the replica set does not become ready")

    @staticmethod
    def wait(process, port, ready, seconds=120):
        until = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < until:
            try:
                if ready(Client(port, timeout=5).command("admin", hello=1)):
                    return True
            except (OSError, Failed):
                pass
            time.sleep(0.05)
        return False

    def client(self):
        """A connection to the first member, the primary."""
        return Client(self.ports[0])

    def uri(self):
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"mongodb://{hosts}/?" + (f"replicaSet={SET}" if self.members else "directConnection=true")

    def stop(self, gently=False):
        for process in self.processes:
            process.send_signal(signal.SIGTERM if gently else signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.processes, self.ports = [], []

    def destroy(self):
        """Stop it and remove all that it stored."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

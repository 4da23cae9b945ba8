"""A folder with all that a run of the product needs on one machine: remote, policies, state, a controller.

Whatever it starts ends with it: the controller is tied to this process, and tasks, which outlive their controller by
design, come back to this process as its children and are killed by their ids.
"""
import atexit
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import servers

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("BACKSTAY_PROGRAM") or ROOT / "target" / "release" / "backstay")
REMOTE, PATH, INSTANCE = "box", "WT", "demo"


def end_with_parent():
    """Ask for SIGTERM when make goes, turn signals into an orderly exit, and adopt the orphans of our children."""
    libc, parent = ctypes.CDLL(None), os.getppid()
    libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    if os.getppid() != parent:
        sys.exit(143)


def interrupted(number, _):
    """End in order, once: cleaning up takes a moment that a second Ctrl-C must not cut short."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    print("\ninterrupted: stopping what was started", flush=True)
    sys.exit(128 + number)


def children(of):
    """Ids of all processes below one, from /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
        except OSError:
            pass
    found = [of]
    for pid in found:
        found += parents.get(pid, [])
    return found[1:]


def kill_descendants():
    for _ in range(50):
        left = children(os.getpid())
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                return
        time.sleep(0.02)


class Site:
    """Folders, rclone's configuration and, once started, a controller."""

    def __init__(self, label):
        self.root = Path(tempfile.mkdtemp(prefix=f"backstay-{label}-"))
        atexit.register(self.remove)
        for name in ("stored", "policies", "state", "rclone"):
            (self.root / name).mkdir()
        self.stored, self.policies, self.state = (self.root / n for n in ("stored", "policies", "state"))
        self.rclone_config = self.root / "rclone" / "rclone.conf"
        self.rclone_config.write_text(f"[{REMOTE}]\ntype = alias\nremote = {self.stored}\n")
        self.controller = None

    def environment(self):
        return {**servers.environment(), "RCLONE_CONFIG": str(self.rclone_config), "BACKSTAY_STATE": str(self.state)}

    def policy(self, name, text):
        """Write a policy in one piece, as a controller that watches the folder should see it."""
        fresh = self.policies / f".{name}"
        fresh.write_text(text)
        fresh.rename(self.policies / f"{name}.yaml")
        return self.policies / f"{name}.yaml"

    def spec(self, name, sources, instance=INSTANCE, extra=""):
        return (f"apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: {name}}}\nspec:\n"
                f"  instance: {instance}\n{sources}"
                f"  destination: {{remote: {REMOTE}, path: {PATH}, configFrom: {{file: {self.rclone_config}}}}}\n{extra}")

    def start_controller(self, *flags, patience=60):
        """A controller that has looked at every policy once, within so many seconds."""
        log = open(self.root / "controller.log", "w")
        argv = [PROGRAM, "controller", "--orchestrator", "local", "--policies", self.policies, "--state", self.state,
                *flags]
        self.controller = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           env=self.environment(), preexec_fn=servers.tie)
        until, pause = time.monotonic() + patience, 0.1
        while not self.settled():
            if self.controller.poll() is not None or time.monotonic() > until:
                sys.exit("the controller does not work:\n" + (self.root / "controller.log").read_text()[-3000:])
            time.sleep(pause)
            pause = min(pause * 1.5, 5)  # asking about many costs the controller its time
        return self.controller

    def status(self):
        """What `backstay status` knows; None before there is a controller."""
        done = self.backstay("status", "-o", "json", stderr=subprocess.DEVNULL)
        try:
            status = json.loads(done.stdout)
        except ValueError:
            return None
        return status if status["controller"] is not None else None

    def each_policy(self, holds):
        status = self.status()
        return status is not None and bool(status["policies"]) and all(map(holds, status["policies"]))

    def settled(self):
        """True once the controller has looked at every policy."""
        return self.each_policy(lambda policy: policy["status"])

    def looked(self):
        """True once the preflight of every policy has ended."""
        ended = lambda policy: any(condition["type"] == "CredentialsValid" and condition["status"] != "Unknown"
                                   for condition in policy["status"]["conditions"])
        return self.each_policy(lambda policy: policy["status"] and ended(policy))

    def backstay(self, *arguments, **kw):
        """Run a verb of the program; its output is returned unless told otherwise."""
        kw = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **kw}
        argv = [str(a) for a in (PROGRAM, *arguments)]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, env=self.environment(), **kw)

    def remove(self):
        if self.controller and self.controller.poll() is None:
            self.controller.kill()
            self.controller.wait()
        kill_descendants()
        shutil.rmtree(self.root, ignore_errors=True)

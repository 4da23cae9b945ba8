#!/usr/bin/env python3
"""Compare Backstay with the ways it replaces, both sides in one run, medians, on data that is made here.

    bench.py [--runs 3] [--only homes,dump,controller,many] [--files 70000] [--mib 2048] [--bson-mib 1024] [--publish]

Sides: the seed's script (`mongodump --gzip`, `tar czf` to disk, `rclone copy`), restic through rclone, and
`mongodump --archive | zstd -3 -T2 | rclone rcat` by hand. The remote is a local folder behind rclone, so programs are
compared, not networks. Writes target/bench/results.json and results.md.
"""
import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
import corpus
import sandbox
import servers

OUT = sandbox.ROOT / "target" / "bench"
PAGE = sandbox.ROOT / "docs" / "performance.md"
# What the first looks at ten thousand policies may take.
MINUTES_TO_DUE = 8
BEGIN, END = "<!-- written by tools/bench.py --publish -->", "<!-- end -->"
RESULTS = []


def say(text):
    print(f"bench: {text}", flush=True)


# --- data, kept in the cache ---

def cached(name, make):
    """A folder of the cache, made once and whole."""
    home = servers.CACHE / f"corpus-{corpus.VERSION}-{name}"
    if not home.exists():
        work = home.with_name(f".work-{home.name}-{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            make(work)
            work.rename(home)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return home


def make_homes(files, mib):
    def make(work):
        say(f"making {files:,} files, {mib} MiB, once")
        corpus.homes(work / "homes", files, mib)
    return cached(f"homes-{files}-{mib}", make) / "homes"


def make_database(mib):
    def make(work):
        say(f"loading {mib} MiB of documents, once")
        mongo = servers.Mongo(work, members=0).start()
        for collection, share in (("item", 0.5), ("file", 0.4), ("user", 0.1)):
            writer = subprocess.Popen([sys.executable, sandbox.ROOT / "tools" / "corpus.py", "bson", collection,
                                       "--mib", str(mib * share)], stdout=subprocess.PIPE)
            subprocess.run([servers.BIN / "mongorestore", "--quiet", "--uri", mongo.uri(), "--db", "girder",
                            "--collection", collection, "-"], stdin=writer.stdout, check=True)
            if writer.wait():
                raise SystemExit("bench: the documents could not be made")
        mongo.stop(gently=True)
        shutil.rmtree(work / "0" / "log", ignore_errors=True)
    return cached(f"database-{mib}", make)


# --- measuring ---

class Run:
    """Wall seconds of a command, and the peak memory, MiB, of the restore that it is or the task that it made a
    controller start."""

    def __init__(self, argv, env, folder=None, to_disk=False):
        """`to_disk`: it is over when what it wrote is on the disk, whether it waits for that itself or not."""
        os.sync()  # what an earlier run left to be written is not this one's cost
        self.task_peak, self.done = 0.0, threading.Event()
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        with open(OUT / "last.log", "w") as log:
            begun = time.monotonic()
            code = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                  cwd=folder, preexec_fn=servers.tie).returncode
            if to_disk:
                os.sync()
            self.wall = time.monotonic() - begun
        self.done.set()
        watcher.join()
        if code:
            raise SystemExit(f"bench: {' '.join(map(str, argv))[:300]} ended with {code}:\n"
                             + (OUT / "last.log").read_text()[-3000:])

    def watch(self):
        """The kernel's high-water mark only grows, so the last reading before a task's end is its peak."""
        while not self.done.wait(0.1):
            for pid in sandbox.children(os.getpid()):
                try:
                    if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:2] in ([b"task"], [b"restore"]):
                        self.task_peak = max(self.task_peak, memory(pid, "VmHWM"))
                except (OSError, KeyError):
                    pass  # it has just ended


def memory(pid, field):
    """A field of /proc/PID/status in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines if ":" in line)[field].split()[0]) / 1024


def record(name, value, unit, ratio=None):
    RESULTS.append({"name": name, "value": round(value, 3), "unit": unit,
                    "ratio": None if ratio is None else round(ratio, 2)})


def medians(sides, runs):
    """Each side in turn, as often as asked; {side: the run with the median wall time}."""
    seen = {side: [] for side in sides}
    for number in range(runs):
        for side, measure in sides.items():
            run = measure()
            seen[side].append(run)
            say(f"  {number + 1}/{runs} {side:<10} {run.wall:7.2f} s")
    for found in seen.values():
        found.sort(key=lambda run: run.wall)
        found[len(found) // 2].task_peak = max(run.task_peak for run in found)
    return {side: found[len(found) // 2] for side, found in seen.items()}


class Sides:
    """The same work by each program, into folders of their own that are emptied before each run."""

    def __init__(self, site):
        self.site, self.env, self.restores, self.old = site, site.environment(), 0, 0
        self.env |= {"RESTIC_PASSWORD": "a benchmark", "RESTIC_CACHE_DIR": str(site.root / "restic-cache")}
        self.remote = lambda name: f"{sandbox.REMOTE}:{name}"

    def put_aside(self, path):
        """Nothing is removed before the end: ext4 is slow at making files for minutes after many were removed, because it
        shuns their inodes."""
        self.old += 1
        if path.exists():
            path.rename(self.site.root / f"old-{self.old}")

    def fresh(self, *names):
        for name in names:
            self.put_aside(self.site.root / name)
            (self.site.root / name).mkdir(parents=True)

    def target(self):
        """A new folder for each restore."""
        self.restores += 1
        path = self.site.root / f"back-{self.restores}"
        path.mkdir()
        return path

    def shell(self, script, to_disk=False, **names):
        text = f"set -e -o pipefail; cd {self.site.root}; {script}"
        return Run(["bash", "-c", text], {**self.env, **{k: str(v) for k, v in names.items()}}, to_disk=to_disk)

    # homes
    def seed_homes(self, homes):
        self.fresh("stored/seed", "work")
        return self.shell(f'(cd "$HOMES" && tar czf {self.site.root}/work/home.tgz --warning=none *) && '
                          f'rclone copy work {self.remote("seed")}', HOMES=homes)

    def seed_homes_back(self, _):
        self.fresh("work")
        return self.shell(f'rclone copy {self.remote("seed")} work && tar xzf work/home.tgz -C {self.target()}',
                          to_disk=True)

    def restic(self, *arguments, to_disk=False):
        return Run([servers.BIN / "restic", "--quiet", "-r", f"rclone:{self.remote('restic')}", *arguments], self.env,
                   self.site.root, to_disk)

    def restic_homes(self, homes):
        self.fresh("stored/restic", "restic-cache")
        self.restic("init")
        return self.restic("backup", homes)

    def restic_homes_back(self, homes):
        return self.restic("restore", f"latest:{homes}", "--target", self.target(), to_disk=True)

    # a dump
    def seed_dump(self, mongo):
        self.fresh("stored/seed-dump", "work")
        return self.shell(f'mongodump --quiet --uri "$URI" --gzip --archive=work/dump.tgz && '
                          f'rclone copy work {self.remote("seed-dump")}', URI=mongo.uri())

    def hand_dump(self, mongo):
        self.fresh("stored/hand-dump")
        return self.shell(f'mongodump --quiet --uri "$URI" --archive | zstd -q -3 -T2 | '
                          f'rclone rcat {self.remote("hand-dump/dump.zst")}', URI=mongo.uri())

    # ours, as a person runs it
    def ours(self, policy):
        """All but the claim of the place goes: making that waits some seconds, once in the life of a site."""
        place = self.site.stored / sandbox.PATH / sandbox.INSTANCE
        for day in place.glob("[0-9]*"):
            self.put_aside(day)
        return Run([sandbox.PROGRAM, "run", policy, "--wait"], self.env)

    def ours_back(self, _):
        return Run([sandbox.PROGRAM, "restore", "--from", f"{self.remote(sandbox.PATH)}/{sandbox.INSTANCE}",
                    "--rclone-config", self.site.rclone_config, "--volume", f"homes={self.target()}"], self.env,
                   to_disk=True)


def homes_site(options):
    homes = make_homes(options.files, options.mib)
    site = sandbox.Site("bench")
    site.policy("homes", site.spec("homes", f"  volumes: [{{name: homes, hostPath: {homes}}}]\n"))
    site.start_controller()
    sides = Sides(site)
    sides.ours("homes")
    return site, sides, homes


def record_sides(label, runs):
    for other in ("seed", "restic"):
        record(f"{label}_{other}", runs[other].wall, "s")
        record(f"{label}_vs_{other}", runs["backstay"].wall, "s", runs[other].wall / runs["backstay"].wall)


def bench_homes(options):
    site, sides, homes = homes_site(options)
    say("full backup of the homes")
    full = medians({"seed": lambda: sides.seed_homes(homes), "restic": lambda: sides.restic_homes(homes),
                    "backstay": lambda: sides.ours("homes")}, options.runs)
    stored = {name: sum(p.stat().st_size for p in (site.stored / folder).rglob("*") if p.is_file()) / (1 << 20)
              for name, folder in (("seed", "seed"), ("restic", "restic"), ("backstay", sandbox.PATH))}
    record_sides("full", full)
    for name, size in stored.items():
        record(f"stored_{name}", size, "MiB", stored["seed"] / size)
    record("peak_rss_mib", full["backstay"].task_peak, "MiB")
    site.remove()


def bench_restore(options):
    site, sides, homes = homes_site(options)
    say("restore of the homes, after one backup by each")
    sides.seed_homes(homes)
    sides.restic_homes(homes)
    back = medians({"seed": lambda: sides.seed_homes_back(homes), "restic": lambda: sides.restic_homes_back(homes),
                    "backstay": lambda: sides.ours_back(homes)}, options.runs)
    record_sides("restore", back)
    record("restore_peak_rss_mib", back["backstay"].task_peak, "MiB")
    site.remove()


def bench_dump(options):
    database = make_database(options.bson_mib)
    site = sandbox.Site("bench")
    sides = Sides(site)
    shutil.copytree(database, site.root / "mongo")
    mongo = servers.Mongo(site.root / "mongo", members=1, cache_gb=2).start()
    site.policy("dump", site.spec("dump", f'  mongodb: {{uri: "{mongo.uri()}"}}\n'))
    site.start_controller()
    sides.ours("dump")
    say("a dump of the database")
    runs = medians({"seed": lambda: sides.seed_dump(mongo), "by hand": lambda: sides.hand_dump(mongo),
                    "backstay": lambda: sides.ours("dump")}, options.runs)
    ours = runs["backstay"].wall
    record("dump_seed", runs["seed"].wall, "s")
    record("dump_hand", runs["by hand"].wall, "s")
    record("dump_vs_seed", ours, "s", runs["seed"].wall / ours)
    record("dump_vs_hand", ours, "s", runs["by hand"].wall / ours)
    record("dump_peak_rss_mib", runs["backstay"].task_peak, "MiB")
    mongo.destroy()
    site.remove()


def small_site(count, schedule):
    """A site with so many policies for one small folder."""
    site = sandbox.Site("bench")
    (site.root / "homes").mkdir()
    (site.root / "homes" / "file").write_text("text")
    for number in range(count):
        name = f"policy-{number:03}"
        site.policy(name, site.spec(name, f"  volumes: [{{name: homes, hostPath: {site.root / 'homes'}}}]\n",
                                    extra=f'  schedule: "{schedule}"\n'))
    return site


def at_rest(site, name):
    """Memory of the site's controller, and the CPU that it uses while nothing is due."""
    controller = site.controller
    ticks = lambda: sum(map(int, Path(f"/proc/{controller.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    time.sleep(5)
    before = ticks()
    time.sleep(20)
    if controller.poll() is not None:
        raise SystemExit("bench: the controller ended:\n" + (site.root / "controller.log").read_text()[-3000:])
    record(f"{name}_rss_mib", memory(controller.pid, "VmRSS"), "MiB")
    record(f"{name}_idle_cpu", (ticks() - before) / os.sysconf("SC_CLK_TCK") / 20 * 1000, "ms/s")


def bench_controller(options):
    """A hundred policies, at rest."""
    site = small_site(100, "0 0 1 1 *")
    site.start_controller("--max-runs=50", "--max-runs-per-remote=50")
    while not site.looked():
        time.sleep(2)  # each looks at its remote once, which is something that is due
    at_rest(site, "controller")
    site.remove()


def bench_many(options):
    """Ten thousand policies: at rest, and when a hundred of them are due at once."""
    due = time.time() // 60 * 60 + 60 * MINUTES_TO_DUE
    site = small_site(100, time.strftime("%M %H * * *", time.gmtime(due)))
    for file in range(99):
        names = [f"other-{file:02}-{number:02}" for number in range(100)]
        # Their configuration is missing, so that the first look at each is over at once.
        texts = [site.spec(name, f"  volumes: [{{name: homes, hostPath: {site.root / 'homes'}}}]\n",
                           extra='  schedule: "0 0 1 1 *"\n').replace("rclone.conf", "missing.conf") for name in names]
        site.policy(f"other-{file:02}", "---\n".join(texts))
    say("ten thousand policies: waiting until each was looked at once")
    site.start_controller("--max-runs=200", "--max-runs-per-remote=200", patience=60 * MINUTES_TO_DUE)
    while not site.looked():
        time.sleep(5)
    if time.time() + 40 > due:
        raise SystemExit(f"bench: the first looks were not over {MINUTES_TO_DUE} minutes after the start")
    at_rest(site, "many")
    say("waiting until a hundred are due")
    time.sleep(max(0, due - time.time()) + 30)
    started = sorted(path.stat().st_mtime - due for path in site.state.glob("runs/policy-*/*/backup-1/process.json"))
    if len(started) != 100:
        raise SystemExit(f"bench: {len(started)} of 100 tasks were started")
    record("due_p50", started[49], "s")
    record("due_p99", started[98], "s")
    site.remove()


# --- the report ---

# name, what it is, and what it ought to be
TABLE = {
    "full_seed": ("homes, full backup: the seed's script", None),
    "full_restic": ("homes, full backup: restic", None),
    "full_vs_seed": ("homes, full backup: Backstay, against the seed", ("ratio", 10)),
    "full_vs_restic": ("the same against restic", ("ratio", 1.5)),
    "stored_seed": ("homes, stored: the seed (it leaves out top-level dotfiles)", None),
    "stored_restic": ("homes, stored: restic", None),
    "stored_backstay": ("homes, stored: Backstay", None),
    "restore_seed": ("homes, restore: the seed", None),
    "restore_restic": ("homes, restore: restic", None),
    "restore_vs_seed": ("homes, restore: Backstay, against the seed", ("ratio", 3)),
    "restore_vs_restic": ("the same against restic", None),
    "dump_seed": ("dump: the seed's script", None),
    "dump_hand": ("dump: mongodump, zstd and rclone by hand", None),
    "dump_vs_seed": ("dump: Backstay, against the seed", None),
    "dump_vs_hand": ("the same against the pipe by hand", ("ratio", 1 / 1.15)),
    "peak_rss_mib": ("peak memory of a task, homes", ("value", 128)),
    "restore_peak_rss_mib": ("peak memory of a restore, homes", ("value", 128)),
    "dump_peak_rss_mib": ("peak memory of a task, dump", ("value", 128)),
    "controller_rss_mib": ("memory of a controller with 100 policies", ("value", 20)),
    "controller_idle_cpu": ("CPU of that controller while nothing is due", ("value", 1)),
    "many_rss_mib": ("memory of a controller with 10,000 policies", None),
    "many_idle_cpu": ("CPU of that controller while nothing is due", None),
    "due_p50": ("from the slot to the started task, 100 due at once: half of them", None),
    "due_p99": ("the same: 99 of them", None),
}


def verdict(result, goal):
    if goal is None:
        return ""
    kind, bound = goal
    good = result["ratio"] >= bound if kind == "ratio" else result["value"] <= bound
    text = f"at least {bound:.2f} ×" if kind == "ratio" else f"at most {bound} {result['unit']}"
    return f"{text}: {'met' if good else 'NOT MET'}"


def machine():
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    kib = int(next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line))
    kernel = platform.release().split("-")[0]
    return f"{os.cpu_count()} × {model}, {kib / (1 << 20):.0f} GiB of memory, Linux {kernel}"


def table(options):
    lines = [f"{machine()}; {time.strftime('%Y-%m-%d')}; medians of {options.runs}; warm cache; the remote "
             f"is a local folder behind rclone.\nHomes: {options.files:,} files, {options.mib} MiB. Database: "
             f"{options.bson_mib} MiB of BSON.\n", "| what | result | ratio | goal |", "|---|---:|---:|---|"]
    for result in RESULTS:
        what, goal = TABLE[result["name"]]
        ratio = "" if result["ratio"] is None else f"{result['ratio']:.2f} ×"
        lines.append(f"| {what} | {result['value']:.2f} {result['unit']} | {ratio} | {verdict(result, goal)} |")
    return "\n".join(lines) + "\n"


def report(options):
    """Parts that are not measured now keep what they came to before: both sides of a part are always of one run."""
    path = OUT / "results.json"
    known = {result["name"]: result for result in (json.loads(path.read_text()) if path.exists() else [])}
    known |= {result["name"]: result for result in RESULTS}
    RESULTS[:] = [known[name] for name in TABLE if name in known]
    path.write_text(json.dumps(RESULTS, indent=1) + "\n")
    OUT.joinpath("results.md").write_text(f"# Benchmark\n\n{table(options)}")


def publish(options):
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table(options)}{END}{rest.partition(END)[2]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="homes,dump,restore,controller,many")
    parser.add_argument("--files", type=int, default=70_000)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--bson-mib", type=int, default=1024)
    parser.add_argument("--publish", action="store_true", help="write the table into docs/performance.md, too; with --only= what was measured before")
    options = parser.parse_args()
    sandbox.end_with_parent()
    OUT.mkdir(parents=True, exist_ok=True)
    parts = {"homes": bench_homes, "dump": bench_dump, "restore": bench_restore, "controller": bench_controller, "many": bench_many}
    names = [name for name in options.only.split(",") if name]
    report(options)
    for number, name in enumerate(names):
        if name == "restore" and number > 0:
            time.sleep(300)  # for the same reason as in Sides.put_aside
        parts[name](options)
        report(options)  # also when a later part fails
    print("\n" + OUT.joinpath("results.md").read_text())
    if options.publish:
        publish(options)


if __name__ == "__main__":
    main()

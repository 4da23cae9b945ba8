#!/usr/bin/env python3
"""The main job, whole and real: a replica set and home directories are backed up, destroyed, and restored.

Nothing is simulated and nothing is left behind, also when it is interrupted.
"""
import os
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import compare
import corpus
import servers
import sandbox

POLICY = "nightly"
LIVE = sys.stdout.isatty()
BOLD, DIM, GREEN, RED, PLAIN = ("\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m") if LIVE else [""] * 5
STEPS = 9


class Step:
    """One line that says what is going on and, at its end, how long it took."""
    number = 0

    def __init__(self, text):
        Step.number += 1
        self.head = f"{DIM}[{Step.number}/{STEPS}]{PLAIN} {text}"

    def __enter__(self):
        self.begun = time.monotonic()
        print(f"{self.head} …", end="" if LIVE else "\n", flush=True)
        return self

    def note(self, text):
        if LIVE:
            print(f"\r\x1b[K{self.head} … {DIM}{text}{PLAIN}", end="", flush=True)

    def __exit__(self, kind, *_):
        mark = f"{RED}not done{PLAIN}" if kind else f"{time.monotonic() - self.begun:.1f} s"
        print(f"\r\x1b[K{self.head}  {mark}" if LIVE else f"    {mark}", flush=True)


def indent(text):
    print("\n".join(f"    {line}" for line in text.rstrip().splitlines()), flush=True)


def stop(text, output=""):
    print(f"\n{RED}{text}{PLAIN}")
    indent(output)
    sys.exit(1)


def fill_database(client, step):
    """Collections with indexes of several kinds, a time series, a view, a capped one, users and a role."""
    db, ms = "girder", 1_700_000_000_000
    people = [{"_id": n, "login": f"user{n:04}", "email": f"user{n:04}@example.org", "admin": n == 0,
               "created": servers.Timestamp(ms + n * 1000)} for n in range(2000)]
    items = [{"_id": n, "name": f"item {n}", "folder": n % 97, "size": n * 4099, "meta": {"tags": ["a", "b", str(n % 7)],
              "note": "words that a text index finds " + str(n % 13)}} for n in range(20_000)]
    points = [{"at": servers.Timestamp(ms + n * 60_000), "sensor": f"s{n % 5}", "value": n / 7} for n in range(5000)]
    client.command(db, createIndexes="user", indexes=[{"key": {"login": 1}, "name": "login", "unique": True}])
    client.command(db, createIndexes="item", indexes=[
        {"key": {"folder": 1, "size": -1}, "name": "by folder"}, {"key": {"meta.note": "text"}, "name": "text"},
        {"key": {"size": 1}, "name": "large ones", "partialFilterExpression": {"size": {"$gt": 1000}}}])
    client.command(db, create="readings", timeseries={"timeField": "at", "metaField": "sensor"})
    client.command(db, create="recent", capped=True, size=1 << 20, max=1000)
    client.command(db, create="admins", viewOn="user", pipeline=[{"$match": {"admin": True}}])
    for name, rows in (("user", people), ("item", items), ("readings", points), ("recent", people[:500])):
        step.note(name)
        client.insert(db, name, rows)
    client.insert("jupyter", "session", [{"_id": f"session {n}", "open": n % 2 == 0} for n in range(300)])
    client.command("girder", createRole="curator", roles=[], privileges=[
        {"resource": {"db": "girder", "collection": "item"}, "actions": ["find", "update"]}])
    client.command("girder", createUser="girder", pwd="a demo's password", roles=["readWrite", "curator"])
    return sum(map(len, (people, items, points))) + 500 + 300


def backup(site):
    """The run as a person would start it, its own progress shown."""
    done = subprocess.run([str(sandbox.PROGRAM), "run", POLICY, "--wait"],
                          stdin=subprocess.DEVNULL, env=site.environment())
    if done.returncode:
        log = (site.root / "controller.log").read_text()
        stop(f"backstay run ended with {done.returncode}", log[-3000:])


def restore(site, mongo, homes):
    return site.backstay(
        "restore", "--from", f"{sandbox.REMOTE}:{sandbox.PATH}/{sandbox.INSTANCE}", "--rclone-config", site.rclone_config,
        "--mongodb", mongo.uri(), "--users", "--volume", f"homes={homes}", "--preserve-setuid")


def main():
    sandbox.end_with_parent()
    begun = time.monotonic()
    site = sandbox.Site("demo")
    homes = site.root / "homes"
    print(f"{BOLD}Backstay: from nothing to a verified backup and a full restore{PLAIN}\n", flush=True)

    with Step("start a replica set of three members"):
        mongo = servers.Mongo(site.root / "mongo").start()
    with Step("fill it: documents, indexes, a time series, a view, users") as step:
        documents = fill_database(mongo.client(), step)
        database_before = compare.database(mongo.client())
    with Step("make a home directory with difficult contents") as step:
        corpus.homes(homes, files=4500, mib=96, report=lambda done, total: step.note(f"{100 * done // total} %"))
        homes_before = compare.tree(homes)
    with Step("write one policy and start the controller"):
        path = site.policy(POLICY, site.spec(POLICY, f'  mongodb: {{uri: "{mongo.uri()}"}}\n'
                                                     f"  volumes: [{{name: homes, hostPath: {homes}}}]\n"))
        site.start_controller()
    indent(path.read_text())
    with Step("backstay run --wait: the backup, through rclone"):
        print(flush=True)
        backup(site)
    shown = site.backstay("status")
    indent(f"$ backstay status\n{shown.stdout}")

    with Step("destroy everything: the servers, their files, the homes, the controller and its state"):
        site.controller.kill()
        site.controller.wait()
        mongo.destroy()
        shutil.rmtree(homes)
        shutil.rmtree(site.state)
        shutil.rmtree(site.policies)
    with Step("start a new, empty replica set and an empty folder"):
        mongo = servers.Mongo(site.root / "mongo-new").start()
        homes.mkdir()
    with Step("backstay restore, from the remote alone"):
        done = restore(site, mongo, homes)
    if done.returncode:
        stop(f"backstay restore ended with {done.returncode}", done.stdout)
    indent(done.stdout)
    with Step("compare every document, index, user, file, mode, time, link and attribute"):
        lost = compare.differences(database_before, compare.database(mongo.client()))
        lost += compare.differences(homes_before, compare.tree(homes))
    if lost:
        stop(f"{len(lost)} differences after the restore:", "\n".join(lost[:40]))
    summary(site, documents, database_before, homes_before, time.monotonic() - begun)


def summary(site, documents, database, homes, seconds):
    files = sum(entry["content"] is not None for entry in homes.values())
    stored = sum(p.stat().st_size for p in site.stored.rglob("*") if p.is_file())
    kinds = sum("hard link" in e and e["hard link"] is not None for e in homes.values())
    indexes = sum(value.count("'name'") for key, value in database.items() if key.endswith(" indexes"))
    users = sum(key.startswith("user ") for key in database)
    print(f"""
{GREEN}{BOLD}Everything is back.{PLAIN}
    database   {documents:,} documents, {indexes} indexes, {users} user, a time series, a view: identical
    homes      {files:,} files and links in {len(homes):,} entries, {kinds} of them hard links, odd names, sparse files,
               modes, owners, times to the nanosecond, extended attributes: identical
    remote     {stored / (1 << 20):.0f} MiB stored
    time       {seconds:.0f} s, with the making of the data
Nothing is left running.""", flush=True)


if __name__ == "__main__":
    main()

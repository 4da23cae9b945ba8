#!/usr/bin/env python3
"""Run a command of tests on each Docker Engine, and end with a line that counts what passed and failed: e2e_swarm.py COMMAND…"""
import os
import re
import subprocess
import sys

ENGINES = {"20.10": "20", "29": "29"}
COUNTS = re.compile(r"test result: .*?(\d+) passed; (\d+) failed")


def on(engine):
    """(passed, failed, whether the command succeeded)"""
    env = {**os.environ, "BACKSTAY_ENGINE": engine, "BACKSTAY_REQUIRE_SWARM": "1"}
    child = subprocess.Popen(sys.argv[1:], env=env, stdout=subprocess.PIPE, text=True, errors="replace")
    passed = failed = 0
    for line in child.stdout:
        print(line, end="", flush=True)
        if found := COUNTS.search(line):
            passed, failed = passed + int(found[1]), failed + int(found[2])
    return passed, failed, child.wait() == 0


def main():
    results = {name: on(engine) for name, engine in ENGINES.items()}
    print("; ".join(f"Docker Engine {name}: {passed} passed, {failed} failed{'' if good else ' (the run broke off)' if not failed else ''}"
                    for name, (passed, failed, good) in results.items()))
    return 0 if all(good for _, _, good in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main() if sys.argv[1:] else __doc__)

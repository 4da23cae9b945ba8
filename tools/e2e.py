#!/usr/bin/env python3
"""Run a command of tests on real clusters, and end with a line that counts what passed and failed: e2e.py swarm|kubernetes COMMAND…

For `swarm` it is run on each Docker Engine."""
import os
import re
import subprocess
import sys

PLACES = {
    "swarm": {
        "Docker Engine 20.10": {"BACKSTAY_REQUIRE_SWARM": "1", "BACKSTAY_ENGINE": "20"},
        "Docker Engine 29": {"BACKSTAY_REQUIRE_SWARM": "1", "BACKSTAY_ENGINE": "29"},
    },
    "kubernetes": {"Kubernetes 1.34": {"BACKSTAY_REQUIRE_KUBERNETES": "1"}},
}
COUNTS = re.compile(r"test result: .*?(\d+) passed; (\d+) failed")


def on(settings, command):
    """(passed, failed, whether the command succeeded)"""
    child = subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True, errors="replace")
    passed = failed = 0
    for line in child.stdout:
        print(line, end="", flush=True)
        if found := COUNTS.search(line):
            passed, failed = passed + int(found[1]), failed + int(found[2])
    return passed, failed, child.wait() == 0


def main(place, *command):
    results = {name: on(settings, command) for name, settings in PLACES[place].items()}
    print("; ".join(f"{name}: {passed} passed, {failed} failed{'' if good else ' (the run broke off)' if not failed else ''}"
                    for name, (passed, failed, good) in results.items()))
    return 0 if all(good for _, _, good in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 2 and sys.argv[1] in PLACES else __doc__)

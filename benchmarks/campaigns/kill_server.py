"""Kills the server at random moments and starts it again; no job may be lost, stuck or doubled.

Some jobs are added between kills. In the end every job has to be finished, with its one file::

    python benchmarks/campaigns/kill_server.py --seed 1 --kills 30

The exit status is 1 if that is not so.
"""

from __future__ import annotations

import random
import time
from collections import Counter

import requests
from server import ENDS, GRAPH, load_average, log_in, make_server, read_options, wait_for


def main() -> int:
    given = read_options(__doc__, seed=1, kills=30, jobs=20, timeout=900)
    rng = random.Random(given.seed)
    failures: list[str] = []
    with make_server() as server:
        server.start()
        user = log_in(server)
        paths: list[str] = []
        for number in range(given.kills):
            while len(paths) < given.jobs * (number + 1) / given.kills:
                paths.append(user.start_job(GRAPH))
            time.sleep(rng.uniform(0, 5))
            server.kill()
            server.start()
        found = wait_for(
            lambda: (s := user.statuses()) and all(v in ENDS for v in s.values()) and s,
            given.timeout,
        ) or user.statuses()  # fmt: skip
        failures += [f"job {path} is lost" for path in paths if path not in found]
        failures += [f"a job nobody made: {path}" for path in found if path not in paths]
        for path, status in found.items():
            if status == "error" and "given up" in user.reason(path):
                print(f"given up after three attempts: {path}")
            elif status != "finished":
                failures.append(f"job {path} is {status}: {user.reason(path)}")
            else:
                failures += check_result(user, path)
    print(f"{given.kills} kills; jobs: {dict(Counter(found.values()))}; {load_average()}")
    for text in failures:
        print(text)
    return 1 if failures else 0


def check_result(user, path: str) -> list[str]:  # noqa: ANN001 - server.User
    """Return what is wrong with a finished job's files."""
    wrong = []
    for name, asset in user.ask("GET", f"{path}/results").json()["assets"].items():
        content = requests.get(asset["href"], timeout=60)
        size = asset.get("file:size", len(content.content))  # an item is written when it is read
        if not content.ok or len(content.content) != size:
            wrong.append(f"{path}: {name} has {len(content.content)} bytes ({content.status_code})")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())

"""Kills worker processes at any moment of their life; no job may be lost or stuck.

Jobs are submitted while workers, chosen at random and also those that are just starting, are
killed. ``/health`` is asked meanwhile: it must not count more workers than there are processes.
In the end every job has to have ended, all workers have to be back, and the log has to tell::

    python benchmarks/campaigns/kill_workers.py --seed 1 --kills 30

``--pause`` is the longest time between two kills, ``--timeout`` the limit for jobs and workers, in
seconds. The exit status is 1 if anything of that is not so.
"""

from __future__ import annotations

import random
import time
from collections import Counter

import psutil
from server import ENDS, GRAPH, Server, load_average, log_in, make_server, read_options, wait_for

ALLOWED_ERRORS = ("WorkersDied", "InfrastructureBusy")
"""A job whose workers died again and again may be given up, with that reason."""


def main() -> int:
    given = read_options(__doc__, seed=1, kills=30, jobs=20, workers=2, pause=4.0, timeout=900)
    rng = random.Random(given.seed)
    with make_server("--workers", str(given.workers)) as server:
        server.start()
        user = log_in(server)
        paths = [user.start_job(GRAPH) for _ in range(given.jobs)]
        lies = kill_some(server, rng, given.kills, given.pause)
        whole = wait_for(
            lambda: (server.health() or {}).get("workers") == given.workers, given.timeout
        )
        found = wait_for(
            lambda: (s := user.statuses()) and all(v in ENDS for v in s.values()) and s,
            given.timeout,
        ) or user.statuses()  # fmt: skip
        failures = lies
        if not whole:
            failures.append(f"the workers are not back: {server.health()}")
        failures += [f"job {path} is lost" for path in paths if path not in found]
        failures += [f"job {path} is stuck: {s}" for path, s in found.items() if s not in ENDS]
        reasons = {path: user.reason(path) for path, s in found.items() if s == "error"}
        failures += [
            f"job {path}: {text}" for path, text in reasons.items()
            if not text.startswith(ALLOWED_ERRORS)
        ]  # fmt: skip
        told = server.log.count("did not come back")
    print(f"{given.kills} kills; jobs: {dict(Counter(found.values()))}; {load_average()}")
    print(f"workers that dask gave up and that were replaced, by the log: {told}")
    for text in [*reasons.values(), *failures]:
        print(text)
    return 1 if failures else 0


def kill_some(server: Server, rng: random.Random, kills: int, pause_s: float) -> list[str]:
    """Kill workers at random moments and return where ``/health`` was wrong."""
    lies: list[str] = []
    for _ in range(kills):
        time.sleep(rng.uniform(0, pause_s))
        victims = wait_for(server.workers, 120)
        if not victims:
            lies.append("no worker process came back within 120 s")
            return lies
        victim = rng.choice(victims)
        try:
            victim.kill()
            victim.wait(10)
        except psutil.Error:
            continue
        # A dead worker's connection closes at once; a few seconds are the event loop's.
        if not wait_for(lambda: _is_true(server), 15):
            lies.append(f"/health says {server.health()}, processes: {len(server.workers())}")
    return lies


def _is_true(server: Server) -> bool:
    said = server.health()
    return said is not None and said["workers"] <= len(server.workers()) and (
        (said["status"] == "ok") == (said["workers"] >= said["expected"])
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())

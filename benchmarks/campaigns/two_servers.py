"""Starts a second server on the same data; it has to refuse, until the first one is gone.

Each round, at random: the second is started while jobs run (it has to end with a sentence, and
every job has to finish in the first), or the first is killed before (the second has to take over
its jobs, and the first one, if it only slept, has to stop running any)::

    python benchmarks/campaigns/two_servers.py --seed 1 --rounds 6

The exit status is 1 if anything of that is not so.
"""

from __future__ import annotations

import random
import signal
import subprocess
from collections import Counter

from server import ENDS, GRAPH, Server, load_average, log_in, make_server, read_options, wait_for


def main() -> int:
    given = read_options(__doc__, seed=1, rounds=6, jobs=5, timeout=600)
    rng = random.Random(given.seed)
    failures: list[str] = []
    with make_server() as made:
        first = made
        first.start()
        for number in range(given.rounds):
            user = log_in(first)
            paths = [user.start_job(GRAPH) for _ in range(given.jobs)]
            second = Server(first.folder, first.arguments)
            kind = rng.choice(("alive", "killed", "asleep"))
            before = len(failures)
            if kind == "alive":
                failures += refuse(second, given.timeout)
            else:
                take_over(first, second, kind, failures, given.timeout)
                first, second = second, first
            user = log_in(first)
            found = wait_for(
                lambda user=user, paths=paths: (s := user.statuses())
                and all(s[path] in ENDS for path in paths) and s,
                given.timeout,
            ) or user.statuses()  # fmt: skip
            failures += [
                f"round {number} ({kind}): {path} is {found.get(path)}"
                for path in paths if found.get(path) != "finished"
            ]  # fmt: skip
            second.stop()
            print(f"round {number}, {kind}: {'failed' if len(failures) > before else 'good'}")
        first.stop()
    print(f"jobs: {dict(Counter(found.values()))}; {load_average()}")
    for text in failures:
        print(text)
    return 1 if failures else 0


def refuse(second: Server, timeout_s: float) -> list[str]:
    """Return what is wrong with how a second server refuses to start."""
    second.spawn()
    try:
        code = second.process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return ["the second server started"]
    if code == 0 or "another server runs the jobs" not in second.log:
        return [f"the second server ended with {code}: {second.log[-300:]}"]
    return []


def take_over(
    first: Server, second: Server, kind: str, failures: list[str], timeout_s: float
) -> None:
    """Start the second server in the place of one that was killed, or only sleeps."""
    if kind == "killed":
        first.kill()
    else:
        first.process.send_signal(signal.SIGSTOP)
    second.start(timeout_s)
    if kind == "asleep":
        first.process.send_signal(signal.SIGCONT)
        if not wait_for(lambda: "another server has taken over" in first.log, 60):
            failures.append("the first server did not notice that it lost the jobs")
        if (first.health() or {}).get("status") not in (None, "down"):
            failures.append(f"the first server says {first.health()}")


if __name__ == "__main__":
    raise SystemExit(main())

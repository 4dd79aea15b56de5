"""What one user does to others: many stored jobs, and many slow requests at a time.

Prints how long ``GET /jobs`` of a user with ``--jobs`` jobs takes, and how long metadata requests
of another user take while ``--slow`` slow synchronous requests of the first are waiting::

    python benchmarks/campaigns/latency.py --jobs 10000 --slow 45
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter

from server import GRAPH, User, load_average, log_in, make_server, read_options, slow_graph
from sqlalchemy import insert

from openeo_cloudmask.backend.jobs.database import Database
from openeo_cloudmask.backend.jobs.tables import Job
from openeo_cloudmask.backend.settings import Settings

METADATA = ("/", "/collections", "/collections/S2", "/processes", "/file_formats", "/jobs", "/me")


def main() -> int:
    given = read_options(__doc__, seed=1, jobs=10_000, slow=45, requests=200)
    rng = random.Random(given.seed)
    with make_server("--allow-any-udf") as server:
        server.start()
        ann, bob = log_in(server, "ann"), log_in(server, "bob")
        store_jobs(server.folder / "data", ann, given.jobs)
        tell(f"GET /jobs with {given.jobs} jobs", time_requests(ann, ["/jobs"] * 20))
        quiet = time_requests(bob, rng.choices(METADATA, k=given.requests))
        tell("metadata of another user, nothing else", quiet)
        codes: Counter[int] = Counter()
        threads = [
            threading.Thread(target=lambda: codes.update([ask_slow(ann)]), daemon=True)
            for _ in range(given.slow)
        ]
        for thread in threads:
            thread.start()
        time.sleep(2)
        busy = time_requests(bob, rng.choices(METADATA, k=given.requests))
        tell(f"metadata of another user, {given.slow} slow requests of one", busy)
        for thread in threads:
            thread.join(300)
    print(f"answers to the slow requests: {dict(codes)}; {load_average()}")
    return 0


def store_jobs(data, user: User, count: int) -> None:  # noqa: ANN001 - a path
    """Write jobs with a large graph each to the database."""
    graph = {**GRAPH, "note": {"process_id": "constant", "arguments": {"x": "x" * 4000}}}
    owner = user.ask("GET", "/me").json()["user_id"]
    database = Database(Settings(data_dir=data).database_url)
    with database.session() as session:
        session.execute(
            insert(Job),
            [{"id": f"j-{number}", "user_id": owner, "process": {"process_graph": graph},
              "log_level": "info", "options": {}, "status": "created", "created": number,
              "updated": number, "attempts": 0} for number in range(count)],
        )  # fmt: skip
    database.close()


def time_requests(user: User, paths: list[str]) -> list[float]:
    """Return how long requests took, in seconds."""
    seconds = []
    for path in paths:
        begin = time.monotonic()
        user.ask("GET", path).raise_for_status()
        seconds.append(time.monotonic() - begin)
    return seconds


def ask_slow(user: User) -> int:
    return user.ask(
        "POST", "/result", json={"process": {"process_graph": slow_graph(10)}}
    ).status_code


def tell(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    print(f"{what}: median {statistics.median(ordered) * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms")


if __name__ == "__main__":
    raise SystemExit(main())

"""Many clients at once: they log in, look around, submit jobs, poll them and download results.

Starts a server on loopback with a small scene and a fresh data folder, lets ``--clients`` work for
``--seconds``, and prints errors, lost jobs, and latencies of metadata requests::

    python benchmarks/load.py --clients 50 --seconds 120
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import requests
from campaigns.server import GRAPH, write_scene

from openeo_cloudmask.backend.api.accounts import UserStore
from openeo_cloudmask.backend.jobs.database import Database
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.cli.children import COMMAND, running, wait_until_up

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "load-test-password"
METADATA = ("/", "/collections", "/collections/S2", "/processes", "/file_formats", "/jobs", "/me")


class Tally:
    """What all clients saw."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, seconds: float) -> None:
        """Note how long a request took."""
        with self.lock:
            self.seconds[kind].append(seconds)

    def error(self, text: str) -> None:
        """Note an error."""
        with self.lock:
            self.errors[text] += 1

    def count(self, name: str) -> None:
        """Note that something happened."""
        with self.lock:
            self.counts[name] += 1


class Client(threading.Thread):
    """One user at work: metadata, a job, polls about twice per second, the download, again."""

    def __init__(self, number: int, url: str, end: float, tally: Tally, seed: int) -> None:
        super().__init__(daemon=True)
        self.url, self.end, self.tally = url, end, tally
        self.rng = random.Random(seed * 10_000 + number)
        self.session = requests.Session()
        self.name_ = f"user{number % 10}"

    def run(self) -> None:
        """Work until the time is over; every job that was begun is brought to its end."""
        try:
            answer = self.session.get(
                f"{self.url}/credentials/basic", auth=(self.name_, PASSWORD), timeout=60
            )
            token = answer.json()["access_token"]
            self.session.headers["Authorization"] = f"Bearer basic//{token}"
            while time.monotonic() < self.end:
                self._look_around()
                self._run_job()
        except Exception as err:  # noqa: BLE001 - counted, whatever it is
            self.tally.error(f"{type(err).__name__}: {err}"[:200])

    def _look_around(self) -> None:
        for path in self.rng.sample(METADATA, 3):
            self._request("GET", path, "metadata")
            time.sleep(self.rng.uniform(0.1, 0.5))

    def _run_job(self) -> None:
        made = self._request("POST", "/jobs", "submit", json={"process": {"process_graph": GRAPH}})
        if made is None:
            return
        path = f"/jobs/{made.headers['OpenEO-Identifier']}"
        self.tally.count("jobs submitted")
        self._request("POST", f"{path}/results", "start")
        limit = time.monotonic() + 600
        while time.monotonic() < limit:
            time.sleep(self.rng.uniform(0.3, 0.7))
            found = self._request("GET", path, "metadata")
            status = found.json()["status"] if found is not None else "unknown"
            if status in ("finished", "error", "canceled"):
                break
        self.tally.count(f"jobs {status}")
        if status == "error":
            logs = self._request("GET", f"{path}/logs?level=error", "metadata")
            self.tally.error("a job failed: " + (logs.text[:300] if logs is not None else ""))
        if status == "finished":
            document = self._request("GET", f"{path}/results", "metadata")
            assets = document.json()["assets"] if document is not None else {}
            for asset in assets.values():
                begin = time.monotonic()
                content = requests.get(asset["href"], timeout=60)
                self.tally.add("download", time.monotonic() - begin)
                size = asset.get("file:size", len(content.content))  # an item has none
                if not content.ok or len(content.content) != size:
                    self.tally.error("a download has another size than its asset says")
            self.tally.count("jobs downloaded")

    def _request(
        self, method: str, path: str, kind: str, **options: object
    ) -> requests.Response | None:
        begin = time.monotonic()
        answer = self.session.request(method, f"{self.url}{path}", timeout=60, **options)
        self.tally.add(kind, time.monotonic() - begin)
        if answer.status_code >= 400:
            what = f"{method} {path.split('/')[1]}"
            self.tally.error(f"{what}: {answer.status_code} {answer.text[:80]}")
            return None
        return answer


def add_users(data: Path, url: str | None) -> None:
    """Add ten users to the database."""
    settings = Settings(data_dir=data, database=url).prepare()
    database = Database(settings.database_url)
    database.migrate()
    users = UserStore(database, token_hours=settings.token_hours)
    for number in range(10):
        users.add(f"user{number}", PASSWORD)
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=128, help="pixels along x and y of the scene")
    parser.add_argument("--database", help="SQLAlchemy URL; SQLite by default")
    parser.add_argument("--port", type=int, default=8191)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        env = {**os.environ, "OPENEO_CLOUDMASK_PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT),
               "OMP_NUM_THREADS": "1"}  # fmt: skip
        common = ["--data-dir", str(data)]
        base = ["--database", given.database] if given.database else []
        write_scene(Path(folder) / "scene.tif", given.size)
        ingest = ["ingest", str(Path(folder) / "scene.tif"), "--collection", "S2", "--sensor",
                  "sentinel-2-l1c", "--acquired", "2024-05-01"]  # fmt: skip
        subprocess.run(
            [*COMMAND, *ingest, *common], env=env, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        add_users(data, given.database)
        url = f"http://127.0.0.1:{given.port}"
        command = [*COMMAND, "serve", "--port", str(given.port), *common, *base]
        with running(command, env, log=Path(os.devnull)) as server:
            wait_until_up(f"{url}/health", server, "the server")
            run(url, given.clients, given.seconds, given.seed)


def run(url: str, clients: int, seconds: float, seed: int) -> None:
    tally = Tally()
    end = time.monotonic() + seconds
    threads = [Client(number, url, end, tally, seed) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{clients} clients, {seconds:g} s")
    for name, count in sorted(tally.counts.items()):
        print(f"  {name}: {count}")
    submitted, done = tally.counts["jobs submitted"], tally.counts["jobs downloaded"]
    print(f"  jobs lost: {submitted - done}")
    print(f"  errors: {sum(tally.errors.values())}")
    for text, count in tally.errors.most_common(10):
        print(f"    {count} x {text}")
    for kind, values in sorted(tally.seconds.items()):
        cuts = statistics.quantiles(values, n=100) if len(values) > 1 else values * 99
        print(
            f"  {kind}: {len(values)} requests, median {cuts[49] * 1e3:.0f} ms, "
            f"p95 {cuts[94] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms"
        )


if __name__ == "__main__":
    main()

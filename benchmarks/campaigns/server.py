"""A server with a small scene and users, for the campaigns beside this file."""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
import requests
from rasterio.transform import from_origin

from openeo_cloudmask.backend.api.accounts import UserStore
from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.cubes.ingest import ingest_product
from openeo_cloudmask.backend.jobs.database import Database
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.cli.children import COMMAND, free_port
from openeo_cloudmask.sensors import SENSORS

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "campaign-password"
ENDS = ("finished", "error", "canceled")
GRAPH: dict[str, Any] = {
    "load": {"process_id": "load_collection",
             "arguments": {"id": "S2", "spatial_extent": None, "temporal_extent": None}},
    "mask": {"process_id": "cloud_mask",
             "arguments": {"data": {"from_node": "load"}, "model": "hollstein"}},
    "save": {"process_id": "save_result", "result": True,
             "arguments": {"data": {"from_node": "mask"}, "format": "GTiff"}},
}  # fmt: skip
SLOW_UDF = """
import time, xarray
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    time.sleep(context["seconds"])
    return cube
"""


def slow_graph(seconds: float) -> dict[str, Any]:
    """Return a graph that takes at least so long; the server needs ``--allow-any-udf``."""
    node = {"process_id": "run_udf", "arguments": {
        "data": {"from_node": "load"}, "udf": SLOW_UDF, "runtime": "Python",
        "context": {"seconds": seconds}}}  # fmt: skip
    return {**GRAPH, "mask": node}


@dataclass(slots=True)
class Server:
    """A server process and its data."""

    folder: Path
    arguments: tuple[str, ...] = ()
    port: int = 0
    """Where it listens; 0 takes a free one."""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        """Choose a port."""
        self.port = self.port or free_port()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / f"server-{self.port}.log").read_text(errors="replace")

    def spawn(self) -> None:
        """Start the process."""
        log = (self.folder / f"server-{self.port}.log").open("ab")
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--port", str(self.port), "--data-dir",
             str(self.folder / "data"), *self.arguments],
            stdout=log, stderr=log, env=environment(), cwd=ROOT,
        )  # fmt: skip
        log.close()

    def start(self, timeout_s: float = 900) -> None:
        """Start the process and wait until it has a worker."""
        self.spawn()
        if not wait_for(lambda: (self.health() or {}).get("workers"), timeout_s):
            raise TimeoutError(f"no worker after {timeout_s:g} s; the log ends: {self.log[-500:]}")

    def health(self) -> dict[str, Any] | None:
        """Return what the server says of itself, None where it does not answer."""
        try:
            found: dict[str, Any] = requests.get(f"{self.url}/health", timeout=60).json()
        except requests.RequestException:
            return None
        return found

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes, those that start, too."""
        found = []
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        for child in children:
            try:
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.Error:
                continue
        return found

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=60)

    def stop(self) -> None:
        """End it, and what it has left behind."""
        if self.process is None:
            return
        left = self.workers()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for worker in left:
            try:
                worker.kill()
            except psutil.Error:
                continue


@dataclass(slots=True)
class User:
    """Somebody who is logged in."""

    url: str
    headers: dict[str, str]

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:  # noqa: ANN401
        """Send a request."""
        return requests.request(
            method, f"{self.url}{path}", headers=self.headers, timeout=120, **options
        )

    def start_job(self, graph: dict[str, Any]) -> str:
        """Make a job, queue it, and return its path."""
        made = self.ask("POST", "/jobs", json={"process": {"process_graph": graph}})
        made.raise_for_status()
        path = f"/jobs/{made.headers['OpenEO-Identifier']}"
        self.ask("POST", f"{path}/results").raise_for_status()
        return path

    def statuses(self) -> dict[str, str]:
        """Return the status of all jobs by path."""
        found, path = {}, "/jobs?limit=1000"
        while path:
            page = self.ask("GET", path).json()
            found |= {f"/jobs/{job['id']}": job["status"] for job in page["jobs"]}
            links = [link["href"] for link in page["links"] if link["rel"] == "next"]
            path = links[0].removeprefix(self.url) if links else ""
        return found

    def reason(self, path: str) -> str:
        """Return why a job is an error."""
        lines = self.ask("GET", f"{path}/logs?level=error").json()["logs"]
        return f"{lines[-1].get('code')}: {lines[-1]['message']}" if lines else "no reason"


def log_in(server: Server, name: str = "ann") -> User:
    """Return a user who is logged in."""
    answer = requests.get(f"{server.url}/credentials/basic", auth=(name, PASSWORD), timeout=120)
    answer.raise_for_status()
    return User(server.url, {"Authorization": f"Bearer basic//{answer.json()['access_token']}"})


@contextmanager
def make_server(*arguments: str, size_px: int = 300) -> Iterator[Server]:
    """Yield a server that is not started yet, with the users ann and bob and a scene."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder, arguments)
        settings = Settings(data_dir=folder / "data").prepare()
        database = Database(settings.database_url)
        database.migrate()
        users = UserStore(database, token_hours=24)
        for user in ("ann", "bob"):
            users.add(user, PASSWORD)
        database.close()
        write_scene(folder / "scene.tif", size_px)
        ingest_product(
            folder / "scene.tif", CollectionStore(settings.collections_dir), collection_id="S2",
            sensor="sentinel-2-l1c", acquired=datetime(2024, 5, 1, tzinfo=UTC),
        )  # fmt: skip
        try:
            yield server
        finally:
            server.stop()


Found = tuple[Sequence[object], str]
"""What answers were (statuses or codes), and what was wrong with them, if anything."""


def read_options(doc: str, **defaults: float) -> argparse.Namespace:
    """Say how busy the machine is; return the command's options, each with its default."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    given = parser.parse_args()
    print(load_average())
    return given


def send_many(doc: str, attack: Callable[[User, random.Random, int], Iterator[Found]]) -> int:
    """Let ``attack`` send ``--count`` requests; print what came back; return 1 if it was wrong."""
    given = read_options(doc, seed=1, count=500)
    with make_server() as server:
        server.start()
        found = list(attack(log_in(server), random.Random(given.seed), given.count))
    seen = Counter(answer for answers, _ in found for answer in answers)
    print(f"{given.count} requests; answers: {dict(seen.most_common())}; {load_average()}")
    failures = [wrong for _, wrong in found if wrong]
    for text in failures:
        print(text)
    return 1 if failures else 0


def write_scene(path: Path, size_px: int) -> None:
    """Write a Sentinel-2 like GeoTIFF."""
    bands = SENSORS["sentinel-2-l1c"].band_names
    shape = (len(bands), size_px, size_px)
    pixels = np.random.default_rng(0).integers(500, 6000, shape).astype("uint16")
    with rasterio.open(
        path, "w", driver="GTiff", width=size_px, height=size_px, count=len(bands), dtype="uint16",
        crs="EPSG:32633", transform=from_origin(600_000, 5_400_000, 10, 10), nodata=0,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
        dataset.descriptions = bands
        dataset.scales = [1e-4] * len(bands)


def wait_for(check: Any, timeout_s: float) -> Any:  # noqa: ANN401
    """Return what ``check`` returns once it is true; None if it never is."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.2)
    return None


def environment() -> dict[str, str]:
    """Return the environment of the server."""
    return {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "OPENEO_CLOUDMASK_PASSWORD": PASSWORD,
    }  # fmt: skip


def load_average() -> str:
    """Return how busy the machine is, for figures to be read with."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"

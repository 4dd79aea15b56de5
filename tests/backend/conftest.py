"""A server process on loopback, its data, and the parts of a server without one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'server'")
pytest.importorskip("distributed", reason="needs the extra 'server'")

import argon2
import psutil
import rasterio
import requests
from rasterio.transform import from_origin

from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.cubes.ingest import ingest_product
from openeo_cloudmask.backend.jobs.runtime import RunSpec
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.cli.children import wait_until_up
from openeo_cloudmask.sensors import SENSORS
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct-horse"
BANDS = SENSORS["sentinel-2-l1c"].band_names
MAY_1 = datetime(2024, 5, 1, 10, 20, tzinfo=UTC)


def write_scene(
    path: Path, *, shape_yx: tuple[int, int] = (300, 260), seed: int = 0, left: float = 600_000
) -> Path:
    """Write a Sentinel-2 like GeoTIFF with scale and band names; a corner is no-data."""
    rng = np.random.default_rng(seed)
    height, width = shape_yx
    pixels = rng.integers(500, 6000, (len(BANDS), height, width)).astype("uint16")
    pixels[:, :20, :30] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=len(BANDS), dtype="uint16",
        crs="EPSG:32633", transform=from_origin(left, 5_400_000, 10, 10), nodata=0,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
        dataset.descriptions = BANDS
        dataset.scales = [1e-4] * len(BANDS)
    return path


def ingest(path: Path, data_dir: Path, collection: str = "S2", when: datetime = MAY_1) -> None:
    """Register a scene of ``write_scene``."""
    store = CollectionStore(Settings(data_dir=data_dir).prepare().collections_dir)
    ingest_product(path, store, collection_id=collection, sensor="sentinel-2-l1c", acquired=when)


def make_spec(data_dir: Path, **changes: Any) -> RunSpec:
    """Return a run that reads and writes in ``data_dir``."""
    fields: dict[str, Any] = {
        "job_id": "test",
        "output_dir": data_dir / "out",
        "collections_dir": data_dir / "collections",
        "weights_dir": data_dir / "weights",
    }
    return RunSpec(**(fields | changes))


def mask_graph(**options: Any) -> dict[str, Any]:
    """Return load_collection -> cloud_mask -> save_result."""
    return {
        "load": {
            "process_id": "load_collection",
            "arguments": {"id": "S2", "spatial_extent": None, "temporal_extent": None},
        },
        "mask": {
            "process_id": "cloud_mask",
            "arguments": {"data": {"from_node": "load"}, "model": "hollstein", **options},
        },
        "save": {
            "process_id": "save_result",
            "arguments": {"data": {"from_node": "mask"}, "format": "GTiff"},
            "result": True,
        },
    }


@dataclass(slots=True)
class Server:
    """A ``cloudmask serve`` process."""

    data_dir: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    patch: str = ""
    """A program that runs first: shortens what the server waits for."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str) -> None:
        """Run ``cloudmask`` to its end."""
        command = [sys.executable, "-c", _MAIN, *arguments, "--data-dir", str(self.data_dir)]
        subprocess.run(command, check=True, env=_environment(), capture_output=True, cwd=ROOT)

    def start(self, *arguments: str) -> None:
        """Start serving and wait until workers are there."""
        log = (self.data_dir.parent / f"server-{self.port}.log").open("ab")
        command = [
            sys.executable, "-c", f"{self.patch}\n{_MAIN}", "serve", "--port", str(self.port),
            "--data-dir", str(self.data_dir), *arguments,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, env=_environment(), stdout=log, stderr=log, cwd=ROOT
        )
        log.close()
        self.wait_up()

    def wait_up(self) -> None:
        """Wait until the server answers."""
        assert self.process is not None
        wait_until_up(f"{self.url}/health", self.process, "the server")

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


_MAIN = "from openeo_cloudmask.cli import main; main()"


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OPENEO_CLOUDMASK_PASSWORD": PASSWORD,
        "OMP_NUM_THREADS": "1",
        "OPENEO_CLOUDMASK_CANCEL_GRACE_S": "2",
    }


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """Hash passwords with the least work: every server made in this process hashes one."""
    least = partial(argon2.PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argon2, "PasswordHasher", least)
        yield


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server with the user ann and the collection S2."""
    servers: list[Server] = []

    def make(*arguments: str, patch: str = "") -> Server:
        server = Server(tmp_path / "data", patch=patch)
        servers.append(server)
        server.run("users", "add", "ann")
        ingest(write_scene(tmp_path / "scene.tif"), server.data_dir)
        server.start(*arguments)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server with the users ann and bob and the collection S2 (two dates)."""
    folder = tmp_path_factory.mktemp("server")
    found = Server(folder / "data")
    found.run("users", "add", "ann")
    found.run("users", "add", "bob")
    ingest(write_scene(folder / "scene.tif"), found.data_dir)
    second = write_scene(folder / "second.tif", seed=1)
    ingest(second, found.data_dir, when=datetime(2024, 6, 1, tzinfo=UTC))
    found.start()
    yield found
    found.stop()


def log_in(server: Server, name: str = "ann") -> dict[str, str]:
    """Return the headers of a user's requests."""
    answer = requests.get(f"{server.url}/credentials/basic", auth=(name, PASSWORD), timeout=30)
    return {"Authorization": f"Bearer basic//{answer.json()['access_token']}"}


def find_workers(server: Server | None = None) -> list[psutil.Process]:
    """Return the worker processes of a server, or of this process, those that start, too.

    Servers that this process started have workers of their own, which are not its.
    """
    pid = None if server is None or server.process is None else server.process.pid
    found = []
    for child in psutil.Process(pid).children(recursive=pid is not None):
        with contextlib.suppress(psutil.NoSuchProcess):  # zombies among them
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_for(check: Callable[[], Any], timeout_s: float = 60) -> Any:
    """Return what ``check`` returns once it is true."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.05)
    raise TimeoutError("it did not come to be")


def answers(url: str) -> bool:
    """Return whether a server says something, be it that there is nothing at this address.

    Its first answer may take long: it loads what it needs then.
    """
    try:
        return requests.get(url, timeout=30).status_code < 500
    except (requests.ConnectionError, requests.Timeout):
        return False


@dataclass(slots=True)
class S3Server:
    """An S3-speaking server process that checks keys; buckets: results, mine."""

    url: str
    environment: dict[str, str]
    """The server's own keys, for the bucket of the results."""
    keys: dict[str, str]
    """The user's keys, as ``job_options.s3`` has them."""
    client: Any

    def private(self, bucket: str) -> dict[str, str]:
        """Return ``job_options.s3`` for one of its buckets."""
        return {"bucket": bucket, "endpoint": self.url, **self.keys}

    def objects(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the names of a bucket's objects."""
        found = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return sorted(item["Key"] for item in found.get("Contents", ()))

    def read(self, bucket: str, name: str) -> bytes:
        """Return an object's content."""
        content: bytes = self.client.get_object(Bucket=bucket, Key=name)["Body"].read()
        return content


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start an S3-speaking server with two users: the back end and somebody else."""
    pytest.importorskip("moto", reason="needs moto[server]")
    import boto3

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=log, stderr=log,
    )  # fmt: skip
    log.close()

    try:
        wait_for(lambda: answers(url))
        session = boto3.Session("any", "thing", region_name="us-east-1")
        iam = session.client("iam", endpoint_url=url)
        everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": everything})
        made = []
        for user in ("back-end", "somebody"):
            iam.create_user(UserName=user)
            iam.put_user_policy(UserName=user, PolicyName="s3", PolicyDocument=policy)
            made.append(iam.create_access_key(UserName=user)["AccessKey"])
        own, users = ((key["AccessKeyId"], key["SecretAccessKey"]) for key in made)
        # From here on it refuses what is not signed with these keys.
        requests.post(f"{url}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
        client = boto3.Session(*own, region_name="us-east-1").client("s3", endpoint_url=url)
        for bucket in ("results", "mine"):
            client.create_bucket(Bucket=bucket)
        yield S3Server(
            url=url,
            environment={
                "AWS_ACCESS_KEY_ID": own[0], "AWS_SECRET_ACCESS_KEY": own[1],
                "AWS_DEFAULT_REGION": "us-east-1",
            },
            keys={"access_key": users[0], "secret_key": users[1]},
            client=client,
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait(timeout=20)

"""The demo through a server: ingest, submit with the openEO client, watch the log, download."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.cli.children import COMMAND, free_port, running, wait_until_up
from openeo_cloudmask.errors import BackendError
from openeo_cloudmask.products.drivers import create_raster, open_raster
from openeo_cloudmask.products.raster import CLOUD_TAG

if TYPE_CHECKING:
    from openeo_cloudmask.simulator.scene import SimulatedScene

COLLECTION = "SENTINEL2_L1C"
_USER = "demo"
_POLL_S = 0.5


def run_on_server(
    graph: dict[str, Any], scene: SimulatedScene, folder: Path, *, echo: Callable[[str], None]
) -> NDArray[np.uint8]:
    """Run a process graph on a server of its own and return the mask, (y, x) uint8.

    Writes ``scene.tif`` and the server's data into ``folder``; the result comes back as
    ``downloaded/*.tif``.

    Args:
        graph: loads the collection ``SENTINEL2_L1C`` and saves a GeoTIFF.
        scene: becomes that collection.
        folder: an existing folder.
        echo: told what happens, and the lines of the job's log as they come.

    Raises:
        BackendError: the server does not start, or the job fails.
    """
    import openeo

    path = _write_scene(folder / "scene.tif", scene)
    password = secrets.token_urlsafe(16)
    with _serving(path, folder, password, echo) as url:
        connection = openeo.connect(url).authenticate_basic(_USER, password)
        job = connection.create_job(graph, title="demo")
        job.start()
        echo(f"job {job.job_id} at {url}")
        status = _follow(job, echo)
        if status != "finished":
            raise BackendError(f"the job is {status}; its log says why")
        files = job.get_results().download_files(folder / "downloaded", include_stac_metadata=False)
    mask = next(file for file in files if file.suffix == ".tif")
    echo(f"downloaded {mask}")
    with open_raster(mask) as dataset:
        labels: NDArray[np.uint8] = dataset.read(1)
    return labels


def _write_scene(path: Path, scene: SimulatedScene) -> Path:
    bands, height, width = scene.cube.shape
    with create_raster(
        path, driver="GTiff", count=bands, height=height, width=width, dtype="float32",
        crs=scene.crs, transform=scene.transform, nodata=float("nan"), tiled=True,
        compress="deflate",
    ) as dataset:  # fmt: skip
        dataset.write(scene.cube)
        dataset.descriptions = scene.band_names
        dataset.update_tags(**{CLOUD_TAG: scene.cloud_percent})
    return path


@contextmanager
def _serving(
    scene: Path, folder: Path, password: str, echo: Callable[[str], None]
) -> Iterator[str]:  # fmt: skip
    """Start a server with one user and one collection; stop it at the end."""
    data = folder / "backend"
    port = free_port()
    environment = {**os.environ, "OPENEO_CLOUDMASK_PASSWORD": password}
    _run(["users", "add", _USER], data, environment)
    _run(
        ["ingest", str(scene), "--collection", COLLECTION, "--sensor", "sentinel-2-l1c",
         "--acquired", "2026-06-01T00:00:00Z"], data, environment,
    )  # fmt: skip
    log = folder / "server.log"
    echo(f"starting a server; its log is {log}")
    command = [*COMMAND, "serve", "--port", str(port), "--data-dir", str(data)]
    with running(command, environment, log=log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(f"{url}/health", process, "the server", advice=f"see {log}")
        yield url


def _run(arguments: list[str], data: Path, environment: dict[str, str]) -> None:
    command = [*COMMAND, *arguments, "--data-dir", str(data)]
    done = subprocess.run(  # noqa: S603 - our own command
        command, env=environment, check=False, capture_output=True, text=True
    )  # fmt: skip
    if done.returncode and "already" not in done.stderr:
        raise BackendError(f"cloudmask {arguments[0]} failed: {done.stderr.strip()[-300:]}")
    if done.returncode:  # the user of an earlier demo: its password is not known any longer
        _run(["users", "password", _USER], data, environment)


def _follow(job: Any, echo: Callable[[str], None]) -> str:  # noqa: ANN401 - openEO has no types
    """Print a job's log as it grows, and return the job's state at its end."""
    seen: set[str] = set()

    def show() -> None:
        for entry in job.logs():
            if entry["id"] not in seen:
                seen.add(entry["id"])
                echo(f"  {entry['level']}: {entry['message']}")

    while True:
        status = str(job.status())
        show()
        if status in ("finished", "error", "canceled"):
            time.sleep(_POLL_S)  # the last lines are written a moment after the state
            show()
            return status
        time.sleep(_POLL_S)

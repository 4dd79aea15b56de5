"""The back end against ``cloudmask run``: overhead, scaling over worker processes, memory.

Starts servers on loopback with a fresh data folder and a scene of ``--size`` pixels, runs one job
each with one and with two worker processes of one thread, and the command line with one thread,
compares the masks bit for bit and prints times, ratios and peaks of memory::

    python benchmarks/backend.py --size 4096 --model mini
    python benchmarks/backend.py --size 10980 --model hollstein --workers 2
    python benchmarks/backend.py --size 4096 --pin     # each worker on a core of its own

A worker of one thread takes more than one core where it has them: it reads and writes beside the
network. On a cluster with a worker for each core it does not, which is what ``--pin`` is for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import rasterio
import requests
from load import PASSWORD, ROOT
from rasterio.transform import from_origin
from rasterio.windows import Window

from openeo_cloudmask.cli.children import COMMAND, wait_until_up
from openeo_cloudmask.sensors import SENSORS

SENSOR = "sentinel-2-l1c"


def write_scene(path: Path, size: int) -> None:
    """Write a scene strip by strip: smooth fields, so that a network finds several classes."""
    bands = SENSORS[SENSOR].band_names
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=len(bands), dtype="uint16",
        crs="EPSG:32633", transform=from_origin(600_000, 5_400_000, 10, 10), tiled=True,
        blockxsize=512, blockysize=512, compress="deflate", zlevel=1, bigtiff="yes",
    ) as dataset:  # fmt: skip
        dataset.descriptions = bands
        dataset.scales = [1e-4] * len(bands)
        x = np.linspace(0, 40, size, dtype=np.float32)
        for row in range(0, size, 512):
            rows = min(512, size - row)
            y = np.linspace(row, row + rows, rows, dtype=np.float32)[:, None] / size * 40
            cloud = np.clip(np.sin(x) * np.cos(y) + 0.2, 0, 1)
            for number in range(1, len(bands) + 1):
                noise = rng.integers(0, 200, (rows, size))
                pixels = 500 + 150 * number + cloud * 5000 + noise
                dataset.write(pixels.astype("uint16"), number, window=Window(0, row, size, rows))


class Peaks(threading.Thread):
    """The largest memory of a process and of each of its children, asked for often."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.main = 0
        self.workers: dict[int, int] = {}
        self.done = threading.Event()

    def run(self) -> None:
        """Watch until ``done``."""
        while not self.done.wait(0.1):
            try:
                self.main = max(self.main, self.process.memory_info().rss)
                for child in self.process.children(recursive=True):
                    rss = child.memory_info().rss
                    self.workers[child.pid] = max(self.workers.get(child.pid, 0), rss)
            except psutil.Error:
                continue


def cpu_seconds(pid: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the processor time so far: of a process, and of all its children."""
    process = psutil.Process(pid)
    children = process.children(recursive=True)
    return np.array(
        [sum(process.cpu_times()[:2]), sum(sum(item.cpu_times()[:2]) for item in children)]
    )


def pin(server: int, workers: int) -> None:
    """Put the worker processes of a server, which have worked already, on a core each."""
    children = psutil.Process(server).children(recursive=True)
    children.sort(key=lambda child: sum(child.cpu_times()[:2]), reverse=True)
    cores = sorted(os.sched_getaffinity(0))
    for worker, core in zip(children[:workers], cores, strict=False):
        for thread in worker.threads():  # those to come are where the one is that starts them
            os.sched_setaffinity(thread.id, {core})


def run_job(
    folder: Path, model: str, workers: int, port: int, *, pinned: bool
) -> tuple[float, Path, str]:
    """Return the seconds of a job (the second of two, so that weights are loaded), and its mask."""
    env = {**os.environ, "OPENEO_CLOUDMASK_PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT),
           "OMP_NUM_THREADS": "1"}  # fmt: skip
    command = [*COMMAND, "serve", "--data-dir", str(folder / "data"), "--port",
               str(port), "--workers", str(workers), "--threads", "1"]  # fmt: skip
    server = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(f"{url}/health", server, "the server")
        token = requests.get(
            f"{url}/credentials/basic", auth=("bench", PASSWORD), timeout=60
        ).json()["access_token"]
        headers = {"Authorization": f"Bearer basic//{token}"}
        submit(url, headers, graph(model, None))  # every worker loads the network
        if pinned:
            pin(server.pid, workers)
        peaks = Peaks(server.pid)
        peaks.start()
        begin, processor = time.monotonic(), cpu_seconds(server.pid)
        job = submit(url, headers, graph(model, None))
        seconds = time.monotonic() - begin
        processor = cpu_seconds(server.pid) - processor
        peaks.done.set()
        document = requests.get(f"{url}/jobs/{job}/results", headers=headers, timeout=60).json()
        name = next(name for name in document["assets"] if name.endswith(".tif"))
        target = folder / f"job-{workers}.tif"
        href = document["assets"][name]["href"]
        with requests.get(href, timeout=600, stream=True) as answer, target.open("wb") as file:
            for block in answer.iter_content(1 << 20):
                file.write(block)
        largest = max(peaks.workers.values(), default=0)
        memory = f"server {peaks.main / 2**20:.0f} MiB, largest worker {largest / 2**20:.0f} MiB"
        return (
            seconds,
            target,
            (
                f"processor time {processor[0]:.1f} s (server) and {processor[1]:.1f} s (workers), "
                f"{memory}"
            ),
        )
    finally:
        server.terminate()
        server.wait(timeout=60)


def graph(model: str, extent: object) -> dict[str, object]:
    """Return load_collection -> cloud_mask -> save_result."""
    return {
        "load": {"process_id": "load_collection", "arguments": {
            "id": "S2", "spatial_extent": extent, "temporal_extent": None}},
        "mask": {"process_id": "cloud_mask", "arguments": {
            "data": {"from_node": "load"}, "model": model}},
        "save": {"process_id": "save_result", "result": True, "arguments": {
            "data": {"from_node": "mask"}, "format": "GTiff"}},
    }  # fmt: skip


def submit(url: str, headers: dict[str, str], process: dict[str, object]) -> str:
    """Run a job to its end and return its id."""
    body = {"process": {"process_graph": process}}
    made = requests.post(f"{url}/jobs", json=body, headers=headers, timeout=60)
    job = made.headers["OpenEO-Identifier"]
    requests.post(f"{url}/jobs/{job}/results", headers=headers, timeout=60)
    while True:
        time.sleep(0.5)
        status = requests.get(f"{url}/jobs/{job}", headers=headers, timeout=60).json()["status"]
        if status == "finished":
            return job
        if status not in ("queued", "running"):
            logs = requests.get(f"{url}/jobs/{job}/logs", headers=headers, timeout=60).text
            raise RuntimeError(f"the job is {status}: {logs[-500:]}")


def run_command(scene: Path, target: Path, model: str, *, pinned: bool) -> tuple[float, str]:
    """Return the seconds of ``cloudmask run`` on one thread, and its peak of memory."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    begin, cores = time.monotonic(), os.sched_getaffinity(0)
    if pinned:
        os.sched_setaffinity(0, {min(cores)})  # what is started inherits it
    process = subprocess.Popen(
        [*COMMAND, "run", str(scene), str(target), "--model", model, "--sensor",
         SENSOR, "--overwrite"],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.sched_setaffinity(0, cores)
    peaks = Peaks(process.pid)
    peaks.start()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError("cloudmask run failed")
    seconds = time.monotonic() - begin
    peaks.done.set()
    processor = usage.ru_utime + usage.ru_stime
    return seconds, f"{peaks.main / 2**20:.0f} MiB, processor time {processor:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pin", action="store_true", help="each worker on a core of its own")
    parser.add_argument("--folder", type=Path, help="where scratch files go")
    given = parser.parse_args()
    if given.pin and max(given.workers) > len(os.sched_getaffinity(0)):
        parser.error(f"there are {len(os.sched_getaffinity(0))} cores; expected one for a worker")
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        scene = folder / "scene.tif"
        write_scene(scene, given.size)
        env = {**os.environ, "OPENEO_CLOUDMASK_PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT)}
        for command in (
            ["users", "add", "bench"],
            ["ingest", str(scene), "--collection", "S2", "--sensor", SENSOR, "--acquired",
             "2024-05-01"],
        ):  # fmt: skip
            subprocess.run(
                [*COMMAND, *command, "--data-dir", str(folder / "data")],
                env=env, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        pinned = ", each process on a core of its own" if given.pin else ""
        print(f"{given.size} x {given.size} pixels, model {given.model}{pinned}")
        alone, memory = run_command(scene, folder / "run.tif", given.model, pinned=given.pin)
        print(f"  cloudmask run, 1 thread: {alone:.1f} s, peak {memory}")
        times = {}
        for workers in given.workers:
            seconds, path, memory = run_job(
                folder, given.model, workers, 8192 + workers, pinned=given.pin
            )
            times[workers] = seconds
            with rasterio.open(folder / "run.tif") as one, rasterio.open(path) as other:
                same = all(
                    np.array_equal(one.read(window=window), other.read(window=window))
                    for _, window in one.block_windows(1)
                )
            print(
                f"  back end, {workers} x 1 thread: {seconds:.1f} s, {memory}, "
                f"mask equal: {same}, time / run: {seconds / alone:.2f}"
            )
        if len(times) > 1:
            first, *_, last = times.values()
            print(f"  speed-up from {min(times)} to {max(times)} workers: {first / last:.2f}")


if __name__ == "__main__":
    main()

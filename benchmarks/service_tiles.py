"""Time of a warm tile of a secondary service: ``python benchmarks/service_tiles.py``.

Starts a server with two workers on a simulated scene, asks for tiles of the zoom at which a pixel
of the map is about one of the data, and prints median and 95th percentile in seconds.
"""

from __future__ import annotations

import argparse
import math
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import requests
from rasterio.warp import transform

from openeo_cloudmask.simulator.scene import simulate_scene

HALF_M = math.pi * 6378137
PASSWORD = "benchmark-only"
MAIN = "from openeo_cloudmask.cli import main; main()"


def main() -> None:
    """Read the options, run the server, print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--size", type=int, default=3000, help="pixels along the scene's sides")
    parser.add_argument("--tiles", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        scene = write_scene(Path(folder) / "scene.tif", options.size)
        run("users", "add", "ann", "--password", PASSWORD, "--data-dir", str(data))
        run("ingest", str(scene), "--collection", "S2", "--sensor", "sentinel-2-l1c",
            "--acquired", "2024-05-01T10:00:00Z", "--data-dir", str(data))  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-c", MAIN, "serve", "--port", str(port), "--workers", "2",
                   "--data-dir", str(data)]  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
            try:
                seconds = measure(f"http://127.0.0.1:{port}", options.model, options.tiles)
            finally:
                server.terminate()
    print(
        f"{options.model}: {len(seconds)} warm tiles of {options.size} x {options.size} pixels, "
        f"median {statistics.median(seconds):.2f} s, p95 {np.percentile(seconds, 95):.2f} s"
    )


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-c", MAIN, *arguments], check=True, capture_output=True)


def write_scene(path: Path, size: int) -> Path:
    """Write a scene of ``size`` pixels from copies of a simulated one."""
    made = simulate_scene(3, size=512, sensor="sentinel-2-l1c", cloud_fraction=0.4)
    counts = np.clip(np.nan_to_num(made.cube) * 1e4, 0, 65535).astype(np.uint16)
    repeats = -(-size // 512)
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=len(counts), dtype="uint16",
        nodata=0, crs="EPSG:32633", transform=rasterio.Affine(10, 0, 600000, 0, -10, 5400000),
        tiled=True, blockxsize=256, blockysize=256, compress="deflate",
    ) as file:  # fmt: skip
        file.write(np.tile(counts, (1, repeats, repeats))[:, :size, :size])
        file.descriptions, file.scales = made.band_names, [1e-4] * len(counts)
    return path


def measure(url: str, model: str, tiles: int) -> list[float]:
    """Return the seconds of each tile, after a first one that loads the model."""
    wait_for(url)
    answer = requests.get(f"{url}/credentials/basic", auth=("ann", PASSWORD), timeout=60)
    headers = {"Authorization": f"Bearer basic//{answer.json()['access_token']}"}
    graph = {
        "load": {
            "process_id": "load_collection",
            "arguments": {"id": "S2", "spatial_extent": None, "temporal_extent": None},
        },
        "mask": {
            "process_id": "cloud_mask",
            "arguments": {"data": {"from_node": "load"}, "model": model},
            "result": True,
        },
    }
    body = {"type": "XYZ", "process": {"process_graph": graph}}
    made = requests.post(f"{url}/services", json=body, headers=headers, timeout=60)
    made.raise_for_status()
    place = f"{url}/services/{made.headers['OpenEO-Identifier']}"
    address = requests.get(place, headers=headers, timeout=60).json()["url"]
    zoom = 13
    side = 2 * HALF_M / 2**zoom
    (x0,), (y0,) = transform("EPSG:32633", "EPSG:3857", [606000], [5394000])
    column, row = int((x0 + HALF_M) // side), int((HALF_M - y0) // side)
    seconds = []
    for number in range(tiles + 4):
        x, y = column + number % 5, row + number // 5 % 5
        begin = time.perf_counter()
        query = {"n": number}
        tile = requests.get(
            address.format(z=zoom + number // 25, x=x << (number // 25), y=y << (number // 25)),
            params=query, timeout=120,
        )  # fmt: skip
        tile.raise_for_status()
        seconds.append(time.perf_counter() - begin)
    return seconds[4:]


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            if requests.get(f"{url}/health", timeout=5).json()["status"] == "ok":
                return
        except (requests.RequestException, ValueError):
            pass
        time.sleep(0.2)
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    main()

"""Time of a live mask's tile: ``python benchmarks/live_tiles.py``.

Asks the viewer's route for tiles of a simulated scene, as its map does, at a zoom where a pixel of
the map is about one of the data; prints median and 95th percentile in seconds for each fast model,
computed and from the cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.testclient import TestClient

from openeo_cloudmask.simulator.products import write_geotiff
from openeo_cloudmask.simulator.scene import simulate_scene
from openeo_cloudmask.viewer.live import LiveMask, LiveStore, fast_live, live_routes

ZOOM = 14


def tiles_inside(live: LiveMask, count: int) -> list[str]:
    """Return addresses of tiles from the middle of a scene outwards."""
    west, south, east, north = live.bounds
    size = 2**ZOOM
    column = ((west + east) / 2 + 180) / 360 * size
    row = (1 - np.arcsinh(np.tan(np.radians((south + north) / 2))) / np.pi) / 2 * size
    around = sorted(
        ((dy, dx) for dy in range(-6, 7) for dx in range(-6, 7)), key=lambda at: np.hypot(*at)
    )
    return [
        live.tile_url.format(z=ZOOM, x=int(column) + dx, y=int(row) + dy)
        for dy, dx in around[:count]
    ]


def measure(client: TestClient, addresses: list[str]) -> str:
    """Return median and 95th percentile of the time of a tile."""
    seconds = []
    for address in addresses:
        begun = time.perf_counter()
        client.get(address).raise_for_status()
        seconds.append(time.perf_counter() - begun)
    return f"median {np.median(seconds):.3f} s, p95 {np.percentile(seconds, 95):.3f} s"


def main() -> None:
    """Read the options, make a scene, print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048, help="pixels along the scene's sides")
    parser.add_argument("--tiles", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = simulate_scene(3, size=options.size)
        path = write_geotiff(made, Path(folder) / "scene.tif")
        store = LiveStore()
        with TestClient(Starlette(routes=live_routes(store))) as client:
            for model, live in fast_live(path, sensor=made.sensor, store=store).items():
                first, *addresses = tiles_inside(live, options.tiles + 1)
                client.get(first).raise_for_status()  # opens scene and model
                print(f"{model}: {len(addresses)} tiles, {measure(client, addresses)}; "
                      f"again {measure(client, addresses)}")  # fmt: skip


if __name__ == "__main__":
    main()

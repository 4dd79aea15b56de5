"""A whole Sentinel-2 tile from disk to disk with ``cloudmask run``: time and peak memory.

    python benchmarks/whole_tile.py                          # 10980 x 10980 pixels, 13 bands
    python benchmarks/whole_tile.py --rows 2745              # a quarter: the memory stays
    python benchmarks/whole_tile.py -- --model cloudsen12 --weights FILE

Writes a GeoTIFF of 16 bit counts to a temporary folder (some 2 GB for the whole tile), masks it in
a process of its own, and prints that process's peak resident memory. What follows ``--`` goes to
``cloudmask run``; without it, the model is ``hollstein``, which needs no weights.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from openeo_cloudmask.sensors import get_sensor

TILE_PX = 10980
BLOCK_PX = 512
MEMORY_LIMIT_GB = 3.0
RUN = "from openeo_cloudmask.cli import main; main()"


def write_tile(path: Path, rows: int) -> None:
    """Write smooth noise with a corner of no-data, a row of tiles at a time."""
    bands = get_sensor("sentinel-2-l1c").band_names
    walk = np.random.default_rng(0).normal(size=(BLOCK_PX, TILE_PX)).cumsum(0).cumsum(1)
    counts = 400 + 7000 * (walk - walk.min()) / np.ptp(walk)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=TILE_PX,
        height=rows,
        count=len(bands),
        dtype="uint16",
        crs="EPSG:32632",
        transform=from_origin(499980, 5300040, 10, 10),
        tiled=True,
        blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX,
        compress="deflate",
        zlevel=1,
        interleave="band",
        bigtiff="YES",
    ) as dataset:
        for number, band in enumerate(bands, start=1):
            dataset.set_band_description(number, band)
        for top in range(0, rows, BLOCK_PX):
            height = min(BLOCK_PX, rows - top)
            block = np.stack([np.roll(counts[:height], 17 * n + top, 1) for n in range(len(bands))])
            if top < 2 * BLOCK_PX:
                block[:, :, :3000] = 0
            dataset.write(block.astype(np.uint16), window=Window(0, top, TILE_PX, height))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=TILE_PX)
    parser.add_argument("arguments", nargs="*", help="for cloudmask run")
    options = parser.parse_args()
    arguments = options.arguments or ["--model", "hollstein"]
    with tempfile.TemporaryDirectory() as folder:
        scene, mask = Path(folder) / "scene.tif", Path(folder) / "mask.tif"
        write_tile(scene, options.rows)
        root = str(Path(__file__).resolve().parents[1])
        start = time.perf_counter()
        status = subprocess.run(
            [sys.executable, "-c", RUN, "run", scene, mask, "--scale", "0.0001", *arguments],
            env={**os.environ, "PYTHONPATH": root},
            check=False,
        ).returncode
        seconds = time.perf_counter() - start
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(
        f"{options.rows} x {TILE_PX} px, 13 bands on disk, {' '.join(arguments)}: {seconds:.0f} s, "
        f"peak memory {peak_gb:.2f} GB (limit {MEMORY_LIMIT_GB})"
    )
    return 0 if status == 0 and peak_gb < MEMORY_LIMIT_GB else 1


if __name__ == "__main__":
    sys.exit(main())

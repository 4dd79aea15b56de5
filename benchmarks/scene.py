"""A whole Sentinel-2 tile with SEnSeIv2: windows per second, peak memory, projected time.

    python benchmarks/scene.py              # a sample: some rows of windows over the full width
    python benchmarks/scene.py --full       # all 10980 x 10980 pixels

Pixels are synthetic as they are read (13 bands, nothing lies in memory as a whole); the path is the
one of every mask: strips of windows, stride 384, averaged, classes in four. Peak memory is that of
the process. Weights are synthetic; a published file changes neither time nor memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import torch
from sensei import SENSOR, make_network

from openeo_cloudmask.classes import OutputStyle, apply_style
from openeo_cloudmask.inference import Layout, predict_strips
from openeo_cloudmask.inference.windows import plan_axis
from openeo_cloudmask.models import get_model
from openeo_cloudmask.models.networks.descriptors import band_descriptor
from openeo_cloudmask.models.sensei_detector import make_detector

TILE_PX = 10980
MEMORY_LIMIT_GB = 4.0


class MadeUpScene:
    """A cube (band, y, x) float32 that is computed where it is read."""

    def __init__(self, bands: int, height: int, width: int) -> None:
        self.shape = (bands, height, width)
        rng = np.random.default_rng(0)
        self._rows = (0.15 + 0.1 * rng.random((bands, height, 1))).astype(np.float32)
        self._columns = (0.15 + 0.1 * rng.random((bands, 1, width))).astype(np.float32)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        bands, rows, columns = key
        return self._rows[bands, rows] + self._columns[bands, :, columns]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rows", type=int, default=900, help="height of the sample, px")
    parser.add_argument("--stride", type=int, default=384)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    entry = get_model("senseiv2")
    detector = make_detector(
        make_network(),
        [band_descriptor(band) for band in SENSOR.bands],
        band_names=SENSOR.band_names,
        scheme=entry.scheme,
        window=entry.window,
        device=options.device,
        precision=options.precision,
    )
    height = TILE_PX if options.full else options.rows
    scene = MadeUpScene(len(SENSOR.bands), height, TILE_PX)
    seen = {"windows": 0, "pixels": 0}

    def count(*_: object) -> None:
        seen["windows"] += 1

    def progress(done: int, total: int) -> None:
        if done % 30 == 0 or done == total:
            print(f"\r{done} of {total} windows", end="", file=sys.stderr, flush=True)

    start = time.perf_counter()
    for _, strip in predict_strips(
        scene, detector, stride=options.stride, progress=progress, watch=count
    ):
        mask = apply_style(strip, detector.scheme, OutputStyle.FOUR_CLASS, categorise=True)
        seen["pixels"] += mask[0].size
    seconds = time.perf_counter() - start
    print(file=sys.stderr)
    size = detector.window.size_px
    axis = plan_axis(TILE_PX, size_px=size, stride_px=options.stride, layout=Layout.ANCHORED)
    total = len(axis.needed(TILE_PX)) ** 2
    rate = seen["windows"] / seconds
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"senseiv2, {detector.precision}, {options.device}, {torch.get_num_threads()} threads: "
        f"{seen['windows']} windows of {size} px in {seconds:.1f} s, {rate:.2f} windows/s; "
        f"peak memory {peak_gb:.2f} GB (limit {MEMORY_LIMIT_GB})"
    )
    print(
        f"{TILE_PX} x {TILE_PX} px, {len(SENSOR.bands)} bands, stride {options.stride}: {total} "
        f"windows, {'took' if options.full else 'projected'} {total / rate / 60:.1f} min"
    )
    return 0 if peak_gb < MEMORY_LIMIT_GB else 1


if __name__ == "__main__":
    sys.exit(main())

"""What workers share out: windows computed twice, bytes moved; and whether memory stays flat.

    python benchmarks/workers.py                    # counts for 1, 2, 4 and 8 workers: no pixels
    python benchmarks/workers.py --scenes 1000      # many small scenes, one after the other
    python benchmarks/workers.py --sparse 40000     # one large file that is mostly empty
    python benchmarks/workers.py --sparse 40000 --windows 1060      # its first tenth
    python benchmarks/workers.py --wide 40000       # two rows of windows of a scene so wide, full

The counts follow the strips that the back end hands out and the windows that each strip computes.
The speed-up is that of the windows alone: all of them over those of the busiest worker. Moved are
the pixels that workers read (7 bands, 32 bit), what strips hand on to the ones below, and the mask.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window as RasterWindow

from openeo_cloudmask.inference.windows import Layout, plan_axis
from openeo_cloudmask.lazy import count_strips, plan_strips
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.mask import ReadOptions, mask_product

SIZES_PX = (4096, 10980, 40000)
WORKERS = (1, 2, 4, 8)
BANDS = ("B02", "B03", "B04", "B08", "B10", "B11", "B12")
OPTIONS = MaskOptions(sensor="sentinel-2-l1c")
_SMALL_PX = 64
_WIDE_ROWS = 1100


def count_shared(size: int, workers: int) -> dict[str, float]:
    """Windows, those computed twice, and bytes moved, for a square scene of ``size`` pixels."""
    masker = Masker.open(OPTIONS, BANDS)
    window, seam = masker.detector.window.size_px, masker.seam_px()
    plan = plan_axis(size, size_px=window, stride_px=masker.step_px, layout=Layout.ANCHORED)
    count = count_strips(size, masker, workers, None)
    starts = plan.needed(size)
    strips = plan_strips(size, starts, count=count, seam_px=seam)
    rows, read = [], 0
    for first, stop in strips:
        inner = first + seam if first else 0
        own = [at for at in starts if at < stop and at + window > inner]
        rows.append(len(own))
        read += min(own[-1] + window, size) - max(own[0], 0)
    across = len(starts)
    wide = sum(min(at + window, size) - max(at, 0) for at in starts)
    classes = len(masker.detector.scheme.classes)
    return {
        "size_px": size,
        "workers": workers,
        "windows": across**2,
        "twice": across * (sum(rows) - across),
        "speed_up": across / max(rows),
        "read_gb": read * size * len(BANDS) * 4 / 1e9,
        "handed_on_gb": (len(strips) - 1) * seam * wide * classes * 4 / 1e9,
        "written_gb": size * size / 1e9,
    }


def memory_mb() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def write_scene(path: Path, size: int, *, sparse: bool = False, rows: int | None = None) -> None:
    """Write counts; a sparse file has pixels in its upper left corner alone."""
    rng = np.random.default_rng(0)
    height = rows or size
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=height, count=len(BANDS), dtype="uint16",
        crs="EPSG:32632", transform=from_origin(499980, 5300040, 10, 10), tiled=True,
        blockxsize=512, blockysize=512, compress="deflate", nodata=0, bigtiff="YES",
        SPARSE_OK=True,
    ) as dataset:  # fmt: skip
        dataset.descriptions = BANDS
        side = min(size, 1024 if sparse else size)
        deep = min(height, side)
        for band in range(1, len(BANDS) + 1):
            part = rng.integers(500, 4000, (deep, side), dtype=np.uint16)
            dataset.write(part, band, window=RasterWindow(0, 0, side, deep))


class EnoughError(Exception):
    """So many windows as were asked for are done."""


def mask(path: Path, most: int | None = None) -> tuple[int, int, list[float]]:
    """Mask a scene, or its first ``most`` windows.

    Returns:
        Windows done, windows of the whole, and the seconds of the processor after each tenth.
    """
    done = total = 0
    spent: list[float] = []

    def progress(now: int, of: int) -> None:
        nonlocal done, total
        done, total = now, of
        if now >= (len(spent) + 1) * min(of, most or of) / 10:
            spent.append(time.process_time())
        if most is not None and now >= most:
            raise EnoughError

    read = ReadOptions(scale=1e-4)
    with suppress(EnoughError):
        mask_product(path, path.with_name("mask.tif"), OPTIONS, read=read, overwrite=True,
                     progress=progress)  # fmt: skip
    return done, total, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, help="so many small scenes")
    parser.add_argument("--sparse", type=int, help="pixels per side of one large file")
    parser.add_argument("--wide", type=int, help="columns of a full scene of some rows")
    parser.add_argument("--windows", type=int, help="of the large file, the first so many")
    parser.add_argument("--json", type=Path, help="where to write the counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        if options.scenes:
            write_scene(path, _SMALL_PX)
            last, begin = 0, time.process_time()
            for number in range(1, options.scenes + 1):
                mask(path)
                if number in (1, 10) or number % max(options.scenes // 5, 1) == 0:
                    cost = (time.process_time() - begin) / (number - last)
                    last, begin = number, time.process_time()
                    print(
                        f"after {number:5} scenes of {_SMALL_PX} px: {memory_mb():7.0f} MB, "
                        f"{cost:.2f} s of the processor per scene since the line before"
                    )
        if options.sparse:
            for size in (options.sparse // 4, options.sparse):
                write_scene(path, size, sparse=True)
                done, total, spent = mask(path, options.windows)
                costs = [f"{1e3 * cost / (done / 10):.1f}" for cost in np.diff(spent)]
                print(
                    f"{size} x {size} px, {done} of {total} windows: peak {peak_mb():5.0f} MB, ms "
                    f"of the processor per window in each tenth from the second: {', '.join(costs)}"
                )
        if options.wide:
            # By another process: what writing takes is not counted.
            of_rows = {"rows": _WIDE_ROWS}
            writer = multiprocessing.Process(
                target=write_scene, args=(path, options.wide), kwargs=of_rows
            )
            writer.start()
            writer.join()
            done, total, _ = mask(path, options.windows or 2 * (options.wide // 384 + 2))
            print(
                f"{options.wide} x {_WIDE_ROWS} px, {done} of {total} windows: peak "
                f"{peak_mb():5.0f} MB"
            )
    if options.scenes or options.sparse or options.wide:
        return
    rows = [count_shared(size, workers) for size in SIZES_PX for workers in WORKERS]
    for row in rows:
        print(
            f"{row['size_px']:6} px, {row['workers']} workers: {row['windows']:6} windows, "
            f"{row['twice']:3} of them twice, {row['speed_up']:.2f} times as fast, "
            f"{row['read_gb']:6.2f} GB read, {row['handed_on_gb']:5.2f} GB handed on, "
            f"{row['written_gb']:5.2f} GB written"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

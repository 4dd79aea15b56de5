"""From disk to disk with ``cloudmask run``: the time to the first window, and what is not network.

    python benchmarks/disk.py                          # mini; GeoTIFF, COG, SAFE, Landsat tar
    python benchmarks/disk.py --size 5376 --json FILE
    python benchmarks/disk.py --model cloudsen12       # the U-Net, with weights of a fixed rule

Each scene is a simulated one laid side by side, in counts of 16 bit. Runs and windows alone take
turns, so that a busy
machine is busy for both; of each the median counts. ``of the network`` is the time from the first
window to the end over windows x the time of a window alone; ``CPU`` the same in seconds of cores,
which other processes disturb less: what exceeds 1 is reading, decoding, resampling, blending and
writing. No run can be faster than that where all cores are busy, whatever overlaps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil

from openeo_cloudmask.inference import Detector
from openeo_cloudmask.models import load_detector
from openeo_cloudmask.models.processor import count_threads, read_processor
from openeo_cloudmask.simulator.products import write_product
from openeo_cloudmask.simulator.scene import SimulatedScene, simulate_scene

ROOT = Path(__file__).resolve().parents[1]
PIECE_PX = 512
FORMATS = ("GeoTIFF", "COG", "SAFE", "Landsat tar")
CHILD = """
import json, sys, time
begin, note = float(sys.argv[1]), sys.argv[2]
del sys.argv[1:3]
from openeo_cloudmask.cli import main
found, counts = {}, []  # calls overlap: a sum of its own would lose some
def count(of):
    plain = of.predict_windows
    def counted(self, windows, valid):
        found.setdefault("first_s", time.time() - begin)
        found.setdefault("first_cpu_s", time.process_time())
        counts.append(len(windows))
        return plain(self, windows, valid)
    of.predict_windows = counted
if "cloudsen12" in sys.argv:
    from openeo_cloudmask.models.torch_detector import TorchDetector
    count(TorchDetector)
else:
    from openeo_cloudmask.models.onnx_detector import OnnxDetector
    count(OnnxDetector)
main_result = None
try:
    main()
except SystemExit as end:
    main_result = end.code
found |= {"windows": sum(counts), "wall_s": time.time() - begin, "cpu_s": time.process_time()}
# ``resource`` would tell the peak of the process that started this one, where that is higher.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
found["peak_gb"] = int(peak.split()[1]) / 1e6
open(note, "w").write(json.dumps(found))
sys.exit(main_result)
"""


def lay_out(scene: SimulatedScene, size: int) -> SimulatedScene:
    """The scene repeated to ``size`` pixels per side."""

    def repeat(values: np.ndarray) -> np.ndarray:
        times = -(-size // PIECE_PX)
        shape = (*(1 for _ in values.shape[:-2]), times, times)
        return np.tile(values, shape)[..., :size, :size]

    names = ("cube", "truth", "truth_alcd", "optical_depth", "sun_beam", "smoke_depth")
    return replace(scene, **{name: repeat(getattr(scene, name)) for name in names})


def write_counts(scene: SimulatedScene, path: Path) -> Path:
    """Write the bands as most have them: counts of 10000 with an offset of 1000, 0 for no-data."""
    seen = np.isfinite(scene.cube)
    counts = np.where(seen, np.clip(np.nan_to_num(scene.cube) * 1e4 + 1000, 1, 65535), 0)
    bands, height, width = counts.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype="uint16",
        crs=scene.crs, transform=scene.transform, nodata=0, compress="deflate", tiled=True,
        interleave="band",
    ) as dataset:  # fmt: skip
        dataset.write(counts.astype(np.uint16))
        dataset.descriptions = scene.band_names
        dataset.scales, dataset.offsets = [1e-4] * bands, [-0.1] * bands
    return path


def write_weights(folder: Path) -> Path:
    """Write the weights of the golden vectors: published ones change neither time nor memory."""
    import torch
    from unet import build_golden, load_fill

    path = folder / "weights.pt"
    torch.save(build_golden(load_fill()).state_dict(), path)
    return path


def write(kind: str, size: int, folder: Path) -> tuple[Path, list[str]]:
    """Write a scene; return its path and what ``cloudmask run`` has to be told."""
    sensor = "landsat-8-9-l1" if kind == "Landsat tar" else "sentinel-2-l1c"
    scene = lay_out(simulate_scene(1, size=PIECE_PX, sensor=sensor), size)
    if kind in ("SAFE", "Landsat tar"):
        product = write_product(scene, folder)
        if kind == "SAFE":
            return product, []
        archive = folder / f"{product.name}.tar"
        with tarfile.open(archive, "w") as tar:
            for path in sorted(product.iterdir()):
                tar.add(path, path.name)
        return archive, []
    plain = write_counts(scene, folder / "scene.tif")
    if kind == "GeoTIFF":
        return plain, ["--sensor", sensor]
    cog = folder / "cog.tif"
    rasterio.shutil.copy(plain, cog, driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=512)
    return cog, ["--sensor", sensor]


def run(source: Path, arguments: list[str], folder: Path) -> dict[str, float]:
    note = folder / "note.json"
    command = [
        sys.executable, "-c", CHILD, repr(time.time()), str(note), "run", str(source),
        str(folder / "mask.tif"), "--overwrite", *arguments,
    ]  # fmt: skip
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False, capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(note.read_text())
    return found


def time_windows(detector: Detector, calls: int = 3) -> tuple[float, float]:
    """Seconds of a window alone: by the clock, and of all cores together."""
    side, bands = detector.window.size_px, len(detector.band_names)
    count = 2 * detector.window.batch
    windows = np.random.default_rng(0).random((count, bands, side, side), np.float32) * 0.4
    valid = np.ones((count, side, side), bool)
    clock, cpu = [], []
    for _ in range(calls):
        start, start_cpu = time.perf_counter(), time.process_time()
        detector.predict_windows(windows, valid)
        clock.append((time.perf_counter() - start) / count)
        cpu.append((time.process_time() - start_cpu) / count)
    return statistics.median(clock), min(cpu)


def time_decoding(product: Path, bands: tuple[str, ...]) -> float:
    """Seconds of cores that JPEG 2000 takes for these bands, each read once and whole."""
    start = time.process_time()
    for path in product.rglob("*.jp2"):
        if path.stem.rpartition("_")[2] in bands:
            with rasterio.open(path) as dataset:
                dataset.read()
    return time.process_time() - start


def measure(
    kind: str, options: argparse.Namespace, chosen: list[str], detector: Detector
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, arguments = write(kind, options.size, folder)
        arguments += chosen
        runs, windows = [], []
        for _ in range(options.repeats):
            windows.append(time_windows(detector))
            runs.append(run(source, arguments, folder))
        decoding = time_decoding(source, detector.band_names) if kind == "SAFE" else None
    window, window_cpu = (statistics.median(values) for values in zip(*windows, strict=True))
    count = runs[0]["windows"]

    def middle(of: str, less: str | None = None) -> float:
        return statistics.median(item[of] - (item[less] if less else 0) for item in runs)

    row = {
        "model": options.model,
        "format": kind,
        "size_px": options.size,
        "windows": count,
        "window_ms": 1e3 * window,
        "first_window_s": middle("first_s"),
        "first_window_cpu_s": middle("first_cpu_s"),
        "wall_s": middle("wall_s"),
        "s_per_megapixel": middle("wall_s") / (options.size**2 / 1e6),
        "of_network": middle("wall_s", "first_s") / (count * window),
        "of_network_cpu": middle("cpu_s", "first_cpu_s") / (count * window_cpu),
        "peak_gb": middle("peak_gb"),
    }
    if decoding is not None:
        row["decoding_cpu_s"] = decoding
        print(f"{kind:12}{decoding:7.2f} s CPU to decode its bands alone")
    print(
        f"{kind:12}{row['first_window_s']:7.2f} s to the first window "
        f"({row['first_window_cpu_s']:.2f} s CPU)"
        f"{count:6.0f} windows of {row['window_ms']:.0f} ms{row['wall_s']:8.1f} s"
        f"{row['s_per_megapixel']:7.2f} s per megapixel{row['of_network']:7.2f} of the network"
        f"{row['of_network_cpu']:7.2f} CPU{row['peak_gb']:7.2f} GB",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2688, help="pixels per side, a multiple of 6")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="mini", choices=["mini", "cloudsen12"])
    parser.add_argument("--formats", nargs="+", choices=FORMATS)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(count_threads()))
    print(f"{read_processor().describe()}, {count_threads()} threads; {options.model}")
    # The U-Net is for Sentinel-2 alone.
    formats = options.formats or [
        kind for kind in FORMATS if options.model == "mini" or kind != "Landsat tar"
    ]
    with tempfile.TemporaryDirectory() as name:
        weights = None if options.model == "mini" else write_weights(Path(name))
        how = {"runtime": options.runtime, "precision": options.precision}
        detector = load_detector(
            options.model, sensor="sentinel-2-l1c", weights=weights, device="cpu", **how
        )
        chosen = ["--model", options.model, *(f"--{key}={value}" for key, value in how.items())]
        chosen += [f"--weights={weights}"] if weights else []
        rows = [measure(kind, options, chosen, detector) for kind in formats]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

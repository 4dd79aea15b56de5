"""Megapixels per second on the CPU: ``mini`` beside ukis-csmask on the same scene.

    python benchmarks/mini.py [--size 1024] [--repeat 3]

Each model runs through ``predict`` as a user runs it (stride 384); the scene is simulated.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from openeo_cloudmask.inference import predict
from openeo_cloudmask.models import load_detector
from openeo_cloudmask.simulator.scene import simulate_scene

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="pixels per side of the scene")
    parser.add_argument("--repeat", type=int, default=3, help="runs; the median counts")
    parser.add_argument("--precision", default="auto", help="of mini: auto, fp32 or bf16")
    options = parser.parse_args()
    scene = simulate_scene(1, size=options.size, bands=BANDS, pixel_m=30)
    print(f"scene {options.size} x {options.size}, {torch.get_num_threads()} threads")
    speeds = {}
    for name in ("mini", "ukis-csmask"):
        detector = load_detector(
            name,
            sensor="sentinel-2-l1c",
            bands=BANDS,
            device="cpu",
            precision=options.precision if name == "mini" else "auto",
        )
        predict(scene.cube[:, :256, :256], detector)
        times = []
        for _ in range(options.repeat):
            started = time.perf_counter()
            predict(scene.cube, detector)
            times.append(time.perf_counter() - started)
        seconds = statistics.median(times)
        speeds[name] = options.size**2 / 1e6 / seconds
        print(f"{name:12s} {seconds:7.2f} s  {speeds[name]:6.2f} megapixels per second")
    print(f"ratio        {speeds['mini'] / speeds['ukis-csmask']:.1f}")


if __name__ == "__main__":
    main()

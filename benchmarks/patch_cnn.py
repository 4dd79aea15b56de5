"""The patch CNN on a 60 m scene: row by row as published, and with shared values.

    python benchmarks/patch_cnn.py [--size 1830] [--rows 40]

The loop is timed on ``--rows`` evenly spread rows and scaled up to all of them; the shared
computation runs on the whole scene. Prints both times, the ratio and the largest difference.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from openeo_cloudmask.models.networks.patch_cnn import PatchCnn
from openeo_cloudmask.training.patch_cnn import pad_scene, predict_scene, row_patches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1830, help="pixels per side of the scene")
    parser.add_argument("--rows", type=int, default=40, help="rows the loop is timed on")
    parser.add_argument("--threads", type=int, default=0, help="threads; 0 takes all")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = PatchCnn().eval()
    cube = np.random.default_rng(0).random((13, options.size, options.size), np.float32)
    padded = pad_scene(cube)
    rows = np.linspace(0, options.size - 1, min(options.rows, options.size)).astype(int)
    with torch.inference_mode():
        network(row_patches(padded, 0))  # first calls choose their arithmetic
        network.dense(padded[:, :, :64, :64])
        started, cpu = time.perf_counter(), time.process_time()
        loop = np.stack([torch.sigmoid(network(row_patches(padded, r))[:, 0]) for r in rows])
        scale = options.size / len(rows)
        loop_s = (time.perf_counter() - started) * scale
        loop_cpu_s = (time.process_time() - cpu) * scale
        started, cpu = time.perf_counter(), time.process_time()
        shared = predict_scene(network, cube)
        shared_s, shared_cpu_s = time.perf_counter() - started, time.process_time() - cpu
    difference = float(np.abs(shared[rows] - loop).max())
    print(f"scene            {options.size} x {options.size} x 13")
    print(f"row by row       {loop_s:8.1f} s ({loop_cpu_s:.1f} s of processor time)")
    print(f"shared values    {shared_s:8.1f} s ({shared_cpu_s:.1f} s of processor time)")
    ratio, cpu_ratio = loop_s / shared_s, loop_cpu_s / shared_cpu_s
    print(f"ratio            {ratio:8.1f} ({cpu_ratio:.1f} in processor time)")
    print(f"max difference   {difference:.1e} in probability")


if __name__ == "__main__":
    main()

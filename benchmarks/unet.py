"""U-Net MobileNetV2, 13 bands: as published against our inference form, in one process.

As published: the plain module on contiguous fp32 tensors, one 512-pixel window at a time, softmax.
Ours: the detector of this package, from and to NumPy arrays, as many windows per call as a scene's
mask takes. Weights and windows are the deterministic ones of the golden vectors, whose classes
lie closer together than a trained network's, so that the share of equal classes is a hard test.

Run: ``python benchmarks/unet.py [--repeats 7] [--threads N]``
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.inference import Window
from openeo_cloudmask.models import build_network
from openeo_cloudmask.models.networks.prepare import cpu_has_bf16, prepare
from openeo_cloudmask.models.torch_detector import CPU_BATCH, TorchDetector
from openeo_cloudmask.sensors import SENSORS

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "data" / "golden"
SIZE_PX = 512
SEEDS = (101, 102, 103)
CALLS_A_TURN = 4


def load_fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill", GOLDEN / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_golden(fill: ModuleType) -> torch.nn.Module:
    network = build_network("unet-mobilenet-v2", {"bands": 13, "classes": 4})
    fill.fill_state_dict(network)
    with np.load(GOLDEN / "unet_mobilenet_v2_13bands.npz") as file, torch.no_grad():
        network.segmentation_head[0].bias.copy_(torch.from_numpy(file["head_bias"]))
    return network


def detector(network: torch.nn.Module, precision: str) -> TorchDetector:
    return TorchDetector(
        network=prepare(network, "cpu", precision),
        device=torch.device("cpu"),
        band_names=SENSORS["sentinel-2-l1c"].band_names,
        scheme=FOUR_CLASS,
        window=Window(),
    )


def measure(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each; they take turns, so that a busy machine is busy for all.

    A turn is several calls, of which the first is not counted: the caches are the other one's.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            for call in range(CALLS_A_TURN):
                start = time.perf_counter()
                run()
                if call:
                    times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="all, if not given")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    fill = load_fill()
    network = build_golden(fill)
    windows = [fill.reflectance(seed, (13, SIZE_PX, SIZE_PX)) for seed in SEEDS]
    valid = np.ones((1, SIZE_PX, SIZE_PX), bool)
    ours = {precision: detector(network, precision) for precision in ("fp32", "bf16")}

    def as_published(window: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(window)[None]).softmax(1).numpy()

    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"bf16 in hardware: {cpu_has_bf16()}"
    )
    for precision, form in ours.items():
        pairs = [(as_published(w)[0], form.predict_windows(w[None], valid)[0]) for w in windows]
        equal = np.mean([(a.argmax(0) == b.argmax(0)).mean() for a, b in pairs])
        worst = max(np.abs(a - b).max() for a, b in pairs)
        print(f"{precision}: equal classes {equal:.4%}, largest probability difference {worst:.2e}")
    batch = np.stack([windows[0]] * CPU_BATCH)
    medians = measure(
        {
            "published": lambda: [as_published(window) for window in batch],
            "fp32": lambda: ours["fp32"].predict_windows(batch, valid),
            "bf16": lambda: ours["bf16"].predict_windows(batch, valid),
        },
        options.repeats,
    )
    for name, seconds in medians.items():
        ratio = medians["published"] / seconds
        print(f"{name:>9}: {seconds / len(batch) * 1e3:7.1f} ms per window, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()

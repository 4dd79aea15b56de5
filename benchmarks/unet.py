"""U-Net MobileNetV2, 13 bands: as published, ours, onnxruntime and OpenVINO, in one process.

As published: the plain module on contiguous fp32 tensors, one 512-pixel window at a time, softmax.
Ours: the detector of this package, from and to NumPy arrays, as many windows per call as a scene's
mask takes; exported files through the same detectors (extra ``bench``: ``pip install ".[bench]"``).
Of the clock the median counts, of the processor's own time, which other processes disturb less,
the least. Weights and windows are the deterministic ones of the golden vectors, whose classes
lie closer together than a trained network's, so that the share of equal classes is a hard test.

Run: ``python benchmarks/unet.py [--repeats 7] [--threads N] [--forms fp32 openvino]``
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS
from openeo_cloudmask.inference import Detector, Window
from openeo_cloudmask.models import build_network, load_detector
from openeo_cloudmask.models.networks.prepare import prepare
from openeo_cloudmask.models.processor import read_processor
from openeo_cloudmask.models.torch_detector import CPU_BATCH, TorchDetector
from openeo_cloudmask.sensors import SENSORS

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "data" / "golden"
SIZE_PX = 512
SEEDS = (101, 102, 103)
CALLS_A_TURN = 4
FORMS = ("fp32", "bf16", "onnx", "openvino")


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


def exported(network: torch.nn.Module, runtime: str) -> Detector:
    """The network as ``cloudmask export`` writes it, run by ``onnx`` or ``openvino``."""
    from openeo_cloudmask.models.onnx_export import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        weights, path = Path(folder) / "weights.pt", Path(folder) / "network.onnx"
        torch.save(network.state_dict(), weights)
        export_onnx("cloudsen12", path, weights=weights)
        return load_detector("cloudsen12", weights=path, runtime=runtime, device="cpu")


def measure(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Seconds of each: by the clock (median) and of all cores together (least).

    They take turns, so that a busy machine is busy for all. A turn is several calls, of which the
    first is not counted: the caches are the other one's.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            for call in range(CALLS_A_TURN):
                start, cpu = time.perf_counter(), time.process_time()
                run()
                if call:
                    times[name].append((time.perf_counter() - start, time.process_time() - cpu))
    found = {name: list(zip(*values, strict=True)) for name, values in times.items()}
    return {name: (statistics.median(clock), min(cpu)) for name, (clock, cpu) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="all, if not given")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # of the other runtimes
    fill = load_fill()
    network = build_golden(fill)
    windows = [fill.reflectance(seed, (13, SIZE_PX, SIZE_PX)) for seed in SEEDS]
    valid = np.ones((1, SIZE_PX, SIZE_PX), bool)
    forms: dict[str, Detector] = {
        form: exported(network, form) if form in ("onnx", "openvino") else detector(network, form)
        for form in options.forms
    }

    def as_published(window: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(window)[None]).softmax(1).numpy()

    print(
        f"{read_processor().describe()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )
    wanted = [as_published(window)[0] for window in windows]
    for name, form in forms.items():
        pairs = [
            (one, form.predict_windows(window[None], valid)[0])
            for one, window in zip(wanted, windows, strict=True)
        ]
        equal = np.mean([(a.argmax(0) == b.argmax(0)).mean() for a, b in pairs])
        worst = max(np.abs(a - b).max() for a, b in pairs)
        print(f"{name}: equal classes {equal:.4%}, largest probability difference {worst:.2e}")
    batch = np.stack([windows[0]] * CPU_BATCH)
    runs: dict[str, Callable[[], Any]] = {
        "published": lambda: [as_published(window) for window in batch]
    }
    for name, form in forms.items():
        runs[name] = functools.partial(form.predict_windows, batch, np.repeat(valid, CPU_BATCH, 0))
    found = measure(runs, options.repeats)
    for name, seconds in found.items():
        ratios = [first / own for first, own in zip(found["published"], seconds, strict=True)]
        clock, cpu = (1e3 * own / len(batch) for own in seconds)
        print(
            f"{name:>9}: {clock:7.1f} ms per window, ratio {ratios[0]:.2f}; "
            f"{cpu:7.1f} ms of cores, ratio {ratios[1]:.2f}"
        )


if __name__ == "__main__":
    main()

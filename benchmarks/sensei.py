"""One window of the default SEnSeIv2 model: the published arithmetic against ours, in one process.

    python benchmarks/sensei.py                 # CPU: fp32 and bf16
    python benchmarks/sensei.py --check         # exit status 1 below 2.3 x (fp32) or 5 x (bf16)
    python benchmarks/sensei.py --device cuda --compile   # GPU: fp32, tf32, bf16; also compiled

Weights are synthetic (a published file changes no time); rounds are interleaved, so that a busy
machine slows all rows alike. ``classes equal`` compares with the published arithmetic in fp32.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from gpu import tf32
from published import published_forward

from openeo_cloudmask.models import get_model
from openeo_cloudmask.models.networks.descriptors import band_descriptor
from openeo_cloudmask.models.networks.prepare import cpu_has_bf16
from openeo_cloudmask.models.sensei_detector import make_detector
from openeo_cloudmask.sensors import SENSORS

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "data" / "golden"
CASE = "sensei_medium_b2_s2"
TARGETS = {"ours fp32": 2.3, "ours bf16": 5.0}
SENSOR = SENSORS["sentinel-2-l1c"]

Forward = Callable[[torch.Tensor], torch.Tensor]


def load_fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill", GOLDEN / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_network() -> torch.nn.Module:
    """Return the default model with the weights of the golden vectors."""
    entry = get_model("senseiv2")
    network = entry.kind.build(entry.config)
    load_fill().fill_state_dict(network)
    bias = np.load(GOLDEN / f"{CASE}.npz")["classifier_bias"]
    with torch.no_grad():
        network.segmenter.decode_head.classifier.bias.copy_(torch.from_numpy(bias))
    return network


def make_rows(network: torch.nn.Module, device: str, *, compiled: bool) -> dict[str, Forward]:
    """Return label -> function of (windows, descriptor vectors)."""
    descriptors = [band_descriptor(band) for band in SENSOR.bands]
    plain = network.to(device)
    rows: dict[str, Forward] = {
        "published fp32": lambda x: published_forward(plain, x, descriptors),
    }
    vectors = plain.descriptor_vectors(descriptors)

    def add(label: str, form: torch.nn.Module, *, fast: bool = False) -> None:
        def run(x: torch.Tensor) -> torch.Tensor:
            with tf32(enabled=fast):
                return form(x, vectors)

        rows[label] = run

    forms = {"fp32": plain.inference_form("fp32"), "bf16": plain.inference_form("bf16")}
    add("ours fp32", forms["fp32"])
    if device != "cpu":
        rows["published tf32"] = functools.partial(_under_tf32, rows["published fp32"])
        add("ours tf32", forms["fp32"], fast=True)
    add("ours bf16", forms["bf16"])
    if compiled:
        for label, form in forms.items():
            add(f"ours {label} compiled", torch.compile(form))
            if label == "fp32" and device != "cpu":
                add("ours tf32 compiled", torch.compile(form), fast=True)
    return rows


def _under_tf32(function: Forward, x: torch.Tensor) -> torch.Tensor:
    with tf32(enabled=True):
        return function(x)


def measure(rows: dict[str, Forward], windows: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Return seconds per call of each row, one round after the other."""
    times: dict[str, list[float]] = {label: [] for label in rows}
    for _ in range(rounds):
        for label, function in rows.items():
            _wait(windows)
            start = time.perf_counter()
            function(windows)
            _wait(windows)
            times[label].append(time.perf_counter() - start)
    return times


def _wait(windows: torch.Tensor) -> None:
    if windows.is_cuda:
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=None, help="windows per call; 1, on a GPU 8")
    parser.add_argument("--compile", action="store_true", dest="compiled")
    parser.add_argument("--check", action="store_true", help="fail below the targets")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    batch = options.batch or (1 if options.device == "cpu" else 8)
    network = make_network()
    fill = load_fill()
    shape = (len(SENSOR.bands), options.size, options.size)
    cube = np.stack([fill.reflectance(seed, shape) for seed in range(batch)])
    windows = torch.from_numpy(cube).to(options.device)
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, bf16 in hardware: {cpu_has_bf16()}, device "
        f"{options.device}; {batch} window(s) of {options.size} px, {len(SENSOR.bands)} bands"
    )
    with torch.inference_mode():
        rows = make_rows(network, options.device, compiled=options.compiled)
        # The published code is exact for single windows only.
        reference = torch.cat([rows["published fp32"](one[None]) for one in windows])
        answers = {label: function(windows) for label, function in rows.items()}
        times = measure(rows, windows, options.rounds)
    base = statistics.median(times["published fp32"])
    print(f"{'':24}{'s/call':>9}{'windows/s':>11}{'ratio':>8}{'max diff':>11}{'classes equal':>15}")
    ratios = {}
    for label, values in times.items():
        seconds = statistics.median(values)
        ratios[label] = base / seconds
        answer = answers[label]
        equal = (answer.argmax(1) == reference.argmax(1)).float().mean().item()
        worst = (answer - reference).abs().max().item()
        print(
            f"{label:24}{seconds:9.3f}{batch / seconds:11.2f}{ratios[label]:8.2f}{worst:11.1e}"
            f"{100 * equal:14.2f}%"
        )
    print_auto(network, options.device, windows, reference)
    if options.check:
        slow = {k: v for k, v in ratios.items() if k in TARGETS and v < TARGETS[k]}
        if slow:
            print(
                "below target:", ", ".join(f"{k} {v:.2f} < {TARGETS[k]}" for k, v in slow.items())
            )
            return 1
    return 0


def print_auto(
    network: torch.nn.Module, device: str, windows: torch.Tensor, reference: torch.Tensor
) -> None:
    """Say what ``precision="auto"`` takes for these weights, and which classes it changes."""
    entry = get_model("senseiv2")
    detector = make_detector(
        network,
        [band_descriptor(band) for band in SENSOR.bands],
        band_names=SENSOR.band_names,
        scheme=entry.scheme,
        window=entry.window,
        device=device,
        precision="auto",
    )
    pixels = windows.cpu().numpy()
    answer = detector.predict_windows(pixels, np.ones((len(pixels), *pixels.shape[2:]), bool))
    changed = (answer.argmax(1) != reference.cpu().numpy().argmax(1)).mean()
    print(f"precision auto takes {detector.precision} and changes {100 * changed:.3f} % of classes")


if __name__ == "__main__":
    sys.exit(main())

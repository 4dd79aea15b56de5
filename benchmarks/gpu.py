"""Windows per second on a GPU: fp32, tf32, bf16, fp16; as it is, compiled, and as CUDA graphs.

    python benchmarks/gpu.py                          # mini, the U-Net of CloudSEN12, SEnSeIv2
    python benchmarks/gpu.py --models mini --tile     # and a whole tile from memory to memory
    python benchmarks/gpu.py --device cpu --size 128  # that it runs

Needs torch, numpy and this package's models alone. Weights are synthetic; published ones change
neither time nor memory. The share of the peak is the network's own products (counted in its
published form) over those of square matrices of that precision, measured on the same card just
before. Compiled rows are torch.compile; graphs are its mode ``reduce-overhead``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from openeo_cloudmask.classes import OutputStyle, apply_style
from openeo_cloudmask.inference import predict_strips
from openeo_cloudmask.models import get_model
from openeo_cloudmask.models.networks.descriptors import band_descriptor
from openeo_cloudmask.models.networks.prepare import prepare
from openeo_cloudmask.models.torch_detector import TorchDetector, device_window
from openeo_cloudmask.sensors import SENSORS

MODELS = ("mini", "cloudsen12", "senseiv2")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
FORMS = {"as it is": None, "compiled": "default", "CUDA graphs": "reduce-overhead"}
SENSOR = SENSORS["sentinel-2-l1c"]
PEAK_PX = {"cuda": 8192, "cpu": 1024}
TILE_PX = 10980
_SECONDS_A_ROW = 1.5


class Bound(nn.Module):
    """A network that is told of its bands, as one of its windows alone."""

    def __init__(self, network: nn.Module, vectors: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("vectors", vectors)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - a module's
        return self.network(x, self.vectors)


class Autocast(nn.Module):
    """A network under torch's own mixed precision."""

    def __init__(self, network: nn.Module, kind: torch.dtype) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - a module's
        with torch.autocast(x.device.type, self.kind):
            return self.network(x)


@contextlib.contextmanager
def tf32(*, enabled: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def build(name: str) -> tuple[nn.Module, int]:
    """The published form of a model with seeded random weights, and its number of bands."""
    torch.manual_seed(0)
    entry = get_model(name)
    network = entry.kind.build(entry.config)
    return network, 7 if name == "mini" else len(SENSOR.bands)


def forms(name: str, network: nn.Module, device: str) -> dict[str, nn.Module]:
    """Precision -> inference form on the device."""
    found: dict[str, nn.Module] = {}
    for precision in ("fp32", "bf16"):
        if name == "senseiv2":
            vectors = network.descriptor_vectors([band_descriptor(band) for band in SENSOR.bands])
            form = Bound(network.inference_form(precision), vectors).eval().requires_grad_(False)
            found[precision] = form.to(device)
        else:
            found[precision] = prepare(network, device, precision)
    found["tf32"] = found["fp32"]
    found["fp16"] = Autocast(found["fp32"], torch.float16)
    return found


def count_flops(name: str, network: nn.Module, bands: int, size: int) -> float:
    """Floating point operations of one window in the network's published form."""
    form = forms(name, network, "cpu")["fp32"] if name == "senseiv2" else network
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        form(torch.rand(1, bands, size, size))
    return float(counter.get_total_flops())


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def measure(run: Callable[[], Any], device: str) -> float:
    """Median seconds of a call, after two that do not count."""
    times: list[float] = []
    for _ in range(2):
        run()
    wait(device)
    begin = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < _SECONDS_A_ROW:
        start = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_peaks(device: str) -> dict[str, float]:
    """Precision -> operations per second of the product of two large square matrices."""
    side = PEAK_PX["cpu" if device == "cpu" else "cuda"]
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    found = {}
    for precision in PRECISIONS:
        kind = kinds.get(precision, torch.float32)
        one, two = (torch.rand(side, side, device=device).to(kind) for _ in range(2))
        with tf32(enabled=precision == "tf32"):
            found[precision] = 2 * side**3 / measure(lambda a=one, b=two: a @ b, device)
    return found


def measure_model(name: str, options: argparse.Namespace, peaks: dict[str, float]) -> list[dict]:
    device = options.device
    network, bands = build(name)
    flops = count_flops(name, network, bands, options.size)
    windows = torch.rand(options.batch, bands, options.size, options.size, device=device) * 0.5
    rows, reference = [], None
    for precision, form in forms(name, network, device).items():
        for label, mode in FORMS.items():
            if (mode and not options.compiled) or (label == "CUDA graphs" and device == "cpu"):
                continue
            row = {"model": name, "precision": precision, "form": label}
            try:
                with torch.inference_mode(), tf32(enabled=precision == "tf32"):
                    torch.compiler.reset()
                    run = torch.compile(form, mode=mode) if mode else form
                    answer = run(windows).float().argmax(1)
                    reference = answer if reference is None else reference
                    if device != "cpu":
                        torch.cuda.reset_peak_memory_stats()
                    seconds = measure(lambda f=run: f(windows), device)
            except Exception as err:  # noqa: BLE001 - one form that fails must not hide the others
                rows.append(row | {"failed": f"{type(err).__name__}: {str(err).splitlines()[0]}"})
                continue
            rate = options.batch / seconds
            rows.append(
                row
                | {
                    "windows_per_s": rate,
                    "gflop_per_window": flops / 1e9,
                    "share_of_peak": rate * flops / peaks[precision],
                    "equal_classes": (answer == reference).float().mean().item(),
                    "memory_gb": 0.0
                    if device == "cpu"
                    else torch.cuda.max_memory_allocated() / 1e9,
                }
            )
            print(describe(rows[-1]), flush=True)
    return rows


def describe(row: dict) -> str:
    head = f"{row['model']:12}{row['precision']:6}{row['form']:12}"
    if "failed" in row:
        return head + row["failed"]
    return head + (
        f"{row['windows_per_s']:9.1f} windows/s{row['share_of_peak']:8.1%} of the peak"
        f"{row['equal_classes']:9.3%} equal{row['memory_gb']:7.2f} GB"
    )


class MadeUpScene:
    """A cube (band, y, x) float32 that is computed where it is read."""

    def __init__(self, bands: int, side: int) -> None:
        self.shape = (bands, side, side)
        rng = np.random.default_rng(0)
        self._rows = (0.15 + 0.1 * rng.random((bands, side, 1))).astype(np.float32)
        self._columns = (0.15 + 0.1 * rng.random((bands, 1, side))).astype(np.float32)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        bands, rows, columns = key
        return self._rows[bands, rows] + self._columns[bands, :, columns]


def measure_tile(name: str, options: argparse.Namespace) -> dict:
    """Mask a whole tile through the path of every mask, from memory to memory."""
    network, bands = build(name)
    entry, device = get_model(name), torch.device(options.device)
    detector = TorchDetector(
        network=forms(name, network, options.device)["bf16"],
        device=device,
        band_names=tuple(map(str, range(bands))),
        scheme=entry.scheme,
        window=device_window(entry.window, device),
        gives_probabilities=name == "senseiv2",
    )
    windows = 0

    def progress(done: int, _total: int) -> None:
        nonlocal windows
        windows = done

    start = time.perf_counter()
    for _, strip in predict_strips(
        MadeUpScene(bands, options.tile_px), detector, progress=progress
    ):
        apply_style(strip, detector.scheme, OutputStyle.FOUR_CLASS, categorise=True)
    seconds = time.perf_counter() - start
    print(f"{name}: {options.tile_px}² px in bf16 as it is: {windows} windows in {seconds:.1f} s")
    return {"model": name, "tile_px": options.tile_px, "windows": windows, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8, help="windows per call")
    parser.add_argument("--no-compile", action="store_false", dest="compiled")
    parser.add_argument("--tile", action="store_true", help="and a whole tile")
    parser.add_argument("--tile-px", type=int, default=TILE_PX)
    parser.add_argument("--json", type=Path, help="where to write the table")
    options = parser.parse_args()
    card = "cpu" if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    print(
        f"{card}, torch {torch.__version__}, {options.batch} windows of {options.size} px per call"
    )
    peaks = measure_peaks(options.device)
    print("peak:", ", ".join(f"{key} {value / 1e12:.2f} TFLOP/s" for key, value in peaks.items()))
    result: dict[str, Any] = {
        "card": card, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"),
        "batch": options.batch, "size_px": options.size, "peaks_flops": peaks,
        "rows": [], "tiles": [],
    }  # fmt: skip
    for name in options.models:
        result["rows"] += measure_model(name, options, peaks)
        if options.tile:
            result["tiles"].append(measure_tile(name, options))
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in result["rows"]:
        if "failed" in row:
            print(describe(row))


if __name__ == "__main__":
    main()

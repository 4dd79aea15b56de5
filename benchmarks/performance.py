"""One table of all: peer, published, ours, share of the measured peak, memory.

    python benchmarks/performance.py            # measure; write performance.json and the page
    python benchmarks/performance.py --page     # count anew what workers share; write the page
    python benchmarks/performance.py --page --disk FILE      # with what benchmarks/disk.py measured
    python benchmarks/performance.py --rows mini-onnx unet-fp32

Each row is a process of its own with one thread, which computes windows of 512 x 512 pixels one
after the other. What counts is the processor's own time, the least of some calls: other processes
disturb it less than the clock. The peak is that of matrix products of 2048 x 2048 in fp32, on one
core, in the same run. Weights are synthetic but for `mini`; published ones change neither time nor
memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
RESULT = HERE / "performance.json"
PAGE = HERE.parent / "docs" / "performance.md"
SIZE_PX = 512
MINI_BANDS = ("B02", "B03", "B04", "B08", "B10", "B11", "B12")

Call = Callable[[], Any]
ROWS: dict[str, tuple[str, str]] = {
    "mini-torch": ("mini", "torch, fp32"),
    "mini-torch-bf16": ("mini", "torch, bf16"),
    "mini-onnx": ("mini", "onnxruntime, fp32 (what `auto` takes)"),
    "mini-openvino": ("mini", "OpenVINO, fp32"),
    "unet-published": ("CloudSEN12 U-Net", "as published, torch fp32"),
    "unet-onnx": ("CloudSEN12 U-Net", "exported, onnxruntime fp32"),
    "unet-openvino": ("CloudSEN12 U-Net", "exported, OpenVINO fp32"),
    "unet-fp32": ("CloudSEN12 U-Net", "ours, torch fp32"),
    "unet-bf16": ("CloudSEN12 U-Net", "ours, torch bf16"),
    "sensei-published": ("SEnSeIv2", "as published, torch fp32"),
    "sensei-fp32": ("SEnSeIv2", "ours, torch fp32"),
    "sensei-bf16": ("SEnSeIv2", "ours, torch bf16"),
}
"""Row -> the model, and what runs it; the first of a model is what the others are held against."""


def windows(bands: int) -> np.ndarray:
    return np.random.default_rng(0).random((1, bands, SIZE_PX, SIZE_PX), np.float32) * 0.5


def make_mini(form: str) -> Call:
    from openeo_cloudmask.models import load_detector

    runtime, _, precision = form.partition("-")
    detector = load_detector(
        "mini", sensor="sentinel-2-l1c", bands=MINI_BANDS, device="cpu",
        runtime=runtime, precision=precision or "fp32",
    )  # fmt: skip
    pixels, valid = windows(len(MINI_BANDS)), np.ones((1, SIZE_PX, SIZE_PX), bool)
    return lambda: detector.predict_windows(pixels, valid)


def make_unet(form: str) -> Call:
    import torch
    from unet import build_golden, detector, load_fill

    network = build_golden(load_fill())
    pixels, valid = windows(13), np.ones((1, SIZE_PX, SIZE_PX), bool)
    if form == "published":
        return lambda: network(torch.from_numpy(pixels)).softmax(1).numpy()
    if form in ("onnx", "openvino"):
        from openeo_cloudmask.models import load_detector
        from openeo_cloudmask.models.onnx_export import export_onnx

        with tempfile.TemporaryDirectory() as folder:
            weights, path = Path(folder) / "weights.pt", Path(folder) / "network.onnx"
            torch.save(network.state_dict(), weights)
            export_onnx("cloudsen12", path, weights=weights)
            exported = load_detector("cloudsen12", weights=path, runtime=form, device="cpu")
        return lambda: exported.predict_windows(pixels, valid)
    ours = detector(network, form)
    return lambda: ours.predict_windows(pixels, valid)


def make_sensei(form: str) -> Call:
    import torch
    from published import published_forward
    from sensei import SENSOR, make_network

    from openeo_cloudmask.models.networks.descriptors import band_descriptor

    network = make_network()
    descriptors = [band_descriptor(band) for band in SENSOR.bands]
    pixels = torch.from_numpy(windows(len(descriptors)))
    if form == "published":
        return lambda: published_forward(network, pixels, descriptors)
    vectors, ours = network.descriptor_vectors(descriptors), network.inference_form(form)
    return lambda: ours(pixels, vectors)


def measure_peak() -> float:
    """Operations per second of one core."""
    import torch

    one, two = torch.rand(2048, 2048), torch.rand(2048, 2048)
    return 2 * 2048**3 / least(lambda: one @ two, 5)


def count_flops(model: str) -> float:
    """Operations of one window in the network's published form."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from openeo_cloudmask.models import get_model

    names = {"mini": "mini", "CloudSEN12 U-Net": "cloudsen12"}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if model in names:
            entry = get_model(names[model])
            bands = 7 if model == "mini" else 13
            entry.kind.build(entry.config)(torch.rand(1, bands, SIZE_PX, SIZE_PX))
        else:
            make_sensei("fp32")()
    return float(counter.get_total_flops())


def least(run: Call, calls: int) -> float:
    """Seconds of the processor that a call takes at least."""
    times = []
    for _ in range(calls):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def measure(row: str, calls: int) -> dict[str, float]:
    """What a child process finds of a row."""
    import contextlib

    model, _, form = row.partition("-")
    run = {"mini": make_mini, "unet": make_unet, "sensei": make_sensei}[model](form)
    mode: Any = contextlib.nullcontext()
    if "torch" in sys.modules:
        import torch

        mode = torch.inference_mode()
    with mode:
        run()
        seconds = least(run, calls)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"ms": 1e3 * seconds, "memory_mb": peak_mb}


def ask(*arguments: str) -> dict[str, Any]:
    """The answer of a child process with one thread."""
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join((str(HERE.parent), str(HERE)))
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=os.environ | alone | {"PYTHONPATH": path},
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_all(rows: list[str], calls: int) -> dict[str, Any]:
    from openeo_cloudmask.models.processor import read_processor

    result: dict[str, Any] = {
        "processor": read_processor().describe(),
        "system": platform.system(),
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("torch", "onnxruntime", "openvino")},
        "rows": {},
    } | ask("--facts")
    for row in rows:
        result["rows"][row] = ask("--row", row, "--calls", str(calls))
        model, form = ROWS[row]
        print(f"{model:18}{form:40}{result['rows'][row]['ms']:9.1f} ms", flush=True)
    return result


def write_page(result: dict[str, Any]) -> str:
    """The page of a result, as Markdown."""
    peak = result["peak_flops"]
    lines = [
        "<!-- Written by benchmarks/performance.py; do not edit. -->",
        "# Performance\n",
        (
            f"Measured on {result['date']} on one core of {result['processor']}, "
            f"at a load of {result['load']:.0f} by all processes, "
            + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
            + f"; matrix products in fp32 reach {peak / 1e9:.0f} GFLOP/s on that core. "
            "Each row is a process with one thread; the time is the processor's own, the least of "
            "some calls, for one window of 512 x 512 pixels. Weights are synthetic except "
            "`mini`'s; that changes neither time nor memory. "
            "`python benchmarks/performance.py` measures anew and writes this page.\n"
        ),
        "| model | what runs it | ms per window | against the first | share of the peak | memory |",
        "|---|---|---|---|---|---|",
    ]
    first: dict[str, float] = {}
    for row, found in result["rows"].items():
        model, form = ROWS[row]
        ratio = first.setdefault(model, found["ms"]) / found["ms"]
        share = result["flops"][model] / (found["ms"] / 1e3) / peak
        lines.append(
            f"| {model} | {form} | {found['ms']:.0f} | {ratio:.1f} | {share:.0%} "
            f"| {found['memory_mb'] / 1e3:.2f} GB |"
        )
    lines.append(
        "\nThe share is the products of the published form over the time: arithmetic that needs "
        "fewer products (Winograd's convolution) or other numbers (bf16) may exceed 100 %.\n"
    )
    if "disk" in result:
        lines += disk_section(result["disk"])
    lines += workers_section(result["workers"])
    return "\n".join(lines) + "\n"


def disk_section(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "## From disk to disk\n",
        (
            "`cloudmask run` on two cores (`python benchmarks/disk.py`). The last "
            "column is the processor's time after the first window over windows x the time of a "
            "window alone: what exceeds 1 is reading, decoding, resampling, blending and writing, "
            "which are done while the network works, but need cores too.\n"
        ),
        (
            "| input | first window (processor) | s per megapixel | ms per window "
            "| over the network | memory |"
        ),
        "|---|---|---|---|---|---|",
        *(
            f"| {row['model']}, {row['format']}, {row['size_px']} px "
            f"| {row['first_window_s']:.2f} s ({row['first_window_cpu_s']:.2f} s) "
            f"| {row['s_per_megapixel']:.2f} | {row['window_ms']:.0f} "
            f"| {row['of_network_cpu']:.2f} | {row['peak_gb']:.2f} GB |"
            for row in rows
        ),
        "",
    ]


def workers_section(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "## Several workers\n",
        (
            "Workers of the back end get strips of a scene, and each window is computed by one of "
            "them: a strip hands on what its windows add to the strip below. Counted, not timed "
            "(`python benchmarks/workers.py`), for `mini` and 7 bands in 32 bit. The speed-up is "
            "all windows over those of the busiest worker: workers that share a disk or the "
            "memory of a machine reach less.\n"
        ),
        "| scene | workers | windows | computed twice | speed-up | read | handed on | written |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['size_px']} x {row['size_px']} | {row['workers']} | {row['windows']} "
            f"| {row['twice']} | {row['speed_up']:.2f} | {row['read_gb']:.2f} GB "
            f"| {row['handed_on_gb']:.2f} GB | {row['written_gb']:.2f} GB |"
            for row in rows
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--disk", type=Path, help="what benchmarks/disk.py --json wrote")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    parser.add_argument("--row", choices=list(ROWS), help="measure one here")
    parser.add_argument("--facts", action="store_true", help="measure the peak, count operations")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row, options.calls)))
        return
    if options.facts:
        flops = {model: count_flops(model) for model in dict(ROWS.values())}
        print(json.dumps({"peak_flops": measure_peak(), "flops": flops}))
        return
    from workers import SIZES_PX, WORKERS, count_shared

    if options.page:
        result = json.loads(RESULT.read_text(encoding="utf-8"))
    else:
        result = measure_all(options.rows, options.calls)
    result["workers"] = [count_shared(size, count) for size in SIZES_PX for count in WORKERS]
    if options.disk:
        result["disk"] = json.loads(options.disk.read_text(encoding="utf-8"))
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(write_page(result), encoding="utf-8")


if __name__ == "__main__":
    main()

"""One table of all: peer, published, ours, share of the measured peak, memory.

    python benchmarks/performance.py            # measure; write performance.json and the page
    python benchmarks/performance.py --page     # count anew what workers share; write the page
    python benchmarks/performance.py --page --disk FILE --int8 FILE --gpu FILE  # others' figures
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
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from performance_page import ROWS, write_page

HERE = Path(__file__).resolve().parent
RESULT = HERE / "performance.json"
PAGE = HERE.parent / "docs" / "performance.md"
SIZE_PX = 512
MINI_BANDS = ("B02", "B03", "B04", "B08", "B10", "B11", "B12")

Call = Callable[[], Any]


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
    from unet import build_golden, detector, exported, load_fill

    network = build_golden(load_fill())
    pixels, valid = windows(13), np.ones((1, SIZE_PX, SIZE_PX), bool)
    if form == "published":
        return lambda: network(torch.from_numpy(pixels)).softmax(1).numpy()
    ours = exported(network, form) if form in ("onnx", "openvino") else detector(network, form)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--disk", type=Path, help="what benchmarks/disk.py --json wrote")
    parser.add_argument("--int8", type=Path, nargs="*", help="what benchmarks/int8.py --json wrote")
    parser.add_argument("--gpu", type=Path, help="what benchmarks/gpu.py --json wrote")
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
        before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
        kept = {part: before[part] for part in ("disk", "int8", "gpu") if part in before}
        result = kept | measure_all(options.rows, options.calls)
    result["workers"] = [count_shared(size, count) for size in SIZES_PX for count in WORKERS]
    for part in ("disk", "gpu"):
        if path := getattr(options, part):
            result[part] = json.loads(path.read_text(encoding="utf-8"))
    for path in options.int8 or ():
        found = json.loads(path.read_text(encoding="utf-8"))
        result.setdefault("int8", {})[found["model"]] = found
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(write_page(result), encoding="utf-8")


if __name__ == "__main__":
    main()

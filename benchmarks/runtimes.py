"""onnxruntime and OpenVINO for `mini`: start, a window, equal classes, and a forked process.

    python benchmarks/runtimes.py

Each is a process of its own with two threads; times are the processor's own. What is forked after
the network has computed computes two windows with it; it is given ten seconds, which is a hundred
windows, and what it computes is compared with what its parent did.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import import_module

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "2")

from openeo_cloudmask.inference import Detector
from openeo_cloudmask.models import load_detector
from openeo_cloudmask.simulator.scene import simulate_scene

MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}
SENSOR = "sentinel-2-l1c"
_PATIENCE_S = 10
_FAILED = 2
_ENDS = {0: "gives the same", 1: "gives something else"}


def open_detector(runtime: str) -> Detector:
    return load_detector("mini", sensor=SENSOR, device="cpu", precision="fp32", runtime=runtime)


def answers_when_forked(detector: Detector, windows: np.ndarray) -> str:
    """Return what becomes of a process that is forked now."""
    valid = np.ones((len(windows), *windows.shape[2:]), bool)
    wanted = detector.predict_windows(windows, valid)
    child = os.fork()
    if child == 0:
        status = _FAILED
        try:
            status = int(not np.array_equal(detector.predict_windows(windows, valid), wanted))
        finally:
            os._exit(status)
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return _ENDS.get(os.waitstatus_to_exitcode(status), "fails")
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return f"hangs for {_PATIENCE_S} s"


def measure(runtime: str) -> None:
    """Print a row, and write the classes to the file named second."""
    begin = time.process_time()
    import_module(MODULES[runtime])
    detector = open_detector(runtime)
    start = time.process_time() - begin
    side, bands = detector.window.size_px, detector.band_names
    scene = simulate_scene(901, size=side, sensor=SENSOR, bands=bands)
    places = [scene.band_names.index(name) for name in bands]
    windows = np.nan_to_num(scene.cube[places]).astype(np.float32)[np.newaxis]
    valid = np.ones((1, side, side), bool)
    times = []
    detector.predict_windows(windows.repeat(2, axis=0), valid.repeat(2, axis=0))
    for _ in range(6):
        begin = time.process_time()
        answer = detector.predict_windows(windows, valid)
        times.append(time.process_time() - begin)
    np.save(sys.argv[2], answer.argmax(axis=1))
    pair = windows.repeat(2, axis=0)
    print(
        f"{MODULES[runtime]:12}{start:6.2f} s to start {1e3 * min(times):6.0f} ms per window; a "
        f"forked process {answers_when_forked(detector, pair)}",
        flush=True,
    )


def main() -> None:
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{runtime}.npy" for runtime in MODULES]
        for runtime, path in zip(MODULES, paths, strict=True):
            subprocess.run([sys.executable, __file__, runtime, str(path)], check=True)
        one, other = (np.load(path) for path in paths)
    print(f"{np.count_nonzero(one != other)} of {one.size} classes differ")


if __name__ == "__main__":
    main()

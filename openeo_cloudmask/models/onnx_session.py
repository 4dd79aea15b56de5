"""Sessions of onnxruntime, opened the same way everywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from openeo_cloudmask.errors import OptionError

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""What Spark, schedulers and numeric libraries limit threads with."""


def open_session(path: Path, device: str) -> Any:  # noqa: ANN401 - the package has no types
    """Return a session on ``device``, with as many threads as ``OMP_NUM_THREADS`` allows.

    onnxruntime does not look at it by itself. It takes all cores of the machine, however few of
    them a container or a worker of Spark may use, and 64 threads take 1.5 GB of addresses.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        OptionError: a CUDA device is asked for that this onnxruntime does not have.
    """
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    elif device.startswith("cuda"):
        raise OptionError(
            f"the device was {device!r}, but this onnxruntime has no CUDA; use 'cpu', or install "
            "onnxruntime-gpu"
        )
    options = onnxruntime.SessionOptions()
    threads = os.environ.get(THREADS_VARIABLE, "")
    if threads.isdecimal() and int(threads) > 0:
        options.intra_op_num_threads = int(threads)
    return onnxruntime.InferenceSession(path, options, providers=providers)

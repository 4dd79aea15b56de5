"""Sessions of onnxruntime, opened the same way everywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from openeo_cloudmask.models.devices import choose_device

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""What Spark, schedulers and numeric libraries limit threads with."""

_CUDA = "CUDAExecutionProvider"
_MOST_GPUS = 64
"""onnxruntime does not say how many GPUs there are; it goes on without one of a number too high."""
_ABOUT = {"runtime": "onnxruntime", "remedy": "install onnxruntime-gpu and its CUDA libraries"}


def open_session(path: Path, device: str) -> Any:  # noqa: ANN401 - the package has no types
    """Return a session on ``device``, with as many threads as ``OMP_NUM_THREADS`` allows.

    onnxruntime does not look at it by itself. It takes all cores of the machine, however few of
    them a container or a worker of Spark may use, and 64 threads take 1.5 GB of addresses.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        OptionError: a CUDA device is asked for that this onnxruntime does not have.
    """
    import onnxruntime

    has_cuda = _CUDA in onnxruntime.get_available_providers()
    number = choose_device(device, gpus=_MOST_GPUS if has_cuda else 0, **_ABOUT)
    providers: list[Any] = ["CPUExecutionProvider"]
    if number is not None:
        providers.insert(0, (_CUDA, {"device_id": number}))
    options = onnxruntime.SessionOptions()
    threads = os.environ.get(THREADS_VARIABLE, "")
    if threads.isdecimal() and int(threads) > 0:
        options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    if number is not None and _CUDA not in session.get_providers():
        choose_device(device, gpus=0, **_ABOUT)  # it went on without the GPU: an error if named
    return session

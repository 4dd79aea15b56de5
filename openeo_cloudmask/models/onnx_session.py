"""Sessions of onnxruntime, opened the same way everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openeo_cloudmask.models.devices import choose_device
from openeo_cloudmask.models.processor import count_threads

_CUDA = "CUDAExecutionProvider"
_MOST_GPUS = 64
"""onnxruntime does not say how many GPUs there are; it goes on without one of a number too high."""
_ABOUT = {"runtime": "onnxruntime", "remedy": "install onnxruntime-gpu and its CUDA libraries"}


def open_session(path: Path, device: str, *, threads: int | None = None) -> Any:  # noqa: ANN401
    """Return a session on ``device`` with ``threads`` threads, or all there are for this process.

    By itself onnxruntime takes all cores of the machine, however few of them a container or a
    worker of Spark may use, and 64 threads take 1.5 GB of addresses.

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
    options.intra_op_num_threads = threads or count_threads()
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    if number is not None and _CUDA not in session.get_providers():
        choose_device(device, gpus=0, **_ABOUT)  # it went on without the GPU: an error if named
    return session

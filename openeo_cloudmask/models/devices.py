"""The one rule on devices, for every runtime."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

from openeo_cloudmask.errors import OptionError

_GPU_FILES = ("/dev/nvidia0", "/dev/dxg")
"""What Linux, and Linux under Windows, have where a GPU's driver runs."""
_CUDA = re.compile(r"cuda(?::(\d+))?")


def choose_device(device: str, *, gpus: int, runtime: str, remedy: str = "") -> int | None:
    """Return the number of the GPU to run on, None for the CPU.

    ``auto`` is the first GPU, or the CPU where the runtime sees no GPU. A GPU that was named and
    is not there is an error: nothing runs on the CPU in its place.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
        gpus: How many CUDA devices the runtime sees.
        runtime: What is to run, for the message.
        remedy: What brings the GPU, for the message, e.g. ``install onnxruntime-gpu``.

    Raises:
        OptionError: Not a device, or a GPU that the runtime does not see.
    """
    if device == "cpu":
        return None
    if device == "auto":
        return 0 if gpus else None
    match = _CUDA.fullmatch(device)
    if match is None:
        raise OptionError(
            f"the device was {device!r}; expected 'auto', 'cpu', 'cuda' or 'cuda:<number>'"
        )
    number = int(match.group(1) or 0)
    if number >= gpus:
        raise OptionError(
            f"the device was {device!r}, but {runtime} sees {gpus} CUDA devices; use 'cpu'"
            + (f", or {remedy}" if remedy else "")
        )
    return number


@cache
def may_have_gpu() -> bool:
    """Whether there may be a GPU for CUDA; no library is loaded to see whether it works."""
    return any(Path(name).exists() for name in _GPU_FILES) or shutil.which("nvidia-smi") is not None


def means_cpu(device: str) -> bool:
    """Whether ``device`` is the CPU, told without loading a library."""
    return device == "cpu" or (device == "auto" and not may_have_gpu())

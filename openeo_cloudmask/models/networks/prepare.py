"""The inference form of a network: the same function, arranged for speed.

What changes for every network: batch norms become part of the convolution before them, and
tensors lie channels-last in memory. A network with a method ``inference_form(precision)`` brings
an arrangement of its own.
"""

from __future__ import annotations

import copy
from threading import Lock
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.models.devices import choose_device
from openeo_cloudmask.models.processor import read_processor, warn_of_slow_bf16

Precision = Literal["fp32", "bf16"]


def cpu_has_bf16() -> bool:
    """Whether bfloat16 is faster than fp32 on this CPU."""
    return read_processor().fast_bf16


def resolve_device(device: str) -> torch.device:
    """The torch device of ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        OptionError: No such device on this machine.
    """
    number = choose_device(
        device,
        gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0,
        runtime="torch",
        remedy="install a torch build and a driver that match the GPU",
    )
    if number is None:
        return torch.device("cpu")
    return torch.device("cuda", number) if ":" in device else torch.device("cuda")


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """``"auto"`` is bf16 where the hardware is fast with it, else fp32.

    Raises:
        OptionError: Not one of auto, fp32, bf16.
    """
    match precision:
        case "fp32":
            return "fp32"
        case "bf16":
            if device.type == "cpu":
                warn_of_slow_bf16()
            return "bf16"
        case "auto":
            has_bf16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
            return "bf16" if has_bf16 else "fp32"
    raise OptionError(f"The precision was {precision!r}; torch runs auto, fp32 and bf16.")


class _ExactArithmetic:
    """Switches TF32 off, which keeps 10 bits of a factor: not what fp32 promises.

    It is a switch of the whole process. It is off from when the first thread comes in to when the
    last one leaves, so that no thread turns it on under another.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before = False

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch.backends.cudnn.allow_tf32 = self._before


exact_arithmetic = _ExactArithmetic()


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Fold, in place, each BatchNorm2d into the Conv2d right before it in the same Sequential."""
    if isinstance(module, nn.Sequential):
        for index in range(len(module) - 1):
            conv, norm = module[index], module[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index] = fuse_conv_bn_eval(conv, norm)
                module[index + 1] = nn.Identity()
    for child in module.children():
        fold_batch_norms(child)
    return module


class _Autocast(nn.Module):
    """A network with folded norms; bf16 by torch's own list of operations that stand it."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.precision = precision

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return logits.float()


def autocast(network: nn.Module, precision: Precision) -> nn.Module:
    """The inference form of a network that brings none of its own; a copy."""
    return _Autocast(fold_batch_norms(copy.deepcopy(network).eval()), precision)


def prepare(network: nn.Module, device: str | torch.device, precision: str) -> nn.Module:
    """The inference form of ``network`` on ``device``; ``network`` itself is left as it was.

    Args:
        network: A network in its published form, with its weights.
        device: A torch device, or what ``resolve_device`` takes.
        precision: ``fp32`` (probabilities within 1e-5 of the published form), ``bf16``, ``auto``.

    Returns:
        A module: (n, band, y, x) float32 on ``device`` -> (n, class, y, x) float32 logits.

    Raises:
        OptionError: No such device or precision.
    """
    target = device if isinstance(device, torch.device) else resolve_device(device)
    resolved = resolve_precision(precision, target)
    own_form = getattr(network, "inference_form", None)
    arranged: nn.Module = autocast(network, resolved) if own_form is None else own_form(resolved)
    return arranged.eval().requires_grad_(False).to(target, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

"""A module run as one graph by oneDNN, where torch has that.

oneDNN Graph lays tensors out as its kernels like them and does several layers in one pass: of a
1 x 1 convolution and the depthwise one after it, the wide tensor between them is never written.
torch reaches it through TorchScript, which is deprecated for ``torch.compile``; that needs a C++
compiler where the network runs. Where a torch has it no more, the module runs as it is.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

MIN_SIDE_PX = 128
"""Images with a smaller side run as they are: some of oneDNN's layouts do not take a few pixels."""

_KEPT = 4
_AVAILABLE = hasattr(torch.jit, "enable_onednn_fusion") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
# Whether graphs are fused is a switch of the whole process.
_compiling = Lock()

Run = Callable[[Tensor], tuple[Tensor, ...]]


class FusedGraph(nn.Module):
    """``module``, one image -> several tensors, compiled for each shape and number of threads."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._compiled: dict[tuple[torch.Size, int], Run] = {}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The module's answer to ``x`` (n, channel, y, x)."""
        plain = x.device.type != "cpu" or min(x.shape[-2:]) < MIN_SIDE_PX
        if plain or not _AVAILABLE or not torch.is_inference_mode_enabled():
            return self.module(x)  # type: ignore[no-any-return]
        # A kernel is made for the number of threads it first runs with.
        key = (x.shape, torch.get_num_threads())
        return (self._compiled.get(key) or self._compile(key, x))(x)

    def _compile(self, key: tuple[torch.Size, int], x: Tensor) -> Run:
        with _compiling:
            if key not in self._compiled:
                # A new dict: other threads may be reading this one.
                newest = list(self._compiled.items())[1 - _KEPT :]
                self._compiled = {**dict(newest), key: _compiled(self.module, x)}
            return self._compiled[key]


def _compiled(module: nn.Module, x: Tensor) -> Run:
    before = torch.jit.onednn_fusion_enabled()  # type: ignore[no-untyped-call]
    torch.jit.enable_onednn_fusion(True)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", DeprecationWarning)
            traced: Run = torch.jit.freeze(
                torch.jit.trace(module, (x,), check_trace=False)  # type: ignore[no-untyped-call]
            )
            for _ in range(2):  # the first call looks at the tensors, the second one compiles
                traced(x)
    except RuntimeError as err:
        logger.info("oneDNN Graph does not take an image of %s: %s", tuple(x.shape), err)
        return module
    finally:
        torch.jit.enable_onednn_fusion(before)
    return traced

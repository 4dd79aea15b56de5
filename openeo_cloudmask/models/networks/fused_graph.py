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

import torch
from torch import Tensor, nn

from openeo_cloudmask.models.networks.per_shape import PerShape

logger = logging.getLogger(__name__)

MIN_SIDE_PX = 128
"""Images with a smaller side run as they are: some of oneDNN's layouts do not take a few pixels."""

_AVAILABLE = hasattr(torch.jit, "enable_onednn_fusion") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]

Run = Callable[[Tensor], tuple[Tensor, ...]]


class FusedGraph(nn.Module):
    """``module``, one image -> several tensors, compiled for each shape and number of threads."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._compiled = PerShape[Run]()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The module's answer to ``x`` (n, channel, y, x)."""
        plain = x.device.type != "cpu" or min(x.shape[-2:]) < MIN_SIDE_PX
        if plain or not _AVAILABLE or not torch.is_inference_mode_enabled():
            return self.module(x)  # type: ignore[no-any-return]
        # A kernel is made for the number of threads it first runs with.
        return self._compiled.find(x.shape, lambda: _compile(self.module, x))(x)


def _compile(module: nn.Module, x: Tensor) -> Run:
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

"""A convolution with what follows it, in one pass over the pixels where the CPU library can.

oneDNN applies an activation or adds a residual while it writes a convolution's output, and takes
weights arranged for it beforehand. torch offers both as operators of its own compiler's back end;
where they are missing, or on a GPU, the plain operators give the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["none", "relu"]


def _has_fused_operators() -> bool:
    return bool(torch.backends.mkldnn.is_available()) and all(  # type: ignore[no-untyped-call]
        hasattr(torch.ops.mkldnn, name)
        for name in (
            "_convolution_pointwise",
            "_convolution_transpose_pointwise",
            "_reorder_convolution_transpose_weight",
            "_reorder_convolution_weight",
        )
    )


FUSED = _has_fused_operators()


class _Packed:
    """Arranged weights by input shape and number of threads, as the library arranges them.

    Weights arranged for others are arranged anew at each call, which is slow. They are no part of
    a state dict. Of more than a few the oldest are forgotten, so that images of ever new sizes do
    not fill the memory.
    """

    KEPT = 4

    def __init__(self) -> None:
        self._weights: dict[tuple[torch.Size, int], Tensor] = {}

    def find(self, shape: torch.Size, arrange: Callable[[], Tensor]) -> Tensor:
        key = (shape, torch.get_num_threads())
        weight = self._weights.get(key)
        if weight is None:
            weight = arrange()
            # A new dict: other threads may be reading this one.
            newest = list(self._weights.items())[1 - self.KEPT :]
            self._weights = {**dict(newest), key: weight}
        return weight


class FusedConv(nn.Module):
    """A convolution, the addition of another tensor if one is given, and an activation."""

    def __init__(
        self, conv: nn.Conv2d, activation: Activation = "none", dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().to(dtype), requires_grad=False)
        # The bias stays in fp32: sums are formed there, and it is rounded with them.
        bias = None if conv.bias is None else nn.Parameter(conv.bias.detach(), requires_grad=False)
        self.bias = bias
        self.stride, self.padding = list(conv.stride), [int(side) for side in conv.padding]
        self.activation: Activation = activation
        self._packed = _Packed()

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """``activation(conv(x) + add)``."""
        if FUSED and x.device.type == "cpu":
            return self._fused(x, add)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out = F.conv2d(x, self.weight, bias, self.stride, self.padding)
        if add is not None:
            out.add_(add)
        return out.relu_() if self.activation == "relu" else out

    def _fused(self, x: Tensor, add: Tensor | None) -> Tensor:
        shape = (self.padding, self.stride, [1, 1], 1)
        reorder = torch.ops.mkldnn._reorder_convolution_weight  # noqa: SLF001
        weight = self._packed.find(x.shape, lambda: reorder(self.weight, *shape, list(x.shape)))
        operator = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001
        if add is None:
            out: Tensor = operator(x, weight, self.bias, *shape, self.activation, [], "")
            return out
        after = None if self.activation == "none" else self.activation
        bias = None if self.bias is None else self.bias.to(x.dtype)  # this operator wants it so
        arguments: tuple[object, ...] = (x, add, weight, bias, *shape, "add", 1.0, after, [], None)
        summed: Tensor = operator.binary(*arguments)
        return summed


class FusedUpConv(nn.Module):
    """A transposed convolution that doubles the resolution: kernel 4, stride 2, padding 1."""

    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation) -> None:
        """Take ``weight`` (in, out, 4, 4), in the type it is to run in; ``bias`` (out), fp32."""
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.activation: Activation = activation
        self._packed = _Packed()

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, y, x) -> (n, out, 2 y, 2 x)."""
        if FUSED and x.device.type == "cpu":
            return self._fused(x)
        out = F.conv_transpose2d(x, self.weight, self.bias.to(x.dtype), stride=2, padding=1)
        return out.relu_() if self.activation == "relu" else out

    def _fused(self, x: Tensor) -> Tensor:
        shape = ([1, 1], [0, 0], [2, 2], [1, 1], 1)
        reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight  # noqa: SLF001
        weight = self._packed.find(x.shape, lambda: reorder(self.weight, *shape, list(x.shape)))
        out: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(  # noqa: SLF001
            x, weight, self.bias, *shape, self.activation, [], ""
        )
        return out

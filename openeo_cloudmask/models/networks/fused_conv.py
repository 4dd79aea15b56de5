"""A convolution with what follows it, in one pass over the pixels where the CPU library can.

oneDNN applies an activation or adds a residual while it writes a convolution's output, and takes
weights arranged for it beforehand; arranged otherwise, it arranges them anew at each call. torch
offers both as operators of its own compiler's back end; where they are missing, or on a GPU, the
plain operators give the same values.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openeo_cloudmask.models.networks.per_shape import PerShape

Activation = Literal["none", "relu", "gelu"]


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


def _activate(out: Tensor, activation: Activation) -> Tensor:
    if activation == "gelu":
        return F.gelu(out)
    return out.relu_() if activation == "relu" else out


class FusedConv(nn.Module):
    """A convolution, the addition of another tensor if given, and an activation."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        activation: Activation,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> None:
        """Take ``weight`` (out, in, y, x), in the type it is to run in; ``bias`` (out), fp32.

        ``padding`` is that of rows and of columns.
        """
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        # The bias stays in fp32: sums are formed there, and it is rounded with them.
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.groups = stride, groups
        self.padding = (padding, padding) if isinstance(padding, int) else padding
        self.activation: Activation = activation
        self._arranged = PerShape[Tensor]()

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """``activation(conv(x) + add)``."""
        if FUSED and x.device.type == "cpu":
            return self._fused(x, add)
        out = F.conv2d(
            x, self.weight, self.bias.to(x.dtype), self.stride, self.padding, groups=self.groups
        )
        if add is not None:
            out.add_(add)
        return _activate(out, self.activation)

    def _fused(self, x: Tensor, add: Tensor | None) -> Tensor:
        shape = (list(self.padding), [self.stride] * 2, [1, 1], self.groups)
        reorder = torch.ops.mkldnn._reorder_convolution_weight  # noqa: SLF001
        weight = self._arranged.find(x.shape, lambda: reorder(self.weight, *shape, list(x.shape)))
        operator = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001
        if add is None:
            algorithm = "none" if self.activation == "gelu" else ""  # the exact form of it
            out: Tensor = operator(x, weight, self.bias, *shape, self.activation, [], algorithm)
            return out
        after = None if self.activation == "none" else self.activation
        bias = self.bias.to(x.dtype)  # this operator wants it so
        arguments: tuple[object, ...] = (x, add, weight, bias, *shape, "add", 1.0, after, [], None)
        summed: Tensor = operator.binary(*arguments)
        return summed


def fuse(conv: nn.Conv2d, activation: Activation) -> FusedConv:
    """``conv`` and ``activation`` in one pass."""
    weight = conv.weight.detach()
    bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach()
    return FusedConv(
        weight,
        bias,
        activation,
        stride=conv.stride[0],
        padding=int(conv.padding[0]),
        groups=conv.groups,
    )


class FusedUpConv(nn.Module):
    """A transposed convolution that doubles the resolution: kernel 4, stride 2, padding 1.

    With ``inner_rows``, the rows at the image's edges lie inside of a larger image's: the first and
    the last of ``x`` only make the edges of the others' pixels.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, activation: Activation, *, inner_rows: bool = False
    ) -> None:
        """Take ``weight`` (in, out, 4, 4), in the type it is to run in; ``bias`` (out), fp32."""
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.activation: Activation = activation
        self.padding = (3, 1) if inner_rows else (1, 1)
        self._arranged = PerShape[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, y, x) -> (n, out, 2 y, 2 x), or (n, out, 2 y - 4, 2 x)."""
        if FUSED and x.device.type == "cpu":
            return self._fused(x)
        bias = self.bias.to(x.dtype)
        out = F.conv_transpose2d(x, self.weight, bias, stride=2, padding=self.padding)
        return _activate(out, self.activation)

    def _fused(self, x: Tensor) -> Tensor:
        shape = (list(self.padding), [0, 0], [2, 2], [1, 1], 1)
        reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight  # noqa: SLF001
        weight = self._arranged.find(x.shape, lambda: reorder(self.weight, *shape, list(x.shape)))
        out: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(  # noqa: SLF001
            x, weight, self.bias, *shape, self.activation, [], ""
        )
        return out

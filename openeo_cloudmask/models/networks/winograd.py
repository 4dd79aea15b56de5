"""A 3 x 3 convolution by Winograd's F(4 x 4, 3 x 3): a quarter of the products, in fp32.

Each tile of 6 x 6 pixels gives 4 x 4 output pixels by 36 products per pair of channels where the
direct form takes 144 (Lavin and Gray 2016, doi:10.1109/CVPR.2016.435, points 0, 1, -1, 2, -2).
The transforms are small matrices over all tiles at once; they pay where channels are many.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILE_PX = 4
MIN_CHANNELS = 128
"""Channels from which on it is faster than the direct form on a CPU."""

_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def _twice(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """``matrix`` along y and x of a flattened tile."""
    once = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(once, once)


class WinogradConv(nn.Module):
    """A 3 x 3 convolution with stride 1 and padding 1, and max(x, 0) if ``relu``; fp32."""

    weight: Tensor
    kernels: Tensor
    spread: Tensor
    gather: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool) -> None:
        """Take ``weight`` (out, in, 3, 3) and ``bias`` (out), fp32."""
        super().__init__()
        flat = weight.detach().double().flatten(2).permute(2, 1, 0)
        kernels = torch.tensordot(_twice(_KERNEL), flat, 1)  # (36, in, out)
        self.relu = relu
        self.register_buffer("weight", weight.detach())
        self.register_buffer("kernels", kernels.float().contiguous())
        self.register_buffer("spread", _twice(_INPUT).float())
        self.register_buffer("gather", _twice(_OUTPUT).float())
        self.register_buffer("bias", bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, y, x) -> (n, out, y, x), channels last in memory."""
        if x.device.type != "cpu":  # a GPU's library knows this and more
            out = F.conv2d(x, self.weight, self.bias, padding=1)
            return out.relu_() if self.relu else out
        n, channels, height, width = x.shape
        below, right = -height % TILE_PX, -width % TILE_PX
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1 + right, 1, 1 + below))
        side = TILE_PX + 2
        tiles = padded.unfold(1, side, TILE_PX).unfold(2, side, TILE_PX)
        rows, columns = tiles.shape[1:3]
        flat = tiles.permute(4, 5, 0, 1, 2, 3).reshape(side * side, -1)
        products = torch.bmm((self.spread @ flat).view(side * side, -1, channels), self.kernels)
        out = (self.gather @ products.flatten(1)).view(TILE_PX, TILE_PX, n, rows, columns, -1)
        out = out.permute(2, 3, 0, 4, 1, 5).reshape(n, rows * TILE_PX, columns * TILE_PX, -1)
        out = out[:, :height, :width].add_(self.bias)
        return (out.relu_() if self.relu else out).permute(0, 3, 1, 2)

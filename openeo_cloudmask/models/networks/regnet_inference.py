"""RegNetY arranged for speed: activations and residuals are part of the convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from openeo_cloudmask.models.networks.fused_conv import fuse
from openeo_cloudmask.models.networks.regnet import RegNetY

_STRIP_ROWS = 16
"""Of a halved map: what is widened for them stays in the processor's cache."""


class FastRegNetY(nn.Module):
    """(n, band, y, x) -> the maps at 1/2 to 1/32 of the resolution, finest first."""

    def __init__(self, plain: RegNetY) -> None:
        """Take a network whose batch norms are folded."""
        super().__init__()
        stem, *stages = plain.children()
        self.stem = fuse(stem[0], "relu")  # type: ignore[index]
        self.stages = nn.ModuleList(
            nn.Sequential(*(_FastBlock(block) for block in stage.children())) for stage in stages
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps; see the class."""
        found = [self.stem(x)]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found


class _FastBlock(nn.Module):
    def __init__(self, block: Any) -> None:  # noqa: ANN401 - a Block, whose layers are known
        super().__init__()
        self.conv1, self.conv2 = fuse(block.conv1[0], "relu"), fuse(block.conv2[0], "relu")
        self.se = block.se
        self.conv3 = fuse(block.conv3[0], "relu")
        changes = block.downsample is not None
        self.downsample = fuse(block.downsample[0], "none") if changes else None

    def forward(self, x: Tensor) -> Tensor:
        short = x if self.downsample is None else self.downsample(x)
        halves = self.conv2.stride == 2 and x.shape[2] > 2 * _STRIP_ROWS
        filtered = self._in_strips(x, short) if halves else self.conv2(self.conv1(x))
        out: Tensor = self.conv3(self.se(filtered), short)
        return out

    def _in_strips(self, x: Tensor, like: Tensor) -> Tensor:
        """The first two convolutions, a few rows at a time; of ``like``'s shape."""
        out = torch.empty_like(like)
        for top in range(0, like.shape[2], _STRIP_ROWS):
            bottom = min(top + _STRIP_ROWS, like.shape[2])
            above = min(top, 1)  # a row more, which takes the strip's edge for the image's
            part = x[:, :, 2 * (top - above) : 2 * bottom]
            part = self.conv2(self.conv1(part.contiguous(memory_format=torch.channels_last)))
            out[:, :, top:bottom] = part[:, :, above:]
        return out

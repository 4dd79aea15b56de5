"""SegFormer's decode head, exact, for a fraction of the published work.

As published, four linear maps to one width, bilinear upsampling to the finest stage, a pointwise
fusion of all four and a batch norm. All of that is linear, and a pointwise map commutes with the
upsampling. So the matrices are multiplied beforehand, each stage is mapped at its own size, and
the rows of the finest stage are one matrix product each: features of that row and the
interpolation weights of the coarser stages on the left, their maps on the right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from openeo_cloudmask.models.networks.segmenter import in_graph
from openeo_cloudmask.models.networks.sensei_merge import norm_scale_shift

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Rows of the finest stage worked on together on a CPU; their block stays in its cache.
_ROWS = 8


class _Projection(nn.Module):
    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(size, width)


class DecodeHead(nn.Module):
    """Features of four stages -> class scores at the size of the finest."""

    def __init__(self, sizes: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.linear_c = nn.ModuleList(_Projection(size, width) for size in sizes)
        self.linear_fuse = nn.Conv2d(len(sizes) * width, width, 1, bias=False)
        self.batch_norm = nn.BatchNorm2d(width)
        self.classifier = nn.Conv2d(width, classes, 1)
        self._frozen = False
        #: What the products are computed in; parameters and the last map stay in float32.
        self.dtype = torch.float32

    @torch.no_grad()
    def freeze(self, dtype: torch.dtype) -> None:
        """Multiply the matrices once and for all; later changes of weights are not seen."""
        self.dtype = dtype
        maps, offset = self._multiply()
        for index, matrix in enumerate(maps):
            self.register_buffer(f"map{index}", matrix, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self._frozen = True

    def _maps(self) -> tuple[list[Tensor], Tensor]:
        if not self._frozen:
            return self._multiply()
        count = len(self.linear_c)
        return [self.get_buffer(f"map{i}") for i in range(count)], self.get_buffer("offset")

    def _multiply(self) -> tuple[list[Tensor], Tensor]:
        """Return one matrix per stage, (size, width), and the common offset, (width,)."""
        scale, offset = norm_scale_shift(self.batch_norm)
        # The fusion takes the coarsest stage first.
        parts = self.linear_fuse.weight.flatten(1).chunk(len(self.linear_c), dim=1)[::-1]
        maps = []
        for stage, part in zip(self.linear_c, parts, strict=True):
            scaled = part * scale[:, None]
            linear = cast("_Projection", stage).proj
            maps.append((scaled @ linear.weight).T.contiguous())
            offset = offset + scaled @ linear.bias
        return maps, offset

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the scores, (n, class, y, x) float32, at the size of ``features[0]``."""
        maps, offset = self._maps()
        height, width = features[0].shape[2:]
        fine = features[0].permute(0, 2, 3, 1).to(self.dtype)
        coarse = [
            feature.permute(0, 2, 3, 1).to(self.dtype) @ matrix.to(self.dtype)
            for feature, matrix in zip(features[1:], maps[1:], strict=True)
        ]
        # Interpolation weights sum to 1, so a constant on one coarse stage is one everywhere.
        coarse[0] = (coarse[0] + offset).to(self.dtype)
        first = maps[0].to(self.dtype).expand(fine.shape[0], 1, -1, -1)
        spread = torch.cat([_interpolation(width, part.shape[2], part) for part in coarse], dim=1)
        weight = self.classifier.weight.flatten(1).T
        whole = fine.device.type != "cpu" or in_graph()
        step = height if whole else _ROWS
        scores = []
        for start in range(0, height, step):
            rows = torch.arange(start, min(start + step, height), device=fine.device)
            line = fine[:, start : start + step]
            left = torch.cat((line, spread.expand(*line.shape[:2], -1, -1)), dim=3)
            right = [first.expand(-1, len(rows), -1, -1)]
            right += [_rows_between(part, rows, height) for part in coarse]
            mixed = torch.relu(left @ torch.cat(right, dim=2))
            scores.append(mixed.to(weight.dtype) @ weight)
        out = torch.cat(scores, dim=1)
        if self.classifier.bias is not None:
            out = out + self.classifier.bias
        return out.permute(0, 3, 1, 2)


def _neighbours(size: int, source: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two source indices and the weight of the second for each of ``size`` places.

    Bilinear interpolation with pixel centres in the middle of pixels, clamped at the borders.
    """
    places = (torch.arange(size, device=device, dtype=torch.float64) + 0.5) * (source / size) - 0.5
    places = places.clamp(0, source - 1)
    first = places.floor()
    return first.long(), (first + 1).clamp(max=source - 1).long(), places - first


def _interpolation(size: int, source: int, like: Tensor) -> Tensor:
    """Return the matrix, (size, source), that upsamples a line of ``source`` values."""
    first, second, weight = _neighbours(size, source, like.device)
    matrix = torch.zeros(size, source, dtype=torch.float64, device=like.device)
    lines = torch.arange(size, device=like.device)
    matrix[lines, first] += 1 - weight
    matrix[lines, second] += weight
    return matrix.to(like.dtype)


def _rows_between(part: Tensor, rows: Tensor, height: int) -> Tensor:
    """Return the upsampled ``rows`` of ``part``, (n, y, x, width) -> (n, row, x, width)."""
    first, second, weight = _neighbours(height, part.shape[1], part.device)
    blend = weight[rows].to(part.dtype)[:, None, None]
    return torch.lerp(part[:, first[rows]], part[:, second[rows]], blend)

"""OmniCloudMask's two networks arranged for speed in fp32: the same logits, to rounding.

* **Batch norms folded**; activations, residuals and what scales a layer's output are part of the
  convolution before them. So are what layer norms multiply by and add, in the layer after them.
* **Linear layers over pixels as convolutions of 1 x 1**, with their GELU applied while the output
  is written.
* **No doubled and no joined tensor** in the decoder, as in `unet_inference`. Where the finer map
  has a row or a column more or less than twice as many, its edge is computed anew.
* **The last block in strips of rows**: at full resolution a tensor of a patch of 1000 pixels takes
  64 MB, a strip's stays in the processor's cache. Halos of rows make the strips' pixels those of
  the whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openeo_cloudmask.models.networks.edgenext import EdgeNeXt
from openeo_cloudmask.models.networks.edgenext_inference import FastEdgeNeXt
from openeo_cloudmask.models.networks.prepare import fold_batch_norms
from openeo_cloudmask.models.networks.regnet_inference import FastRegNetY
from openeo_cloudmask.models.networks.stored_conv import (
    Between,
    StoredConv,
    StoredHead,
    StoredUpConv,
)

_STRIP_ROWS = 32
_HALO_ROWS = 2
"""Of the last block's input, whose rows are half as many: three convolutions see 3 rows."""


class FastEnsemble(nn.Module):
    """(n, 3, y, x) reflectance, 0 where not seen -> (n, 4, y, x): the mean of both logits."""

    def __init__(self, members: Sequence[nn.Module], normalise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.members = nn.ModuleList(FastUNet(member) for member in members)
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        """The mean logits; see the class."""
        x = self.normalise(x).contiguous(memory_format=torch.channels_last)
        first, *others = (member(x) for member in self.members)
        for other in others:
            first += other
        mean: Tensor = first.div_(len(self.members))
        return mean


class FastUNet(nn.Module):
    """One member: (n, 3, y, x) normalised, channels last -> (n, 4, y, x) logits."""

    def __init__(self, network: Any) -> None:  # noqa: ANN401 - a U-Net with its weights
        super().__init__()
        plain: Any = fold_batch_norms(copy.deepcopy(network).eval().cpu().double()).float()
        encoder = plain.encoder["model"]
        fast = FastEdgeNeXt if isinstance(encoder, EdgeNeXt) else FastRegNetY
        self.encoder = fast(encoder)
        self.blocks = nn.ModuleList()
        deep = plain.deep_channels
        for block in plain.decoder.blocks:
            self.blocks.append(_Block(block.conv1[0], block.conv2[0], deep))
            deep = block.conv2[0].out_channels
        self.head = StoredHead(plain.segmentation_head[0], _plain(deep), torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """The logits; see the class."""
        height, width = x.shape[2:]
        *finer, y = self.encoder(x)
        *blocks, last = self.blocks
        skips: list[Tensor | None] = [*reversed(finer)]
        sizes = [skip.shape[2:] for skip in reversed(finer)]
        if len(skips) < len(blocks):  # no map at half the resolution
            skips.append(None)
            sizes.append(torch.Size((height // 2, width // 2)))
        for block, size, skip in zip(blocks, sizes, skips, strict=True):
            y = block(y, size, skip)
        if height % 2 or width % 2:
            return self._uneven_head(last(y, x.shape[2:], None))
        logits: Tensor = y.new_empty((len(y), self.head.bias.numel(), height, width))
        for rows, kept, part in _strips(y):
            size = torch.Size((2 * part.shape[2], width))
            logits[:, :, rows] = self.head(last(part, size, None))[:, :, kept]
        return logits

    def _uneven_head(self, x: Tensor) -> Tensor:
        """The head takes pixels four at a time; what follows the edge is 0 to it anyway."""
        height, width = x.shape[2:]
        padded = F.pad(x, (0, width % 2, 0, height % 2))
        logits: Tensor = self.head(padded.contiguous(memory_format=torch.channels_last))
        return logits[:, :, :height, :width]


def _strips(x: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield rows at twice the resolution, which of a part's they are, and the part of ``x``."""
    height = x.shape[2]
    for top in range(0, height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, height)
        first, last = max(top - _HALO_ROWS, 0), min(bottom + _HALO_ROWS, height)
        part = x[:, :, first:last].contiguous(memory_format=torch.channels_last)
        yield slice(2 * top, 2 * bottom), slice(2 * (top - first), 2 * (bottom - first)), part


def _plain(channels: int) -> Between:
    """What is known of a tensor in fp32: how many channels it has."""
    return Between(torch.zeros(channels), None)


class _Block(nn.Module):
    """A block of the decoder: up to the next finer map, and two convolutions beside it."""

    weight: Tensor

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, deep: int) -> None:
        super().__init__()
        after = _plain(first.out_channels)
        skip = _plain(first.in_channels - deep)
        self.up = StoredUpConv(first, _plain(deep), skip, after, torch.float32)
        self.second = StoredConv(second, after, after, torch.float32)
        self.register_buffer("weight", first.weight.detach())

    def forward(self, x: Tensor, size: torch.Size, skip: Tensor | None) -> Tensor:
        """``x`` at ``size``, beside ``skip`` where there is one, through both convolutions."""
        before = [_before(*lengths) for lengths in zip(x.shape[2:], size, strict=True)]
        if size == (2 * x.shape[2], 2 * x.shape[3]):
            y = self.up(x, skip)
        elif self.up.skip is None or None in before:
            x = F.interpolate(x, size=tuple(size), mode="nearest")
            joined = x if skip is None else torch.cat([x, skip], dim=1)
            y = F.conv2d(joined, self.weight, self.up.bias, padding=1).relu_()
        else:
            y = self.up.skip(skip, self._uneven(x, size, cast("list[int]", before)))
        out: Tensor = self.second(y)
        return out

    def _uneven(self, x: Tensor, size: torch.Size, before: list[int]) -> Tensor:
        """The first convolution of ``x`` at ``size``, which is twice its size but for a pixel."""
        top, left = before
        height, width = size
        doubled = self.up.deep(F.pad(x, (left, 0, top, 0), mode="replicate"))
        cut = doubled[:, :, top : top + height, left : left + width]
        out: Tensor = cut.contiguous(memory_format=torch.channels_last)
        weight = self.weight[:, : x.shape[1]]
        # Rows and columns that are not there were seen; edges see zeros instead.
        rows, columns = (_source(*pair) for pair in zip(x.shape[2:], size, strict=True))
        if height != 2 * x.shape[2]:
            edge, ends = (0, (1, 0)) if top else (height - 1, (0, 1))
            pair = x[:, :, rows[[0, 1] if top else [-2, -1]]][:, :, :, columns]
            out[:, :, edge] = F.conv2d(F.pad(pair, (1, 1, *ends)), weight)[:, :, 0]
        if width != 2 * x.shape[3]:
            edge, ends = (0, (1, 0)) if left else (width - 1, (0, 1))
            pair = x[:, :, :, columns[[0, 1] if left else [-2, -1]]][:, :, rows]
            out[..., edge] = F.conv2d(F.pad(pair, (*ends, 1, 1)), weight)[..., 0]
        return out


@lru_cache
def _source(length: int, wanted: int) -> Tensor:
    """Which of ``length`` pixels nearest interpolation puts at each of the ``wanted`` ones."""
    line = torch.arange(length, dtype=torch.float32)[None, None]
    return F.interpolate(line, size=wanted, mode="nearest")[0, 0].long()


@lru_cache
def _before(length: int, wanted: int) -> int | None:
    """How many pixels to repeat before a line so that it is, doubled, the interpolated one.

    As many are then left out at the front. None where doubling does not give it.
    """
    at = torch.arange(wanted)
    for before in (0, 1):
        if torch.equal(_source(length, wanted), (at - before).clamp(min=0) // 2):
            return before
    return None

"""OmniCloudMask's two networks arranged for speed in fp32: the same logits, to rounding.

* **Batch norms folded**; activations, residuals and what scales a layer's output are part of the
  convolution before them. So are what layer norms multiply by and add, in the layer after them.
* **Linear layers over pixels as convolutions of 1 x 1**, with their GELU applied while the output
  is written.
* **No doubled and no joined tensor** in the decoder, as in `unet_inference`. Where the finer map
  has a row or a column more or less than twice as many, its edge is computed anew.
* **The last two blocks and the head a few rows at a time**: at full resolution a tensor of a patch
  of 1000 pixels takes 64 MB, a few of its rows stay in the processor's cache. Each layer keeps its
  last two rows for the next strip, so that none is computed twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openeo_cloudmask.models.networks.edgenext import EdgeNeXt
from openeo_cloudmask.models.networks.edgenext_inference import FastEdgeNeXt
from openeo_cloudmask.models.networks.fused_conv import FusedConv, FusedUpConv
from openeo_cloudmask.models.networks.prepare import fold_batch_norms
from openeo_cloudmask.models.networks.regnet_inference import FastRegNetY
from openeo_cloudmask.models.networks.stored_conv import (
    Between,
    StoredConv,
    StoredHead,
    StoredUpConv,
    doubling_weights,
)

_STRIP_ROWS = 32
"""Of the logits at a time."""
_ROLLED = 2
"""Blocks that are computed in strips: those whose tensors are larger than the cache."""


class FastEnsemble(nn.Module):
    """(n, 3, y, x) reflectance, 0 where not seen -> (n, 4, y, x): the mean of both logits."""

    def __init__(self, members: Sequence[nn.Module], normalise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.members = nn.ModuleList(FastUNet(member) for member in members)
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        """The mean logits; see the class."""
        x = self.normalise(x).contiguous(memory_format=torch.channels_last)
        first, *others = self.members
        total: Tensor = first(x)
        for other in others:
            total += other(x)
        return total.div_(len(self.members))


class FastUNet(nn.Module):
    """One member: (n, 3, y, x) normalised, channels last -> (n, 4, y, x) logits."""

    def __init__(self, network: Any) -> None:  # noqa: ANN401 - a U-Net with its weights
        super().__init__()
        plain: Any = fold_batch_norms(copy.deepcopy(network).eval().cpu().double()).float()
        encoder = plain.encoder["model"]
        fast = FastEdgeNeXt if isinstance(encoder, EdgeNeXt) else FastRegNetY
        self.encoder = fast(encoder)
        self.blocks = nn.ModuleList()
        self.rolled = nn.ModuleList()
        deep = plain.deep_channels
        for index, block in enumerate(plain.decoder.blocks, -len(plain.decoder.blocks)):
            parts = (block.conv1[0], block.conv2[0], deep)
            self.blocks.append(_Block(*parts))
            if index >= -_ROLLED:
                self.rolled.append(_Rows(*parts))
            deep = block.conv2[0].out_channels
        head = plain.segmentation_head[0]
        self.head = StoredHead(head, _plain(deep), torch.float32)
        self.head_rows = StoredHead(head, _plain(deep), torch.float32, row_padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """The logits; see the class."""
        height, width = x.shape[2:]
        *finer, y = self.encoder(x)
        skips: list[Tensor | None] = [*reversed(finer)]
        sizes = [skip.shape[2:] for skip in reversed(finer)]
        if len(skips) < len(self.blocks) - 1:  # no map at half the resolution
            skips.append(None)
            sizes.append(torch.Size((height // 2, width // 2)))
        sizes.append(x.shape[2:])
        steps = list(zip(self.blocks, sizes, [*skips, None], strict=True))
        whole = len(steps) - _doubled(sizes)
        for block, size, skip in steps[:whole]:
            y = block(y, size, skip)
        if whole == len(steps):
            return self._uneven_head(y)
        rows = iter(y.split(_STRIP_ROWS >> (len(steps) - whole), dim=2))
        for index, (_, _, skip) in enumerate(steps[whole:], whole - len(steps)):
            rows = self.rolled[index](rows, skip)
        logits: Tensor = x.new_empty((len(x), self.head.bias.numel(), height, width))
        end = 0
        for strip in _joined(rows):
            part = self.head_rows(strip)
            first, end = end, end + part.shape[2]
            logits[:, :, first:end] = part
        return logits

    def _uneven_head(self, x: Tensor) -> Tensor:
        """The head takes pixels four at a time; what follows the edge is 0 to it anyway."""
        height, width = x.shape[2:]
        padded = F.pad(x, (0, width % 2, 0, height % 2))
        logits: Tensor = self.head(padded.contiguous(memory_format=torch.channels_last))
        return logits[:, :, :height, :width]


def _doubled(sizes: Sequence[torch.Size]) -> int:
    """How many of the last steps from size to size double it, so that strips can go through."""
    found = 0
    for small, large in reversed(list(pairwise(sizes))):
        if found == _ROLLED or large != (2 * small[0], 2 * small[1]):
            break
        found += 1
    return found


def _joined(strips: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield each strip after the last two rows of that before, the image between rows of 0."""
    strip = next(strips)
    edge = before = torch.zeros_like(strip[:, :, :1])
    for following in strips:
        joined = _stack(before, strip)
        before, strip = joined[:, :, -2:], following
        yield joined
    yield _stack(before, strip, edge)


def _stack(*parts: Tensor) -> Tensor:
    """Rows below rows; as pixels with their channels, which are copied as they lie in memory."""
    pixels = torch.cat([part.permute(0, 2, 3, 1) for part in parts], dim=1)
    return pixels.permute(0, 3, 1, 2)


def _around(image: Tensor, first: int, end: int) -> Tensor:
    """Rows ``first`` to ``end`` and one on either side, of 0 outside of the image."""
    part = image[:, :, max(first - 1, 0) : end + 1]
    edges = (int(first == 0), int(end == image.shape[2]))
    if any(edges):
        part = F.pad(part, (0, 0, *edges))
    return part.contiguous(memory_format=torch.channels_last)


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


class _Rows(nn.Module):
    """A block of the decoder in strips of rows, each of which goes through once."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, deep: int) -> None:
        super().__init__()
        weight, bias = first.weight.detach(), _bias(first)
        doubling = doubling_weights(weight[:, :deep], _plain(deep), torch.float32)
        beside = first.in_channels > deep
        self.deep = FusedUpConv(doubling, bias, "none" if beside else "relu", inner_rows=True)
        self.skip = None
        if beside:
            self.skip = FusedConv(weight[:, deep:], torch.zeros(len(bias)), "relu", padding=(0, 1))
        self.second = FusedConv(second.weight.detach(), _bias(second), "relu", padding=(0, 1))

    def forward(self, strips: Iterator[Tensor], skip: Tensor | None) -> Iterator[Tensor]:
        """Yield strips of the output of those of the input, at twice the resolution."""
        for strip in _joined(self._doubled(strips, skip)):
            yield self.second(strip)

    def _doubled(self, strips: Iterator[Tensor], skip: Tensor | None) -> Iterator[Tensor]:
        end = 0
        for strip in _joined(strips):
            y = self.deep(strip)
            first, end = end, end + y.shape[2]
            if self.skip is not None and skip is not None:
                y = self.skip(_around(skip, first, end), y)
            yield y


def _bias(conv: nn.Conv2d) -> Tensor:
    return cast("Tensor", conv.bias).detach()


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

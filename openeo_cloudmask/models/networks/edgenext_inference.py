"""EdgeNeXt arranged for speed: what scales a layer's input or output is part of its weights.

A linear layer over pixels is a convolution of 1 x 1: so its GELU is applied while its output is
written, and a block's input is added. What a layer norm multiplies by and adds goes into the layer
after it, and what a block's output is scaled by into the one before.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openeo_cloudmask.models.networks.edgenext import (
    EPS,
    ChannelAttention,
    EdgeNeXt,
    Mlp,
    SplitBlock,
)
from openeo_cloudmask.models.networks.fused_conv import FusedConv, fuse
from openeo_cloudmask.models.networks.per_shape import PerShape

_TILE_VALUES = 1 << 21
"""Widened features in memory at once: more would leave the cache, fewer cost calls."""
_SHORTEST = 1e-12
"""torch's own least length of a vector that is normalised."""


class FastEdgeNeXt(nn.Module):
    """(n, band, y, x) -> the maps at 1/4 to 1/32 of the resolution, finest first."""

    def __init__(self, plain: EdgeNeXt) -> None:
        super().__init__()
        first, norm, *stages = plain.children()
        self.first, self.norm = fuse(first, "none"), norm  # type: ignore[arg-type]
        self.stages = nn.ModuleList(_stage(stage) for stage in stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps; see the class."""
        x, found = self.norm(self.first(x)), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


def _stage(plain: Any) -> nn.Sequential:  # noqa: ANN401
    layers: list[nn.Module] = []
    if not isinstance(plain.downsample, nn.Identity):
        norm, halve = plain.downsample
        weight, bias = _after_norm(norm, halve.weight, halve.bias)
        layers += [_Normalise(), FusedConv(weight, bias, "none", stride=2, padding=0)]
    for block in plain.blocks:
        kind = _FastSplitBlock if isinstance(block, SplitBlock) else _FastConvBlock
        layers.append(kind(block))
    return nn.Sequential(*layers)


def _after_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """``weight`` (out, in, ...) and ``bias`` of a layer that takes what ``norm`` has normalised."""
    weight, bias = weight.detach().double(), bias.detach().double()
    scale, shift = norm.weight.detach().double(), norm.bias.detach().double()
    shape = (1, -1, *(1 for _ in weight.shape[2:]))
    moved = (weight * shift.view(shape)).flatten(1).sum(1)
    return (weight * scale.view(shape)).float(), (bias + moved).float()


class _Normalise(nn.Module):
    """Layer normalisation over channels, without a scale of its own."""

    def forward(self, x: Tensor) -> Tensor:
        planes = x.permute(0, 2, 3, 1)
        return F.layer_norm(planes, planes.shape[3:], eps=EPS).permute(0, 3, 1, 2)


class _FastMlp(nn.Module):
    """Both linear layers after a norm, scaled and added to the block's input."""

    def __init__(self, norm: nn.LayerNorm, mlp: Mlp, gamma: Tensor) -> None:
        super().__init__()
        weight, bias = _after_norm(norm, mlp.fc1.weight, mlp.fc1.bias)
        scale = gamma.detach().double()
        narrow = (mlp.fc2.weight.detach() * scale[:, None]).float()
        self.normalise = _Normalise()
        self.widen = FusedConv(weight[:, :, None, None], bias, "gelu", padding=0)
        self.narrow = FusedConv(
            narrow[:, :, None, None], (mlp.fc2.bias.detach() * scale).float(), "none", padding=0
        )

    def forward(self, y: Tensor, add: Tensor) -> Tensor:
        rows = max(1, _TILE_VALUES // (len(self.widen.bias) * y.shape[3]))
        if rows >= y.shape[2]:
            return self._pixels(y, add)
        out = torch.empty_like(add)
        for top in range(0, y.shape[2], rows):
            part = (slice(None), slice(None), slice(top, top + rows))
            out[part] = self._pixels(y[part], add[part])
        return out

    def _pixels(self, y: Tensor, add: Tensor) -> Tensor:
        kind = torch.channels_last
        wide = self.widen(self.normalise(y).contiguous(memory_format=kind))
        out: Tensor = self.narrow(wide, add.contiguous(memory_format=kind))
        return out


class _FastConvBlock(nn.Module):
    def __init__(self, block: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.conv = fuse(block.conv_dw, "none")
        self.mlp = _FastMlp(block.norm, block.mlp, block.gamma)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(self.conv(x), x)
        return out


class _FastSplitBlock(nn.Module):
    def __init__(self, block: SplitBlock) -> None:
        super().__init__()
        self.convs = nn.ModuleList(fuse(conv, "none") for conv in block.convs)  # type: ignore[arg-type]
        self.positions = block.pos_embd
        self.attention = _FastAttention(block.norm_xca, block.xca, block.gamma_xca)
        self.mlp = _FastMlp(block.norm, block.mlp, block.gamma)
        self._placed = PerShape[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        kind = torch.channels_last
        parts = [part.contiguous(memory_format=kind) for part in x.chunk(len(self.convs) + 1, 1)]
        part, found = parts[0], []
        for index, conv in enumerate(self.convs):
            part = conv(part if index == 0 else part + parts[index])
            found.append(part)
        y = torch.cat([*found, parts[-1]], dim=1).contiguous(memory_format=kind)
        if (positions := self.positions) is not None:
            y += self._placed.find(x.shape[2:], lambda: positions(*x.shape[2:]))
        pixels = y.permute(0, 2, 3, 1).flatten(1, 2)
        mixed = self.attention(pixels).view(-1, *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)
        out: Tensor = self.mlp(mixed, x)
        return out


class _FastAttention(nn.Module):
    """Layer norm, attention between channels, and the sum with the input.

    What attention and projection do to the values is one small matrix, once the attention is
    known: it is multiplied with the values' own one before any pixel is.
    """

    keys: Tensor
    keys_bias: Tensor
    values: Tensor
    values_bias: Tensor
    out: Tensor
    out_bias: Tensor
    temperature: Tensor

    def __init__(self, norm: nn.LayerNorm, attention: ChannelAttention, gamma: Tensor) -> None:
        super().__init__()
        weight, bias = _after_norm(norm, attention.qkv.weight, attention.qkv.bias)
        split = 2 * len(weight) // 3
        scale = gamma.detach().double()
        for name, tensor in (
            ("keys", weight[:split]),
            ("keys_bias", bias[:split]),
            ("values", weight[split:]),
            ("values_bias", bias[split:]),
            ("out", attention.proj.weight.detach() * scale[:, None]),
            ("out_bias", attention.proj.bias.detach() * scale),
            ("temperature", attention.temperature.detach()),
        ):
            self.register_buffer(name, tensor.float())

    def forward(self, y: Tensor) -> Tensor:
        """(n, pixel, channel) -> the same."""
        z = F.layer_norm(y, y.shape[2:], eps=EPS)
        queries, keys = F.linear(z, self.keys, self.keys_bias).chunk(2, dim=2)
        weights = self._weights(queries, keys)
        heads = self.out.T.reshape(*weights.shape[1:3], -1)  # (head, channel, out)
        matrix = (weights.transpose(2, 3) @ heads).flatten(1, 2)
        bias = self.values_bias @ matrix + self.out_bias
        return torch.baddbmm(y.add_(bias[:, None]), z, self.values.T @ matrix)

    def _weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(n, head, channel, channel): what of each channel goes into each."""
        heads = len(self.temperature)
        split = (heads, queries.shape[2] // heads)
        products = queries.transpose(1, 2) @ keys
        blocks = products.view(-1, *split, *split)  # between heads, too
        own = blocks.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        lengths = [
            each.square().sum(dim=1).sqrt_().clamp_(min=_SHORTEST).view(-1, *split)
            for each in (queries, keys)
        ]
        cosines = own / (lengths[0][..., None] * lengths[1][:, :, None])
        weights: Tensor = (cosines * self.temperature).softmax(dim=3)
        return weights

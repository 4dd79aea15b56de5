"""Blocks of the SEnSeI encoder, under the parameter names of the published weights.

Descriptor blocks turn ``(n, band, feature)`` descriptor vectors into others; a merging block,
always the last, turns the bands and their vectors into one image. The arithmetic is the
published one, with these parts written so that a batch changes nothing:

- ``GLOBAL_STATS`` takes percentiles over the valid pixels of each window alone;
- ``ATTENTION`` as published attends over the batch axis, so that with one window a band attends
  only to itself. That is the reference, and it is what happens here whatever the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from openeo_cloudmask.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

_THREE_PARTS = 3  # query, key and value lie in one matrix


class GlobalStats(nn.Module):
    """Percentiles of each band, appended to its descriptor vector."""

    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.quantiles = tuple(float(value) for value in config["percentiles"])
        self.output_size = size + len(self.quantiles)

    def forward(self, vectors: Tensor, stats: Tensor) -> Tensor:
        """Return ``vectors`` with the bands' percentiles behind them, (n, band, quantile)."""
        return torch.cat((vectors, stats.to(vectors.dtype)), dim=2)


class FullyConnected(nn.Module):
    """Norm, ReLU and linear map, once per layer size.

    With ``skips`` the published code adds the output of each linear map to itself: the skip
    starts behind the map instead of before it. The weights were trained so, and it stays.
    """

    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.skips = bool(config.get("skips", False))
        layers: list[nn.Module] = []
        for width in config["layer_sizes"]:
            layers += [nn.LayerNorm(size), nn.ReLU(), nn.Linear(size, width)]
            if self.skips:
                layers.append(nn.Identity())  # keeps the numbering of the published weights
            size = width
        self.layers = nn.ModuleList(layers)
        self.output_size = size

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the mapped vectors."""
        for layer in self.layers:
            skip = isinstance(layer, nn.Identity)
            vectors = vectors + vectors if skip else layer(vectors)
        return vectors


class PairedFullyConnected(FullyConnected):
    """A fully connected net on every pair of bands, averaged over the partner."""

    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        super().__init__(config, 2 * size)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return one vector per band: the mean over its pairs (partner first, band second)."""
        count = vectors.shape[1]
        partner = vectors.unsqueeze(1).expand(-1, count, -1, -1)
        band = vectors.unsqueeze(2).expand(-1, -1, count, -1)
        pairs = torch.cat((partner, band), dim=3)
        for layer in self.layers:
            pairs = layer(pairs)
        return pairs.mean(dim=2)


class _SelfAttention(nn.Module):
    """Attention of a token to itself alone, which leaves value and output maps."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(_THREE_PARTS * size, size))
        self.in_proj_bias = nn.Parameter(torch.zeros(_THREE_PARTS * size))
        self.out_proj = nn.Linear(size, size)

    def forward(self, tokens: Tensor) -> Tensor:
        # The softmax over one key is 1: the query and key thirds of the matrix cannot matter.
        size = tokens.shape[-1]
        weight, bias = self.in_proj_weight[2 * size :], self.in_proj_bias[2 * size :]
        out: Tensor = self.out_proj(nn.functional.linear(tokens, weight, bias))
        return out


class _EncoderLayer(nn.Module):
    """A transformer encoder layer (norm behind each part) on single tokens."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(size)
        self.linear1 = nn.Linear(size, hidden)
        self.linear2 = nn.Linear(hidden, size)
        self.norm1 = nn.LayerNorm(size)
        self.norm2 = nn.LayerNorm(size)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm1(tokens + self.self_attn(tokens))
        out: Tensor = self.norm2(tokens + self.linear2(torch.relu(self.linear1(tokens))))
        return out


class Attention(nn.Module):
    """Transformer encoder layers; the published ``skips`` has no effect and has none here."""

    def __init__(self, config: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.output_size = config["num_heads"] * config["dims_per_head"]
        if self.output_size != size:
            raise OptionError(
                f"block ATTENTION has {config['num_heads']} heads of {config['dims_per_head']} "
                f"values ({self.output_size}), but gets vectors of {size}"
            )
        self.layers = nn.ModuleList(
            _EncoderLayer(size, config["intermediate_size"])
            for _ in range(config["num_transformerencoders"])
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the vectors after all layers; each band on its own."""
        for layer in self.layers:
            vectors = layer(vectors)
        return vectors

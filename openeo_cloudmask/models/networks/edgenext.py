"""EdgeNeXt-Small (Maaz et al. 2022) as an encoder, under the names of published weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (48, 96, 160, 304)
"""Of the maps at 1/4, 1/8, 1/16 and 1/32 of the resolution."""
_DEPTHS = (3, 3, 9, 3)
_KERNELS = (3, 5, 7, 9)
_SCALES = (0, 2, 3, 4)
"""Parts that the last block of a stage splits its channels into; 0 where it is a plain one."""
_POSITION_STAGE = 1
_HEADS = 8
_EXPANSION = 4
EPS = 1e-6
_FREQUENCIES = 32
_TEMPERATURE = 10000.0


class EdgeNeXt(nn.Module):
    """(n, band, y, x) -> the maps at 1/4 to 1/32 of the resolution, finest first."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.stem_0 = nn.Conv2d(bands, CHANNELS[0], 4, 4)
        self.stem_1 = PlaneNorm(CHANNELS[0], eps=EPS)
        before = CHANNELS[0]
        for number, channels in enumerate(CHANNELS):
            self.add_module(f"stages_{number}", _Stage(number, before, channels))
            before = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps; see the class."""
        x, found = self.stem_1(self.stem_0(x)), []
        for number in range(len(CHANNELS)):
            x = self.get_submodule(f"stages_{number}")(x)
            found.append(x)
        return found


class _Stage(nn.Module):
    def __init__(self, number: int, before: int, channels: int) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if number:
            halve = nn.Conv2d(before, channels, 2, 2)
            self.downsample = nn.Sequential(PlaneNorm(before, eps=EPS), halve)
        blocks: list[nn.Module] = [
            ConvBlock(channels, _KERNELS[number]) for _ in range(_DEPTHS[number])
        ]
        if scales := _SCALES[number]:
            blocks[-1] = SplitBlock(channels, scales, placed=number == _POSITION_STAGE)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.blocks(self.downsample(x))
        return found


class PlaneNorm(nn.LayerNorm):
    """Layer normalisation over the channels of planes."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x), normalised."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two linear layers over the last dimension, the first one wider."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, _EXPANSION * channels)
        self.fc2 = nn.Linear(_EXPANSION * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., channel) -> the same."""
        found: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return found


def _depthwise(channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


class ConvBlock(nn.Module):
    """A depthwise convolution, then the linear layers."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), EPS))
        self.conv_dw = _depthwise(channels, kernel)
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x) -> the same."""
        y = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        found: Tensor = x + (self.gamma * self.mlp(y)).permute(0, 3, 1, 2)
        return found


class SplitBlock(nn.Module):
    """Depthwise convolutions over parts of the channels, then attention between channels."""

    def __init__(self, channels: int, scales: int, *, placed: bool) -> None:
        super().__init__()
        width = math.ceil(channels / scales)
        self.gamma_xca = nn.Parameter(torch.full((channels,), EPS))
        self.gamma = nn.Parameter(torch.full((channels,), EPS))
        self.convs = nn.ModuleList(_depthwise(width, 3) for _ in range(max(1, scales - 1)))
        self.pos_embd = _Positions(channels) if placed else None
        self.norm_xca = nn.LayerNorm(channels, eps=EPS)
        self.xca = ChannelAttention(channels)
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x) -> the same."""
        parts = x.chunk(len(self.convs) + 1, dim=1)
        part, found = parts[0], []
        for index, conv in enumerate(self.convs):
            part = conv(part if index == 0 else part + parts[index])
            found.append(part)
        y = torch.cat([*found, parts[-1]], dim=1)
        count, channels, height, width = y.shape
        y = y.flatten(2).permute(0, 2, 1)
        if self.pos_embd is not None:
            y = y + self.pos_embd(height, width).flatten(2).permute(0, 2, 1)
        y = y + self.gamma_xca * self.xca(self.norm_xca(y))
        y = self.mlp(self.norm(y.reshape(count, height, width, channels)))
        mixed: Tensor = x + (self.gamma * y).permute(0, 3, 1, 2)
        return mixed


class ChannelAttention(nn.Module):
    """Attention whose map is between channels: its cost grows with the pixels, not their square."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(_HEADS, 1, 1))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, pixel, channel) -> the same."""
        count, pixels, _ = x.shape
        mixed = self.qkv(x).reshape(count, pixels, 3, _HEADS, -1).permute(2, 0, 3, 4, 1)
        query, key, value = mixed.unbind(0)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        weights = ((query @ key.transpose(-2, -1)) * self.temperature).softmax(dim=-1)
        answer: Tensor = self.proj((weights @ value).permute(0, 3, 1, 2).reshape(x.shape))
        return answer


class _Positions(nn.Module):
    """Where a pixel is in the map, as sines and cosines."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.token_projection = nn.Conv2d(2 * _FREQUENCIES, channels, 1)

    def forward(self, height: int, width: int) -> Tensor:
        weight = self.token_projection.weight
        order = torch.arange(_FREQUENCIES, device=weight.device, dtype=torch.float32)
        scale = _TEMPERATURE ** (2 * torch.div(order, 2, rounding_mode="floor") / _FREQUENCIES)
        axes = []
        for length in (height, width):
            place = torch.arange(1, length + 1, device=weight.device, dtype=torch.float32)
            turns = place / (length + EPS) * 2 * math.pi
            angle = turns[:, None] / scale
            pairs = torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2)
            axes.append(pairs.flatten(1))
        rows = axes[0][:, None].expand(-1, width, -1)
        columns = axes[1][None].expand(height, -1, -1)
        planes = torch.cat((rows, columns), dim=2).permute(2, 0, 1)[None]
        placed: Tensor = self.token_projection(planes.to(weight.dtype))
        return placed

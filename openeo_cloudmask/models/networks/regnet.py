"""RegNetY-400MF (Radosavovic et al. 2020) as an encoder, under the names of published weights."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (32, 48, 104, 208, 440)
"""Of the maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution."""
_DEPTHS = (1, 3, 6, 6)
_GROUP = 8
_SQUEEZE = 0.25


class RegNetY(nn.Module):
    """(n, band, y, x) -> the maps at 1/2 to 1/32 of the resolution, finest first."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.stem = _conv_norm(bands, CHANNELS[0], kernel=3, stride=2)
        before = CHANNELS[0]
        for number, (channels, depth) in enumerate(zip(CHANNELS[1:], _DEPTHS, strict=True), 1):
            stage = nn.Module()
            for index in range(depth):
                block = Block(before, channels, stride=2 if index == 0 else 1)
                stage.add_module(f"b{index + 1}", block)
                before = channels
            self.add_module(f"s{number}", stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps; see the class."""
        found = [self.stem(x)]
        for number in range(1, len(_DEPTHS) + 1):
            x = found[-1]
            for block in self.get_submodule(f"s{number}").children():
                x = block(x)
            found.append(x)
        return found


def _conv_norm(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    act: bool = True,
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers: list[tuple[str, nn.Module]] = [("conv", conv), ("bn", nn.BatchNorm2d(outputs))]
    if act:
        layers.append(("act", nn.ReLU(inplace=True)))
    return nn.Sequential(OrderedDict(layers))


class _Squeeze(nn.Module):
    """Weighs channels by what a small network makes of their means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        weighed: Tensor = x * self.fc2(F.relu(self.fc1(mean))).sigmoid()
        return weighed


class Block(nn.Module):
    """Three convolutions, the middle one in groups, with a residual."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(inputs, outputs)
        self.conv2 = _conv_norm(outputs, outputs, kernel=3, stride=stride, groups=outputs // _GROUP)
        self.se = _Squeeze(outputs, round(inputs * _SQUEEZE))
        self.conv3 = _conv_norm(outputs, outputs, act=False)
        changes = stride > 1 or inputs != outputs
        self.downsample = _conv_norm(inputs, outputs, stride=stride, act=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x) -> the same, or half of the resolution."""
        short = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv3(self.se(self.conv2(self.conv1(x)))) + short)

"""U-Net with a MobileNetV2 encoder, under the state-dict names of the published CloudSEN12 weights.

Architecture: Ronneberger et al. 2015 (decoder with skips), Sandler et al. 2018 (encoder). The
names (`encoder.features.*`, `decoder.blocks.*`, `segmentation_head.0`) are those of the published
files, so that they load strictly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from openeo_cloudmask.errors import InputError


class _Stage(NamedTuple):
    """A run of inverted residuals that share a width; only the first one strides."""

    expansion: int
    channels: int
    repeats: int
    stride: int


# Table 2 of the MobileNetV2 paper.
_STAGES = (
    _Stage(1, 16, 1, 1),
    _Stage(6, 24, 2, 2),
    _Stage(6, 32, 3, 2),
    _Stage(6, 64, 4, 2),
    _Stage(6, 96, 3, 1),
    _Stage(6, 160, 3, 2),
    _Stage(6, 320, 1, 1),
)
_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280
# The layer before each halving of the resolution feeds a decoder block: outputs of `features`
# at these indices are the skips, from 1/2 to 1/16 of the input's resolution.
SKIP_AFTER = (1, 3, 6, 13)
_SKIP_CHANNELS = (16, 24, 32, 96)
_DECODER_CHANNELS = (256, 128, 64, 32, 16)

SIZE_MULTIPLE_PX = 32
"""Five halvings: both sides of the input have to be a multiple of this."""


def _conv_bn_relu6(
    inputs: int, outputs: int, *, kernel: int, stride: int, groups: int
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expand (1 x 1), filter each channel (3 x 3), project (1 x 1); residual if shapes allow."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv_bn_relu6(inputs, hidden, kernel=1, stride=1, groups=1))
        layers += [
            _conv_bn_relu6(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x) -> (n, channel, y, x), halved where it strides."""
        filtered: Tensor = self.conv(x)
        return x + filtered if self.residual else filtered


class _Encoder(nn.Module):
    """MobileNetV2's `features`: 19 layers, down to 1/32 of the input's resolution."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        layers = [_conv_bn_relu6(bands, _STEM_CHANNELS, kernel=3, stride=2, groups=1)]
        channels = _STEM_CHANNELS
        for stage in _STAGES:
            for repeat in range(stage.repeats):
                layers.append(
                    InvertedResidual(
                        channels,
                        stage.channels,
                        stride=stage.stride if repeat == 0 else 1,
                        expansion=stage.expansion,
                    )
                )
                channels = stage.channels
        layers.append(_conv_bn_relu6(channels, _LAST_CHANNELS, kernel=1, stride=1, groups=1))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The deepest features, and the skips from fine to coarse."""
        skips = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in SKIP_AFTER:
                skips.append(x)
        return x, skips


def _conv_bn_relu(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class DecoderBlock(nn.Module):
    """Double the resolution (nearest), join the skip, convolve twice."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _conv_bn_relu(inputs + skip, outputs)
        self.conv2 = _conv_bn_relu(outputs, outputs)

    @staticmethod
    def join(x: Tensor, skip: Tensor | None) -> Tensor:
        """``x`` at twice its resolution, over the skip's channels."""
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return x if skip is None else torch.cat((x, skip), dim=1)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(n, channel, y, x) and a skip of twice its sides -> of the skip's sides."""
        out: Tensor = self.conv2(self.conv1(self.join(x, skip)))
        return out


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        inputs = (_LAST_CHANNELS, *_DECODER_CHANNELS[:-1])
        skips = (*reversed(_SKIP_CHANNELS), 0)
        self.blocks = nn.ModuleList(
            DecoderBlock(i, s, o) for i, s, o in zip(inputs, skips, _DECODER_CHANNELS, strict=True)
        )

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for block, skip in zip(self.blocks, (*reversed(skips), None), strict=True):
            x = block(x, skip)
        return x


def check_input(x: Tensor, bands: int) -> None:
    """Raise InputError unless ``x`` is (n, ``bands``, y, x) with both sides multiples of 32."""
    if x.ndim != 4 or x.shape[1] != bands or any(s % SIZE_MULTIPLE_PX for s in x.shape[2:]):
        raise InputError(
            f"The U-Net was given an array of shape {tuple(x.shape)}; it takes "
            f"(n, {bands}, y, x) with y and x multiples of {SIZE_MULTIPLE_PX} pixels. "
            "Mirror the borders up to the next multiple and cut the result."
        )


class UNetLayers(nn.Module):
    """U-Net over a MobileNetV2 encoder: (n, band, y, x) reflectance -> (n, class, y, x) logits.

    Both sides of the input have to be multiples of 32 pixels.
    """

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.bands = bands
        self.encoder = _Encoder(bands)
        self.decoder = _Decoder()
        # A Sequential of one, because the published key is `segmentation_head.0`.
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(_DECODER_CHANNELS[-1], classes, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, class, y, x) of reflectance (n, band, y, x)."""
        check_input(x, self.bands)
        deep, skips = self.encoder(x)
        logits: Tensor = self.segmentation_head(self.decoder(deep, skips))
        return logits

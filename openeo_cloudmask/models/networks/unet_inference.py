"""The U-Net of `unet.py` arranged for speed: the same numbers in less than half of the time.

* **Batch norms folded** into the convolutions, activations and residuals fused with them.
* **No upsampled tensor.** A 3 x 3 convolution of a nearest-doubled image sees, for each of the
  four output pixels of an input pixel, only 2 x 2 different input pixels. Adding up the weights
  that meet the same pixel makes it a transposed convolution: 16 products where there were 36. The
  skip joins in with 2 x 2 pixels as channels, so that all is summed up before it is rounded.
* **Four pixels a step in the head**: few classes fill a vector register only together.
* **bf16 around a centre.** bfloat16 keeps 8 bits of a number, so what is lost grows with the
  number's size, not with what varies. Each tensor is therefore stored minus a constant a channel
  (its mean over a calibration image); the constant's own way through the next convolution is
  computed in fp32 once and becomes part of the bias. Any constant gives the same result in exact
  arithmetic; a good one loses much less. Weights are rounded so that each kernel keeps its sum.
  The encoder, whose errors the decoder amplifies and which is cheap, stays in fp32.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openeo_cloudmask.models.networks.fused_conv import Activation, FusedConv, FusedUpConv
from openeo_cloudmask.models.networks.prepare import Precision, fold_batch_norms
from openeo_cloudmask.models.networks.unet import (
    SKIP_AFTER,
    DecoderBlock,
    InvertedResidual,
    UNetMobileNetV2,
    check_input,
)

# (block, convolution) that stay in fp32 too: few pixels, and what they lose spreads over many.
# Chosen on the golden weights, where without them 0.57 % of the classes differ from fp32.
_FP32_CONVS = frozenset({(0, 2), (1, 1), (1, 2)})

_CALIBRATION_PX = 128
_CALIBRATION_SEED = 20


def _pixel_taps(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The 3 taps along ``axis`` as the 4 taps of a convolution that doubles the image.

    First for an input that stands for the even pixels of the doubled image, then for the odd.
    """
    before, here, after = weight.unbind(axis)
    none = torch.zeros_like(here)
    even = torch.stack((after, here, before, none), axis)
    odd = torch.stack((none, after, here, before), axis)
    return even, odd


def _joined_weights(weight: Tensor, deep: int, dtype: torch.dtype) -> Tensor:
    """(out, deep + skip, 3, 3) -> (deep + 4 skip, out, 4, 4), as ``_UpConv`` joins its inputs."""
    skip = _round_keeping_sums(weight[:, deep:], dtype)
    spread = [part for rows in _pixel_taps(skip, 2) for part in _pixel_taps(rows, 3)]
    doubled = weight[:, :deep]
    for axis in (2, 3):
        even, odd = _pixel_taps(doubled, axis)
        doubled = even + odd  # both stand for the same pixel
    doubled = _round_doubling(doubled.transpose(0, 1), dtype)
    return torch.cat((doubled, *(part.transpose(0, 1) for part in spread)))


def _four_pixel_weights(weight: Tensor) -> Tensor:
    """(out, in, 3, 3) -> (4 out, in, 4, 4): the 2 x 2 output pixels of a step of 2."""
    return torch.cat([F.pad(weight, (b, 1 - b, a, 1 - a)) for a in (0, 1) for b in (0, 1)])


def _round_doubling(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """As ``_round_keeping_sums`` for (in, out, 4, 4): each output pixel sees every other tap."""
    inputs, outputs = weight.shape[:2]
    split = weight.reshape(inputs, outputs, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4)
    rounded = _round_keeping_sums(split.reshape(inputs, 4 * outputs, 2, 2), dtype)
    rounded = rounded.view(inputs, outputs, 2, 2, 2, 2).permute(0, 1, 4, 2, 5, 3)
    return rounded.reshape(weight.shape)


def _round_keeping_sums(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """``weight`` in ``dtype``; each kernel's taps, from the largest on, pass their error on.

    Neighbouring pixels are much alike, so a kernel's sum matters more than its single taps.
    """
    if dtype == torch.float32:
        return weight
    taps = weight.flatten(2)
    order = taps.abs().argsort(-1, descending=True)
    ranked = taps.gather(-1, order)
    rounded = torch.empty_like(ranked)
    carry = torch.zeros_like(ranked[..., 0])
    for index in range(ranked.shape[-1]):
        wanted = ranked[..., index] + carry
        rounded[..., index] = wanted.to(dtype).float()
        carry = wanted - rounded[..., index]
    return torch.empty_like(taps).scatter_(-1, order, rounded).view_as(weight).to(dtype)


def _plain_conv(
    weight: Tensor, bias: Tensor, dtype: torch.dtype, activation: Activation, *, stride: int = 1
) -> FusedConv:
    out_channels, in_channels, size, _ = weight.shape
    conv = nn.Conv2d(in_channels, out_channels, size, stride, padding=1)
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return FusedConv(conv, activation, dtype)


class _Stored(nn.Module):
    """A 3 x 3 convolution whose inputs and outputs are stored minus a constant a channel.

    With stored inputs ``x - c``, weights ``w`` and bias ``b``, the stored output is
    ``w (x - c) + [b + sum(w) c - c_out]``, with a constant in brackets; except at the image's
    border, where zero padding means ``x = c`` to the stored input and has to be taken back.
    """

    floor: Tensor
    border: Tensor

    def __init__(self, conv: nn.Conv2d, centre_in: Tensor, centre_out: Tensor) -> None:
        super().__init__()
        weight = conv.weight.detach()
        constant = centre_in.view(1, -1, 1, 1).expand(1, -1, 3, 3)
        reach = F.conv2d(constant, weight, padding=1)[0]  # (out, 3, 3): its middle sees no border
        inside = reach[:, 1, 1]
        bias = inside - centre_out
        self.stored_bias = bias if conv.bias is None else bias + conv.bias.detach()
        self.centred = bool(centre_in.any() or centre_out.any())
        self.register_buffer("floor", -centre_out)
        self.register_buffer("border", (reach - inside[:, None, None]).permute(1, 2, 0))

    def finish(self, out: Tensor) -> Tensor:
        """The stored form of max(x, 0), in place."""
        if self.centred:
            pixels = out.permute(0, 2, 3, 1)
            self.fix_border(pixels)
            torch.maximum(pixels, self.floor, out=pixels)
        return out

    def fix_border(self, pixels: Tensor) -> None:
        """Take the padding's constant back from ``pixels`` (n, y, x, channel), in place."""
        edge = self.border
        for row, i in ((0, 0), (-1, 2)):
            pixels[:, row] += edge[i, 1]
            for col, j in ((0, 0), (-1, 2)):
                pixels[:, row, col] += edge[i, j] - edge[i, 1] - edge[1, j]
        for col, j in ((0, 0), (-1, 2)):
            pixels[:, :, col] += edge[1, j]


class _Conv(_Stored):
    """A 3 x 3 convolution and max(x, 0)."""

    def __init__(self, conv: nn.Conv2d, centres: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
        super().__init__(conv, *centres)
        activation: Activation = "none" if self.centred else "relu"
        weight = _round_keeping_sums(conv.weight.detach(), dtype)
        self.conv = _plain_conv(weight, self.stored_bias, dtype, activation)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x) stored -> (n, channel, y, x) stored."""
        return self.finish(self.conv(x.to(self.conv.weight.dtype)))


class _UpConv(_Stored):
    """A 3 x 3 convolution of ``cat(doubled x, skip)`` and max(x, 0), the doubled x not made."""

    skip_centre: Tensor

    def __init__(
        self, conv: nn.Conv2d, centres: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype
    ) -> None:
        deep, skip, out = centres
        super().__init__(conv, torch.cat((deep, skip)), out)
        weight = _joined_weights(conv.weight.detach(), len(deep), dtype)
        activation: Activation = "none" if self.centred else "relu"
        self.conv = FusedUpConv(weight, self.stored_bias, activation)
        self.to(dtype)
        self.register_buffer("skip_centre", skip)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(n, channel, y, x) stored and (n, channel, 2 y, 2 x) as it is -> stored, of its size."""
        x = x.to(self.conv.weight.dtype)
        return self.finish(self.conv(x if skip is None else self._join(x, skip)))

    def _join(self, x: Tensor, skip: Tensor) -> Tensor:
        """``x``, and the skip's 2 x 2 pixels a pixel as channels after it."""
        n, channels, height, width = x.shape
        joined = x.new_empty((n, height, width, channels + 4 * skip.shape[1]))
        joined[..., :channels] = x.permute(0, 2, 3, 1)
        places = torch.unflatten(joined[..., channels:], -1, (2, 2, skip.shape[1]))
        fine = skip.permute(0, 2, 3, 1)
        if self.centred:
            fine = fine - self.skip_centre
        fine = torch.unflatten(torch.unflatten(fine, 1, (height, 2)), 3, (width, 2))
        places.copy_(fine.permute(0, 1, 3, 2, 4, 5))
        return joined.permute(0, 3, 1, 2)


class _Head(_Stored):
    """The last convolution; its output is as it is, in fp32."""

    centre: Tensor

    def __init__(self, conv: nn.Conv2d, centres: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
        super().__init__(conv, *centres)
        weight = _four_pixel_weights(_round_keeping_sums(conv.weight.detach(), dtype))
        self.conv = _plain_conv(weight, self.stored_bias.repeat(4), dtype, "none", stride=2)
        self.register_buffer("centre", centres[1])

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x) stored -> (n, class, y, x) float32."""
        n, _, height, width = x.shape
        pixels = self.conv(x.to(self.conv.weight.dtype)).permute(0, 2, 3, 1)
        pixels = torch.unflatten(pixels, -1, (2, 2, len(self.centre))).permute(0, 1, 3, 2, 4, 5)
        logits = pixels.float().reshape(n, height, width, -1)
        if self.centred:
            logits += self.centre
            self.fix_border(logits)
        return logits.permute(0, 3, 1, 2)


class _Residual(nn.Module):
    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        layers = [_fuse(layer) for layer in block.conv if isinstance(layer, nn.Sequential)]
        self.layers = nn.ModuleList(layers)
        self.project = FusedConv(cast("nn.Conv2d", block.conv[-2]))
        self.residual = block.residual

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for layer in self.layers:
            inner = layer(inner)
        out: Tensor = self.project(inner, x if self.residual else None)
        return out


def _fuse(layers: nn.Sequential) -> FusedConv:
    return FusedConv(_conv(layers), "relu6")


class FastUNet(nn.Module):
    """The inference form: (n, band, y, x) float32 -> (n, class, y, x) float32 logits."""

    deep_centre: Tensor

    def __init__(self, network: UNetMobileNetV2, precision: Precision) -> None:
        super().__init__()
        plain = copy.deepcopy(network).eval().cpu().double()
        fold_batch_norms(plain)  # in double precision, so that each weight is rounded once
        plain.float()
        self.bands = network.bands
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        centres = _measure_centres(plain, zero=precision == "fp32")
        self.features = nn.ModuleList(
            _Residual(layer)
            if isinstance(layer, InvertedResidual)
            else _fuse(cast("nn.Sequential", layer))
            for layer in plain.encoder.features
        )
        self.blocks = nn.ModuleList()
        before = centres["deep"]
        for index, block in enumerate(_blocks(plain)):
            middle, after = centres[f"first{index}"], centres[f"second{index}"]
            triple = (before, centres[f"skip{index}"], middle)
            first, second = (
                torch.float32 if (index, place) in _FP32_CONVS else self.dtype for place in (1, 2)
            )
            self.blocks.append(_UpConv(_conv(block.conv1), triple, first))
            self.blocks.append(_Conv(_conv(block.conv2), (middle, after), second))
            before = after
        head = _conv(plain.segmentation_head)
        self.head = _Head(head, (before, centres["logits"]), self.dtype)
        self.register_buffer("deep_centre", centres["deep"].view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, class, y, x) of reflectance (n, band, y, x)."""
        check_input(x, self.bands)
        skips: list[Tensor | None] = [None]
        x = x.contiguous(memory_format=torch.channels_last)
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in SKIP_AFTER:
                skips.append(x)
        centred = self.dtype != torch.float32
        x = x - self.deep_centre if centred else x
        for first, second in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = second(first(x, skips.pop()))
        logits: Tensor = self.head(x)
        return logits


def _blocks(network: UNetMobileNetV2) -> list[DecoderBlock]:
    return cast("list[DecoderBlock]", list(network.decoder.blocks))


def _conv(layers: nn.Sequential) -> nn.Conv2d:
    """The convolution at the head of conv, norm, activation."""
    return cast("nn.Conv2d", layers[0])


def _calibration_image(bands: int) -> Tensor:
    """A made-up scene (1, band, y, x): smooth reflectance 0-0.8, from a fixed seed."""
    generator = torch.Generator().manual_seed(_CALIBRATION_SEED)
    coarse = 0.8 * torch.rand((1, bands, 9, 9), generator=generator)
    side = (_CALIBRATION_PX, _CALIBRATION_PX)
    smooth = F.interpolate(coarse, size=side, mode="bilinear", align_corners=True)
    return (smooth + 0.03 * torch.randn(smooth.shape, generator=generator)).clamp_(min=0.0)


@torch.no_grad()
def _measure_centres(plain: UNetMobileNetV2, *, zero: bool) -> dict[str, Tensor]:
    """A constant for each channel of each stored tensor: its mean, or 0 where not needed."""

    def centre(x: Tensor) -> Tensor:
        mean = x.mean((0, 2, 3))
        return torch.zeros_like(mean) if zero else mean

    x, skips = plain.encoder(_calibration_image(plain.bands))
    found = {"deep": centre(x)}
    for index, (block, skip) in enumerate(
        zip(_blocks(plain), (*reversed(skips), None), strict=True)
    ):
        found[f"skip{index}"] = x.new_zeros(0) if skip is None else centre(skip)
        x = block.conv1(block.join(x, skip))
        found[f"first{index}"] = centre(x)
        x = block.conv2(x)
        found[f"second{index}"] = centre(x)
    found["logits"] = centre(plain.segmentation_head(x))
    return found

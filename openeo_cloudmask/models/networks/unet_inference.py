"""The U-Net of `unet.py` arranged for speed: the same numbers in less than half of the time.

* **Batch norms folded** into the convolutions, activations and residuals fused with them.
* **No upsampled and no joined tensor.** A 3 x 3 convolution of a nearest-doubled image sees, for
  each of the four output pixels of an input pixel, only 2 x 2 different input pixels. Adding up
  the weights that meet the same pixel makes it a transposed convolution: 16 products where there
  were 36. The skip's own convolution adds its result to it.
* **Winograd's convolution** where channels are many and the arithmetic is fp32.
* **The encoder as one graph**, whose widened tensors are never written.
* **Four pixels per step in the head**: few classes fill a vector register only together.
* **bf16 around a centre.** bfloat16 keeps 8 bits of a number, so what is lost grows with the
  number's size, not with what varies. Each tensor is therefore stored as a constant a channel
  (its mean over a calibration image) minus the values; the constant's own way through the next
  convolution is computed in fp32 once and becomes part of the bias. Any constant gives the same
  result in exact arithmetic; a good one loses much less. max(x, 0) is min(c - x, c) to what is
  stored, and as c is not negative, bfloat16 compares there as the integers of its bits do.
  Weights are rounded together, as `rounding` says.
  The encoder, whose errors the decoder amplifies and which is cheap, stays in fp32.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openeo_cloudmask.models.networks.fused_conv import Activation, FusedConv, FusedUpConv
from openeo_cloudmask.models.networks.fused_graph import FusedGraph
from openeo_cloudmask.models.networks.prepare import Precision, fold_batch_norms
from openeo_cloudmask.models.networks.rounding import Moments, measure_moments, round_to_bf16
from openeo_cloudmask.models.networks.unet_layers import (
    SIZE_MULTIPLE_PX,
    DecoderBlock,
    UNetLayers,
    check_input,
)
from openeo_cloudmask.models.networks.winograd import MIN_CHANNELS, WinogradConv

# (block, convolution) that stay in fp32 too: Winograd's form is as fast there.
_FP32_CONVS = frozenset({(0, 2)})

_CALIBRATION_PX = 512
_CALIBRATION_SEED = 20


class _Between(NamedTuple):
    """What is known of a tensor between two convolutions."""

    centre: Tensor
    """(channel): the constants it is stored around; 0 in fp32."""
    moments: Moments | None
    """Of its stored form; None in fp32."""

    def round(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Return ``weight`` (out, in, y, x) that meets this tensor in ``dtype``."""
        if dtype == torch.float32 or self.moments is None:
            return weight
        return round_to_bf16(weight, self.moments)


def _doubling_weights(weight: Tensor, before: _Between, dtype: torch.dtype) -> Tensor:
    """(out, in, 3, 3) on a doubled image -> (in, out, 4, 4) of a transposed convolution."""
    for axis in (2, 3):
        first, here, last = weight.unbind(axis)
        # Taps 2 and 0 make the even pixels, 3 and 1 the odd ones; two taps meet the same pixel.
        weight = torch.stack((last, here + last, first + here, first), axis)
    outputs, inputs = weight.shape[:2]
    # Each of the four output pixels is a row of its own, of the 2 x 2 taps it sees.
    rows = weight.view(outputs, inputs, 2, 2, 2, 2).permute(0, 3, 5, 1, 2, 4)
    rounded = before.round(rows.reshape(4 * outputs, inputs, 2, 2), dtype)
    rounded = rounded.view(outputs, 2, 2, inputs, 2, 2).permute(3, 0, 4, 1, 5, 2)
    return rounded.reshape(inputs, outputs, 4, 4)


def _four_pixel_weights(weight: Tensor) -> Tensor:
    """(out, in, 3, 3) -> (4 out, in, 4, 4): for each output the 2 x 2 pixels of a step of 2."""
    pixels = [F.pad(weight, (b, 1 - b, a, 1 - a)) for a in (0, 1) for b in (0, 1)]
    return torch.stack(pixels, 1).flatten(0, 1)


class _Stored(nn.Module):
    """A 3 x 3 convolution whose inputs and outputs are stored as a constant a channel minus them.

    With stored inputs ``s = c - x``, weights ``w`` and bias ``b``, the output ``w x + b`` is
    ``-w s + [b + sum(w) c]``, with a constant in brackets, and its stored form ``w s + [c_out - b
    - sum(w) c]``; except at the image's border, where zero padding means ``x = c`` to the stored
    input and has to be taken back. Where all constants are 0, tensors are stored as they are.
    """

    bias: Tensor
    ceiling: Tensor
    edges: Tensor
    corners: Tensor

    def __init__(
        self, conv: nn.Conv2d, centre_in: Tensor, centre_out: Tensor, dtype: torch.dtype
    ) -> None:
        super().__init__()
        weight = conv.weight.detach()
        constant = centre_in.view(1, -1, 1, 1).expand(1, -1, 3, 3)
        reach = F.conv2d(constant, weight, padding=1)[0]  # (out, 3, 3): its middle sees no border
        inside = reach[:, 1, 1]
        bias = inside if conv.bias is None else inside + conv.bias.detach()
        self.centred = bool(centre_in.any() or centre_out.any())
        edges = (reach - inside[:, None, None]).permute(1, 2, 0)
        self.register_buffer("bias", bias)
        self.register_buffer("ceiling", centre_out.to(dtype))
        self.register_buffer("edges", edges)
        self.register_buffer("corners", edges[::2, ::2] - edges[::2, 1:2] - edges[1:2, ::2])

    @property
    def stored_bias(self) -> Tensor:
        """What is added to the convolution of stored inputs for stored outputs."""
        return self.ceiling - self.bias if self.centred else self.bias

    def finish(self, out: Tensor) -> Tensor:
        """The stored form of max(x, 0), in place."""
        if self.centred:
            out = out.contiguous(memory_format=torch.channels_last)  # as it is, or nearly always
            pixels = out.permute(0, 2, 3, 1)
            self.fix_border(pixels, -1)
            # Whole rows at a time: a channel's few numbers alone fill no vector register.
            rows, ceiling = pixels.flatten(2), self.ceiling.repeat(pixels.shape[2])
            if rows.dtype == torch.bfloat16:
                rows, ceiling = rows.view(torch.int16), ceiling.view(torch.int16)
            torch.minimum(rows, ceiling, out=rows)
        return out

    def fix_border(self, pixels: Tensor, sign: int) -> None:
        """Take the padding's constant back from ``pixels`` (n, y, x, channel), in place."""
        rows, columns = (slice(None, None, size - 1) for size in pixels.shape[1:3])  # the outermost
        pixels[:, rows].add_(self.edges[::2, 1:2], alpha=sign)
        pixels[:, :, columns].add_(self.edges[1, ::2], alpha=sign)
        pixels[:, rows, columns].add_(self.corners, alpha=sign)


class _Conv(_Stored):
    """A 3 x 3 convolution and max(x, 0)."""

    def __init__(
        self, conv: nn.Conv2d, before: _Between, after: _Between, dtype: torch.dtype
    ) -> None:
        super().__init__(conv, before.centre, after.centre, dtype)
        activation: Activation = "none" if self.centred else "relu"
        weight = before.round(conv.weight.detach(), dtype)
        self.dtype = dtype
        self.conv: nn.Module
        if dtype == torch.float32 and conv.in_channels >= MIN_CHANNELS:
            self.conv = WinogradConv(weight, self.stored_bias, relu=not self.centred)
        else:
            self.conv = FusedConv(weight, self.stored_bias, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x) stored -> (n, channel, y, x) stored."""
        return self.finish(self.conv(x.to(self.dtype)))


class _UpConv(_Stored):
    """A 3 x 3 convolution of ``cat(doubled x, skip)`` and max(x, 0), neither made nor joined."""

    def __init__(
        self,
        conv: nn.Conv2d,
        deep: _Between,
        skip: _Between,
        after: _Between,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(conv, torch.cat((deep.centre, skip.centre)), after.centre, dtype)
        weight, split = conv.weight.detach(), len(deep.centre)
        activation: Activation = "none" if self.centred else "relu"
        doubling = _doubling_weights(weight[:, :split], deep, dtype)
        self.skip = None
        if len(skip.centre):
            # The skip's convolution takes a bias of its own type; the other one takes the rest.
            short = self.stored_bias.to(dtype).float()
            self.deep = FusedUpConv(doubling, self.stored_bias - short, "none")
            plain = skip.round(weight[:, split:], dtype)
            self.skip = FusedConv(plain, short, activation)
        else:
            self.deep = FusedUpConv(doubling, self.stored_bias, activation)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(n, channel, y, x) and (n, channel, 2 y, 2 x) -> of the second one's size; all stored."""
        dtype = self.deep.weight.dtype
        out = self.deep(x.to(dtype))
        if self.skip is not None and skip is not None:
            out = self.skip(skip.to(dtype), out)
        return self.finish(out)


class _Head(_Stored):
    """The last convolution; its output is as it is, in fp32."""

    def __init__(self, conv: nn.Conv2d, before: _Between, dtype: torch.dtype) -> None:
        super().__init__(conv, before.centre, torch.zeros(conv.out_channels), torch.float32)
        weight = -conv.weight.detach() if self.centred else conv.weight.detach()
        packed = _four_pixel_weights(before.round(weight, dtype))
        # The bias is added to the fp32 logits: it would cost the small ones their bits.
        self.conv = FusedConv(packed, torch.zeros(len(packed)), "none", stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x) stored -> (n, class, y, x) float32."""
        n, _, height, width = x.shape
        packed = self.conv(x.to(self.conv.weight.dtype)).permute(0, 2, 3, 1).contiguous()
        # Two pixels side by side move as one number.
        pair = torch.int32 if packed.dtype == torch.bfloat16 else torch.int64
        pairs = packed.view(pair).unflatten(-1, (-1, 2)).permute(0, 3, 1, 4, 2).contiguous()
        planes = pairs.view(packed.dtype).view(n, -1, height, width)
        logits: Tensor = planes + self.bias.view(-1, 1, 1)  # in fp32
        if self.centred:
            self.fix_border(logits.permute(0, 2, 3, 1), 1)
        return logits


class _StoringEncoder(nn.Module):
    """The encoder, with its outputs as the decoder stores them."""

    def __init__(self, encoder: nn.Module, outputs: list[_Between], dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder = encoder
        self.dtype = dtype
        for index, tensor in enumerate(outputs):
            self.register_buffer(f"centre{index}", tensor.centre.view(-1, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The deepest features, and the skips from coarse to fine."""
        deep, skips = self.encoder(x)
        outputs = (deep, *reversed(skips))
        if self.dtype == torch.float32:
            return outputs
        centres = (self.get_buffer(f"centre{index}") for index in range(len(outputs)))
        return tuple((c - out).to(self.dtype) for c, out in zip(centres, outputs, strict=True))


class FastUNet(nn.Module):
    """The inference form: (n, band, y, x) float32 -> (n, class, y, x) float32 logits."""

    def __init__(self, network: UNetLayers, precision: Precision) -> None:
        super().__init__()
        plain = copy.deepcopy(network).eval().cpu().double()
        fold_batch_norms(plain)  # in double precision, so that each weight is rounded once
        plain.float()
        self.bands = network.bands
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        tensors = _measure(plain, self.dtype)
        outputs = [tensors[name] for name in ("deep", "skip0", "skip1", "skip2", "skip3")]
        self.encoder = FusedGraph(_StoringEncoder(plain.encoder, outputs, self.dtype))
        self.blocks = nn.ModuleList()
        before = tensors["deep"]
        for index, block in enumerate(_blocks(plain)):
            skip, middle, after = (
                tensors[f"{name}{index}"] for name in ("skip", "first", "second")
            )
            first, second = (
                torch.float32 if (index, place) in _FP32_CONVS else self.dtype for place in (1, 2)
            )
            self.blocks.append(_UpConv(_conv(block.conv1), before, skip, middle, first))
            self.blocks.append(_Conv(_conv(block.conv2), middle, after, second))
            before = after
        self.head = _Head(_conv(plain.segmentation_head), before, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, class, y, x) of reflectance (n, band, y, x)."""
        check_input(x, self.bands)
        outputs = self.encoder(x.contiguous(memory_format=torch.channels_last))
        # A layout that oneDNN Graph left open is settled here, once.
        x, *skips = (out.contiguous(memory_format=torch.channels_last) for out in outputs)
        pairs = zip(self.blocks[::2], self.blocks[1::2], strict=True)
        for (first, second), skip in zip(pairs, (*skips, None), strict=True):
            x = second(first(x, skip))
        logits: Tensor = self.head(x)
        return logits


def _blocks(network: UNetLayers) -> list[DecoderBlock]:
    return cast("list[DecoderBlock]", list(network.decoder.blocks))


def _conv(layers: nn.Sequential) -> nn.Conv2d:
    """The convolution at the head of conv, norm, activation."""
    return cast("nn.Conv2d", layers[0])


def _calibration_image(bands: int, side_px: int) -> Tensor:
    """A synthetic scene (1, band, y, x): smooth reflectance 0-0.8, from a fixed seed."""
    generator = torch.Generator().manual_seed(_CALIBRATION_SEED)
    coarse = 0.8 * torch.rand((1, bands, 9, 9), generator=generator)
    smooth = F.interpolate(coarse, size=(side_px, side_px), mode="bilinear", align_corners=True)
    return (smooth + 0.03 * torch.randn(smooth.shape, generator=generator)).clamp_(min=0.0)


@torch.no_grad()
def _measure(plain: UNetLayers, dtype: torch.dtype) -> dict[str, _Between]:
    """What is known of the decoder's tensors, from the calibration image where it is needed."""

    def measured(x: Tensor) -> _Between:
        if dtype == torch.float32:
            return _Between(x.new_zeros(x.shape[1]), None)
        centre = x.mean((0, 2, 3)).bfloat16().float()  # so that 0 is stored without an error
        return _Between(centre, measure_moments(centre.view(1, -1, 1, 1) - x))

    # In fp32 all that is asked is how many channels there are.
    side = SIZE_MULTIPLE_PX if dtype == torch.float32 else _CALIBRATION_PX
    x, skips = plain.encoder(_calibration_image(plain.bands, side))
    found = {"deep": measured(x)}
    for index, (block, skip) in enumerate(
        zip(_blocks(plain), (*reversed(skips), None), strict=True)
    ):
        found[f"skip{index}"] = _Between(x.new_zeros(0), None) if skip is None else measured(skip)
        x = block.conv1(block.join(x, skip))
        found[f"first{index}"] = measured(x)
        x = block.conv2(x)
        found[f"second{index}"] = measured(x)
    return found

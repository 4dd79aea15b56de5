"""3 x 3 convolutions of a decoder for speed, over tensors stored as a constant minus the values.

What each is for is told in `unet_inference`. In fp32 the constants are 0: tensors are as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openeo_cloudmask.models.networks.fused_conv import Activation, FusedConv, FusedUpConv
from openeo_cloudmask.models.networks.rounding import Moments, round_to_bf16
from openeo_cloudmask.models.networks.winograd import MIN_CHANNELS, WinogradConv


class Between(NamedTuple):
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


def doubling_weights(weight: Tensor, before: Between, dtype: torch.dtype) -> Tensor:
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


class StoredConv(_Stored):
    """A 3 x 3 convolution and max(x, 0)."""

    def __init__(
        self, conv: nn.Conv2d, before: Between, after: Between, dtype: torch.dtype
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


class StoredUpConv(_Stored):
    """A 3 x 3 convolution of ``cat(doubled x, skip)`` and max(x, 0), neither made nor joined."""

    def __init__(
        self,
        conv: nn.Conv2d,
        deep: Between,
        skip: Between,
        after: Between,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(conv, torch.cat((deep.centre, skip.centre)), after.centre, dtype)
        weight, split = conv.weight.detach(), len(deep.centre)
        activation: Activation = "none" if self.centred else "relu"
        doubling = doubling_weights(weight[:, :split], deep, dtype)
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


class StoredHead(_Stored):
    """The last convolution; its output is as it is, in fp32."""

    def __init__(
        self, conv: nn.Conv2d, before: Between, dtype: torch.dtype, *, row_padding: int = 1
    ) -> None:
        super().__init__(conv, before.centre, torch.zeros(conv.out_channels), torch.float32)
        weight = -conv.weight.detach() if self.centred else conv.weight.detach()
        packed = _four_pixel_weights(before.round(weight, dtype))
        # The bias is added to the fp32 logits: it would cost the small ones their bits.
        padding = (row_padding, 1)
        self.conv = FusedConv(packed, torch.zeros(len(packed)), "none", stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channel, y, x) stored -> (n, class, y, x) float32; y - 2 rows without padding."""
        packed = self.conv(x.to(self.conv.weight.dtype)).permute(0, 2, 3, 1).contiguous()
        # Two pixels side by side move as one number.
        pair = torch.int32 if packed.dtype == torch.bfloat16 else torch.int64
        pairs = packed.view(pair).unflatten(-1, (-1, 2)).permute(0, 3, 1, 4, 2).contiguous()
        planes = pairs.view(packed.dtype).view(len(x), -1, 2 * packed.shape[1], x.shape[3])
        logits: Tensor = planes + self.bias.view(-1, 1, 1)  # in fp32
        if self.centred:
            self.fix_border(logits.permute(0, 2, 3, 1), 1)
        return logits

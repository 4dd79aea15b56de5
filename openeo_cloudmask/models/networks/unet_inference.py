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
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openeo_cloudmask.models.networks.fused_graph import FusedGraph
from openeo_cloudmask.models.networks.prepare import Precision, fold_batch_norms
from openeo_cloudmask.models.networks.rounding import measure_moments
from openeo_cloudmask.models.networks.stored_conv import (
    Between,
    StoredConv,
    StoredHead,
    StoredUpConv,
)
from openeo_cloudmask.models.networks.unet_layers import (
    SIZE_MULTIPLE_PX,
    DecoderBlock,
    UNetLayers,
    check_input,
)

# (block, convolution) that stay in fp32 too: Winograd's form is as fast there.
_FP32_CONVS = frozenset({(0, 2)})

_CALIBRATION_PX = 512
_CALIBRATION_SEED = 20


class _StoringEncoder(nn.Module):
    """The encoder, with its outputs as the decoder stores them."""

    def __init__(self, encoder: nn.Module, outputs: list[Between], dtype: torch.dtype) -> None:
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
            self.blocks.append(StoredUpConv(_conv(block.conv1), before, skip, middle, first))
            self.blocks.append(StoredConv(_conv(block.conv2), middle, after, second))
            before = after
        self.head = StoredHead(_conv(plain.segmentation_head), before, self.dtype)

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
def _measure(plain: UNetLayers, dtype: torch.dtype) -> dict[str, Between]:
    """What is known of the decoder's tensors, from the calibration image where it is needed."""

    def measured(x: Tensor) -> Between:
        if dtype == torch.float32:
            return Between(x.new_zeros(x.shape[1]), None)
        centre = x.mean((0, 2, 3)).bfloat16().float()  # so that 0 is stored without an error
        return Between(centre, measure_moments(centre.view(1, -1, 1, 1) - x))

    # In fp32 all that is asked is how many channels there are.
    side = SIZE_MULTIPLE_PX if dtype == torch.float32 else _CALIBRATION_PX
    x, skips = plain.encoder(_calibration_image(plain.bands, side))
    found = {"deep": measured(x)}
    for index, (block, skip) in enumerate(
        zip(_blocks(plain), (*reversed(skips), None), strict=True)
    ):
        found[f"skip{index}"] = Between(x.new_zeros(0), None) if skip is None else measured(skip)
        x = block.conv1(block.join(x, skip))
        found[f"first{index}"] = measured(x)
        x = block.conv2(x)
        found[f"second{index}"] = measured(x)
    return found

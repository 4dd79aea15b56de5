"""What segmenters have in common: their last steps, their first convolution, their settings."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openeo_cloudmask.errors import InputError, OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openeo_cloudmask.models.networks.prepare import Precision

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class FixedChannels(nn.Module):
    """A segmenter without SEnSeI: its bands are fixed, and so is their order."""

    def __init__(self, segmenter: nn.Module, channels: int) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.channels = channels

    def forward(self, bands: Tensor) -> Tensor:
        """Return probabilities, (n, class, y, x) float32, of ``bands``, (n, band, y, x)."""
        if bands.ndim != 4 or bands.shape[1] != self.channels:
            raise InputError(
                f"the bands have the shape {tuple(bands.shape)}; "
                f"expected (n, {self.channels}, y, x)"
            )
        return probabilities(self.segmenter(bands), bands)

    def inference_form(self, precision: Precision) -> FixedChannels:
        """Return a copy that computes the same faster, its segmenter in ``precision``."""
        arranged = copy.deepcopy(self).eval()
        arranged.segmenter.arrange(DTYPES[precision])  # type: ignore[operator]
        return arranged


def in_graph() -> bool:
    """Whether a graph is being exported: it has operators for whole tensors only, no loops."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def probabilities(scores: Tensor, bands: Tensor) -> Tensor:
    """Return the softmax of ``scores`` upsampled to the size of ``bands``, float32."""
    full = F.interpolate(scores.float(), bands.shape[2:], mode="bilinear", align_corners=False)
    return full.softmax(dim=1)


def convolve_stem(conv: nn.Conv2d, image: Tensor, mixing: Tensor | None) -> Tensor:
    """Return ``conv`` of ``image``, or of ``mixing @ image`` without ever making that image.

    Args:
        conv: The convolution; zero padding, no groups.
        image: (n, plane, y, x).
        mixing: (n, channel, plane), one linear map for each window; None: the planes are the
            channels. A constant belongs on a plane of ones, so that the padding stays zero.

    Returns:
        (n, output channel, y', x').
    """
    if mixing is None:
        out: Tensor = conv(image)
        return out
    weight = torch.einsum("ochw,ncp->nophw", conv.weight, mixing.to(conv.weight.dtype))
    count, outputs = weight.shape[:2]
    # One group per window: each has its own matrix.
    grouped = F.conv2d(
        image.flatten(0, 1).unsqueeze(0),
        weight.flatten(0, 1),
        None if conv.bias is None else conv.bias.repeat(count),
        conv.stride,
        conv.padding,
        groups=count,
    )
    return grouped.reshape(count, outputs, *grouped.shape[2:])


def read_count(config: Mapping[str, Any], key: str) -> int:
    """Return the whole number above zero that ``config`` has under ``key``.

    Raises:
        OptionError: It is missing, or another value.
    """
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(
            f"the network's setting {key!r} is {value!r}; expected a whole number above zero"
        )
    return value


def read_section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the settings that ``config`` has under ``key``.

    Raises:
        OptionError: They are missing, or another value.
    """
    value = config.get(key)
    if not isinstance(value, dict):
        raise OptionError(
            f"the network's settings lack the section {key!r}; they have: "
            f"{', '.join(sorted(map(str, config))) or 'nothing'}"
        )
    return value

"""OmniCloudMask (Wright et al. 2025): two U-Nets on red, green and near infrared, averaged.

The names of their parameters are those of the published weights, so that these load strictly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.models.networks import edgenext, regnet
from openeo_cloudmask.models.networks.omnicloudmask_inference import FastEnsemble
from openeo_cloudmask.models.networks.prepare import Precision, autocast

ENCODERS = ("regnety_004", "edgenext_small")
"""The members of the ensemble, by the names that their files carry."""
_BANDS, _CLASSES = 3, 4
_DECODER = (256, 128, 64, 32, 16)


def build(config: Mapping[str, Any]) -> nn.Module:
    """The network with the encoder ``config["encoder"]``, or the ensemble; eval mode.

    Raises:
        OptionError: A setting is not known.
    """
    encoder = config.get("encoder")
    if set(config) - {"encoder"} or encoder not in (None, *ENCODERS):
        raise OptionError(
            f"the configuration of omnicloudmask was {dict(config)}; expected nothing, or "
            f'{{"encoder": one of {", ".join(ENCODERS)}}}'
        )
    network = Ensemble([UNet(name) for name in ENCODERS]) if encoder is None else UNet(encoder)
    return network.eval()


class Ensemble(nn.Module):
    """(n, 3, y, x) reflectance, 0 where not seen -> (n, 4, y, x): the mean of both logits."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """The mean logits; see the class."""
        x = normalise(x)
        return torch.stack([member(x) for member in self.members]).mean(dim=0)

    def inference_form(self, precision: Precision) -> nn.Module:
        """The same function arranged for speed; see `omnicloudmask_inference`."""
        if precision == "bf16":
            return autocast(self, precision)
        return FastEnsemble(cast("Sequence[UNet]", self.members), normalise)


def normalise(x: Tensor) -> Tensor:
    """Each band of each window less its mean, by its deviation; 0 stays 0 and counts for neither.

    Args:
        x: (n, band, y, x) in any unit, 0 where nothing was seen.
    """
    seen = x != 0
    count = seen.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = _total(x) / count
    centred = torch.where(seen, x - mean.float(), 0)
    deviation = (_total(centred.square()) / count).sqrt().float()
    return centred / torch.where(deviation == 0, 1, deviation)


def _total(x: Tensor) -> Tensor:
    """(n, band, y, x) -> (n, band, 1, 1): of each row in fp32, and of all rows in fp64."""
    return x.sum(dim=3, keepdim=True).sum(dim=2, keepdim=True, dtype=torch.float64)


class UNet(nn.Module):
    """(n, 3, y, x) normalised -> (n, 4, y, x) logits, for any size from 32 pixels."""

    def __init__(self, encoder: str) -> None:
        super().__init__()
        chosen: tuple[type[nn.Module], tuple[int, ...]] = {
            "regnety_004": (regnet.RegNetY, regnet.CHANNELS),
            "edgenext_small": (edgenext.EdgeNeXt, (0, *edgenext.CHANNELS)),
        }[encoder]
        kind, channels = chosen
        self.encoder = nn.ModuleDict({"model": kind(_BANDS)})
        self.deep_channels = channels[-1]
        self.decoder = _Decoder(channels)
        self.segmentation_head = nn.Sequential(nn.Conv2d(_DECODER[-1], _CLASSES, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """The logits; see the class."""
        logits: Tensor = self.segmentation_head(self.decoder(x, self.encoder["model"](x)))
        return logits


class _Decoder(nn.Module):
    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        skips = [*reversed(channels[:-1]), 0]
        inputs = [channels[-1], *_DECODER[:-1]]
        self.blocks = nn.ModuleList(
            _DecoderBlock(before + skip, after)
            for before, skip, after in zip(inputs, skips, _DECODER, strict=True)
        )

    def forward(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Go up from the coarsest map, beside each of the finer ones, to the size of ``x``."""
        height, width = x.shape[2:]
        finer: list[Tensor | None] = [*reversed(maps[:-1])]
        sizes = [(each.shape[2], each.shape[3]) for each in reversed(maps[:-1])]
        if len(maps) < len(self.blocks):  # no map at half the resolution
            finer.append(None)
            sizes.append((height // 2, width // 2))
        y = maps[-1]
        for block, size, skip in zip(
            self.blocks, [*sizes, (height, width)], [*finer, None], strict=True
        ):
            y = F.interpolate(y, size=size, mode="nearest")
            y = block(y if skip is None else torch.cat([y, skip], dim=1))
        return y


class _DecoderBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(inputs, outputs), _conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv2(self.conv1(x))
        return found


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )

"""DeepLabV3+ with a ResNet-50 encoder, under the published parameter names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.models.networks.prepare import fold_batch_norms
from openeo_cloudmask.models.networks.segmenter import convolve_stem, read_count, read_section
from openeo_cloudmask.models.networks.sensei import SenseiEncoder, SenseiNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXPANSION = 4
_ASPP_WIDTH = 256
_SKIP_WIDTH = 48
_ASPP_RATES = (12, 24, 36)
#: Blocks, width, stride and dilation of the four ResNet-50 stages at an output stride of 16.
_RESNET50 = ((3, 64, 1, 1), (4, 128, 2, 1), (6, 256, 2, 1), (3, 512, 1, 2))


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, dilation: int, *, first: bool) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        if first:
            self.downsample: nn.Module = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        else:
            self.downsample = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(image)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + self.downsample(image))


class _ResNet50(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, (blocks, width, stride, dilation) in enumerate(_RESNET50, start=1):
            layer = []
            for block in range(blocks):
                first = block == 0
                layer.append(
                    _Bottleneck(inputs, width, stride if first else 1, dilation, first=first)
                )
                inputs = width * _EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*layer))

    def forward(self, image: Tensor, mixing: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the features at a quarter and at a sixteenth of the size."""
        image = torch.relu(self.bn1(convolve_stem(self.conv1, image, mixing)))
        image = F.max_pool2d(image, 3, 2, 1)
        fine = self.get_submodule("layer1")(image)
        coarse = fine
        for number in (2, 3, 4):
            coarse = self.get_submodule(f"layer{number}")(coarse)
        return fine, coarse


def _separable(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, 1, dilation, dilation, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
    )


class _Pooling(nn.Sequential):
    """The mean over the image through a pointwise layer, spread over the image again."""

    def __init__(self, inputs: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(inputs, _ASPP_WIDTH, 1, bias=False),
            nn.BatchNorm2d(_ASPP_WIDTH),
            nn.ReLU(),
        )

    def forward(self, image: Tensor) -> Tensor:
        mean: Tensor = super().forward(image)  # type: ignore[no-untyped-call]
        return mean.expand(-1, -1, *image.shape[2:])


class _Aspp(nn.Module):
    """Atrous spatial pyramid pooling."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        branches: list[nn.Module] = [_activated(nn.Conv2d(inputs, _ASPP_WIDTH, 1, bias=False))]
        branches += [_activated(_separable(inputs, _ASPP_WIDTH, rate)) for rate in _ASPP_RATES]
        branches.append(_Pooling(inputs))
        self.convs = nn.ModuleList(branches)
        self.project = _activated(
            nn.Conv2d(len(branches) * _ASPP_WIDTH, _ASPP_WIDTH, 1, bias=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.project(torch.cat([branch(image) for branch in self.convs], dim=1))
        return out


def _activated(conv: nn.Module, width: int = _ASPP_WIDTH) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


class _Decoder(nn.Module):
    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.aspp = nn.Sequential(
            _Aspp(coarse),
            _separable(_ASPP_WIDTH, _ASPP_WIDTH),
            nn.BatchNorm2d(_ASPP_WIDTH),
            nn.ReLU(),
        )
        self.block1 = _activated(nn.Conv2d(fine, _SKIP_WIDTH, 1, bias=False), _SKIP_WIDTH)
        self.block2 = _activated(_separable(_ASPP_WIDTH + _SKIP_WIDTH, _ASPP_WIDTH))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        coarse = F.interpolate(
            self.aspp(coarse), fine.shape[2:], mode="bilinear", align_corners=True
        )
        out: Tensor = self.block2(torch.cat([coarse, self.block1(fine)], dim=1))
        return out


class DeepLabV3Plus(nn.Module):
    """DeepLabV3+ at an output stride of 16: image in, class scores at a quarter of the size out.

    Args:
        config: ``encoder`` (only ``resnet50`` is known).
        channels: Planes of the input.
        classes: Classes of the output.
    """

    def __init__(self, config: Mapping[str, Any], channels: int, classes: int) -> None:
        super().__init__()
        if config.get("encoder") != "resnet50":
            raise OptionError(
                f"deeplab.encoder is {config.get('encoder')!r}; expected 'resnet50', the only one "
                "with published weights"
            )
        self.encoder = _ResNet50(channels)
        self.decoder = _Decoder(_RESNET50[-1][1] * _EXPANSION, _RESNET50[0][1] * _EXPANSION)
        self.segmentation_head = nn.Sequential(nn.Conv2d(_ASPP_WIDTH, classes, 1))

    def forward(self, image: Tensor, mixing: Tensor | None = None) -> Tensor:
        """Return the scores, (n, class, y / 4, x / 4), of ``image``, (n, channel, y, x).

        ``mixing``, (n, channel, plane), is a linear map to apply to the planes of ``image``
        first; it becomes part of the first convolution.
        """
        image = image.to(self.encoder.conv1.weight.dtype, memory_format=torch.channels_last)
        fine, coarse = self.encoder(image, mixing)
        scores: Tensor = self.segmentation_head(self.decoder(fine, coarse))
        return scores

    def arrange(self, dtype: torch.dtype) -> None:
        """Turn in place into the same function, arranged for speed, computing in ``dtype``."""
        fold_batch_norms(self)
        _fold_separable_norms(self.decoder)
        for module in self.encoder.modules():
            if isinstance(module, (_Bottleneck, _ResNet50)):
                _fold_numbered_norms(module)
        self.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold_numbered_norms(module: nn.Module) -> None:
    """Fold, in place, each ``bn1``, ``bn2``, ... into the ``conv1``, ``conv2``, ... before it."""
    for name, norm in list(module.named_children()):
        if isinstance(norm, nn.BatchNorm2d):
            conv = name.replace("bn", "conv")
            setattr(module, conv, fuse_conv_bn_eval(module.get_submodule(conv), norm))  # type: ignore[type-var]
            setattr(module, name, nn.Identity())


def _fold_separable_norms(module: nn.Module) -> None:
    """Fold, in place, each norm behind a separable convolution into its pointwise part."""
    for part in module.modules():
        if isinstance(part, nn.Sequential):
            for index in range(len(part) - 1):
                pair, norm = part[index], part[index + 1]
                if isinstance(pair, nn.Sequential) and isinstance(norm, nn.BatchNorm2d):
                    pair[-1] = fuse_conv_bn_eval(pair[-1], norm)  # type: ignore[type-var]
                    part[index + 1] = nn.Identity()


def build(config: Mapping[str, Any]) -> SenseiNetwork:
    """Return SEnSeI with a DeepLabV3+, random weights, in evaluation mode.

    Args:
        config: ``sensei``, ``deeplab`` (their own settings) and ``classes``.

    Raises:
        OptionError: A setting is missing, unknown or does not fit the others.
    """
    encoder = SenseiEncoder(read_section(config, "sensei"))
    segmenter = DeepLabV3Plus(
        read_section(config, "deeplab"), encoder.output_size, read_count(config, "classes")
    )
    return SenseiNetwork(encoder, segmenter).eval()

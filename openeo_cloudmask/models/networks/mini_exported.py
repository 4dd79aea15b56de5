"""The two forms in which ``mini`` is exported for any choice of bands: in fp32, and for int8.

Both are arranged for onnxruntime. Its fast convolutions take planes in blocks of 16, filled up with
zeros, which at full resolution costs most of the time: there all that a pixel tells has 21 planes,
and what is made of it 8 and 4.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openeo_cloudmask.models.networks.mini import PLANES, MiniNet
from openeo_cloudmask.models.networks.prepare import fold_batch_norms

_PLANES_MULTIPLE = 4
"""Convolutions of other numbers of planes are slow ones."""
_PARTS = ((0, 1, 3), (2, 4))
"""Places in what ``MiniNet.tell`` gives, in two parts of fewer planes than a block."""
_ONE_PIXEL = torch.zeros(1, len(PLANES), 1, 1), torch.zeros(1, len(PLANES))


class MiniConvolutions(nn.Module):
    """Each layer as one convolution, which can be in int8.

    Planes that are zero, and weigh nothing, join those that the first layers get.
    """

    def __init__(self, network: MiniNet) -> None:
        super().__init__()
        self.network = _fold(network)
        told = self.network.spectral.in_channels
        self._more = -told % _PLANES_MULTIPLE
        self.network.spectral = _widen(self.network.spectral, self._more)
        self.network.stem[0] = _widen(cast("nn.Conv2d", self.network.stem[0]), self._more)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """(n, plane, y, x) and (n, plane) 0 or 1 -> logits."""
        more = present.new_zeros(()).expand(x.shape[0], self._more, *x.shape[2:])
        return self.network.decide(torch.cat([*self.network.tell(x, present), more], dim=1))


class MiniParts(nn.Module):
    """The form in fp32, where nothing is filled up at full resolution.

    What a pixel tells is handed on in parts: convolutions of fewer planes than a block take them
    as they lie. Layers that see one pixel alone are products of matrices.
    """

    def __init__(self, network: MiniNet) -> None:
        super().__init__()
        self.network = _fold(network)
        sizes = [planes.shape[1] for planes in network.tell(*_ONE_PIXEL)]
        columns = torch.split(torch.arange(sum(sizes)), sizes)
        parts = [torch.cat([columns[place] for place in part]) for part in _PARTS]
        stem, spectral = cast("nn.Conv2d", self.network.stem[0]), self.network.spectral
        self.stems, self.spectrals = (
            nn.ModuleList(_choose(conv, planes, bias=not n) for n, planes in enumerate(parts))
            for conv in (stem, spectral)
        )

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """(n, plane, y, x) and (n, plane) 0 or 1 -> logits."""
        network = self.network
        told = network.tell(x, present)
        first, second = (torch.cat([told[place] for place in part], dim=1) for part in _PARTS)
        stem = F.relu(self.stems[0](first) + self.stems[1](second))
        of_first, of_second = cast("list[nn.Conv2d]", list(self.spectrals))
        spectral = _per_pixel(of_first, first) + _per_pixel(of_second, second)
        return _per_pixel(network.head, network.join(spectral, network.look_around(stem)))


def _fold(network: MiniNet) -> MiniNet:
    folded: MiniNet = fold_batch_norms(copy.deepcopy(network).eval())  # type: ignore[assignment]
    return folded


def _choose(conv: nn.Conv2d, planes: Tensor, *, bias: bool) -> nn.Conv2d:
    """What a convolution makes of some of its planes, with or without what it adds to all."""
    part = copy.deepcopy(conv)
    part.in_channels = len(planes)
    part.weight = nn.Parameter(conv.weight.detach()[:, planes])
    if not bias:
        part.bias = None
    return part


def _per_pixel(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of single pixels as a product of matrices."""
    y = conv.weight[:, :, 0, 0] @ x.flatten(2)
    if conv.bias is not None:
        y = y + conv.bias[:, None]
    return y.reshape(x.shape[0], conv.out_channels, *x.shape[2:])


def _widen(conv: nn.Conv2d, planes: int) -> nn.Conv2d:
    """The same convolution, which also takes ``planes`` that weigh nothing."""
    wide = copy.copy(conv)
    wide.in_channels += planes
    wide.weight = nn.Parameter(F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, planes)))
    return wide

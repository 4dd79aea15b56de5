"""The patch CNN of Kristollari and Karathanassi (2020): 16 x 16 pixels in, cloud/non-cloud out.

Three times 3 x 3 convolution and 2 x 2 pooling, then three dense layers; 6,363 parameters. Label
is the pixel at row 8, column 8 of the patch.

Run on every pixel's own patch, nearly all work is done again and again: neighbouring patches
share their inner values. ``dense`` computes each shared value once. It is no approximation. A
value differs between patches only where a convolution meets the border of its patch and takes
zeros for what lies beyond, and along an axis there are few such cases: after each pooling a value
is the first of its patch, the last, or an inner one. Each case has its own map; a convolution
takes each of its taps from the map of the case that the tap falls in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openeo_cloudmask.errors import InputError, OptionError
from openeo_cloudmask.models.networks.segmenter import in_graph

PATCH_PX = 16
BEFORE_PX = 8
"""Rows above and columns left of the pixel that a patch is the label of."""
AFTER_PX = PATCH_PX - BEFORE_PX - 1

_FILTERS = 8
_UNITS = 50
_FIRST, _INNER, _LAST = range(3)
_BLOCK_YX = (128, 512)
"""Pixels computed at a time: few enough for the caches, many enough that borders cost little."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """How values of one case come about along one axis.

    A pooled value joins the convolution at two places, its base and the next.
    """

    sources: tuple[tuple[int, int], ...]
    """Case of each map that is read, and where reading begins, counted from the base."""
    reach: int
    """Values read from each source."""
    taps: tuple[dict[tuple[int, int], int], ...]
    """For each of the two places: (source, place of the value read) -> tap of the kernel. With
    one place given, the next is the same one step on."""


_AXES = {
    # First: zeros before it. The first place takes (zero, first, inner), the next (first, inner,
    # inner).
    _FIRST: _Axis(
        sources=((_INNER, 1), (_FIRST, 0)),
        reach=2,
        taps=({(1, 0): 1, (0, 0): 2}, {(1, 0): 0, (0, 0): 1, (0, 1): 2}),
    ),
    _INNER: _Axis(sources=((_INNER, -1),), reach=3, taps=({(0, 0): 0, (0, 1): 1, (0, 2): 2},)),
    # Last: zeros after it. (inner, inner, last), then (inner, last, zero).
    _LAST: _Axis(
        sources=((_INNER, -1), (_LAST, 1)),
        reach=2,
        taps=({(0, 0): 0, (0, 1): 1, (1, 0): 2}, {(0, 1): 0, (1, 0): 1}),
    ),
}
# In the image itself no value is special: only the border's zeros tell three places apart.
_IMAGE_TAPS = ((1, 2), (0, 1, 2), (0, 1))


def build(config: Mapping[str, Any]) -> PatchCnn:
    """The network for ``config["bands"]`` bands, default 13, in eval mode.

    Raises:
        OptionError: A setting that is not known.
    """
    if unknown := set(config) - {"bands"}:
        raise OptionError(f"unknown settings {sorted(unknown)}; expected 'bands'")
    return PatchCnn(int(config.get("bands", 13))).eval()


class PatchCnn(nn.Module):
    """(n, band, 16, 16) reflectance -> (n, 1) logits of cloud."""

    def __init__(self, bands: int = 13) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(bands, _FILTERS, 3, padding=1)
        self.conv2 = nn.Conv2d(_FILTERS, _FILTERS, 3, padding=1)
        self.conv3 = nn.Conv2d(_FILTERS, _FILTERS, 3, padding=1)
        self.dense1 = nn.Linear(4 * _FILTERS, _UNITS)
        self.dense2 = nn.Linear(_UNITS, _UNITS)
        self.dense3 = nn.Linear(_UNITS, 1)
        self.dropout = nn.Dropout(0.3)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):  # as the published code starts
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(_bias(layer))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of patches; see the class."""
        if tuple(x.shape[2:]) != (PATCH_PX, PATCH_PX):
            raise InputError(
                f"the patches have {x.shape[2]} x {x.shape[3]} pixels; expected 16 x 16"
            )
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # rows, columns, filters: the published order
        x = self.dropout(F.relu(self.dense1(x)))
        x = self.dropout(F.relu(self.dense2(x)))
        logits: Tensor = self.dense3(x)
        return logits

    def dense(self, padded: Tensor) -> Tensor:
        """Logits of cloud for every patch of an image: as ``forward`` on each, in eval mode.

        Args:
            padded: (n, band, y + 15, x + 15): the image with 8 pixels before and 7 after it.

        Returns:
            (n, 1, y, x).
        """
        logits: Tensor = _Plan(self)(padded)
        return logits

    def inference_form(self, precision: str) -> nn.Module:  # noqa: ARG002 - always fp32: it is small
        """The network on whole windows, zeros beyond them: logits of the four classes."""
        return _Windows(_Plan(self)).eval()


class _Windows(nn.Module):
    """(n, band, y, x) -> (n, 4, y, x): clear, thick cloud; thin cloud and shadow never."""

    def __init__(self, plan: _Plan) -> None:
        super().__init__()
        self.plan = plan

    def forward(self, x: Tensor) -> Tensor:
        around = (BEFORE_PX, AFTER_PX, BEFORE_PX, AFTER_PX)
        cloud = self.plan(F.pad(x, around))
        never = torch.full_like(cloud, float("-inf"))
        return torch.cat([torch.zeros_like(cloud), cloud, never, never], dim=1)


class _Plan(nn.Module):
    """The kernels that a dense run needs, one for each case of values along both axes."""

    def __init__(self, network: PatchCnn) -> None:
        super().__init__()
        with torch.no_grad():
            bias = _bias(network.conv1).repeat(9)
            self.image = _conv(_image_kernel(network.conv1), bias, padding=1)
            self.middle = nn.ModuleList(_case_conv(network.conv2, case) for case in _CASES)
            self.end = nn.ModuleList(_case_conv(network.conv3, case) for case in _ENDS)
            self.dense = nn.ModuleList(
                _conv(layer.weight[:, :, None, None], _bias(layer))
                for layer in (network.dense1, network.dense2, network.dense3)
            )

    def forward(self, padded: Tensor) -> Tensor:
        """(n, band, y + 15, x + 15) -> (n, 1, y, x)."""
        if in_graph():
            return self._run(padded)
        height, width = (size - PATCH_PX + 1 for size in padded.shape[2:])
        out = padded.new_empty((len(padded), 1, height, width))
        rows, columns = _BLOCK_YX
        for top, left in product(range(0, height, rows), range(0, width, columns)):
            bottom, right = min(top + rows, height), min(left + columns, width)
            block = padded[:, :, top : bottom + PATCH_PX - 1, left : right + PATCH_PX - 1]
            out[:, :, top:bottom, left:right] = self._run(block)
        return out

    def _run(self, x: Tensor) -> Tensor:
        """One block, all at once."""
        count, _, height, width = x.shape
        height, width = height - PATCH_PX + 1, width - PATCH_PX + 1
        # Two poolings later, what belongs together lies four pixels apart.
        below, right = (-(size + PATCH_PX - 2) % 4 for size in (height, width))
        x = F.pad(x, (0, right, 0, below)).contiguous(memory_format=torch.channels_last)
        maps = _pool_image(self.image(x))
        for cases, convs in ((_CASES, self.middle), (_ENDS, self.end)):
            maps = {case: _pad(_to_phases(plane)) for case, plane in maps.items()}
            maps = {
                case: _pooled(maps, case, conv) for case, conv in zip(cases, convs, strict=True)
            }
        # Of the 2 x 2 values that are left of a patch, the last lies two steps behind the first.
        rows, columns = (size - 2 for size in next(iter(maps.values())).shape[2:])
        corners = [
            plane[:, :, row : row + rows, column : column + columns]
            for (row, column), plane in maps.items()
        ]
        x = torch.cat(corners, dim=1)
        for layer in self.dense[:2]:
            x = F.relu_(layer(x))
        x = _from_phases(_from_phases(self.dense[2](x)))
        return x[:count, :, :height, :width]


_Case = tuple[int, int]
"""Along y and along x."""
_CASES: tuple[_Case, ...] = tuple(product(_AXES, _AXES))
_ENDS = tuple(case for case in _CASES if _INNER not in case)


def _conv(weight: Tensor, bias: Tensor, padding: int = 0) -> nn.Conv2d:
    """The convolution with these values: (out, in, y, x) and (out,)."""
    outputs, inputs, *size_yx = weight.shape
    # No first values are drawn: that would move the random numbers of a training on.
    conv: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, inputs, outputs, size_yx, padding=padding, device=weight.device
    )
    conv.load_state_dict({"weight": weight, "bias": bias})
    # As the images are: a convolution of mixed layouts takes longer.
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


def _image_kernel(conv: nn.Conv2d) -> Tensor:
    """(9 filters, band, 3, 3): taps beyond the patch's border are zero."""
    masks = conv.weight.new_zeros((3, 3, 1, 1, 3, 3))
    for (i, rows), (j, columns) in product(enumerate(_IMAGE_TAPS), repeat=2):
        for y, x in product(rows, columns):
            masks[i, j, :, :, y, x] = 1
    return (masks * conv.weight).flatten(0, 2)


def _case_conv(conv: nn.Conv2d, case: _Case) -> nn.Conv2d:
    """The convolution that gives a case's values, before pooling, from all maps they need."""
    down, right = _AXES[case[0]], _AXES[case[1]]
    kernel = conv.weight.new_zeros(
        len(down.taps),
        len(right.taps),
        _FILTERS,
        len(down.sources),
        len(right.sources),
        _FILTERS,
        down.reach,
        right.reach,
    )
    for (i, rows), (j, columns) in product(enumerate(down.taps), enumerate(right.taps)):
        for ((from_row, y), tap_y), ((from_column, x), tap_x) in product(
            rows.items(), columns.items()
        ):
            kernel[i, j, :, from_row, from_column, :, y, x] = conv.weight[:, :, tap_y, tap_x]
    bias = _bias(conv).repeat(len(down.taps) * len(right.taps))
    return _conv(kernel.flatten(0, 2).flatten(1, 3), bias)


def _pool_image(x: Tensor) -> dict[_Case, Tensor]:
    """The nine cases after ReLU and pooling, from the nine kinds of places in a patch."""
    places = x.unflatten(1, (3, 3, _FILTERS))  # type: ignore[no-untyped-call]
    pairs = ((0, 1), (1, 1), (1, 2))
    rows = [torch.maximum(places[:, a, :, :, :-1], places[:, b, :, :, 1:]) for a, b in pairs]
    return {
        (row, column): F.relu_(torch.maximum(rows[row][:, a, :, :, :-1], rows[row][:, b, :, :, 1:]))
        for row, (column, (a, b)) in product(range(3), enumerate(pairs))
    }


def _pooled(maps: dict[_Case, Tensor], case: _Case, conv: nn.Module) -> Tensor:
    """One case after convolution, ReLU and pooling; ``maps`` are padded, the answer is not."""
    down, right = _AXES[case[0]], _AXES[case[1]]
    height, width = (size - 3 for size in maps[_INNER, _INNER].shape[2:])
    more_y, more_x = (2 - len(axis.taps) for axis in (down, right))
    parts = []
    for (row, y), (column, x) in product(down.sources, right.sources):
        bottom, last = y + height + down.reach + more_y, x + width + right.reach + more_x
        parts.append(maps[row, column][:, :, 1 + y : bottom, 1 + x : last])
    joined = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
    places = conv(joined).unflatten(1, (len(down.taps), len(right.taps), _FILTERS))
    if more_y:
        rows = torch.maximum(places[:, 0, :, :, :-1], places[:, 0, :, :, 1:])
    else:
        rows = torch.maximum(places[:, 0], places[:, 1])
    if more_x:
        return F.relu_(torch.maximum(rows[:, 0, :, :, :-1], rows[:, 0, :, :, 1:]))
    return F.relu_(torch.maximum(rows[:, 0], rows[:, 1]))


def _pad(x: Tensor) -> Tensor:
    """One value before and two after: read only for places that no patch has."""
    return F.pad(x, (1, 2, 1, 2))


def _to_phases(x: Tensor) -> Tensor:
    """(n, c, y, x) -> (4 n, c, y / 2, x / 2): every other value, so partners are neighbours."""
    parts = [x[:, :, row::2, column::2] for row, column in product(range(2), range(2))]
    return torch.cat(parts)


def _from_phases(x: Tensor) -> Tensor:
    """The inverse of ``_to_phases``."""
    parts = x.unflatten(0, (2, 2, -1))  # type: ignore[no-untyped-call]
    joined: Tensor = parts.permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)
    return joined


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    if layer.bias is None:
        raise InputError("the layer has no bias")
    return layer.bias

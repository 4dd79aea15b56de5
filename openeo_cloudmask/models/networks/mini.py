"""``mini``: a small network for any sensor with blue, green, red and near infrared.

A U-Net from half resolution down to 1/32, beside a branch that sees each pixel alone at full
resolution: reflectance is absolute, so a pixel's own spectrum tells most, and nothing is taken
over the whole window. Its planes are always the same; those a sensor lacks are zero and flagged
so. At 1/32 a few depthwise kernels tell what lies far away: a shadow may be hundreds of pixels
from its cloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openeo_cloudmask.errors import BandError, InputError, OptionError

PLANES = ("blue", "green", "red", "nir", "cirrus", "swir16", "swir22")
"""What the network sees, in its order: reflectance, 0-1."""
NEEDED_PLANES = PLANES[:4]
WIDTHS = (24, 40, 64, 104, 144)
"""Channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution."""
MULTIPLE_PX = 2 ** len(WIDTHS)

_COARSE = WIDTHS[1]
_CONTEXT_BLOCKS = 3
_CONTEXT_KERNEL = 3
_FINE = 8
"""Channels at full resolution."""
_HUES = 3
"""Ratios of neighbouring bands from blue to near infrared, spread out around 1: snow under a low
sun and ice cloud differ by a tenth in them, and by little else."""
_FLOOR = 0.03
"""Added before the logarithm: about the reflectance of the air over dark ground."""


def build(config: Mapping[str, Any]) -> MiniNet:
    """The network for the planes named in ``config["planes"]``, default all, in eval mode.

    Raises:
        OptionError: A setting that is not known.
        BandError: A plane is unknown or a needed one is missing.
    """
    unknown = set(config) - {"planes", "classes"}
    if unknown:
        raise OptionError(f"unknown settings {sorted(unknown)}; expected 'planes', 'classes'")
    return MiniNet(config.get("planes", PLANES), classes=int(config.get("classes", 4))).eval()


class MiniNet(nn.Module):
    """(n, plane, y, x) reflectance, 0 where no-data -> (n, class, y, x) logits.

    Height and width are multiples of 32. Which planes are given is fixed when it is built; the
    weights are the same for any choice.
    """

    def __init__(self, planes: Sequence[str], classes: int = 4) -> None:
        super().__init__()
        if unknown := [name for name in planes if name not in PLANES]:
            raise BandError(f"unknown planes {unknown}; expected some of {', '.join(PLANES)}")
        if missing := [name for name in NEEDED_PLANES if name not in planes]:
            raise BandError(f"missing planes {', '.join(missing)}; mini needs at least these four")
        self._places = [PLANES.index(name) for name in planes]
        extra = len(PLANES) - len(NEEDED_PLANES)
        told = 2 * len(PLANES) + extra + 1 + _HUES
        self.spectral = nn.Conv2d(told, _FINE, 1)
        self.stem = _conv(told, WIDTHS[0], stride=2)
        pairs = list(pairwise(WIDTHS))
        self.down = nn.ModuleList(_conv(small, large, stride=2) for small, large in pairs)
        self.encode = nn.ModuleList(
            [
                _Residual(WIDTHS[1]),
                _Residual(WIDTHS[2]),
                nn.Sequential(_Separable(WIDTHS[3], 5), _Separable(WIDTHS[3], 5)),
                nn.Sequential(
                    *(_Separable(WIDTHS[4], _CONTEXT_KERNEL) for _ in range(_CONTEXT_BLOCKS))
                ),
            ]
        )
        self.up = nn.ModuleList(_conv(large, small, kernel=1) for small, large in pairs)
        self.decode = nn.ModuleList(_conv(small, small) for small, _ in pairs)
        self.lift = nn.Conv2d(WIDTHS[0], _FINE, 1)
        self.smooth = nn.Conv2d(_FINE, _FINE, 3, padding=1)
        self.head = nn.Conv2d(_FINE, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; see the class."""
        planes = x.new_zeros((x.shape[0], len(PLANES), *x.shape[2:]))
        planes[:, self._places] = x
        present = x.new_zeros((x.shape[0], len(PLANES)))
        present[:, self._places] = 1
        return self.classify(planes, present)

    def classify(self, planes: Tensor, present: Tensor, far: Tensor | None = None) -> Tensor:
        """Logits for all planes, each zero where its flag in ``present`` (n, plane) is.

        In training ``far`` (n,) is 0 for those that must do without what lies far away.

        Raises:
            InputError: Height or width is no multiple of 32.
        """
        height, width = planes.shape[2:]
        if height % MULTIPLE_PX or width % MULTIPLE_PX:
            raise InputError(
                f"the image has {height} x {width} pixels; mini takes multiples of {MULTIPLE_PX}. "
                "Mirror its borders and cut the result"
            )
        x = torch.cat(self.tell(planes, present), dim=1)
        return self.decide(x.contiguous(memory_format=torch.channels_last), far)

    def tell(self, planes: Tensor, present: Tensor) -> list[Tensor]:
        """The features of each pixel, in parts that are joined along the planes."""
        # The largest size, not ``any``: runtimes have no fast form of that.
        seen = (planes.abs().amax(dim=1, keepdim=True) > 0).to(planes.dtype)
        flags = present[:, :, None, None]
        log = torch.log(planes.clamp(0, 4) + _FLOOR)
        curved = (log + 1.75) * (flags * seen)
        hue = torch.tanh(5 * (log[:, :_HUES] - log[:, 1 : _HUES + 1])) * seen
        told = flags[:, len(NEEDED_PLANES) :].expand(-1, -1, *planes.shape[2:])
        return [curved, planes, told, seen, hue]

    def decide(self, told: Tensor, far: Tensor | None = None) -> Tensor:
        """Logits of what ``tell`` told, joined."""
        return self.weigh(told, self.look(told, far))

    def look(self, told: Tensor, far: Tensor | None = None) -> Tensor:
        """What is seen around each place, at half the resolution."""
        return self.look_around(self.stem(told), far)

    def look_around(self, x: Tensor, far: Tensor | None = None) -> Tensor:
        """``look``, from what the first layer gives at half the resolution."""
        skips = [x]
        for down, encode in zip(self.down, self.encode, strict=True):
            x = encode(down(x))
            skips.append(x)
        skips.pop()
        if far is not None:
            x = x * far[:, None, None, None]
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            x = decode(_double(up(x)) + skips.pop())
        return x

    def weigh(self, told: Tensor, around: Tensor) -> Tensor:
        """Logits of what is told of each pixel and what is seen around it."""
        logits: Tensor = self.head(self.join(self.spectral(told), around))
        return logits

    def join(self, own: Tensor, around: Tensor) -> Tensor:
        """What decides on each pixel, of its own spectrum and what is seen around it."""
        fine = F.relu(own) + _double(self.lift(around))
        smoothed: Tensor = F.relu(self.smooth(F.relu(fine)))
        return smoothed

    @property
    def tail(self) -> tuple[nn.Module, ...]:
        """The layers at full resolution, which weigh what the others see."""
        return self.spectral, self.lift, self.smooth, self.head


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class PickBands(nn.Module):
    """A network behind a choice of bands: it sees those at ``places``, in that order."""

    def __init__(self, network: nn.Module, places: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self._places = list(places)

    def forward(self, x: Tensor) -> Tensor:
        """The network's answer on the chosen bands."""
        logits: Tensor = self.network(x[:, self._places])
        return logits


def _conv(
    channels: int, out: int, *, kernel: int = 3, stride: int = 1, act: bool = True, groups: int = 1
) -> nn.Sequential:
    # Zeros around coarse maps would reach far into what is seen.
    coarse = kernel > 1 and channels >= _COARSE
    padding: Literal["zeros", "replicate"] = "replicate" if coarse else "zeros"
    layers: list[nn.Module] = [
        nn.Conv2d(
            channels,
            out,
            kernel,
            stride,
            kernel // 2,
            groups=groups,
            bias=False,
            padding_mode=padding,
        ),
        nn.BatchNorm2d(out),
    ]
    if act:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class _Separable(nn.Module):
    """A large depthwise kernel, then two pointwise layers; added to what came in."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.spread = _conv(channels, channels, kernel=kernel, groups=channels, act=False)
        self.wide = _conv(channels, 2 * channels, kernel=1)
        self.narrow = _conv(2 * channels, channels, kernel=1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.narrow(self.wide(self.spread(x)))
        return y

"""Crops of scenes for ``mini``: cut, with clouds from elsewhere, and varied; whole batches at once.

Everything is drawn from one generator on the scenes' device, so a batch depends on its seed alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from openeo_cloudmask.training.bank import LABEL, TAUGHT, Bank
from openeo_cloudmask.training.scenes import (
    ANY_CLOUD,
    ASK_TEACHER,
    CLEAR,
    CLEAR_OR_SHADOW,
    PLANE_COUNT,
    SHADOW,
    UNSEEN,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor

_CLOUDS = (1, 2, ANY_CLOUD)
_DARK_NIR = 0.08
"""Ground darker than this in the near infrared shows no shadow."""
_BRIGHT = 0.5
"""Crops brighter than this in visible light may be snow or ice cloud, which little but the ratio
of their bands tells apart: their bands are hardly varied one by one."""
_AIR = (0.075, 0.045, 0.025, 0.01, 0.0, 0.001, 0.0)
"""Reflectance of clear air over dark ground, about, in the planes of ``mini``."""
_SHADE = (0.7, 0.85, 0.95, 1.0, 1.0, 1.05, 1.05)
"""How dark a moved cloud's shadow is in each plane, beside the near infrared."""
_PRESENCE = (
    ((1, 1, 1), 0.28),
    ((0, 1, 1), 0.30),
    ((0, 0, 0), 0.32),
    ((0, 1, 0), 0.06),
    ((1, 0, 0), 0.04),
)
"""Which planes beyond the four needed are given (cirrus, swir16, swir22), and how often."""


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch."""

    planes: Tensor
    """(n, 7, y, x) float32, reflectance, 0 where no-data or not given."""
    present: Tensor
    """(n, 7) float32, 1 where the plane is given."""
    truth: Tensor
    """(n, y, x) int64: the labels of ``scenes``."""
    taught: Tensor
    """(n, 2, y, x) float32, a teacher's probabilities of cloud and shadow; 0 without a teacher."""
    corrected: Tensor
    """(n,) bool, whether the scene is corrected to the ground."""


class Chance:
    """Random numbers, each for one example of a batch."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return uniform numbers."""
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return low + (high - low) * drawn

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def often(self, shape: tuple[int, ...], share: float) -> Tensor:
        """Return bools, true as often as ``share``."""
        return self.uniform(shape) < share

    def log_uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """Return numbers whose logarithm is uniform."""
        return self.uniform(shape, math.log(low), math.log(high)).exp()


def cut(bank: Bank, count: int, size_px: int, chance: Chance, *, zoom: float) -> Crops:
    """Return crops of scenes drawn by their share: mirrored, turned, scaled, borders doubted.

    Args:
        bank: the scenes.
        count: number of crops.
        size_px: rows and columns of each.
        chance: what is drawn.
        zoom: the scale is 1 / zoom to zoom, in six crops of ten.
    """
    which = torch.multinomial(bank.share, count, replacement=True, generator=chance.generator)
    rows, columns = _places(bank.size[which], size_px, chance, zoom)
    layers = _sample(bank, which, rows, columns)
    planes = layers[..., :PLANE_COUNT].movedim(-1, 1).contiguous()
    truth = layers[..., LABEL].long()
    seen = planes[:, 0] != 0
    planes *= seen[:, None]
    truth[~seen] = UNSEEN
    other = torch.zeros_like(seen)
    for axis in (1, 2):
        change = truth.diff(dim=axis) != 0
        other |= F.pad(change, (0, 0, 0, 1) if axis == 1 else (0, 1))
        other |= F.pad(change, (0, 0, 1, 0) if axis == 1 else (1, 0))
    truth[other & chance.often(tuple(truth.shape), 0.5)] = UNSEEN
    return Crops(
        planes=planes,
        present=bank.present[which],
        truth=truth,
        taught=layers[..., TAUGHT].movedim(-1, 1)
        if bank.taught
        else planes.new_zeros((count, 2, size_px, size_px)),
        corrected=bank.corrected[which],
    )


def _places(size: Tensor, size_px: int, chance: Chance, zoom: float) -> tuple[Tensor, Tensor]:
    """Return where (n, y, x) pixels of crops lie in their scenes: rows, columns, float32.

    Without a change of scale or a slanted turn they lie on pixels.
    """
    count = len(size)
    scaled = chance.often((count,), 0.6) if zoom > 1 else torch.zeros_like(size[:, 0]).bool()
    scale = torch.where(scaled, chance.log_uniform((count,), 1 / zoom, zoom), 1.0)
    quarter = chance.uniform((count,), 0, 4).floor() * (chance.often((count,), 0.5))
    slant = chance.uniform((count,), -0.5, 0.5) * chance.often((count,), 0.2)
    angle = (quarter + slant) * (math.pi / 2)
    flip = torch.where(chance.often((count,), 0.5), -1.0, 1.0)
    half = size_px / 2 * scale
    centres = []
    for axis in (0, 1):
        extent = size[:, axis].float()
        low = torch.minimum(half, extent / 2)
        centre = low + chance.uniform((count,)) * (extent - 2 * low)
        centres.append((centre.floor() - 0.5)[:, None, None])
    step = torch.arange(size_px, device=size.device) - (size_px - 1) / 2
    down, right = (step[:, None] * (scale * flip)[:, None, None]), step * scale[:, None, None]
    cos, sin = (value[:, None, None] for value in (angle.cos(), angle.sin()))
    return centres[0] + cos * down - sin * right, centres[1] + sin * down + cos * right


def _sample(bank: Bank, which: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return (n, y, x, layer) float32 layers between pixels; labels are those of the nearest one.

    Scenes go on mirrored. A place with an no-data pixel beside it is no-data.
    """
    _, height, width, depth = bank.layers.shape
    flat = bank.layers.view(-1, depth)
    size = bank.size[which].float()
    top, left = (rows + 1e-3).floor(), (columns + 1e-3).floor()
    below, beside = (rows - top).clamp(min=0), (columns - left).clamp(min=0)
    base = which[:, None, None] * (height * width)
    out = flat.new_zeros((*rows.shape, depth), dtype=torch.float32)
    seen = torch.ones_like(rows, dtype=torch.bool)
    nearest, best = torch.zeros_like(rows), torch.full_like(rows, -1)
    for dy, wy in ((0, 1 - below), (1, below)):
        row = _mirrored(top + dy, size[:, 0])
        for dx, wx in ((0, 1 - beside), (1, beside)):
            place = base + row * width + _mirrored(left + dx, size[:, 1])
            weight = wy * wx
            layers = flat[place].float()
            seen &= (layers[..., 0] != 0) | (weight <= 1e-2)
            out += layers * weight[..., None]
            nearest = torch.where(weight > best, layers[..., LABEL], nearest)
            best = torch.maximum(weight, best)
    out *= seen[..., None]
    out[..., LABEL] = nearest
    return out


def _mirrored(place: Tensor, size: Tensor) -> Tensor:
    size = size[:, None, None]
    inside = torch.remainder(place, 2 * size)
    return torch.where(inside < size, inside, 2 * size - 1 - inside).long()


def join(parts: list[Crops]) -> Crops:
    """Return one batch of several."""
    return Crops(*(torch.cat([getattr(part, name) for part in parts]) for name in Crops.__slots__))


def move_clouds(crops: Crops, chance: Chance, share: float) -> Crops:
    """Return the batch, a ``share`` of it under the clouds of another crop, with their shadows.

    Both stand in the planes that both have. Seams, and ground that is too dark to show its shadow,
    count as no-data.
    """
    count = len(crops.planes)
    order = torch.randperm(count, generator=chance.generator, device=crops.planes.device)
    sky_planes, sky_truth = crops.planes[order], crops.truth[order]
    cloud = _any(sky_truth, _CLOUDS).float()
    cover = cloud.mean(dim=(1, 2))
    chosen = chance.often((count,), share) & (cover > 0.02) & (cover < 0.9)
    chosen &= order != torch.arange(count, device=order.device)
    present = crops.present * crops.present[order]
    veil = _blurred(cloud[:, None], chance.uniform((count,), 0.7, 2.0))[:, 0]
    shade = _thrown(veil * (sky_planes[:, 0] > 0.2), chance)
    dark = chance.uniform((count, 1), 0.35, 0.8) * crops.planes.new_tensor(_SHADE)
    lit = crops.planes * (1 - dark.clamp(max=0.9)[..., None, None] * shade[:, None])
    planes = veil[:, None] * sky_planes + (1 - veil[:, None]) * lit
    planes *= present[..., None, None]
    truth = crops.truth.clone()
    ground = _any(truth, (CLEAR, CLEAR_OR_SHADOW, ASK_TEACHER))
    truth[_any(truth, (CLEAR, CLEAR_OR_SHADOW)) & (shade > 0.65)] = SHADOW
    doubtful = (shade > 0.3) & ((shade <= 0.65) | (crops.planes[:, 3] < _DARK_NIR))
    truth[ground & (doubtful | ((truth == ASK_TEACHER) & (shade > 0.1)))] = UNSEEN
    truth[veil > 0.15] = UNSEEN
    truth = torch.where((veil > 0.75) & (cloud > 0), sky_truth, truth)
    hidden = (crops.planes[:, 0] == 0) | (sky_planes[:, 0] == 0)
    planes *= ~hidden[:, None]
    truth[hidden] = UNSEEN
    here = chosen[:, None, None]
    return Crops(
        torch.where(here[..., None], planes, crops.planes),
        torch.where(chosen[:, None], present, crops.present),
        torch.where(here, truth, crops.truth),
        crops.taught,
        crops.corrected,
    )


def _any(values: Tensor, wanted: tuple[int, ...]) -> Tensor:
    found = values == wanted[0]
    for value in wanted[1:]:
        found |= values == value
    return found


def _blurred(images: Tensor, sigma: Tensor, radius: int = 5) -> Tensor:
    """Return (n, c, y, x) images, each blurred by its own Gaussian."""
    step = torch.arange(-radius, radius + 1, device=images.device).float()
    kernel = torch.exp(-0.5 * (step / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True))[:, :, None, None, None]
    for axis in (2, 3):
        length = images.shape[axis]
        pad = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        wide = F.pad(images, pad, mode="replicate")
        images = kernel[:, 0] * wide.narrow(axis, 0, length)
        for tap in range(1, 2 * radius + 1):
            images.addcmul_(kernel[:, tap], wide.narrow(axis, tap, length))
    return images


def _thrown(veil: Tensor, chance: Chance) -> Tensor:
    """Return the shadow of (n, y, x) clouds, moved 4 to 60 pixels, with a soft border."""
    count, height, width = veil.shape
    angle = chance.uniform((count,), 0, 2 * math.pi)
    length = chance.log_uniform((count,), 4, 60)
    rows = torch.arange(height, device=veil.device) - (length * angle.sin()).round()[:, None]
    columns = torch.arange(width, device=veil.device) - (length * angle.cos()).round()[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None
    ]
    flat = rows.clamp(0, height - 1).long()[:, :, None] * width
    flat = flat + columns.clamp(0, width - 1).long()[:, None]
    moved = veil.flatten(1).gather(1, flat.flatten(1)).view_as(veil) * inside
    return _blurred(moved[:, None], chance.uniform((count,), 0.3, 1.7))[:, 0]


def vary(crops: Crops, chance: Chance) -> Crops:
    """Return the batch as other sensors and products would show it, with planes left out."""
    count = len(crops.planes)
    device = crops.planes.device
    seen = crops.planes[:, :1] != 0
    table = torch.tensor([[1, 1, 1, 1, *given] for given, _ in _PRESENCE], device=device)
    often = torch.tensor([share for _, share in _PRESENCE], device=device)
    kind = torch.multinomial(often, count, replacement=True, generator=chance.generator)
    present = crops.present * table[kind]
    planes = _recalibrated(_air(crops, chance), chance)
    sharp = _noisy(planes, chance)
    planes = _saturated(sharp, chance)
    # What is white in every band may be snow or cloud.
    white = (planes[:, :3] < sharp[:, :3]).all(dim=1) & _any(crops.truth, (CLEAR, CLEAR_OR_SHADOW))
    white &= sharp[:, 0] > _BRIGHT
    truth = torch.where(white, UNSEEN, crops.truth)
    planes = planes.clamp(min=1e-4) * seen * present[..., None, None]
    hidden = _hidden(truth.shape, chance)
    planes = planes * ~hidden[:, None]
    truth = torch.where(hidden, UNSEEN, truth)
    return Crops(planes, present, truth, crops.taught, crops.corrected)


def _air(crops: Crops, chance: Chance) -> Tensor:
    """Return planes with some of the air's light taken away, or added to corrected ones."""
    count = len(crops.planes)
    amount = chance.uniform((count,)) * chance.often((count,), 0.4)
    amount = torch.where(crops.corrected, amount, -0.9 * amount)
    air = amount[:, None] * crops.planes.new_tensor(_AIR)
    air = air[..., None, None]
    # Little of it is seen before a bright cloud.
    return crops.planes + air * (1 - crops.planes).clamp(0, 1)


def _recalibrated(planes: Tensor, chance: Chance) -> Tensor:
    """Return planes with another calibration and contrast."""
    count = len(planes)
    bright = planes[:, :3, ::4, ::4].mean(dim=(1, 2, 3)) > _BRIGHT
    little = torch.where(bright, 0.15, 1.0)[:, None]
    strong = chance.often((count, 1), 0.25)
    wide = torch.where(strong | bright[:, None], 0.16, 0.06)
    apart = torch.where(strong, 0.04, 0.012) * little
    gain = (chance.normal((count, 1)) * wide + chance.normal((count, PLANE_COUNT)) * apart).exp()
    offset = chance.normal((count, 1)) * 0.005 + chance.normal((count, PLANE_COUNT)) * 0.003
    curved = chance.often((count, 1), 0.2) * little
    gamma = chance.normal((count, 1)) * 0.06 + chance.normal((count, PLANE_COUNT)) * 0.03
    gamma = (curved * gamma).exp()[..., None, None]
    return planes.clamp(min=1e-4) ** gamma * gain[..., None, None] + offset[..., None, None]


def _noisy(planes: Tensor, chance: Chance) -> Tensor:
    """Return planes, some blurred, some with noise."""
    count = len(planes)
    sigma = torch.where(chance.often((count,), 0.2), chance.uniform((count,), 0.4, 1.1), 0.05)
    planes = _blurred(planes, sigma, radius=3)
    level = chance.log_uniform((count,), 0.0005, 0.008) * chance.often((count,), 0.35)
    return planes + level[:, None, None, None] * chance.normal(tuple(planes.shape))


def _saturated(planes: Tensor, chance: Chance) -> Tensor:
    """Return planes clipped as sensors and products are, some in eight bits per band."""
    count = len(planes)
    draw = chance.uniform((count, 1))
    limits = chance.uniform((count, PLANE_COUNT), 0.35, 1.2)
    limits = torch.where(draw < 0.15, limits, 10.0)[..., None, None]
    planes = torch.minimum(planes, limits)
    eight = ((draw >= 0.15) & (draw < 0.27))[..., None, None]
    cut_at = torch.where(chance.often((count, 1), 0.5), 0.4, chance.uniform((count, 1), 0.3, 1.0))
    step = cut_at[..., None, None] / 255
    coarse = torch.minimum(planes[:, :3], step * 255).div(step).round() * step
    return torch.cat([torch.where(eight, coarse, planes[:, :3]), planes[:, 3:]], dim=1)


def _hidden(shape: torch.Size, chance: Chance) -> Tensor:
    """Return (n, y, x) bools: in one crop of twelve, all beyond a slanted edge."""
    count, height, width = shape
    angle = chance.uniform((count,), 0, 2 * math.pi)[:, None, None]
    device = angle.device
    rows = torch.linspace(-1, 1, height, device=device)[:, None]
    columns = torch.linspace(-1, 1, width, device=device)
    across = columns * angle.cos() + rows * angle.sin()
    edge = torch.where(chance.often((count,), 0.08), chance.uniform((count,), -0.2, 0.9), 9.0)
    return across > edge[:, None, None]

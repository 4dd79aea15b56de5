"""Real labelled scenes as training examples, and clouds moved from one scene to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.evaluation import labelled
from openeo_cloudmask.sensors import find_common, get_sensor
from openeo_cloudmask.training.scenes import (
    ANY_CLOUD,
    CLEAR,
    CLEAR_OR_SHADOW,
    PLANE_COUNT,
    SHADOW,
    UNSEEN,
    Example,
    turn,
)

if TYPE_CHECKING:
    Floats = NDArray[np.float32]

_CLOUDS = (1, 2, ANY_CLOUD)
_DARK_NIR = 0.08
"""Ground darker than this in the near infrared shows no shadow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledScene:
    """A scene with labels by people."""

    name: str
    planes: Floats
    """(7, y, x) float32, reflectance, 0 where unseen or not given."""
    present: Floats
    """(7,) float32, 1 where the plane is given."""
    truth: NDArray[np.uint8]
    """(y, x) uint8, codes as in ``Example``."""

    @property
    def group(self) -> str:
        """The scenes it belongs to: what comes before the first ``_`` of its name."""
        return self.name.split("_")[0]


def read_labelled(path: Path) -> LabelledScene:
    """Return the scene in a file that ``cloudmask evaluate`` reads, as planes of ``mini``.

    Raises:
        ReferenceDataError: the file is no such scene.
    """
    from openeo_cloudmask.models.networks.mini import PLANES

    scene = labelled.read_labelled(path)
    planes = np.zeros((PLANE_COUNT, *scene.label.shape), np.float32)
    present = np.zeros(PLANE_COUNT, np.float32)
    seen = np.isfinite(scene.cube).all(axis=0)
    for name, band in find_common(get_sensor(scene.sensor), scene.bands).items():
        if name not in PLANES:
            continue
        place = PLANES.index(name)
        planes[place] = np.maximum(np.where(seen, scene.cube[band], 0), 1e-4) * seen
        present[place] = 1
    truth = np.where(seen, scene.label, np.uint8(UNSEEN))
    if not scene.thin_labelled:
        truth[truth == 1] = ANY_CLOUD
    if not scene.shadow_labelled:
        truth[truth == CLEAR] = CLEAR_OR_SHADOW
    return LabelledScene(name=scene.name, planes=planes, present=present, truth=truth)


def cut_labelled(scene: LabelledScene, rng: np.random.Generator, size_px: int) -> Example:
    """Return a crop, turned, at 0.6 to 1.7 times the scene's scale, doubtful borders unseen.

    Where the scene is too small for that it goes on mirrored.
    """
    scale = float(np.exp(rng.uniform(np.log(0.6), np.log(1.7)))) if rng.random() < 0.6 else 1.0
    size = round(size_px / scale)
    height, width = scene.truth.shape
    top = int(rng.integers(min(0, height - size), max(0, height - size) + 1))
    left = int(rng.integers(min(0, width - size), max(0, width - size) + 1))
    rows, columns = _mirrored(top, size, height), _mirrored(left, size, width)
    planes = scene.planes[:, rows[:, np.newaxis], columns]
    labels = _doubted(scene.truth[rows[:, np.newaxis], columns], rng)
    if size != size_px:
        planes, labels = _resized(planes, labels, size_px)
    return turn(Example(planes, scene.present, labels), rng)


def _mirrored(first: int, count: int, size: int) -> NDArray[np.intp]:
    place = np.arange(first, first + count) % (2 * size)
    return np.where(place < size, place, 2 * size - 1 - place)


def _doubted(labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the labels, every other pixel beside another class unseen."""
    out = labels.copy()
    other = np.zeros(labels.shape, bool)
    other[1:] |= labels[1:] != labels[:-1]
    other[:-1] |= labels[1:] != labels[:-1]
    other[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    other[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    out[other & (rng.random(labels.shape) < 0.5)] = UNSEEN
    return out


def _resized(
    planes: Floats, labels: NDArray[np.uint8], size_px: int
) -> tuple[Floats, NDArray[np.uint8]]:
    import torch
    import torch.nn.functional as F

    shape = (size_px, size_px)
    stack = torch.from_numpy(planes)[None]
    new = F.interpolate(stack, shape, mode="bilinear", antialias=planes.shape[1] > size_px)
    near = (np.arange(size_px) + 0.5) * len(labels) / size_px
    place = near.astype(np.intp)
    return new[0].numpy(), labels[place[:, np.newaxis], place]


def move_clouds(ground: Example, sky: Example, rng: np.random.Generator) -> Example:
    """Return the ``ground`` with the clouds of ``sky`` over it, and the shadows they throw.

    Both stand in planes that both have. Seams, and ground that is too dark to show its shadow,
    count as unseen.
    """
    from scipy import ndimage

    present = ground.present * sky.present
    cloud = np.isin(sky.truth, _CLOUDS).astype(np.float32)
    share = ndimage.gaussian_filter(cloud, float(rng.uniform(0.7, 2.0)), truncate=3)
    shade = _thrown(share * (sky.planes[0] > 0.2), rng)
    dark = np.float32(rng.uniform(0.35, 0.8)) * np.asarray(
        (0.7, 0.85, 0.95, 1, 1, 1.05, 1.05), np.float32
    )
    lit = ground.planes * (1 - np.minimum(dark, 0.9)[:, np.newaxis, np.newaxis] * shade)
    planes = (share * sky.planes + (1 - share) * lit) * present[:, np.newaxis, np.newaxis]
    truth = ground.truth.copy()
    open_ground = np.isin(truth, (CLEAR, CLEAR_OR_SHADOW))
    truth[open_ground & (shade > 0.65)] = SHADOW
    doubtful = (shade > 0.3) & ((shade <= 0.65) | (ground.planes[3] < _DARK_NIR))
    truth[open_ground & doubtful] = UNSEEN
    truth[share > 0.15] = UNSEEN
    truth = np.where((share > 0.75) & (cloud > 0), sky.truth, truth)
    hidden = (ground.planes[0] == 0) | (sky.planes[0] == 0)
    planes[:, hidden], truth[hidden] = 0, UNSEEN
    return Example(planes.astype(np.float32), present, truth)


def _thrown(cloud: Floats, rng: np.random.Generator) -> Floats:
    """Return the shadow of clouds, moved 4 to 60 pixels, with a soft border."""
    from scipy import ndimage

    angle, length = rng.uniform(0, 2 * np.pi), float(np.exp(rng.uniform(np.log(4), np.log(60))))
    dy, dx = round(length * np.sin(angle)), round(length * np.cos(angle))
    moved = np.roll(cloud, (dy, dx), axis=(0, 1))
    if dy:
        moved[slice(0, dy) if dy > 0 else slice(dy, None)] = 0
    if dx:
        moved[:, slice(0, dx) if dx > 0 else slice(dx, None)] = 0
    soft: Floats = ndimage.uniform_filter(moved, int(rng.integers(1, 6)))
    return soft


Draw = Callable[[np.random.Generator], Example]


def mixed(
    simulated: Draw, real: Draw | None, rng: np.random.Generator, *, real_share: float
) -> Example:
    """Return an example: simulated or real, a third of them with clouds from another one."""

    def one() -> Example:
        return simulated(rng) if real is None or rng.random() >= real_share else real(rng)

    example = one()
    if rng.random() < (0.3 if real is not None else 0.12):
        sky = one()
        share = float(np.isin(sky.truth, _CLOUDS).mean())
        if 0.02 < share < 0.9:
            return move_clouds(example, sky, rng)
    return example

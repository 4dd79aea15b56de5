"""Simulated scenes as training examples for ``mini``: drawn, kept on disk, cut and varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.publish import publish_file
from openeo_cloudmask.simulator.scene import (
    SHADOW_BEAM,
    THIN_DEPTH,
    SimulatedScene,
    simulate_scene,
)

Floats = NDArray[np.float32]

SCENE_PX = 384
PLANE_COUNT = 7
CLEAR, SHADOW, ANY_CLOUD, CLEAR_OR_SHADOW, UNSEEN = 0, 3, 4, 5, 255
"""Labels beside thick (1) and thin cloud (2); some references do not tell all classes apart."""
_BLUE_TO_RED = ("B02", "B03", "B04")
_REST = ("B10", "B11", "B12")
_CIRRUS = 4
_SMOKE_DEPTH = 0.4
"""From this optical depth on smoke is neither learned as cloud nor as clear."""

_HARD_SHARE = 0.16

# Which planes beyond the four needed are given (cirrus, swir16, swir22), and how often.
_PRESENCE = (
    ((1, 1, 1), 0.28),
    ((0, 1, 1), 0.30),
    ((0, 0, 0), 0.32),
    ((0, 1, 0), 0.06),
    ((1, 0, 0), 0.04),
)


@dataclass(frozen=True, slots=True)
class Example:
    """One crop."""

    planes: Floats
    """(7, y, x) float32, reflectance, 0 where unseen or not given."""
    present: Floats
    """(7,) float32, 1 where the plane is given."""
    truth: NDArray[np.uint8]
    """(y, x) uint8: the four classes, or 4 cloud of any kind, 5 clear or shadow, 255 unseen."""


def draw_scene(
    seed: int, size_px: int = SCENE_PX, *, plain_truth: bool = False
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Return a scene's (7, y, x) float16 planes and its (y, x) uint8 truth.

    Pixel sizes are 10 to 60 m, most of them 10 to 30 m; three in ten scenes are corrected to
    the ground (no path radiance, no cirrus band). Faint cloud, half shade and smoke count as
    unseen, unless the ``plain_truth`` is asked for.
    """
    rng = np.random.default_rng((seed, 1))
    pixel_m = float(rng.choice((10, 15, 20, 30, 60), p=(0.26, 0.12, 0.22, 0.32, 0.08)))
    corrected = rng.random() < 0.3
    nir = "B08" if rng.random() < 0.5 else "B8A"
    kind = _hard_kind(rng)
    names = (*_BLUE_TO_RED, nir, *(_REST[1:] if corrected else _REST))
    scene = simulate_scene(
        seed,
        sensor="sentinel-2-l2a" if corrected else "sentinel-2-l1c",
        size=size_px,
        pixel_m=pixel_m,
        bands=names,
        **kind,
    )
    cube = scene.cube
    if corrected:
        cube = np.insert(cube, _CIRRUS, 0, axis=0)
    return cube.astype(np.float16), scene.truth if plain_truth else _certain(scene)


def _hard_kind(rng: np.random.Generator) -> dict[str, Any]:
    """Return, for one scene in six, what makes it an ice sheet or a sky full of ice cloud.

    They differ little, and both are rare among scenes drawn at random.
    """
    draw = rng.random()
    if draw < _HARD_SHARE / 2:
        return {"biome": "ice-sheet", **({"cloud_fraction": 0} if rng.random() < 0.6 else {})}
    if draw < _HARD_SHARE:
        return {"decks": ("anvil",), "cloud_fraction": 1}
    return {}


def _certain(scene: SimulatedScene) -> NDArray[np.uint8]:
    """Return the truth, 255 where it hangs on where a line is drawn through a gradual change."""
    depth, beam = scene.optical_depth, scene.sun_beam
    truth = scene.truth.copy()
    faint_cloud = (depth > 0.5 * THIN_DEPTH) & (depth < 1.5 * THIN_DEPTH)
    faint_shade = (depth < THIN_DEPTH) & (beam > SHADOW_BEAM - 0.12) & (beam < SHADOW_BEAM + 0.12)
    truth[faint_cloud | faint_shade | (scene.smoke_depth > _SMOKE_DEPTH)] = UNSEEN
    return truth


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneStore:
    """Simulated scenes in a folder: each is drawn once, by whoever needs it first."""

    folder: Path
    seed: int
    count: int

    def path(self, number: int) -> Path:
        """Where a scene is kept."""
        return self.folder / f"{self.seed}-{number:05d}.npz"

    def get(self, number: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """Return planes and truth of a scene, drawn if it is not there yet."""
        path = self.path(number)
        if not path.exists():
            planes, truth = draw_scene(1_000_000 * self.seed + number)
            with publish_file(path) as part, part.open("wb") as file:
                np.savez(file, planes=planes, truth=truth)
        with np.load(path) as content:
            return content["planes"], content["truth"]


def cut_example(
    scene: tuple[NDArray[np.float16], NDArray[np.uint8]], rng: np.random.Generator, size_px: int
) -> Example:
    """Return a crop of a simulated scene, turned and varied."""
    cube, truth = scene
    top, left = (int(rng.integers(0, n - size_px + 1)) for n in truth.shape)
    cut = (slice(top, top + size_px), slice(left, left + size_px))
    present = np.ones(PLANE_COUNT, np.float32)
    if not cube[_CIRRUS].any():
        present[_CIRRUS] = 0
    return turn(Example(cube[:, *cut].astype(np.float32), present, truth[cut]), rng)


def turn(example: Example, rng: np.random.Generator) -> Example:
    """Return the example upside down or by quarters of a turn, as often as not."""
    planes, labels = example.planes, example.truth
    if rng.random() < 0.5:
        planes, labels = planes[:, ::-1], labels[::-1]
    turns = int(rng.integers(0, 4)) if rng.random() < 0.4 else 0
    planes, labels = np.rot90(planes, turns, (1, 2)), np.rot90(labels, turns)
    return Example(np.ascontiguousarray(planes), example.present, np.ascontiguousarray(labels))


def vary(example: Example, rng: np.random.Generator) -> Example:
    """Return the example as other sensors and products would show it, with planes left out."""
    choice = rng.choice(len(_PRESENCE), p=[share for _, share in _PRESENCE])
    present = example.present * np.asarray((1, 1, 1, 1, *_PRESENCE[choice][0]), np.float32)
    given = np.flatnonzero(present)
    seen = example.planes[0] != 0
    planes = np.zeros_like(example.planes)
    planes[given] = _vary(example.planes[given], rng) * seen
    labels = example.truth
    if rng.random() < 0.08:
        hidden = _hidden(rng, labels.shape)
        planes[:, hidden], labels = 0, np.where(hidden, np.uint8(UNSEEN), labels)
    return Example(planes, present, labels)


def _vary(planes: Floats, rng: np.random.Generator) -> Floats:
    """Change calibration, contrast, sharpness and noise; clip as sensors and products saturate."""
    from scipy import ndimage

    count = len(planes)
    column = (slice(None), np.newaxis, np.newaxis)
    wide, apart = (0.16, 0.04) if rng.random() < 0.25 else (0.06, 0.012)
    gain = np.exp(rng.normal(0, wide) + rng.normal(0, apart, count)).astype(np.float32)
    offset = (rng.normal(0, 0.005) + rng.normal(0, 0.003, count)).astype(np.float32)
    if rng.random() < 0.2:
        sigma = float(rng.uniform(0.4, 1.1))
        planes = ndimage.gaussian_filter(planes, (0, sigma, sigma), truncate=2.5)
    if rng.random() < 0.2:
        gamma = np.exp(rng.normal(0, 0.06) + rng.normal(0, 0.03, count)).astype(np.float32)
        planes = np.maximum(planes, 1e-4) ** gamma[column]
    planes = planes * gain[column] + offset[column]
    if rng.random() < 0.35:
        level = float(np.exp(rng.uniform(np.log(0.0005), np.log(0.008))))
        planes += np.float32(level) * rng.standard_normal(planes.shape, dtype=np.float32)
    draw = rng.random()
    if draw < 0.15:
        limits = rng.uniform(0.35, 1.2, count).astype(np.float32)
        planes = np.minimum(planes, limits[column])
    elif draw < 0.27:
        # Eight bits a band, visible light cut at some level, as in products made for looking at.
        limit = np.float32(0.4 if rng.random() < 0.5 else rng.uniform(0.3, 1.0))
        step = limit / 255
        planes[:3] = np.rint(np.minimum(planes[:3], limit) / step) * step
    return np.maximum(planes, np.float32(1e-4))


def _hidden(rng: np.random.Generator, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Return a part beyond a slanted edge."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    angle = rng.uniform(0, 2 * np.pi)
    across = columns * np.cos(angle) + rows * np.sin(angle)
    return np.asarray(across > np.quantile(across[::8, ::8], rng.uniform(0.4, 0.95)))

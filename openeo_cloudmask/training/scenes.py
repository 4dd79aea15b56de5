"""Simulated scenes as training examples for ``mini``: drawn, cut and varied from seeds."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.simulator.scene import (
    SHADOW_BEAM,
    THIN_DEPTH,
    SimulatedScene,
    simulate_scene,
)

Floats = NDArray[np.float32]

SCENE_PX = 384
CROP_PX = 256
PLANE_COUNT = 7
_BLUE_TO_RED = ("B02", "B03", "B04")
_REST = ("B10", "B11", "B12")
_CIRRUS = 4

# Which planes beyond the four needed are given (cirrus, swir16, swir22), and how often.
_PRESENCE = (
    ((1, 1, 1), 0.25),
    ((0, 1, 1), 0.40),
    ((0, 0, 0), 0.20),
    ((0, 1, 0), 0.08),
    ((1, 0, 0), 0.07),
)


@dataclass(frozen=True, slots=True)
class Example:
    """One crop."""

    planes: Floats
    """(7, y, x) float32, reflectance, 0 where unseen or not given."""
    present: Floats
    """(7,) float32, 1 where the plane is given."""
    truth: NDArray[np.int64]
    """(y, x) int64: 0-3, or 255 where unseen."""


def draw_scene(
    seed: int, size_px: int = SCENE_PX, *, plain_truth: bool = False
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Return a scene's (7, y, x) float16 planes and its (y, x) uint8 truth.

    Pixel sizes are 10 to 60 m, most of them 10 to 30 m; a quarter of the scenes are corrected to
    the ground (no path radiance, no cirrus band). Faint cloud and half shade count as unseen,
    unless the ``plain_truth`` is asked for.
    """
    rng = np.random.default_rng((seed, 1))
    pixel_m = float(rng.choice((10, 15, 20, 30, 60), p=(0.26, 0.12, 0.22, 0.32, 0.08)))
    corrected = rng.random() < 0.2
    nir = "B08" if rng.random() < 0.5 else "B8A"
    names = (*_BLUE_TO_RED, nir, *(_REST[1:] if corrected else _REST))
    scene = simulate_scene(
        seed,
        sensor="sentinel-2-l2a" if corrected else "sentinel-2-l1c",
        size=size_px,
        pixel_m=pixel_m,
        bands=names,
    )
    cube = scene.cube
    if corrected:
        cube = np.insert(cube, _CIRRUS, 0, axis=0)
    return cube.astype(np.float16), scene.truth if plain_truth else _certain(scene)


def _certain(scene: SimulatedScene) -> NDArray[np.uint8]:
    """Return the truth, 255 where it hangs on where a line is drawn through a gradual change."""
    depth, beam = scene.optical_depth, scene.sun_beam
    truth = scene.truth.copy()
    faint_cloud = (depth > 0.5 * THIN_DEPTH) & (depth < 1.5 * THIN_DEPTH)
    faint_shade = (depth < THIN_DEPTH) & (beam > SHADOW_BEAM - 0.12) & (beam < SHADOW_BEAM + 0.12)
    truth[faint_cloud | faint_shade] = 255
    return truth


def cut_example(
    scene: tuple[NDArray[np.float16], NDArray[np.uint8]], rng: np.random.Generator
) -> Example:
    """Return a crop of a scene, varied as real sensors and products vary."""
    cube, truth = scene
    top, left = (int(rng.integers(0, n - CROP_PX + 1)) for n in truth.shape)
    cut = (slice(top, top + CROP_PX), slice(left, left + CROP_PX))
    planes, labels = cube[:, *cut].astype(np.float32), truth[cut].astype(np.int64)
    # North and south may be swapped, as between the hemispheres; east and west not: the sun of
    # morning orbits stands in the east.
    if rng.random() < 0.5:
        planes, labels = planes[:, ::-1], labels[::-1]
    if rng.random() < 0.15:
        turns = int(rng.integers(1, 4))
        planes, labels = np.rot90(planes, turns, (1, 2)), np.rot90(labels, turns)
    planes, labels = _vary(np.ascontiguousarray(planes), rng), np.ascontiguousarray(labels)
    choice = rng.choice(len(_PRESENCE), p=[share for _, share in _PRESENCE])
    present = np.asarray((1, 1, 1, 1, *_PRESENCE[choice][0]), np.float32)
    if not cube[_CIRRUS].any():
        present[_CIRRUS] = 0
    planes *= present[:, np.newaxis, np.newaxis]
    if rng.random() < 0.08:
        hidden = _hidden(rng)
        planes[:, hidden], labels[hidden] = 0, 255
    return Example(planes, present, labels)


def _vary(planes: Floats, rng: np.random.Generator) -> Floats:
    """Change calibration, contrast, sharpness and noise; clip as old sensors saturate."""
    from scipy import ndimage

    count = len(planes)
    gain = np.exp(rng.normal(0, 0.08) + rng.normal(0, 0.05, count))
    gamma = np.exp(rng.normal(0, 0.05) + rng.normal(0, 0.03, count))
    offset = rng.normal(0, 0.006, count)
    if rng.random() < 0.25:
        sigma = float(rng.uniform(0.4, 1.1))
        planes = ndimage.gaussian_filter(planes, (0, sigma, sigma), truncate=2.5)
    column = (slice(None), np.newaxis, np.newaxis)
    planes = np.maximum(planes, 1e-4) ** gamma.astype(np.float32)[column]
    planes = planes * gain.astype(np.float32)[column] + offset.astype(np.float32)[column]
    if rng.random() < 0.35:
        level = float(np.exp(rng.uniform(np.log(0.0005), np.log(0.008))))
        planes += np.float32(level) * rng.standard_normal(planes.shape, dtype=np.float32)
    if rng.random() < 0.25:
        limits = rng.uniform(0.35, 1.2, count).astype(np.float32)
        planes = np.minimum(planes, limits[column])
    return np.maximum(planes, np.float32(1e-4))


def _hidden(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a part beyond a slanted edge."""
    rows, columns = np.mgrid[0:CROP_PX, 0:CROP_PX]
    angle = rng.uniform(0, 2 * np.pi)
    across = columns * np.cos(angle) + rows * np.sin(angle)
    return np.asarray(across > np.quantile(across[::8, ::8], rng.uniform(0.4, 0.95)))


def start_chunk(
    pool: Executor, seed: int, chunk: int, scenes: int
) -> list[Future[tuple[NDArray[np.float16], NDArray[np.uint8]]]]:
    """Begin to draw the scenes of one chunk; a scene depends on seed, chunk and its place only."""
    first = 1_000_000 * seed + 10_000 + chunk * scenes
    return [pool.submit(draw_scene, first + place) for place in range(scenes)]

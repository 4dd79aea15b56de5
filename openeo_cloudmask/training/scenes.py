"""Simulated scenes to train ``mini`` with: drawn once, kept on disk."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
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
CLEAR, SHADOW, ANY_CLOUD, CLEAR_OR_SHADOW, ASK_TEACHER, UNSEEN = 0, 3, 4, 5, 6, 255
"""Labels beside thick (1) and thin cloud (2); some references do not tell all classes apart."""
_BLUE_TO_RED = ("B02", "B03", "B04")
_REST = ("B10", "B11", "B12")
_CIRRUS = 4
_SMOKE_DEPTH = 0.4
"""From this optical depth on smoke is neither learned as cloud nor as clear."""

CHUNK = 25
"""Scenes per file."""
_HARD_SHARE = 0.16
_SNOW_HUE = 0.89
"""Green over blue of high snow under a low sun is below this (0.86 where it was seen), that of ice
cloud above (0.91 to 0.94)."""


def draw_scene(
    seed: int, size_px: int = SCENE_PX, *, plain_truth: bool = False
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Return a scene's (7, y, x) float16 planes and its (y, x) uint8 truth.

    Pixel sizes are 10 to 60 m, most of them 10 to 30 m; three in ten scenes are corrected to
    the ground (no path radiance, no cirrus band). Faint cloud, penumbra and smoke count as
    no-data, unless the ``plain_truth`` is asked for.
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
    if kind.get("biome") == "ice-sheet":
        _deepen_ozone(cube, rng)
    if corrected:
        cube = np.insert(cube, _CIRRUS, 0, axis=0)
    if plain_truth:
        return cube.astype(np.float16), scene.truth
    return cube.astype(np.float16), np.where(_alike(cube, scene.truth), UNSEEN, _certain(scene))


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


def _deepen_ozone(cube: Floats, rng: np.random.Generator) -> None:
    """Let polar air, which holds up to half as much ozone again, take from green and red."""
    hue = float(np.median(cube[1]) / np.median(cube[0]))
    left = min(1.0, rng.uniform(0.83, _SNOW_HUE - 0.003) / hue)
    cube[1] *= left
    cube[2] *= left**0.6


def _alike(cube: Floats, truth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which bright (y, x) pixels look like what they are not: snow, or ice cloud.

    High snow in dry air is as bright as ice cloud in the cirrus band. Where the sun is low, ozone
    takes green from it, which tells it from the cloud of lower latitudes; the rest, simulated in
    equal measure, would only teach that an overcast sky may be snow.
    """
    blue, green, cirrus = cube[0], cube[1], cube[_CIRRUS]
    doubtful = (blue > 0.4) & (cirrus > 0.04)
    takes_green = green < _SNOW_HUE * blue
    clear, cloud = truth == CLEAR, np.isin(truth, (1, 2))
    found: NDArray[np.bool_] = doubtful & ((clear & ~takes_green) | (cloud & takes_green))
    return found


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
    """Simulated scenes in a folder, in files of ``CHUNK``: each is drawn once."""

    folder: Path
    seed: int
    count: int

    def path(self, first: int) -> Path:
        """Where up to ``CHUNK`` scenes from ``first`` on are kept."""
        last = min(first + CHUNK, self.count)
        return self.folder / f"simulated-{self.seed}-{first:05d}-{last:05d}.npy"

    def layers(self, *, workers: int = 1) -> NDArray[np.float16]:
        """Return (scene, y, x, 8) float16: planes and truth of all scenes.

        Args:
            workers: processes that draw the scenes that are missing.
        """
        firsts = range(0, self.count, CHUNK)
        missing = [first for first in firsts if not self.path(first).exists()]
        if workers > 1:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                list(pool.map(self._draw, missing))
        else:
            for first in missing:
                self._draw(first)
        out = np.empty((self.count, SCENE_PX, SCENE_PX, PLANE_COUNT + 1), np.float16)
        for first in firsts:
            part = out[first : first + CHUNK]
            part[...] = np.load(self.path(first), mmap_mode="r")
        return out

    def _draw(self, first: int) -> None:
        count = min(CHUNK, self.count - first)
        layers = np.empty((count, SCENE_PX, SCENE_PX, PLANE_COUNT + 1), np.float16)
        for number, own in enumerate(layers, first):
            planes, truth = draw_scene(1_000_000 * self.seed + number)
            own[..., :PLANE_COUNT] = np.moveaxis(planes, 0, -1)
            own[..., PLANE_COUNT] = truth
        with publish_file(self.path(first)) as part, part.open("wb") as file:
            np.save(file, layers)

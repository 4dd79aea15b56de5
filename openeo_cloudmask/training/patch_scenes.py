"""Scenes for the patch CNN: 13 bands at 60 m beside labels of cloud/non-cloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.models.families.kristollari import KRISTOLLARI_CNN

if TYPE_CHECKING:
    from openeo_cloudmask.alcd.types import AlcdScene
    from openeo_cloudmask.products import Scene

BANDS = KRISTOLLARI_CNN.inputs["sentinel-2-l1c"]
"""B8A stands last: the published cubes were stacked in the order of the file names."""
PIXEL_M = 60
_STRIP_PX = 50
_CLOUD_CODES = (2, 3)
"""Low and high cloud of ALCD; shadow is not cloud here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchScene:
    """A scene with labels, all on one grid of 60 m."""

    name: str
    cube: NDArray[np.float32]
    """(band, y, x) float32, reflectance in the order of ``BANDS``, 0 where no-data."""
    cloud: NDArray[np.bool_]
    """(y, x) bool."""
    seen: NDArray[np.bool_]
    """(y, x) bool, False where product or reference has no data: never learned, never scored."""


def find_scenes(products: Path, references: Path) -> Iterator[PatchScene]:
    """Yield each reference scene whose product is in the folder ``products``.

    Args:
        products: folder with ``<product name>.SAFE``, or the same as ``.zip``; the same scene
            processed again will do.
        references: the ALCD archive, folder or .tgz.

    Raises:
        ReferenceDataError: no reference has its product there, or one is on another grid.
    """
    from openeo_cloudmask.alcd.archive import AlcdArchive
    from openeo_cloudmask.alcd.scenes import find_scene_info
    from openeo_cloudmask.products import open_product

    there: dict[object, Path] = {}
    for path in sorted(products.iterdir()) if products.is_dir() else ():
        if path.suffix in (".SAFE", ".zip"):
            name = path.name.removesuffix(".zip").removesuffix(".SAFE")
            there[find_scene_info(name) or name] = path
    with AlcdArchive(references) as archive:
        found = 0
        for entry in archive.distinct():
            product = there.get(entry.info or entry.name)
            if product is None:
                continue
            found += 1
            with open_product(product) as scene:
                yield read_patch_scene(scene, archive.read(entry))
        if not found:
            raise ReferenceDataError(
                f"none of the {len(archive.distinct())} scenes of {references} has its product in "
                f"{products}; expected folders named like {archive.entries[0].name}.SAFE. "
                f"`cloudmask references fetch --all --folder {products}` gets them"
            )


def read_patch_scene(scene: Scene, reference: AlcdScene) -> PatchScene:
    """Return a product at 60 m, nearest neighbour, with the labels of its reference.

    Raises:
        ReferenceDataError: the reference lies on another grid.
    """
    transform, wanted = scene.grid.transform, reference.grid
    factor = 1 if transform is None else PIXEL_M / transform.a
    shape = tuple(int(n // factor) for n in scene.grid.shape_yx)
    same_corner = (
        transform is not None
        and wanted.transform is not None
        and (transform.c, transform.f) == (wanted.transform.c, wanted.transform.f)
    )
    if not same_corner or shape != wanted.shape_yx or factor != int(factor):
        raise ReferenceDataError(
            f"the reference of {reference.name} lies on another grid than the product: "
            f"{wanted.shape_yx} pixels at {wanted.transform!r}, expected {shape} pixels of 60 m "
            f"from the corner of {transform!r}"
        )
    cube = _read_coarse(scene, int(factor), (shape[0], shape[1]))
    seen = np.isfinite(cube).all(axis=0) & (reference.labels != 0)
    return PatchScene(
        name=reference.name,
        cube=np.nan_to_num(cube, nan=0.0),
        cloud=np.isin(reference.labels, _CLOUD_CODES),
        seen=seen,
    )


def _read_coarse(scene: Scene, factor: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return every ``factor``-th pixel, the one nearest to the middle of each coarse pixel."""
    cube = scene.cube(BANDS)
    out = np.empty((len(BANDS), *shape), np.float32)
    middle = factor // 2
    for top in range(0, shape[0], _STRIP_PX):
        bottom = min(top + _STRIP_PX, shape[0])
        strip = cube[:, top * factor : bottom * factor, 0 : shape[1] * factor]
        out[:, top:bottom] = strip[:, middle::factor, middle::factor]
    return out


def simulate_patch_scenes(count: int, *, seed: int = 1, size_px: int = 160) -> list[PatchScene]:
    """Return simulated scenes at 60 m, to try the pipeline without any download."""
    from openeo_cloudmask.simulator.scene import simulate_scene

    scenes = []
    for number in range(count):
        scene = simulate_scene(
            1_000_000 * seed + number, size=size_px, pixel_m=PIXEL_M, bands=BANDS
        )
        scenes.append(
            PatchScene(
                name=f"simulated-{seed}-{number}",
                cube=scene.cube,
                cloud=np.isin(scene.truth_alcd, _CLOUD_CODES),
                seen=scene.truth_alcd != 0,
            )
        )
    return scenes


def split_scenes(
    scenes: Sequence[PatchScene], share: float, seed: int
) -> tuple[list[PatchScene], list[PatchScene]]:
    """Return (training, validation) scenes: whole scenes, so that no pixel's neighbour leaks.

    Raises:
        ReferenceDataError: there are fewer than two scenes.
    """
    if len(scenes) < 2:
        raise ReferenceDataError(
            f"there is {len(scenes)} scene; a split into training and validation needs two or more"
        )
    order = np.random.default_rng((seed, 5)).permutation(len(scenes))
    count = int(np.clip(round(share * len(scenes)), 1, len(scenes) - 1))
    held = set(order[:count].tolist())
    training = [scene for place, scene in enumerate(scenes) if place not in held]
    return training, [scene for place, scene in enumerate(scenes) if place in held]

"""Scenes of a study, as small values that travel to workers; pixels are read there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import CLOUD_NONCLOUD, FOUR_CLASS, OutputStyle, map_labels
from openeo_cloudmask.errors import ReferenceDataError
from openeo_cloudmask.evaluation.cases import VIEWS, Pair, has_view
from openeo_cloudmask.evaluation.compare_scenes import ComparedModel, ProductSource, state_of
from openeo_cloudmask.evaluation.evaluate import Reference, ScoreSettings, evaluate_mask
from openeo_cloudmask.evaluation.grids import read_mask
from openeo_cloudmask.evaluation.labelled import LabelledScene, list_scenes, read_labelled
from openeo_cloudmask.evaluation.labelled_masks import ModelMasks
from openeo_cloudmask.evaluation.reference_format import find_scenes
from openeo_cloudmask.evaluation.score_files import find_mask
from openeo_cloudmask.fetch.names import is_same_scene

PRODUCT_ENDINGS = (".SAFE", ".zip", ".tar", ".tif", ".tiff", ".nc")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masked:
    """A mask with its reference, and what is known of the scene."""

    pair: Pair
    views: tuple[OutputStyle, ...]
    """Classes in which they can be compared."""
    sun_elevation_deg: float | None
    digest: str
    """SHA-256 of the reference's labels."""


class StudyScene(Protocol):
    """A scene; nothing is read before ``open`` is called, on a worker."""

    @property
    def references(self) -> str:
        """Name of the set of references."""

    @property
    def name(self) -> str:
        """Its name, unique in its set."""

    def state(self) -> dict[str, Any]:
        """Return what tells it from a changed one, as JSON values, without reading pixels."""

    def open(self) -> Callable[[ComparedModel], Masked]:
        """Return what masks it with a model; the scene is read once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScene:
    """A scene whose image and label are read together."""

    references: str
    name: str
    load: Callable[[], LabelledScene]
    where: Path | None = None
    """A file or folder whose change makes it another scene."""

    def state(self) -> dict[str, Any]:
        """Return path and time of its file."""
        return {"scene": self.name} | ({} if self.where is None else state_of(self.where))

    def open(self) -> Callable[[ComparedModel], Masked]:
        """Return what masks it with a model."""
        scene = self.load()
        reference, scheme = scene.label, FOUR_CLASS
        views: tuple[OutputStyle, ...] = VIEWS if scene.thin_labelled else VIEWS[:2]
        if not scene.shadow_labelled:
            reference = map_labels(scene.label, FOUR_CLASS, CLOUD_NONCLOUD)
            scheme, views = CLOUD_NONCLOUD, (OutputStyle.CLOUD_NONCLOUD,)
        digest = digest_of(reference)

        def mask(model: ComparedModel) -> Masked:
            labels = ModelMasks(model=model).mask(scene)
            pair = Pair(
                reference=reference,
                reference_scheme=scheme,
                mask=labels,
                mask_scheme=FOUR_CLASS,
                resolution_m=scene.pixel_m,
            )
            return Masked(
                pair=pair, views=views, sun_elevation_deg=scene.sun_elevation_deg, digest=digest
            )

        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductScene:
    """A product on disk with its reference on disk; masked strip by strip."""

    references: str
    source: ProductSource

    @property
    def name(self) -> str:
        """Name of the product."""
        return self.source.name

    def state(self) -> dict[str, Any]:
        """Return path and time of product and reference."""
        return self.source.fingerprint()

    def open(self) -> Callable[[ComparedModel], Masked]:
        """Return what masks it with a model."""
        from openeo_cloudmask.products import open_product

        reference = self.source.reference()
        digest = digest_of(reference.labels)
        with open_product(self.source.path, sensor=self.source.sensor) as scene:
            elevation = scene.metadata.get("sun_elevation_deg")

        def mask(model: ComparedModel) -> Masked:
            pair = self._compare(model, reference)
            schemes = (pair.reference_scheme, pair.mask_scheme)
            views = tuple(v for v in VIEWS if all(has_view(scheme, v) for scheme in schemes))
            return Masked(pair=pair, views=views, sun_elevation_deg=elevation, digest=digest)

        return mask

    def _compare(self, model: ComparedModel, reference: Reference) -> Pair:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "mask.tif"
            self.source.write_mask(model, path)
            given = read_mask(path, scheme=model.scheme)
            return evaluate_mask(given, reference, ScoreSettings()).pair


def digest_of(labels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of labels."""
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()


def simulated_scenes(
    count: int, *, sensor: str = "sentinel-2-l1c", size_px: int = 512, first_seed: int = 1
) -> list[StudyScene]:
    """Return simulated scenes with their exact truth."""
    return [
        ImageScene(
            references=f"simulated {sensor}, {size_px} px",
            name=f"seed {seed}",
            load=partial(_simulate, seed, sensor, size_px),
        )
        for seed in range(first_seed, first_seed + count)
    ]


def _simulate(seed: int, sensor: str, size_px: int) -> LabelledScene:
    from openeo_cloudmask.sensors import get_sensor
    from openeo_cloudmask.simulator.scene import simulate_scene

    scene = simulate_scene(seed, sensor=sensor, size=size_px)
    return LabelledScene(
        name=f"seed {seed}",
        sensor=sensor,
        bands=scene.band_names,
        cube=scene.cube,
        label=scene.truth,
        pixel_m=float(min(band.resolution_m for band in get_sensor(sensor).bands)),
        shadow_labelled=True,
        thin_labelled=True,
        sun_elevation_deg=90 - scene.sun_zenith_deg,
    )


def find_study_scenes(
    path: Path, *, products: Path | None = None, split: str | None = None
) -> list[StudyScene]:
    """Return the scenes of a set of references.

    Args:
        path: labelled scenes (``.npz``); references of a format that brings images; or references
            without them (also an ALCD archive), whose products lie in ``products``.
        products: folder of products, named as the references name them.
        split: part of the references; None takes the test part where there is one.

    Raises:
        ReferenceDataError: there are no scenes.
    """
    if not path.exists():
        raise ReferenceDataError(f"{path} is not there; expected scenes or references")
    title = path.name
    if path.is_dir() and any(path.glob("*.npz")):
        return [
            ImageScene(
                references=title, name=file.stem, load=partial(read_labelled, file), where=file
            )
            for file in list_scenes(path)
        ]
    found = find_scenes(path, split=split)
    if found is not None:
        title = f"{found[0].title} ({path.name})"
        with_image = [scene for scene in found[1] if scene.image is not None]
        if with_image:
            return [
                ImageScene(references=title, name=scene.name, load=scene.image, where=path)
                for scene in with_image
                if scene.image is not None
            ]
    if products is None:
        raise ReferenceDataError(
            f"{path} holds references without images; name the folder of their products with "
            "--products (`cloudmask references fetch` gets them)"
        )
    names = None if found is None else [scene.name for scene in found[1]]
    return _product_scenes(path, products, title, names)


def _product_scenes(
    path: Path, products: Path, title: str, names: Iterable[str] | None
) -> list[StudyScene]:
    there = [item for item in sorted(products.glob("*")) if item.name.endswith(PRODUCT_ENDINGS)]
    folders = [item for item in sorted(products.glob("L*")) if item.is_dir()]
    there += [item for item in folders if not item.name.endswith(".part")]  # still being fetched
    scenes: list[StudyScene] = []
    for item in there:
        source = ProductSource(path=item, reference_path=path)
        if _has_reference(source, names):
            scenes.append(ProductScene(references=title, source=source))
    if not scenes:
        raise ReferenceDataError(
            f"none of the {len(there)} products in {products} has a reference in {path}"
        )
    return scenes


def _has_reference(source: ProductSource, names: Iterable[str] | None) -> bool:
    from openeo_cloudmask.alcd.archive import AlcdArchive
    from openeo_cloudmask.evaluation.score_files import is_raster, rasters_in

    if names is not None:
        return any(
            name in source.name or source.name in name or is_same_scene(name, source.name)
            for name in names
        )
    path = source.reference_path
    try:
        if is_raster(path):
            return True
        if rasters_in(path):
            return find_mask(path, source.name).is_file()
        with AlcdArchive(path) as archive:
            archive.find(source.name)
    except ReferenceDataError:
        return False
    return True

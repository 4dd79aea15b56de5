"""Scenes that models are compared on: simulated ones, and products with their references."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import FOUR_CLASS, SCHEMES, ClassScheme, OutputStyle
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.evaluate import (
    Reference,
    read_reference_raster,
    reference_of_scene,
)
from openeo_cloudmask.fetch.names import is_same_scene
from openeo_cloudmask.grid import Grid
from openeo_cloudmask.inference import Detector
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.models import MODELS, get_model, load_detector
from openeo_cloudmask.options import DEFAULT_STRIDE_PX, MaskOptions
from openeo_cloudmask.sensors import Sensor, get_sensor

if TYPE_CHECKING:
    from openeo_cloudmask.evaluation.reference_format import ReferenceScene

RGB = ("red", "green", "blue")
PICTURE_PX = 512
"""Longest side of the pictures of a scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedModel:
    """A model, perhaps with weights of its own."""

    id: str
    weights: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    stride: int = DEFAULT_STRIDE_PX

    @property
    def label(self) -> str:
        """Its name in tables and files."""
        return self.id if self.weights is None else f"{self.id}={self.weights.stem}"

    @property
    def style(self) -> OutputStyle:
        """Four classes where the model has them, else its own."""
        native = get_model(self.id).scheme.name
        return OutputStyle.FOUR_CLASS if _has_four(native) else OutputStyle.NATIVE

    @property
    def scheme(self) -> ClassScheme:
        """Classes of its masks."""
        native = get_model(self.id).scheme
        return FOUR_CLASS if self.style is OutputStyle.FOUR_CLASS else native

    def load(self, sensor: str, bands: Sequence[str]) -> Detector:
        """Return its detector for a sensor and bands; errors are those of ``load_detector``."""
        return load_detector(
            self.id,
            sensor=sensor,
            bands=bands,
            weights=self.weights,
            device=self.device,
            precision=self.precision,
        )

    def options(self, sensor: str | None) -> MaskOptions:
        """Return the options of its masks of a scene."""
        return MaskOptions(
            model=self.id,
            output_style=self.style,
            stride=self.stride,
            sensor=sensor,
            weights=None if self.weights is None else str(self.weights),
            device=self.device,
            precision=self.precision,
        )

    def weights_sha256(self) -> str | None:
        """Return the digest of weights given or bundled; None where they come from elsewhere."""
        from openeo_cloudmask.models.weights import sha256_of

        if self.weights is None:
            return _bundled_digest(self.id)
        return sha256_of(self.weights) if self.weights.is_file() else None

    def fingerprint(self) -> dict[str, Any]:
        """Return what its masks depend on."""
        return {
            "model": self.id,
            "weights": None if self.weights is None else state_of(self.weights),
            "bundled": _bundled_digest(self.id) if self.weights is None else None,
            "stride": self.stride,
            "precision": self.precision,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What a mask cost."""

    pixels: int
    seconds: float
    """On the clock: depends on what else the machine does."""
    cpu_seconds: float
    """Of all threads of this process together; 0 where another device did the work."""


class SceneSource(Protocol):
    """A scene to compare on. Nothing is read before a method is called."""

    @property
    def name(self) -> str:
        """Its name, unique in a comparison, fit for a file."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what its pixels and reference depend on, as JSON values."""

    def reference(self) -> Reference:
        """Return its reference."""

    def write_mask(self, model: ComparedModel, path: Path) -> Effort:
        """Write the model's mask to ``path``; return what it cost."""

    def rgb(self) -> NDArray[np.float32]:
        """Return (3, y, x) float32 red, green, blue, reflectance, NaN for no-data, thinned out."""


@dataclass(slots=True, kw_only=True)
class SimulatedSource:
    """A simulated scene; its truth is exact."""

    seed: int
    sensor: str = "sentinel-2-l1c"
    size_px: int = 512
    _scene: Any = field(default=None, init=False, repr=False)
    _digest: str | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """Sensor and seed."""
        return f"simulated-{self.sensor}-{self.seed:05d}"

    def fingerprint(self) -> dict[str, Any]:
        """Return sensor, seed, size, and a digest of the pixels: the simulator may change."""
        import hashlib

        if self._digest is None:
            self._digest = hashlib.sha256(self._simulated().cube.tobytes()).hexdigest()
        return {
            "sensor": self.sensor,
            "seed": self.seed,
            "size": self.size_px,
            "pixels": self._digest,
        }

    def reference(self) -> Reference:
        """Return the truth."""
        scene = self._simulated()
        return Reference(name=self.name, labels=scene.truth, scheme=FOUR_CLASS, grid=self._grid())

    def write_mask(self, model: ComparedModel, path: Path) -> Effort:
        """Write the model's mask to ``path``; return what the prediction alone cost."""
        from openeo_cloudmask.products.cog import write_cog

        scene = self._simulated()
        masker = Masker.open(model.options(self.sensor), scene.band_names).load()
        cube = np.ascontiguousarray(scene.cube[masker.places(scene.band_names)])
        begin, begin_cpu = time.perf_counter(), time.process_time()
        labels = masker.mask(cube)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
        write_cog(path, [(0, labels)], grid=self._grid(), scheme=masker.scheme)
        return Effort(pixels=scene.truth.size, seconds=seconds, cpu_seconds=cpu_seconds)

    def rgb(self) -> NDArray[np.float32]:
        """Return the scene's colours."""
        scene = self._simulated()
        names = _rgb_bands(get_sensor(self.sensor), scene.band_names)
        step = _step(scene.truth.shape)
        pixels: NDArray[np.float32] = scene.cube[
            [scene.band_names.index(name) for name in names], ::step, ::step
        ]
        return pixels

    def _simulated(self) -> Any:  # noqa: ANN401 - a SimulatedScene
        if self._scene is None:
            from openeo_cloudmask.simulator.scene import simulate_scene

            self._scene = simulate_scene(self.seed, sensor=self.sensor, size=self.size_px)
        return self._scene

    def _grid(self) -> Grid:
        from rasterio.crs import CRS

        scene = self._simulated()
        return Grid(
            shape_yx=scene.truth.shape, transform=scene.transform, crs=CRS.from_string(scene.crs)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductSource:
    """A product or raster on disk, with its reference on disk."""

    path: Path
    reference_path: Path
    """An ALCD archive, the folder of a scene, a raster, or a folder of rasters by scene name."""
    reference_scheme: ClassScheme | None = None
    sensor: str | None = None

    @property
    def name(self) -> str:
        """The product's name without its ending."""
        name = self.path.name
        for ending in (".SAFE.zip", ".SAFE", ".zip", ".tar.gz", ".tar", ".tif", ".tiff", ".nc"):
            if name.endswith(ending):
                return name.removesuffix(ending)
        return name

    def fingerprint(self) -> dict[str, Any]:
        """Return path and time of product and reference."""
        return {"product": state_of(self.path), "reference": state_of(self.reference_path)}

    def reference(self) -> Reference:
        """Return the reference of the product's name.

        Raises:
            ReferenceDataError: no reference has that name.
        """
        from openeo_cloudmask.alcd.archive import AlcdArchive
        from openeo_cloudmask.evaluation.reference_format import find_scenes
        from openeo_cloudmask.evaluation.score_files import find_mask, is_raster, rasters_in

        path = self.reference_path
        if (found := find_scenes(path, split="all")) is not None:
            return _reference_of(self.name, path, found[1])
        if is_raster(path):
            return read_reference_raster(path, scheme=self.reference_scheme)
        if rasters_in(path):
            raster = find_mask(path, self.name)
            return read_reference_raster(raster, scheme=self.reference_scheme)
        with ExitStack() as stack:
            archive = stack.enter_context(AlcdArchive(path))
            entries = archive.distinct()
            entry = entries[0] if len(entries) == 1 else archive.find(self.name)
            return reference_of_scene(archive.read(entry))

    def write_mask(self, model: ComparedModel, path: Path) -> Effort:
        """Write the model's mask to ``path``; return what it cost, reading included."""
        from openeo_cloudmask.products import mask_product, open_product

        begin_cpu = time.process_time()
        report = mask_product(self.path, path, model.options(self.sensor), overwrite=True)
        cpu_seconds = time.process_time() - begin_cpu
        with open_product(self.path, sensor=self.sensor) as scene:
            height, width = scene.grid.shape_yx
        return Effort(pixels=height * width, seconds=report.seconds, cpu_seconds=cpu_seconds)

    def rgb(self) -> NDArray[np.float32]:
        """Return the scene's colours, thinned out while reading."""
        from openeo_cloudmask.products import open_product

        with open_product(self.path, sensor=self.sensor) as scene:
            if scene.sensor is None:
                raise ReferenceDataError(f"{self.path} does not say its sensor; pass it")
            height, width = scene.grid.shape_yx
            cube = scene.cube(_rgb_bands(scene.sensor, scene.band_labels))
            step = _step((height, width))
            strips = [
                cube[:, top : min(top + 32 * step, height), 0:width][:, ::step, ::step]
                for top in range(0, height, 32 * step)
            ]
        return np.concatenate(strips, axis=1)


def _reference_of(name: str, path: Path, scenes: Sequence[ReferenceScene]) -> Reference:
    """Return the raster of the one scene whose name is in the product's, or the only one.

    Raises:
        ReferenceDataError: no scene is, or its reference is points.
    """
    fitting = [scene for scene in scenes if scene.name in name or name in scene.name]
    fitting = fitting or [scene for scene in scenes if is_same_scene(scene.name, name)]
    chosen = fitting or (list(scenes) if len(scenes) == 1 else [])
    if len(chosen) != 1:
        raise ReferenceDataError(
            f"{path} has {len(scenes)} scenes, of which {len(chosen)} carry the name of {name}; "
            "expected one"
        )
    reference = chosen[0].reference()
    if not isinstance(reference, Reference):
        raise ReferenceDataError(
            f"the reference of {name} is {len(reference.labels)} points; make its masks with "
            "`cloudmask run` and compare them with `cloudmask score`"
        )
    return reference


def parse_model(text: str, **settings: Any) -> ComparedModel:  # noqa: ANN401 - fields of the model
    """Return the model written as ``name`` or ``name=weights``.

    Raises:
        OptionError: no model of that name, or no such file.
    """
    name, _, weights = text.partition("=")
    entry = get_model(name)
    path = Path(weights) if weights else None
    if path is not None and not path.exists():
        raise OptionError(f"model {text!r}: there are no weights {path}")
    return ComparedModel(id=entry.id, weights=path, **settings)


def all_models(*, reading: bool = True, **settings: Any) -> tuple[ComparedModel, ...]:  # noqa: ANN401
    """Return every model of the registry; without ``reading``, those that compute their masks."""
    chosen = (name for name, entry in MODELS.items() if reading or not entry.layers)
    return tuple(ComparedModel(id=name, **settings) for name in chosen)


def _has_four(scheme: str) -> bool:
    from openeo_cloudmask.classes import MAPPINGS

    return scheme == FOUR_CLASS.name or (scheme, FOUR_CLASS.name) in MAPPINGS


def _rgb_bands(sensor: Sensor, names: tuple[str, ...]) -> list[str]:
    found = []
    for common in RGB:
        match = [band.name for band in sensor.bands if band.common_name == common]
        if not match:
            raise ReferenceDataError(f"the scene has no {common} band; it has {', '.join(names)}")
        found.append(match[0])
    return found


def _step(shape: tuple[int, ...]) -> int:
    return max(1, math.ceil(max(shape) / PICTURE_PX))


def state_of(path: Path) -> dict[str, Any]:
    """Return what tells a file or folder from a changed one."""
    stat = path.stat()
    size = stat.st_size if path.is_file() else None
    return {"path": str(path.resolve()), "bytes": size, "changed_ns": stat.st_mtime_ns}


def _bundled_digest(model: str) -> str | None:
    """Return the SHA-256 of weights that come with this package, or None where none do."""
    from importlib.resources import files

    from openeo_cloudmask.models.weights import sha256_of

    path = Path(str(files("openeo_cloudmask.models"))) / "data" / f"{model}.safetensors"
    return sha256_of(path) if path.is_file() else None


def scheme_of(name: str) -> ClassScheme:
    """Return the scheme called ``name``.

    Raises:
        OptionError: no scheme has that name.
    """
    if name not in SCHEMES:
        raise OptionError(f"unknown classes {name!r}; expected one of {', '.join(SCHEMES)}")
    return SCHEMES[name]

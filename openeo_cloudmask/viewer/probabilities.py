"""The probabilities a model gives to one pixel, found by running it on the window around."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rasterio.errors import RasterioError

from openeo_cloudmask.errors import ProductError
from openeo_cloudmask.inference import Detector, predict
from openeo_cloudmask.models import get_model, load_detector, select_input
from openeo_cloudmask.models.registry import MODELS
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.viewer.scenes import open_scene, pixel_at


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassProbability:
    """What a model gives to one class in one pixel."""

    title: str
    color: str
    """``RRGGBB``."""
    share: float
    """0-1."""


def model_of_mask(path: Path) -> str | None:
    """Return the model that made a mask, from the file's tags, or None where it does not say.

    Raises:
        ProductError: the file cannot be read.
    """
    try:
        with open_raster(path) as source:
            tags = source.tags()
    except RasterioError as err:
        raise ProductError(f"{path.name} cannot be read: {err}") from err
    name = tags.get("MODEL") or tags.get("model")
    return name if name in MODELS else None


@lru_cache(maxsize=2)
def _detector(model: str, sensor: str, labels: tuple[str, ...]) -> Detector:
    chosen = select_input(get_model(model), sensor=sensor, bands=labels)
    options = MaskOptions()
    return load_detector(
        model,
        sensor=chosen.sensor,
        bands=labels,
        device=options.device,
        precision=options.precision,
    )


def probabilities_at(
    scene_path: Path, sensor: str, model: str, longitude: float, latitude: float
) -> tuple[ClassProbability, ...] | None:
    """Return the probabilities of the pixel at a place, or None outside the scene.

    The model sees one window, with the pixel as near its middle as the scene's edges allow. A
    mask blends several windows, so its own probabilities may differ a little.

    Raises:
        CloudMaskError: the scene or the model's weights cannot be read.
    """
    with open_scene(scene_path, sensor=sensor) as scene:
        place = pixel_at(scene.grid, longitude, latitude)
        if place is None:
            return None
        chosen = select_input(get_model(model), sensor=scene.sensor, bands=scene.band_labels)
        detector = _detector(model, sensor, tuple(scene.band_labels))
        size = detector.window.size_px
        starts = [
            max(0, min(at - size // 2, length - size))
            for at, length in zip(place, scene.grid.shape_yx, strict=True)
        ]
        row, column = starts
        cube = scene.cube(chosen.band_names, sensor=chosen.sensor)
        window = cube[:, row : row + size, column : column + size]
    found = predict(window, detector)[:, place[0] - row, place[1] - column]
    return tuple(
        ClassProbability(title=item.title, color=item.color, share=float(share))
        for item, share in zip(detector.scheme.classes, found, strict=True)
    )

"""The probabilities a model gives to one pixel, found by running it on the windows around."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from openeo_cloudmask.classes import NODATA, ClassScheme
from openeo_cloudmask.digits import whole_number
from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.inference import predict_strips
from openeo_cloudmask.masking import Masker
from openeo_cloudmask.models.registry import MODELS, other_models
from openeo_cloudmask.options import DEFAULT_STRIDE_PX, MaskOptions
from openeo_cloudmask.products import ReadOptions
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.stack import raster_grid
from openeo_cloudmask.viewer.scenes import open_scene, pixel_at


class StaleError(CloudMaskError):
    """The answer is not waited for any longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSourceFile:
    """A scene's file and how it is read."""

    path: Path
    sensor: str
    read: ReadOptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassProbability:
    """What a model gives to one class in one pixel."""

    title: str
    color: str
    """``RRGGBB``."""
    share: float
    """0-1."""


Probabilities = tuple[ClassProbability, ...] | None
"""Class by class; None outside the scene."""


def how_made(path: Path) -> tuple[str, int] | None:
    """Return model and stride by which a mask was made, from its tags, or None if it says neither.

    Raises:
        ProductError: the file cannot be read.
    """
    with open_raster(path) as source:
        tags = {key.upper(): value for key, value in source.tags().items()}
    stride = whole_number(tags.get("STRIDE", ""))
    if tags.get("MODEL") not in {*MODELS, *other_models()}:
        return None
    return tags["MODEL"], DEFAULT_STRIDE_PX if stride is None else stride


def values_at(path: Path, longitude: float, latitude: float) -> tuple[int, ...] | None:
    """Return what a raster of uint8 holds at a place, band by band, or None outside of it.

    Only the block that holds the pixel is read.

    Raises:
        ProductError: the file cannot be read.
    """
    with open_raster(path) as source:
        place = pixel_at(raster_grid(source), longitude, latitude)
        if place is None:
            return None
        row, column = place
        return tuple(map(int, source.read(window=Window(column, row, 1, 1)).ravel()))


def kept_probabilities(
    path: Path, scheme: ClassScheme, longitude: float, latitude: float
) -> Probabilities:
    """Return the percentages of a pixel that were kept beside a mask, or None where it has none.

    Args:
        path: the file of percentages, a band for each class.
        scheme: classes of the mask.
        longitude: degrees.
        latitude: degrees.

    Raises:
        ProductError: the file cannot be read.
    """
    found = values_at(path, longitude, latitude)
    if found is None or NODATA in found:
        return None
    return tuple(
        ClassProbability(title=item.title, color=item.color, share=value / 100)
        for item, value in zip(scheme.classes, found, strict=True)
    )


@lru_cache(maxsize=2)
def _masker(model: str, sensor: str, labels: tuple[str, ...]) -> Masker:
    return Masker.open(MaskOptions(model=model, sensor=sensor), labels).load()


def probabilities_at(
    source: PixelSourceFile,
    model: str,
    stride: int,
    longitude: float,
    latitude: float,
    *,
    stop: threading.Event | None = None,
) -> Probabilities:
    """Return the probabilities of the pixel at a place, or None outside the scene.

    They are those a mask of the whole scene is made of, bit for bit: all windows that touch the
    pixel are computed, and blended as there.

    Args:
        source: the scene.
        model: id of the model.
        stride: that of the mask.
        longitude: degrees.
        latitude: degrees.
        stop: set when the answer is no longer wanted.

    Raises:
        CloudMaskError: the scene or the model's weights cannot be read, or ``stop`` was set.
    """

    def go_on(_done: int, _total: int) -> None:
        if stop is not None and stop.is_set():
            raise StaleError("another pixel was asked for")

    go_on(0, 0)
    with open_scene(source.path, sensor=source.sensor, read=source.read) as scene:
        place = pixel_at(scene.grid, longitude, latitude)
        if place is None:
            return None
        masker = _masker(model, source.sensor, tuple(scene.band_labels))
        row, column = place
        strips = predict_strips(
            scene.cube(masker.inputs.band_names, sensor=masker.inputs.sensor),
            masker.detector,
            stride=stride,
            origin_yx=scene.grid.origin_yx,
            part=(row, row + 1),
            part_columns=(column, column + 1),
            progress=go_on,
        )
        found = np.concatenate([strip for _, strip in strips], axis=1)[:, 0, 0]
    return tuple(
        ClassProbability(title=item.title, color=item.color, share=float(share))
        for item, share in zip(masker.detector.scheme.classes, found, strict=True)
    )

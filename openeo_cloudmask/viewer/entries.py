"""What a session holds of each scene, mask and reference that was opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openeo_cloudmask.classes import NODATA, ClassScheme
from openeo_cloudmask.errors import InputError
from openeo_cloudmask.evaluation.evaluate import Reference
from openeo_cloudmask.products import ReadOptions
from openeo_cloudmask.viewer.colors import NEEDED
from openeo_cloudmask.viewer.layers import Layer
from openeo_cloudmask.viewer.scenes import Picture, pixel_at


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneEntry:
    """A scene that was opened."""

    title: str
    path: Path
    picture: Picture
    layers: dict[str, Layer]
    """Composite -> layer."""
    read: ReadOptions | None = None
    """What the file did not say of itself."""
    day: str | None = None
    """When it was taken (``2024-05-01``), where that is known."""
    series: str | None = None
    """Title of the series it is a date of."""

    @property
    def is_colors(self) -> bool:
        """Whether it is a picture for looking at, which nothing is computed of."""
        return self.picture.sensor_id is None

    @property
    def sensor_id(self) -> str:
        """Id of the sensor whose values it holds.

        Raises:
            InputError: it holds colours made for looking.
        """
        if self.picture.sensor_id is None:
            raise InputError(
                f"{self.title} is a picture in 8-bit colours, neither reflectance nor counts: "
                f"nothing is computed of it. To go on, {NEEDED}"
            )
        return self.picture.sensor_id


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskEntry:
    """A mask that was made or opened."""

    title: str
    path: Path
    layer: Layer
    scheme: ClassScheme
    scene: str | None = None
    """Title of the scene it was made from, where that is known."""
    day: str | None = None
    """Of what day it is a mask, where the file says it."""
    percentages: Path | None = None
    """The percentages its classes were chosen from, where they were kept."""
    item: Mapping[str, Any] | None = field(default=None, hash=False)
    """Its STAC item, where a back end gave one."""
    series: str | None = None
    """Title of the series it is a date of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceEntry:
    """A reference that was opened."""

    title: str
    path: Path
    reference: Reference
    layer: Layer
    scene: str | None = None
    """Title of the scene it is of, where that is known."""
    day: str | None = None
    """Of what day it is, where that is known."""

    def mean_confidence(self) -> float | None:
        """Return how sure the reference is of the pixels it judges, 0-1, where it says."""
        seen = self.reference.labels != NODATA
        if self.reference.confidence is None or not seen.any():
            return None
        return float(self.reference.confidence[seen].mean()) / 255

    def confidence_at(self, longitude: float, latitude: float) -> float | None:
        """Return how sure the reference is of the pixel at a place, 0-1, where it says."""
        place = pixel_at(self.reference.grid, longitude, latitude)
        if self.reference.confidence is None or place is None:
            return None
        return float(self.reference.confidence[place]) / 255

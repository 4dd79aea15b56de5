"""Bands and sensors as values, and how band labels of data are matched to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from openeo_cloudmask.errors import BandError, SensorError


class BandKind(StrEnum):
    """What a band measures, and so the unit a detector expects it in."""

    OPTICAL = "optical"
    """Reflectance, 0-1."""
    THERMAL = "thermal"
    """Normalised brightness temperature, 0-1 (see ``radiometry.normalise_temperature``)."""
    SAR_VV = "sar-vv"
    SAR_VH = "sar-vh"
    SAR_ANGLE = "sar-angle"
    DEM = "dem"
    QUALITY = "quality"
    """A provider's quality layer: class codes, bit flags or shares, as they are stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One band of a sensor."""

    name: str
    """The name this package uses, e.g. ``B08``."""
    kind: BandKind = BandKind.OPTICAL
    min_nm: float | None = None
    """Lower edge of the pass band, nanometres; None for radar and elevation."""
    max_nm: float | None = None
    """Upper edge of the pass band, nanometres."""
    resolution_m: float
    common_name: str | None = None
    """The name of the STAC ``eo`` extension, e.g. ``nir``."""
    aliases: tuple[str, ...] = ()
    """Other labels of the same band, compared without case."""
    nodata_codes: tuple[int, ...] = ()
    """Of a quality layer: stored codes that say nothing of the pixel."""
    nodata_bits: int = 0
    """Of a quality layer of bit flags: bits that are set where there is no data."""
    file_pattern: str | None = None
    """Of a quality layer: what its file in a product is called, without the ending."""
    file_index: int = 1
    """Of a quality layer: its band in that file."""

    def __post_init__(self) -> None:
        """Check that wavelengths are there where the kind has them."""
        if self.kind in (BandKind.OPTICAL, BandKind.THERMAL):
            if self.min_nm is None or self.max_nm is None:
                raise SensorError(
                    f"band {self.name!r} is {self.kind.value} but has no wavelengths; "
                    "give min_nm and max_nm in nanometres"
                )
            if not 0 < self.min_nm < self.max_nm:
                raise SensorError(
                    f"band {self.name!r} has min_nm {self.min_nm} and max_nm {self.max_nm}; "
                    "expected 0 < min_nm < max_nm, in nanometres"
                )

    @property
    def centre_nm(self) -> float | None:
        """Middle of the pass band, nanometres."""
        if self.min_nm is None or self.max_nm is None:
            return None
        return (self.min_nm + self.max_nm) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """An instrument at one processing level."""

    id: str
    title: str
    platforms: tuple[str, ...]
    instrument: str
    level: str
    """Processing level of the data, e.g. ``L1C``."""
    resolution_m: float
    """Pixel size of the output grid, metres."""
    bands: tuple[Band, ...]
    unread: tuple[str, ...] = ()
    """Labels of bands that the sensor has besides, which no model here takes."""
    layers: tuple[Band, ...] = ()
    """Quality layers that come with its products; they are no bands, and are read only where they
    are asked for by name."""

    def __post_init__(self) -> None:
        """Check that no two bands answer to the same label."""
        seen: dict[str, str] = {}
        for band in (*self.bands, *self.layers):
            for label in _labels(band):
                if label in seen and seen[label] != band.name:
                    raise SensorError(
                        f"sensor {self.id!r}: bands {seen[label]!r} and {band.name!r} both "
                        f"answer to {label!r}; every label must mean one band"
                    )
                seen[label] = band.name

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of all bands in the sensor's order."""
        return tuple(band.name for band in self.bands)

    @property
    def pixel_range_m(self) -> tuple[float, float]:
        """Smallest and largest pixels on which the sensor's bands still are what they are."""
        return self.resolution_m / 2, 2 * max(band.resolution_m for band in self.bands)

    def find_band(self, label: str) -> Band | None:
        """Return the band that ``label`` names, by name, alias or common name, or None."""
        wanted = str(label).strip().lower()
        return next((band for band in self.bands if wanted in _labels(band)), None)

    def find_layer(self, label: str) -> Band | None:
        """Return the quality layer that ``label`` names, by name or alias, or None."""
        wanted = str(label).strip().lower()
        return next((layer for layer in self.layers if wanted in _labels(layer)), None)

    def knows(self, label: str) -> bool:
        """Return whether ``label`` names a band that the sensor has, read or not."""
        wanted = str(label).strip().lower()
        return self.find_band(label) is not None or wanted in map(str.lower, self.unread)

    def band(self, label: str) -> Band:
        """Return the band or quality layer that ``label`` names.

        Raises:
            BandError: the sensor has no such band.
        """
        found = self.find_band(label) or self.find_layer(label)
        if found is None:
            raise BandError(f"{self.id} has no band {label!r}; it has {', '.join(self.band_names)}")
        return found


def resolve_bands(labels: Sequence[str], wanted: Sequence[str], sensor: Sensor) -> list[int]:
    """Return where each wanted band stands in the data.

    Args:
        labels: band labels of the data, any names ``sensor`` knows; labels it does not know are
            ignored, so extra layers do no harm.
        wanted: names of the bands needed, in the order needed.
        sensor: gives the aliases.

    Returns:
        One index into ``labels`` for each wanted band.

    Raises:
        BandError: a wanted band is missing or is there twice.
    """
    places: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        band = sensor.find_band(str(label)) or sensor.find_layer(str(label))
        if band is not None:
            places.setdefault(band.name, []).append(index)
    missing = [name for name in wanted if name not in places]
    if missing:
        raise BandError(
            f"missing {_count(missing, 'band')} {', '.join(missing)} of {sensor.id}; the data has "
            f"{', '.join(map(str, labels)) or 'no bands'}. Load the missing bands, or choose a "
            "model that does not need them (`cloudmask models`)"
        )
    double = [name for name in wanted if len(places[name]) > 1]
    if double:
        given = {name: [str(labels[i]) for i in places[name]] for name in double}
        raise BandError(f"bands are given twice: {given}; keep one label for each band")
    return [places[name][0] for name in wanted]


def _labels(band: Band) -> set[str]:
    names = {band.name, *band.aliases}
    if band.common_name:
        names.add(band.common_name)
    return {name.lower() for name in names}


def _count(items: Sequence[str], noun: str) -> str:
    return noun if len(items) == 1 else f"{noun}s"

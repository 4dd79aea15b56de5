"""What a raster seems to be, from its tags and values: guesses to be shown before they count."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from openeo_cloudmask.classes import FOUR_CLASS, NODATA, MaskClass
from openeo_cloudmask.errors import ProductError, ReferenceDataError
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.sensors import SENSORS, Sensor
from openeo_cloudmask.viewer.colors import ALPHA, COLORS
from openeo_cloudmask.viewer.meaning import read_codes

SAMPLE_PX = 512
"""A raster is looked at in at most so many rows and columns, evenly spread."""
MAX_CODES = 32
SENTINEL_SCALE, SENTINEL_OFFSET = 1e-4, -0.1
_BRIGHTEST = 3.0
"""Reflectance above which values are counts and not reflectance."""
_OFFSET_FLOOR = 900
"""Counts of Sentinel-2 since baseline 04.00 hardly fall below 1000, those before it do."""
_DARK_SHARE, _BRIGHT_SHARE = 2, 98
_L1C, _L2A = "sentinel-2-l1c", "sentinel-2-l2a"
_ORDERS: dict[int, tuple[str, tuple[str, ...]]] = {
    3: (_L1C, ("B04", "B03", "B02")),
    4: (_L1C, ("B02", "B03", "B04", "B08")),
    12: (_L2A, tuple(SENSORS[_L2A].band_names)),
    13: (_L1C, tuple(SENSORS[_L1C].band_names)),
}
"""Bands of a file -> sensor and order in which they are usually written."""
_COLORS = {ColorInterp.red: "B04", ColorInterp.green: "B03", ColorInterp.blue: "B02"}
_FOURTH = "B08"
_BYTES = 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGuess:
    """What a raster of an image seems to be."""

    sensor_id: str | None
    names: tuple[str, ...]
    """Of its bands in their order; ``?`` where nothing is known."""
    named: bool
    """Whether the file names them itself."""
    scale: float | None
    """Reflectance per count; None where the file says it, or values are reflectance."""
    offset: float | None
    why: str
    """What the scale was derived from."""
    nodata: str
    """What of it is no-data, for people."""
    colors: tuple[str, ...] | None
    """Where it is a picture in 8-bit colours, made for looking: what each band is (``red``, ...).
    Its values are then no sensor's, unless somebody knows better."""
    preview: NDArray[np.uint8]
    """(y, x, 3) uint8, first sight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One value of a raster of classes."""

    value: int
    share: float
    """Of the pixels looked at, 0-1."""
    guess: MaskClass | None
    """None: no-data."""
    gone: bool
    """Whether it is known to be no-data: 255, or what the file says."""


def guess_image(path: Path) -> ImageGuess:
    """Return what the raster at ``path`` seems to be.

    Raises:
        ProductError: it cannot be read.
    """
    with open_raster(path) as source:
        shape = [min(size, SAMPLE_PX) for size in (source.height, source.width)]
        try:
            values = source.read(out_shape=(source.count, *shape)).astype(np.float32)
            seen = source.dataset_mask(out_shape=tuple(shape)) > 0
        except RasterioError as err:
            raise ProductError(f"{path.name} is damaged or incomplete: {err}") from err
        said = tuple(text.split()[0] if text else "" for text in source.descriptions)
        scaled = any(scale != 1 for scale in source.scales)
        colors = source.colorinterp
        own, whole = source.nodata, np.issubdtype(np.dtype(source.dtypes[0]), np.integer)
    empty = (values == 0).all(axis=0)
    seen &= ~empty & np.isfinite(values).all(axis=0)
    named = all(said)
    sensor_id, names = _guess_names(said, len(values))
    unknown = not named or sensor_id is None
    if unknown and (shown := _name_by_colors(values, colors)):
        sensor_id, names, named = _L1C, shown, False
    seems = None
    if whole and not scaled and not (values > _BYTES).any():
        seems = _find_colors(names)
    scale, offset, why = _guess_scale(values[:, seen], whole=bool(whole), scaled=scaled)
    parts = [f"the file's own value {own:g}"] if own is not None else []
    if empty.any():
        parts.append(f"0 in all bands ({empty.mean():.1%} of the pixels)")
    return ImageGuess(
        sensor_id=sensor_id if seems is None else None,
        names=names,
        named=named,
        scale=scale,
        offset=offset,
        why=why,
        nodata=" and ".join(parts) or "none found",
        colors=seems,
        preview=_preview(values, names, seen),
    )


def _guess_names(said: Sequence[str], count: int) -> tuple[str | None, tuple[str, ...]]:
    if all(said):
        return _sensor_of(said), tuple(said)
    sensor_id, names = _ORDERS.get(count, (None, ("?",) * count))
    return sensor_id, names


def _name_by_colors(
    values: NDArray[np.float32], colors: Sequence[ColorInterp]
) -> tuple[str, ...] | None:
    """Return the names of three or four bands of which the file says which is red, green, blue.

    GDAL marks the fourth of four bands of bytes as transparency, whatever it is: with other values
    than all and nothing it is taken for near infrared.
    """
    names = tuple(_COLORS.get(color, "") for color in colors)
    if len(names) not in (3, 4) or not set(_COLORS.values()) <= set(names):
        return None
    fourth = _FOURTH
    if ColorInterp.alpha in colors and np.isin(values[names.index("")], (0, 255)).all():
        fourth = ALPHA
    return tuple(name or fourth for name in names)


def _find_colors(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the colours of a picture's three or four bands; None where these are no picture's."""
    if len(names) not in (3, 4):
        return None
    for sensor in SENSORS.values():
        bands = [sensor.find_band(name) for name in names]
        found = tuple(
            name if band is None else band.common_name or name
            for name, band in zip(names, bands, strict=True)
        )
        if set(COLORS) <= set(found):
            return found
    return None


def _sensor_of(names: Sequence[str]) -> str | None:
    """Return the sensor that has all bands of these names, the one with the fewest others first."""

    def knows(sensor: Sensor) -> bool:
        return all(sensor.find_band(name) for name in names)

    fitting = [sensor for sensor in SENSORS.values() if knows(sensor)]
    fitting.sort(key=lambda sensor: len(sensor.bands))
    return fitting[0].id if fitting else None


def _guess_scale(
    values: NDArray[np.float32], *, whole: bool, scaled: bool
) -> tuple[float | None, float | None, str]:
    if scaled:
        return None, None, "the file says it"
    if not values.size:
        return None, None, "no pixel is seen"
    low, high = (float(value) for value in np.percentile(values, (_DARK_SHARE, _BRIGHT_SHARE)))
    text = f"nearly all values lie between {low:g} and {high:g}"
    if high <= _BRIGHTEST and not whole:
        return None, None, f"{text}: reflectance"
    if float(values.max()) <= _BYTES:
        return 1 / 255, 0.0, f"{text}: bytes, 255 taken for reflectance 1"
    if low >= _OFFSET_FLOOR:
        return (
            SENTINEL_SCALE, SENTINEL_OFFSET,
            f"{text}: counts of Sentinel-2 since baseline 04.00, which begin at 1000",
        )  # fmt: skip
    return SENTINEL_SCALE, 0.0, f"{text}: counts of 0.0001"


def _preview(
    values: NDArray[np.float32], names: Sequence[str], seen: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    wanted = [names.index(name) for name in ("B04", "B03", "B02") if name in names]
    planes = values[wanted if len(wanted) == 3 else [0, min(1, len(values) - 1), -1]]
    out = np.zeros((*seen.shape, 3), np.uint8)
    if not seen.any():
        return out
    for channel, plane in enumerate(planes):
        low, high = np.percentile(plane[seen], (_DARK_SHARE, _BRIGHT_SHARE))
        bright = np.clip((plane - low) / max(high - low, 1e-6), 0, 1) ** (1 / 1.5)
        out[..., channel] = np.where(seen, 255 * bright, 0)
    return out


def guess_codes(path: Path) -> tuple[Code, ...]:
    """Return the values of a raster of classes, each with the class it seems to mean.

    0 to 3 are taken for the four classes in their order, and 255 and the file's own no-data for
    none: for rasters that do not say their class scheme.

    Raises:
        ReferenceDataError: it is no raster of classes.
        ProductError: it cannot be read.
    """
    values, own = read_codes(path)
    counts = np.bincount(values.ravel(), minlength=256)
    found = np.flatnonzero(counts).tolist()
    if len(found) > MAX_CODES:
        raise ReferenceDataError(
            f"{path.name} holds {len(found)} different values; expected class values, at most "
            f"{MAX_CODES} of them"
        )
    known = {item.value: item for item in FOUR_CLASS.classes}
    gone = {NODATA} if own is None else {NODATA, own}
    total = counts.sum()
    return tuple(
        Code(
            value=value,
            share=float(counts[value] / total),
            guess=None if value in gone else known.get(value),
            gone=value in gone,
        )
        for value in found
    )


def meaning_text(chosen: dict[int, str | None]) -> str:
    """Return the text of ``meaning.parse_meaning`` for value -> name of a class, None: no-data."""
    return ", ".join(f"{value}={name or 'none'}" for value, name in chosen.items())


def parse_names(text: str) -> tuple[str, ...]:
    """Return names of bands separated by commas or spaces."""
    return tuple(part for part in re.split(r"[,\s]+", text) if part)

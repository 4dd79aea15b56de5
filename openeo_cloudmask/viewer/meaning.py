"""What the values of a raster mean, and of what day it is: from its tags, or from its user."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from openeo_cloudmask.alcd.scenes import find_scene_info
from openeo_cloudmask.classes import FOUR_CLASS, NODATA, SCHEMES, ClassScheme
from openeo_cloudmask.errors import OptionError, ProductError, ReferenceDataError
from openeo_cloudmask.products.acquired import read_acquired
from openeo_cloudmask.products.cog import write_cog
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.stack import raster_grid
from openeo_cloudmask.sensors import SENSORS

_PAIR = re.compile(r"\s*(\d{1,3})\s*[=:]\s*([a-z-]+)\s*", re.IGNORECASE)
_NONE = ("none", "no-data", "nodata")
EXAMPLE = "0=clear, 1=thick-cloud, 2=thin-cloud, 3=cloud-shadow, 9=none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """What a raster of classes says of itself."""

    scheme: str | None
    """Name of its class scheme."""
    day: str | None
    """``2024-05-01``"""
    sensor: str | None = None
    """Id of the sensor of an image, or of the scene that was masked, if it is a known one.

    Other texts could be the path of a file of this machine that describes a sensor.
    """


def read_tags(path: Path) -> Tags:
    """Return what the file at ``path`` says.

    Raises:
        ProductError: it cannot be read.
    """
    with open_raster(path) as source:
        tags = {key.upper(): value for key, value in source.tags().items()}
        acquired = read_acquired(source)
    scheme, sensor = tags.get("CLASS_SCHEME"), tags.get("SENSOR")
    return Tags(
        scheme=scheme if scheme in SCHEMES else None,
        day=None if acquired is None else acquired.date().isoformat(),
        sensor=sensor if sensor in SENSORS else None,
    )


def day_of_reference(path: Path) -> str | None:
    """Return of what day a reference is: an ALCD scene, or a raster that says it."""
    if not path.is_dir():
        return read_tags(path).day
    info = find_scene_info(path.name)
    return None if info is None else f"{info.date[:4]}-{info.date[4:6]}-{info.date[6:]}"


def parse_meaning(text: str) -> ClassScheme | dict[int, int]:
    """Return the class scheme of that name, or value of the file -> value of the four classes.

    Args:
        text: ``4-class``, ``alcd``, ...; or a class for each value, as in ``EXAMPLE``.

    Raises:
        OptionError: it is neither.
    """
    if text in SCHEMES:
        return SCHEMES[text]
    names = {item.name: item.value for item in FOUR_CLASS.classes} | dict.fromkeys(_NONE, NODATA)
    found: dict[int, int] = {}
    for part in filter(str.strip, text.split(",")):
        match = _PAIR.fullmatch(part)
        if match is None or match[2].lower() not in names or int(match[1]) > NODATA:
            raise OptionError(
                f"{part.strip()!r} gives no value its class; expected {EXAMPLE!r} or the name of "
                f"a class scheme: {', '.join(SCHEMES)}"
            )
        found[int(match[1])] = names[match[2].lower()]
    if not found:
        raise OptionError(f"no class is given; expected e.g. {EXAMPLE!r}")
    return found


def read_codes(path: Path) -> tuple[NDArray[np.uint8], int | None]:
    """Return the values (y, x) of a raster of classes, and the file's own no-data among them.

    Values of any type are taken, as long as they are whole numbers from 0 to 255; no-data that
    is not (NaN, -9999) becomes 255.

    Raises:
        ReferenceDataError: it has several bands, or other values.
        ProductError: it cannot be read.
    """
    with open_raster(path) as source:
        if source.count != 1:
            raise ReferenceDataError(
                f"{path.name} has {source.count} bands; expected one band of class values"
            )
        codes = np.full((source.height, source.width), NODATA, np.uint8)
        own = source.nodata
        for _, window in source.block_windows(1):
            try:
                values = source.read(1, window=window)
            except RasterioError as err:
                raise ProductError(f"{path.name} is damaged or incomplete: {err}") from err
            if values.dtype != np.uint8:
                values = _whole(values, own, path.name)
            codes[window.toslices()] = values
    return codes, int(own) if _is_code(own) else None


def _is_code(own: float | None) -> TypeGuard[float]:
    return own is not None and 0 <= own <= NODATA and float(own).is_integer()


def _whole(values: NDArray[Any], own: float | None, name: str) -> NDArray[np.uint8]:
    """Return numbers of any type as uint8; refuse those that are no class values."""
    if values.dtype.kind not in "iuf":
        raise ReferenceDataError(f"{name} holds {values.dtype}; expected class values")
    gone = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if own is not None:
        gone |= values == own
    wrong = ~gone & ((values < 0) | (values > NODATA) | (values != np.floor(values)))
    if wrong.any():
        raise ReferenceDataError(
            f"{name} holds {values[wrong][0]:g}; expected class values, whole numbers from 0 to 255"
        )
    # The file's own no-data stays as it is where it can: somebody may have a class for it.
    whole = np.full(values.shape, NODATA, np.uint8)
    fits = ~gone | (values == own) if _is_code(own) else ~gone
    whole[fits] = values[fits].astype(np.uint8)
    return whole


def name_classes(path: Path, meaning: str | None, folder: Path) -> Path:
    """Return a raster of class values that says what they mean: ``path`` itself, or a copy.

    Args:
        path: one band of class values.
        meaning: None takes what the file says; see ``parse_meaning``.
        folder: where a copy goes.

    Raises:
        ReferenceDataError: neither the file nor the user says it, or the file holds other values.
        OptionError: the meaning cannot be understood.
        ProductError: the file cannot be read.
    """
    said = read_tags(path).scheme
    if meaning is None:
        if said is None:
            raise ReferenceDataError(
                f"{path.name} does not say what its values mean; choose its classes, or give each "
                f"value its own: {EXAMPLE}"
            )
        return path
    given = parse_meaning(meaning)
    values, own = read_codes(path)
    with open_raster(path) as source:
        grid = raster_grid(source)
    if own is not None and own < NODATA and not (isinstance(given, dict) and own in given):
        values = np.where(values == np.uint8(own), np.uint8(NODATA), values)
    table = given if isinstance(given, dict) else {value: value for value in given.values}
    table = {NODATA: NODATA} | table
    if strange := sorted(set(np.unique(values).tolist()) - set(table)):
        raise ReferenceDataError(
            f"{path.name} holds {strange}, to which no class is given; expected some of "
            f"{sorted(table)}"
        )
    lookup = np.full(256, NODATA, np.uint8)
    lookup[list(table)] = list(table.values())
    scheme = FOUR_CLASS if isinstance(given, dict) else given
    target = folder / f"{path.stem}.tif"
    return write_cog(target, [(0, lookup[values][np.newaxis])], grid=grid, scheme=scheme)

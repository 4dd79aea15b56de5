"""Bring a mask to the grid of a reference: by the share of each class in a cell, or by majority."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA, SCHEMES, ClassScheme, OutputStyle, mapping
from openeo_cloudmask.errors import OptionError, ProductError, ReferenceDataError
from openeo_cloudmask.evaluation.cases import VIEWS
from openeo_cloudmask.grid import Grid, overlap
from openeo_cloudmask.products.stack import raster_grid

SEEN_SHARE = 0.5
"""A cell of the reference counts as seen where at least this share of it was."""


class Regrid(StrEnum):
    """How a cell of the reference's grid gets its class from the mask's pixels in it."""

    FRACTIONS = "fractions"
    """Class shares are summed over the classes of a view (thick and thin cloud are cloud) before
    deciding: positive where they reach the threshold."""
    MAJORITY = "majority"
    """The most frequent class of the mask (of equals, the first of its scheme), then mapped to the
    view."""


def parse_regrid(text: str) -> Regrid:
    """Return the method called ``text``.

    Raises:
        OptionError: no method has that name.
    """
    try:
        return Regrid(text)
    except ValueError:
        names = ", ".join(item.value for item in Regrid)
        raise OptionError(f"regrid is {text!r}; expected one of {names}") from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridMask:
    """A mask on its own grid."""

    labels: NDArray[np.uint8]
    """(y, x) uint8, values of ``scheme``; 255 is no-data."""
    scheme: ClassScheme
    grid: Grid
    name: str = "mask"
    """What error messages call it."""
    sun_elevation_deg: float | None = None
    """Of the scene, where the file says it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regridded:
    """A mask on the reference's grid."""

    labels: NDArray[np.uint8]
    """(y, x) uint8, the most frequent class of the mask's own scheme; 255 is no-data."""
    views: dict[OutputStyle, NDArray[np.uint8]]
    """Labels decided from class shares, by view; empty with ``Regrid.MAJORITY``."""
    method: str
    """What was done, for reports."""


def regrid_mask(
    mask: GridMask, target: Grid, *, method: Regrid = Regrid.FRACTIONS, threshold: float = 0.5
) -> Regridded:
    """Return ``mask`` on the grid ``target``.

    Args:
        mask: the mask.
        target: the reference's grid.
        method: how a cell's class is decided.
        threshold: share of a cell's seen pixels, above 0 and up to 1, from which on it is cloud,
            invalid, or in four classes one of the classes that are not clear (the largest).

    Raises:
        ReferenceDataError: the grids do not overlap, or only one of them has a georeference.
        OptionError: the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise OptionError(f"threshold {threshold}; expected above 0 and up to 1")
    if _same_grid(mask.grid, target):
        return Regridded(labels=mask.labels, views={}, method="the mask is on the reference's grid")
    _check_overlap(mask, target)
    shares, seen = class_shares(mask, target)
    labels = _most_frequent(shares, seen, mask.scheme)
    if method is Regrid.MAJORITY:
        return Regridded(labels=labels, views={}, method="most frequent class in each cell")
    views = {
        view: decided
        for view in VIEWS
        if (decided := _decide(shares, seen, mask.scheme, view, threshold)) is not None
    }
    text = f"class shares in each cell, threshold {threshold:g}"
    return Regridded(labels=labels, views=views, method=text)


def class_shares(mask: GridMask, target: Grid) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return how the pixels of each target cell are shared among the mask's classes.

    Returns:
        (class, y, x) float32, 0-1, summing to 1 where seen; and (y, x) bool, where at least half
        of the cell was seen.
    """
    shares = np.empty((len(mask.scheme.classes), *target.shape_yx), np.float32)
    factor = block_factor(mask.grid, target)
    for index, value in enumerate(mask.scheme.values):
        shares[index] = _average(mask.labels == value, mask.grid, target, factor)
    total = shares.sum(axis=0)
    seen: NDArray[np.bool_] = total >= SEEN_SHARE - 1e-6
    np.divide(shares, total, out=shares, where=total > 0)
    return shares, seen


def block_factor(source: Grid, target: Grid) -> tuple[int, int, int] | None:
    """Return ``(factor, rows, columns)`` where each target cell is a block of source pixels.

    Rows and columns are the offset of the target's corner from the source's, in source pixels.
    None where the grids do not nest.
    """
    if source.crs != target.crs or source.transform is None or target.transform is None:
        return None
    fine, coarse = source.transform, target.transform
    if fine.b or fine.d or coarse.b or coarse.d or not fine.a or not fine.e:
        return None
    factor, rows = coarse.a / fine.a, (coarse.f - fine.f) / fine.e
    columns = (coarse.c - fine.c) / fine.a
    numbers = (factor, coarse.e / fine.e, rows, columns)
    if factor < 0.5 or any(abs(number - round(number)) > 1e-6 for number in numbers):
        return None
    sizes = {round(numbers[0]), round(numbers[1])}
    return (round(factor), round(rows), round(columns)) if len(sizes) == 1 else None


def _same_grid(one: Grid, other: Grid) -> bool:
    if one.shape_yx != other.shape_yx:
        return False
    if one.crs is None and other.crs is None:
        return True
    if one.crs != other.crs or one.transform is None or other.transform is None:
        return False
    return bool(one.transform.almost_equals(other.transform, 1e-6))


def _check_overlap(mask: GridMask, target: Grid) -> None:
    from rasterio.errors import RasterioError

    lacking = [
        name for name, grid in ((mask.name, mask.grid), ("the reference", target)) if not grid.crs
    ]
    if lacking:
        raise ReferenceDataError(
            f"{' and '.join(lacking)}: no coordinate reference system, and the sizes differ "
            f"({mask.grid.shape_yx} and {target.shape_yx} pixels); expected one grid, or a "
            "georeference in both"
        )
    try:
        box = mask.grid.bounds_in(target.crs)
    except RasterioError as err:
        raise ReferenceDataError(
            f"{mask.name} is in {mask.grid.crs}, which cannot be brought to {target.crs}: {err}"
        ) from err
    own = target.bounds
    if not np.isfinite(box).all() or not overlap(box, own):
        digits = 4 if target.crs is not None and target.crs.is_geographic else 1
        here, there = (tuple(round(v, digits) for v in item) for item in (box, own))
        raise ReferenceDataError(
            f"{mask.name} and the reference do not overlap: in {target.crs} the mask covers "
            f"{here}, the reference {there} (west, south, east, north). "
            "Is it the mask of another scene?"
        )


def _average(
    inside: NDArray[np.bool_], source: Grid, target: Grid, factor: tuple[int, int, int] | None
) -> NDArray[np.float32]:
    """Return the share of each target cell, (y, x) float32, where ``inside`` holds."""
    if factor is not None:
        return _block_average(inside, target, *factor)
    from rasterio.warp import Resampling, reproject

    out = np.zeros(target.shape_yx, np.float32)
    # GDAL lets the outermost pixels bleed into the next cell; a rim of "not there" keeps them in.
    pad = math.ceil((target.resolution_m or 1.0) / (source.resolution_m or 1.0)) + 1
    height, width = source.shape_yx
    padded = source.crop(slice(-pad, height + pad), slice(-pad, width + pad))
    # Its average is the nearest pixel where the source is coarser. Shares of 200 parts keep the
    # source at one byte per pixel.
    reproject(
        source=np.pad(inside.astype(np.uint8) * 200, pad),
        destination=out,
        src_transform=padded.transform,
        src_crs=source.crs,
        dst_transform=target.transform,
        dst_crs=target.crs,
        resampling=Resampling.average,
        init_dest_nodata=False,
    )
    return out / np.float32(200)


def _block_average(
    inside: NDArray[np.bool_], target: Grid, factor: int, row: int, column: int
) -> NDArray[np.float32]:
    height, width = (size * factor for size in target.shape_yx)
    canvas = np.zeros((height, width), np.uint8)
    rows = slice(max(row, 0), min(row + height, inside.shape[0]))
    columns = slice(max(column, 0), min(column + width, inside.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        canvas[
            rows.start - row : rows.stop - row, columns.start - column : columns.stop - column
        ] = inside[rows, columns]
    # Rows first: that sum runs along memory.
    columns_of = canvas.reshape(target.shape_yx[0], factor, width).sum(axis=1, dtype=np.uint32)
    counts = columns_of.reshape(*target.shape_yx, factor).sum(axis=2)
    shares: NDArray[np.float32] = (counts / np.float32(factor * factor)).astype(np.float32)
    return shares


def _most_frequent(
    shares: NDArray[np.float32], seen: NDArray[np.bool_], scheme: ClassScheme
) -> NDArray[np.uint8]:
    values = np.asarray(scheme.values, np.uint8)
    labels: NDArray[np.uint8] = np.where(seen, values[shares.argmax(axis=0)], np.uint8(NODATA))
    return labels


def _decide(
    shares: NDArray[np.float32],
    seen: NDArray[np.bool_],
    scheme: ClassScheme,
    view: OutputStyle,
    threshold: float,
) -> NDArray[np.uint8] | None:
    """Return the labels of ``view``, or None where the mask's classes do not tell them."""
    target = SCHEMES[view.value]
    try:
        values = mapping(scheme, target)
    except OptionError:
        return None
    sums = np.zeros((len(target.classes), *seen.shape), np.float32)
    for plane, value in zip(shares, values, strict=True):
        if value != NODATA:
            sums[value] += plane
    total = sums.sum(axis=0)
    known = seen & (total >= SEEN_SHARE)
    positive = sums[1:].sum(axis=0) >= threshold * total - 1e-6
    labels = np.where(positive, 1 + sums[1:].argmax(axis=0), 0).astype(np.uint8)
    labels[~known] = NODATA
    return labels


def read_mask(path: Path, *, scheme: ClassScheme | None = None) -> GridMask:
    """Return the mask in a raster file: class values, or percentages of each class.

    Args:
        path: a GeoTIFF or JPEG 2000 of uint8.
        scheme: its classes; None takes what the file's tags say, or else the four classes.

    Raises:
        ReferenceDataError: it cannot be read, or does not hold classes of the scheme.
    """
    from rasterio.errors import RasterioError

    from openeo_cloudmask.products.drivers import open_raster
    from openeo_cloudmask.products.mask import SUN_TAG

    try:
        with open_raster(path) as data:
            values: NDArray[Any] = data.read()
            tags, nodata = data.tags(), data.nodata
            grid = raster_grid(data)
    except (RasterioError, ProductError) as err:
        raise ReferenceDataError(f"the mask {path} cannot be read: {err}") from err
    if scheme is None:
        scheme = SCHEMES.get(tags.get("CLASS_SCHEME", ""), SCHEMES["4-class"])
    if nodata is not None and values.dtype == np.uint8 and 0 <= nodata < NODATA:
        # A file may keep its own code for no-data, such as ALCD's 0.
        values = np.where(values == np.uint8(nodata), np.uint8(NODATA), values)
    labels = _labels_of(path, values, scheme, percent=tags.get("UNITS") == "percent")
    return GridMask(
        labels=labels,
        scheme=scheme,
        grid=grid,
        name=f"the mask {path.name}",
        sun_elevation_deg=_elevation(tags.get(SUN_TAG)),
    )


def _elevation(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if -90 <= value <= 90 else None


def _labels_of(
    path: Path, values: NDArray[Any], scheme: ClassScheme, *, percent: bool
) -> NDArray[np.uint8]:
    if values.dtype != np.uint8:
        raise ReferenceDataError(
            f"the mask {path} holds {values.dtype}; expected uint8 class values"
        )
    if percent and values.shape[0] == len(scheme.classes):
        best = np.asarray(scheme.values, np.uint8)[values.argmax(axis=0)]
        return np.where((values == NODATA).any(axis=0), np.uint8(NODATA), best)
    if values.shape[0] != 1:
        raise ReferenceDataError(
            f"the mask {path} has {values.shape[0]} bands; expected one of class values, or "
            f"percentages of the {len(scheme.classes)} classes of {scheme.name!r}"
        )
    labels: NDArray[np.uint8] = values[0]
    known = {*scheme.values, NODATA}
    if strange := sorted(set(np.unique(labels).tolist()) - known):
        raise ReferenceDataError(
            f"the mask {path} holds {strange}, which are no classes of {scheme.name!r} "
            f"({list(scheme.values)}, 255 no data); name its classes with --mask-classes"
        )
    return labels

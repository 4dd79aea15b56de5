"""An area that was drawn on the map, in pixels: where it lies, and what is cloud in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.features import geometry_mask
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from openeo_cloudmask.classes import FOUR_CLASS, NODATA, SCHEMES, kind_values
from openeo_cloudmask.evaluation.cases import Case, score_pair
from openeo_cloudmask.evaluation.evaluate import Evaluation
from openeo_cloudmask.grid import WGS84, Bounds, Grid
from openeo_cloudmask.products.drivers import open_raster
from openeo_cloudmask.products.stack import raster_grid

Ring = tuple[tuple[float, float], ...]
"""Longitude and latitude of the corners of an area, in order; the first does not come again."""
COVER_PX = 1024
"""Cover is counted on at most so many pixels along a side; larger areas are read coarser."""
_MIN_CORNERS = 3


def ring_of(bounds: Bounds) -> Ring:
    """Return the corners of a rectangle."""
    west, south, east, north = bounds
    return ((west, south), (east, south), (east, north), (west, north))


def inside(grid: Grid, ring: Ring) -> NDArray[np.bool_]:
    """Return (y, x) bool: the pixels of a grid whose centre lies in an area.

    A grid without georeference has none.
    """
    if grid.crs is None or grid.transform is None or len(ring) < _MIN_CORNERS:
        return np.zeros(grid.shape_yx, bool)
    xs, ys = transform_points(WGS84, grid.crs, *zip(*ring, strict=True))
    corners = list(zip(xs, ys, strict=True))
    shape = {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}
    found: NDArray[np.bool_] = geometry_mask([shape], grid.shape_yx, grid.transform, invert=True)
    return found


def cloud_cover(path: Path, ring: Ring | None) -> float | None:
    """Return the share of cloud among the seen pixels of a mask in an area, 0-1.

    Args:
        path: the mask.
        ring: the area; None for all of the mask.

    Returns:
        None where nothing was seen there, or the file holds percentages. An area of more than
        ``COVER_PX`` pixels along a side is read from an overview, or every few pixels.

    Raises:
        ProductError: the file cannot be read.
    """
    with open_raster(path) as source:
        if source.count != 1:
            return None
        scheme = SCHEMES.get(source.tags().get("CLASS_SCHEME", ""), FOUR_CLASS)
        grid = raster_grid(source)
        rows, columns = slice(0, grid.shape_yx[0]), slice(0, grid.shape_yx[1])
        if ring is not None:
            there = grid.touched_by(_bounds_on(grid, ring))
            if there is None:
                return None
            rows, columns = there
        height, width = rows.stop - rows.start, columns.stop - columns.start
        step = max(1, -(-max(height, width) // COVER_PX))
        shape = (max(height // step, 1), max(width // step, 1))
        labels = source.read(
            1, window=Window(columns.start, rows.start, width, height), out_shape=shape,
            resampling=Resampling.nearest,
        )  # fmt: skip
    if ring is not None:
        part = grid.crop(rows, columns)
        scale = (width / shape[1], height / shape[0])
        affine = part.transform
        if affine is not None:
            affine = affine * affine.scale(*scale)
        coarse = replace(part, shape_yx=shape, transform=affine)
        labels = np.where(inside(coarse, ring), labels, NODATA)
    seen = labels != NODATA
    if not seen.any():
        return None
    return float(np.isin(labels[seen], kind_values(scheme, "cloud")).mean())


def restrict(evaluation: Evaluation, ring: Ring, cases: Sequence[Case]) -> Evaluation:
    """Return what comparing a mask with its reference gives in an area alone.

    The mask is dilated before the area is cut out, so that clouds beyond it count.

    Raises:
        ReferenceDataError: none of the cases can be compared.
    """
    there = inside(evaluation.reference.grid, ring)
    pair = evaluation.pair
    cut = replace(pair, reference=np.where(there, pair.reference, NODATA).astype(np.uint8))
    results = score_pair(cut, tuple(cases))
    return replace(
        evaluation,
        result=replace(evaluation.result, results=results),
        pair=cut,
        errors=np.where(there, evaluation.errors, NODATA).astype(np.uint8),
    )


def _bounds_on(grid: Grid, ring: Ring) -> Bounds:
    xs, ys = transform_points(WGS84, grid.crs, *zip(*ring, strict=True))
    return min(xs), min(ys), max(xs), max(ys)

"""The pixels of a raster on the ground: all that is computed of origin, edges, bounds and places.

Affine transforms and reference systems are those of rasterio, imported where a grid has one: the
user-defined function takes only the two functions on axes from here, and needs neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""

WGS84 = "EPSG:4326"
_METRES_PER_DEGREE = 111_320.0
"""Of latitude."""


class Axis(NamedTuple):
    """Evenly spaced coordinates."""

    first: float
    """Centre of the first pixel."""
    step: float
    """From one centre to the next; negative where coordinates fall."""

    @property
    def origin(self) -> int:
        """Absolute index of the first pixel: position / resolution.

        It counts in the direction the axis runs, so that cuts of one grid give one pixel the same
        index.
        """
        # Landsat's edges lie half a pixel off the multiples of 30 m; the small addend keeps its
        # centres from being rounded to either side.
        return math.floor(self.first / self.step + 1e-3)


def parse_axis(coordinates: ArrayLike) -> Axis | None:
    """Return the axis of pixel centres; None where they are no numbers, or too few to tell.

    float32 holds metres exactly, but not degrees: there, cuts of one grid may be counted from
    places that differ by some pixels, and their masks meet in seams.
    """
    values = np.asarray(coordinates)
    if values.size < 2 or values.dtype.kind not in "fiu":
        return None
    first, last = float(values[0]), float(values[-1])
    # Twelve digits drop the rounding noise of coordinates.
    step = float(f"{(last - first) / (values.size - 1):.12g}")
    return Axis(first, step) if step and math.isfinite(step) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The pixels of a scene on the ground."""

    shape_yx: tuple[int, int]
    transform: Affine | None = None
    """From (column, row) to (x, y) of a pixel's upper left corner; None without georeference."""
    crs: CRS | None = None

    @property
    def origin_yx(self) -> tuple[int, int]:
        """Absolute indices of the first row and column; (0, 0) without georeference or rotated."""
        affine = self.transform
        if affine is None or affine.b or affine.d:
            return 0, 0
        y, x = (
            Axis(edge + step / 2, step)
            for edge, step in ((affine.f, affine.e), (affine.c, affine.a))
        )
        return y.origin, x.origin

    @property
    def pixel_size(self) -> float:
        """Width of a pixel in units of the reference system; 1 without georeference."""
        return abs(self.transform.a) if self.transform is not None else 1.0

    @property
    def resolution_m(self) -> float | None:
        """Side of a pixel in metres, or None without georeference.

        For a grid in degrees, that of the height of its middle pixel.
        """
        if self.transform is None or self.crs is None:
            return None
        size = math.sqrt(abs(self.transform.determinant))
        if self.crs.is_geographic:
            return size * _METRES_PER_DEGREE
        return size * float(self.crs.linear_units_factor[1])

    @property
    def pixel_m(self) -> tuple[float, float] | None:
        """Height and width of a pixel, metres; None without georeference or in degrees."""
        if self.transform is None or self.crs is None or not self.crs.is_projected:
            return None
        unit = float(self.crs.linear_units_factor[1])
        height = math.hypot(self.transform.b, self.transform.e)
        width = math.hypot(self.transform.a, self.transform.d)
        return height * unit, width * unit

    @property
    def bounds(self) -> Bounds:
        """The outer edges in its own reference system; in pixels without georeference."""
        height, width = self.shape_yx
        xs, ys = zip(*(self.to_xy(row, column) for row in (0, height) for column in (0, width)),
                     strict=True)  # fmt: skip
        return min(xs), min(ys), max(xs), max(ys)

    def bounds_in(self, crs: CRS | str) -> Bounds:
        """Return the bounds in another reference system; the grid needs one itself.

        Raises:
            RasterioError: they cannot be brought there.
        """
        from rasterio.warp import transform_bounds

        west, south, east, north = transform_bounds(self.crs, crs, *self.bounds)
        return west, south, east, north

    @property
    def bounds_wgs84(self) -> Bounds | None:
        """The bounds in degrees, or None without georeference."""
        placed = self.crs is not None and self.transform is not None
        return self.bounds_in(WGS84) if placed else None

    def to_xy(self, row: float, column: float) -> tuple[float, float]:
        """Return x and y of a place given in pixels; (0, 0) is the upper left corner."""
        return (column, row) if self.transform is None else _apply(self.transform, column, row)

    def to_pixel(self, x: float, y: float) -> tuple[float, float]:
        """Return row and column of a place; whole numbers are edges of pixels."""
        column, row = (x, y) if self.transform is None else _apply(~self.transform, x, y)
        return row, column

    def offset_yx(self, other: Grid) -> tuple[float, float]:
        """Return row and column of this grid where ``other`` begins; 0 without georeference."""
        if self.transform is None or other.transform is None:
            return 0.0, 0.0
        return self.to_pixel(other.transform.c, other.transform.f)

    def fits(self, other: Grid) -> bool:
        """Return whether the pixels of ``other`` lie on those of this grid, were it larger."""
        if self.transform is None or other.transform is None or self.crs != other.crs:
            return self == other
        same = math.isclose(self.transform.a, other.transform.a) and math.isclose(
            self.transform.e, other.transform.e
        )
        return same and all(abs(at - round(at)) <= 1e-3 for at in self.offset_yx(other))

    def touched_by(self, bounds: Bounds, *, slack_px: float = 0.0) -> tuple[slice, slice] | None:
        """Return the rows and columns that a box in this reference system touches, or None.

        Args:
            bounds: of the box.
            slack_px: how far the box may reach into a pixel without touching it; below 0, how far
                it may stay off one and touch it all the same.
        """
        west, south, east, north = bounds
        corners = self.to_pixel(west, north), self.to_pixel(east, south)
        slices = []
        for ends, length in zip(zip(*corners, strict=True), self.shape_yx, strict=True):
            low, high = sorted(ends)
            if not math.isfinite(low) or not math.isfinite(high):
                return None
            start = max(math.floor(low + slack_px), 0)
            stop = min(math.ceil(high - slack_px), length)
            if start >= stop:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1]

    def crop(self, rows: slice, columns: slice) -> Grid:
        """Return some of the pixels; rows and columns before the first or past the last, too."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        affine = self.transform
        if affine is not None:
            affine = affine * affine.translation(columns.start, rows.start)
        return Grid(shape_yx=shape, transform=affine, crs=self.crs)

    def coordinates(self) -> dict[str, Any]:
        """Return y and x, the pixels' centres, and ``spatial_ref`` where there is a CRS."""
        height, width = self.shape_yx
        a, e, c, f = 1.0, 1.0, 0.0, 0.0
        if self.transform is not None:
            a, e, c, f = (getattr(self.transform, name) for name in "aecf")
        coords: dict[str, Any] = {
            "y": f + e * (np.arange(height) + 0.5),
            "x": c + a * (np.arange(width) + 0.5),
        }
        if self.crs is not None:
            wkt = self.crs.to_wkt()
            attributes = {"crs_wkt": wkt, "spatial_ref": wkt}
            if self.transform is not None:
                attributes["GeoTransform"] = " ".join(map(repr, self.transform.to_gdal()))
            coords["spatial_ref"] = ((), 0, attributes)
        return coords

    def profile(self) -> dict[str, Any]:
        """Return the grid of a file to write, as rasterio takes it."""
        known = {"crs": self.crs, "transform": self.transform}
        height, width = self.shape_yx
        return {
            "height": height,
            "width": width,
            **{key: value for key, value in known.items() if value is not None},
        }


def grid_of_axes(y: Axis, x: Axis, shape_yx: tuple[int, int], crs: CRS | None) -> Grid:
    """Return the grid whose pixels have their centres at these coordinates."""
    from affine import Affine

    affine = Affine(x.step, 0, x.first - x.step / 2, 0, y.step, y.first - y.step / 2)
    return Grid(shape_yx=shape_yx, transform=affine, crs=crs)


def overlap(one: Sequence[float], other: Sequence[float], *, edges: bool = False) -> bool:
    """Return whether two boxes share some area, or with ``edges`` at least an edge or corner.

    Args:
        one: west, south, east, north; or with heights, west, south, low, east, north, high. In
            degrees, a west that is larger than the east means a box over the antimeridian.
        other: the same.
        edges: whether boxes that only touch count.
    """
    return any(_overlap(a, b, edges=edges) for a in halves(one) for b in halves(other))


def _overlap(one: Bounds, other: Bounds, *, edges: bool) -> bool:
    (west, south, east, north), (left, bottom, right, top) = one, other
    if edges:
        return west <= right and left <= east and south <= top and bottom <= north
    return west < right and left < east and south < top and bottom < north


def halves(box: Sequence[float]) -> list[Bounds]:
    """Return a box without its heights; of one over the antimeridian, the parts on both sides."""
    half = len(box) // 2
    west, south, east, north = box[0], box[1], box[half], box[half + 1]
    if west <= east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def footprint(box: Sequence[float]) -> dict[str, Any]:
    """Return a box in degrees as a GeoJSON polygon; over the antimeridian, as two of them."""
    rings = [
        [[west, south], [east, south], [east, north], [west, north], [west, south]]
        for west, south, east, north in halves(box)
    ]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings}
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def _apply(transform: Affine, x: float, y: float) -> tuple[float, float]:
    # The operator for it changed between releases of affine, the coefficients did not.
    return (
        x * transform.a + y * transform.b + transform.c,
        x * transform.d + y * transform.e + transform.f,
    )

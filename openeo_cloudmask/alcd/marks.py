"""Marks that people make on a scene to say what is there, and the pixels they cover."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import ALCD
from openeo_cloudmask.errors import OptionError
from openeo_cloudmask.grid import Bounds, Grid

MARK_CODES = (2, 3, 4, 5, 6, 7)
"""Codes of ``ALCD`` that are marked: low cloud, high cloud, shadow, land, water, snow."""
MAX_CORNERS = 20_000
MAX_LOOKED_PX = 3 * 10**8
"""Pixels around the pieces of a line at most; they take some seconds."""

Points = tuple[tuple[float, float], ...]
Piece = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A stroke of the brush, or an area, and the class of what lies under it.

    Raises:
        OptionError: there is no such class, or the line has no point or too many.
    """

    code: int
    """Of ``ALCD``."""
    points: Points
    """x and y in the grid's reference system: of a line, or the corners of an area."""
    area: bool = False
    radius_m: float = 0.0
    """How far from a line its pixels lie."""

    def __post_init__(self) -> None:
        """Check code, number of points and numbers."""
        if self.code not in MARK_CODES:
            known = ", ".join(f"{code} {ALCD.classes[code].title}" for code in MARK_CODES)
            raise OptionError(f"a mark has class {self.code}; expected one of {known}")
        least = 3 if self.area else 1
        if not least <= len(self.points) <= MAX_CORNERS:
            raise OptionError(
                f"a mark has {len(self.points)} points; expected {least} to {MAX_CORNERS}"
            )
        numbers = [self.radius_m, *(number for point in self.points for number in point)]
        if not all(math.isfinite(number) for number in numbers) or self.radius_m < 0:
            raise OptionError("a mark has numbers that are no place or no width")

    def pixels(self, grid: Grid) -> NDArray[np.intp]:
        """Return positions (row * width + column) of the pixels that are marked, sorted.

        Those whose centre lies in the area, or within the radius of the line; of a mark that is
        smaller than a pixel, the pixels it touches.
        """
        return cover(grid, self.points, area=self.area, radius=self.radius_m / _unit_m(grid))


def cover(
    grid: Grid, points: Sequence[tuple[float, float]], *, area: bool, radius: float = 0.0
) -> NDArray[np.intp]:
    """Return positions (row * width + column) of the pixels of a shape, sorted.

    Args:
        grid: whose pixels.
        points: x and y in the grid's reference system.
        area: whether they are the corners of an area, or a line.
        radius: how far from a line, in units of the reference system.
    """
    touched = grid.touched_by(_reach(points, radius + 2 * grid.pixel_size))
    if touched is None:
        return np.empty(0, np.intp)
    rows, columns = touched
    part = grid.crop(rows, columns)
    inside = _fill(part, points) if area else _near(part, points, radius)
    if not inside.any():
        inside = _touch(part, points, area=area)
    row, column = np.nonzero(inside)
    found: NDArray[np.intp] = (row + rows.start) * grid.shape_yx[1] + column + columns.start
    return found


def _unit_m(grid: Grid) -> float:
    """Return the metres of a unit of the grid's reference system."""
    size = grid.resolution_m
    return 1.0 if size is None else size / grid.pixel_size


def _burn(grid: Grid, shape: Mapping[str, Any], *, touched: bool = False) -> NDArray[np.bool_]:
    from rasterio.features import rasterize

    burnt: NDArray[np.bool_] = rasterize(
        [shape], out_shape=grid.shape_yx, transform=grid.transform, all_touched=touched,
        dtype="uint8",
    ).astype(bool)  # fmt: skip
    return burnt


def _polygon(points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*points, points[0]]]}


def _fill(grid: Grid, points: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    return _burn(grid, _polygon(points))


def _touch(grid: Grid, points: Sequence[tuple[float, float]], *, area: bool) -> NDArray[np.bool_]:
    if area:
        return _burn(grid, _polygon(points), touched=True)
    if len(points) == 1:
        return _burn(grid, {"type": "Point", "coordinates": points[0]})
    return _burn(grid, {"type": "LineString", "coordinates": points}, touched=True)


def _near(grid: Grid, points: Sequence[tuple[float, float]], radius: float) -> NDArray[np.bool_]:
    """Return (y, x), the pixels whose centre is within a radius of a line.

    Raises:
        OptionError: there are too many pixels around its pieces to look at.
    """
    inside = np.zeros(grid.shape_yx, bool)
    looked = 0
    for piece in _pieces(points):
        touched = grid.touched_by(_reach(piece, radius + 2 * grid.pixel_size))
        if touched is None:
            continue
        near = _near_piece(grid, *touched, piece, radius)
        inside[touched] |= near
        looked += near.size
        if looked > MAX_LOOKED_PX:
            raise OptionError("a stroke is too long for its width; draw an area instead")
    return inside


def _near_piece(
    grid: Grid, rows: slice, columns: slice, piece: Piece, radius: float
) -> NDArray[np.bool_]:
    """Return (y, x), of some pixels those whose centre is within a radius of a straight piece."""
    (x0, y0), (x1, y1) = piece
    row, column = np.ogrid[rows, columns]
    affine = grid.transform
    xs = affine.a * (column + 0.5) + affine.b * (row + 0.5) + affine.c  # type: ignore[union-attr]
    ys = affine.d * (column + 0.5) + affine.e * (row + 0.5) + affine.f  # type: ignore[union-attr]
    dx, dy = x1 - x0, y1 - y0
    length = dx * dx + dy * dy
    along = 0.0 if not length else np.clip(((xs - x0) * dx + (ys - y0) * dy) / length, 0, 1)
    near: NDArray[np.bool_] = np.hypot(xs - x0 - along * dx, ys - y0 - along * dy) <= radius
    return near


def _reach(points: Sequence[tuple[float, float]], reach: float) -> Bounds:
    """Return the box around points, and so much around it."""
    xs, ys = zip(*points, strict=True)
    return min(xs) - reach, min(ys) - reach, max(xs) + reach, max(ys) + reach


def _pieces(points: Sequence[tuple[float, float]]) -> Iterator[Piece]:
    if len(points) == 1:
        yield points[0], points[0]
    yield from pairwise(points)
